"""What happened, folded into figures: how many, how dense, since when, and nobody's name."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from nvcops.adapters.logs import LogFiles, PostgresFormat, ServiceFormat
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import UsageError
from nvcops.core.manifest import Events, Limits
from nvcops.core.target import Target
from nvcops.security import events
from nvcops.security.events import fold, security_events, security_findings, window

NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
DAY = (NOON - dt.timedelta(hours=24), NOON)
NAMES = Events(sign_in_failures=("session.failed",), lock_outs=("session.locked",), subject="customer")


@dataclass
class Written:
    """Logs in a folder, and the platform that names them."""

    folder: Path
    bank: list[dict[str, Any]] = field(default_factory=list)
    database: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, seconds: float, customer: str, event: str = "session.failed") -> None:
        time = (NOON - dt.timedelta(seconds=seconds)).isoformat()
        self.bank.append({"time": time, "level": "warning", "event": event, "customer": customer, "request_id": "r"})

    def says(self, seconds: float, severity: str, **fields: Any) -> None:
        time = f"{NOON - dt.timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
        self.database.append({"timestamp": time, "error_severity": severity, **fields})

    def findings(self, logging: str = "ddl") -> dict[str, Finding]:
        files: Mapping[str, Any] = {
            "bank": (self.folder / "bank.log", ServiceFormat()),
            "db-1": (self.folder / "db.json", PostgresFormat(ZoneInfo("UTC"))),
        }
        for (path, _), lines in zip(files.values(), (self.bank, self.database), strict=True):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        services = [SimpleNamespace(name="bank", events=NAMES)]
        manifest = SimpleNamespace(services=services, database=SimpleNamespace(log=files["db-1"][0]))
        target = cast("Target", SimpleNamespace(manifest=manifest, logs=LogFiles(files)))
        found = security_findings(security_events(target, *DAY), logging, *DAY, Limits())
        return {f"{line.check}/{line.subject}": line for line in found}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    quiet = Written(tmp_path)
    quiet.fail(86_000, "aaaaaaaaaaaa", "request")
    quiet.says(86_000, "LOG", message="connection authorized: user=bank")
    return quiet


def test_a_quiet_day_is_well_and_says_how_much_of_it_was_seen(written: Written) -> None:
    found = written.findings()
    assert {line.verdict for line in found.values()} == {Verdict.OK}
    assert found["security.log/bank"].observed == "23.9 h of 24 h are in it"
    assert found["security.sign_in_failures/bank"].observed == "0"


@pytest.mark.parametrize(("count", "verdict"), [(29, "OK"), (30, "WARNING"), (300, "CRITICAL")])
def test_failures_are_judged_by_their_worst_minute(written: Written, count: int, verdict: str) -> None:
    for _ in range(count):
        written.fail(90, "9f86d081884c7d659a2feaa0")
    for hour in range(1, 20):
        written.fail(hour * 3600, "aaaaaaaaaaaaaaaaaaaaaaaa")
    line = written.findings()["security.sign_in_failures/bank"]
    assert line.verdict.name == verdict
    assert f"{count + 19:,}, at most {count} a minute" in line.observed
    assert "9f86d081884c" in line.observed


@pytest.mark.parametrize(("count", "verdict"), [(2, "OK"), (3, "WARNING"), (30, "CRITICAL")])
def test_a_lock_out_stands_for_ten_failures(written: Written, count: int, verdict: str) -> None:
    for number in range(count):
        written.fail(90, f"{number:024x}", "session.locked")
    assert written.findings()["security.lock_outs/bank"].verdict.name == verdict


def test_nobody_is_named(written: Written) -> None:
    written.fail(60, "dana@example.com")
    written.fail(60, "")
    written.says(
        60, "LOG", user="postgres", message="statement: ALTER ROLE dana PASSWORD 'hunter2 GRANT'; GRANT a TO b"
    )
    written.says(
        60, "FATAL", user="bank", state_code="28P01", remote_host="192.0.2.7", message="password of dana wrong"
    )
    everything = " ".join(f"{line.observed} {line.next_step}" for line in written.findings().values())
    for secret in ("dana@", "hunter2", "192.0.2.7", "dana"):
        assert secret not in everything
    assert "not a pseudonym (1)" in everything


def test_privileges_are_listed_and_great_power_is_marked(written: Written) -> None:
    written.says(60, "LOG", user="postgres", message="statement: GRANT SELECT ON a TO b; REVOKE ALL ON a FROM c")
    found = written.findings()
    assert found["security.privilege_changes/db-1"].verdict is Verdict.OK
    assert found["security.privilege_changes/db-1"].observed.startswith(
        "2, at most 2 a minute; top: GRANT by postgres (1), REVOKE"
    )
    written.says(30, "LOG", user="postgres", message="statement: ALTER ROLE b SUPERUSER")
    for _ in range(50):
        written.says(20, "LOG", user="postgres", message="statement: CREATE ROLE d; DROP ROLE d; REVOKE a FROM b")
    assert written.findings()["security.powerful_grants/db-1"].verdict is Verdict.WARNING


def test_refused_sign_ins_of_the_database_are_counted_by_code(written: Written) -> None:
    for _ in range(30):
        written.says(60, "FATAL", user="bank", state_code="28P01")
    written.says(60, "FATAL", user="bank", state_code="53300", message="sorry, too many clients already")
    line = written.findings()["security.database_sign_ins/db-1"]
    assert (line.verdict, line.value) == (Verdict.WARNING, 30)


def test_malformed_lines_are_reported(written: Written) -> None:
    found = written.findings()
    assert found["security.log_lines/bank"].verdict is Verdict.OK
    written.bank.append({"time": "yesterday", "event": "session.failed"})
    assert written.findings()["security.log_lines/bank"].observed == "1 malformed"


@pytest.mark.parametrize(("setting", "verdict"), [("none", "UNKNOWN"), ("db-1 does not answer", "UNKNOWN")])
def test_what_leaves_no_trace_is_unknown(written: Written, setting: str, verdict: str) -> None:
    assert written.findings(setting)["security.statement_logging/db-1"].verdict.name == verdict


def test_a_log_that_is_not_there_is_unknown() -> None:
    readings = [events.LogReading(source="bank", database=False, trouble="the log is not there")]
    (line,) = security_findings(readings, "", *DAY, Limits())
    assert line.verdict is Verdict.UNKNOWN
    assert security_findings([], "", *DAY, Limits())[0].verdict is Verdict.UNKNOWN


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_NAMED_MAX", 10)
    monkeypatch.setattr(events, "_MINUTES_MAX", 20)

    def flood() -> Iterator[tuple[str, dt.datetime, str]]:
        for number in range(1_000):
            yield "lock-outs", NOON + dt.timedelta(minutes=number // 3), f"{number:024x}"

    counters, _ = fold(flood())
    counter = counters["lock-outs"]
    assert len(counter.names) == 11
    assert len(counter.minutes) == 20
    tally = counter.tally("lock-outs")
    assert (tally.count, tally.peak, tally.top[0]) == (1_000, 3, ("others", 990))


@pytest.mark.parametrize(
    ("options", "hours"),
    [
        ({}, 24),
        ({"last_24h": True}, 24),
        ({"since": "2026-07-01T06:00"}, 2),
        ({"since": "2026-07-01T06:00+00:00"}, 6),
        ({"since": "2026-06-30", "until": "2026-07-01"}, 24),
        ({"until": "2026-07-01T06:00"}, 24),
    ],
)
def test_windows(options: dict[str, Any], hours: float) -> None:
    start, end = window(NOON, "America/New_York", **{"last_24h": False, "since": "", "until": "", **options})
    assert (end - start).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    "options",
    [
        {"since": "this morning"},
        {"since": "2026-07-02"},
        {"last_24h": True, "since": "2026-07-01"},
        {"since": "2026-07-01T06:00", "until": "2026-07-01T05:00"},
    ],
)
def test_windows_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        window(NOON, "America/New_York", **{"last_24h": False, "since": "", "until": "", **options})
    assert error.value.hint
