"""Every fault that a morning can see turns its line, and healing turns it back. No fault: all OK, again and again.

Each fault has a fresh store of metrics, so that the figures of the day are its own. The figures over 24 hours rightly
stay missed after healing; a morning after them, on a fresh store, is good.
"""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nvclab import running
from nvclab.faults import catalogue
from nvcops.adapters.metrics.scrape import Scraper
from nvcops.adapters.target import connect
from nvcops.core.checks import Finding, Verdict
from nvcops.core.target import Target
from nvcops.wiring import load, receiver

if TYPE_CHECKING:
    from conftest import MemoryRun, Rehearse

SEEN_S = 60.0
DAILY, DATABASE, SECURITY = "daily-health-check", "db-performance-check", "security-events-summary"
OVER_THE_DAY = {"kpi.availability", "kpi.errors", "kpi.response"}
WARNING, CRITICAL = Verdict.WARNING, Verdict.CRITICAL


@dataclass(frozen=True)
class Expected:
    """Which line of which procedure says it, and how badly."""

    procedure: str
    check: str
    subject: str
    verdicts: tuple[Verdict, ...]
    says: str = ""


EXPECTED = {
    "stop-instance": Expected(DAILY, "service.instance", "bank-1", (CRITICAL,), "connection refused"),
    "freeze-instance": Expected(DAILY, "service.instance", "bank-1", (CRITICAL,), "did not answer within 2 s"),
    "slow-instance": Expected(DAILY, "kpi.answers_now", "bank-1", (WARNING, CRITICAL), "on average"),
    "stop-standby": Expected(DAILY, "database.server", "db-2", (CRITICAL,), "does not answer"),
    "pause-replay": Expected(DAILY, "database.replay", "db-2", (WARNING,), "paused"),
    "stop-cache": Expected(DAILY, "cache.answers", "cache", (CRITICAL,), "does not answer"),
    "hold-lock": Expected(DATABASE, "performance.lock_waits", "db-1", (WARNING, CRITICAL), "waits for"),
    "idle-in-transaction": Expected(DATABASE, "performance.idle_in_transaction", "db-1", (WARNING, CRITICAL), "pid"),
    "exhaust-connections": Expected(DAILY, "database.connections", "db-1", (CRITICAL,)),
    "slow-query": Expected(DATABASE, "performance.statements", "db-1", (CRITICAL,), "slow_report"),
    "drop-index": Expected(DATABASE, "performance.required_indexes", "db-1", (CRITICAL,), "account_customer"),
    "fill-disk": Expected(DAILY, "disk.used", "log archive", (CRITICAL,), "of 64 MiB"),
    "expire-certificate": Expected(DAILY, "certificate.expiry", "localhost", (CRITICAL,), "expired on"),
    "raise-error-rate": Expected(DAILY, "kpi.errors_now", "bank", (CRITICAL,)),
    "stop-wal-receiver": Expected(DAILY, "database.receiver", "db-2", (CRITICAL,)),
    "skew-clock": Expected(DAILY, "service.clock", "bank-1", (CRITICAL,), "5 min off"),
    "flood-sign-ins": Expected(SECURITY, "security.sign_in_failures", "bank", (WARNING, CRITICAL), "a minute"),
}
SAMPLE = {"freeze-instance", "pause-replay", "drop-index"}


def test_every_fault_of_the_lab_is_expected_somewhere() -> None:
    assert set(EXPECTED) == set(catalogue.KINDS)


@pytest.fixture(scope="module")
def lab() -> Iterator[running.Lab]:
    with running.temporary(users=100) as lab, received(lab):
        for procedure in ("database-backup", "test-backup-restore"):
            command = [sys.executable, "-m", "nvcops", "run", procedure, "--target", str(lab.folder / "platform.toml")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        yield lab


@contextmanager
def received(lab: running.Lab) -> Iterator[None]:
    """The transaction log is received, as `nvcops serve` does."""
    over = threading.Event()
    thread = threading.Thread(target=receiver(load(lab.folder / "platform.toml")), args=(over,), name="receiver")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def watched(lab: running.Lab, state: Path) -> Iterator[Target]:
    """The lab's platform with a state of its own, and the watch over it."""
    manifest = load(platform_file(lab, state))
    scrape, over = Scraper.of(manifest), threading.Event()

    def watch() -> None:
        while not over.wait(
            random.uniform(0.5, 1.5)
        ):  # a watch in step with a fault would always meet its good moments
            scrape()

    thread = threading.Thread(target=watch, name="watch")
    thread.start()
    try:
        yield connect(manifest)
    finally:
        over.set()
        thread.join()


def platform_file(lab: running.Lab, state: Path) -> Path:
    """The lab's own, but for the state; beside it, because paths in it are relative."""
    text = (lab.folder / "platform.toml").read_text(encoding="utf-8")
    changed = text.replace('state = "nvcops"', f'state = "{state}"')
    assert changed != text
    path = lab.folder / "drill.toml"
    path.write_text(changed, encoding="utf-8")
    return path


def exit_code(lab: running.Lab, procedure: str) -> int:
    """What a scheduler sees."""
    command = [sys.executable, "-m", "nvcops", "run", procedure, "--target", str(lab.folder / "drill.toml"), "--json"]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def lines_of(run: MemoryRun, *, also_the_day: bool) -> list[Finding]:
    return [line for line in run.wrong() if also_the_day or line.check not in OVER_THE_DAY]


def until_well(rehearse: Rehearse, target: Target, since: dt.datetime, *, also_the_day: bool = False) -> None:
    """All three parts of the morning are OK; the events are those since then, the logs are one for all faults."""
    deadline = time.monotonic() + SEEN_S
    for name in (DAILY, DATABASE, SECURITY):
        options = {"since": since.isoformat()} if name == SECURITY else {}
        while wrong := lines_of(rehearse(name, target, **options), also_the_day=also_the_day):
            assert time.monotonic() < deadline, wrong
            time.sleep(1)


@pytest.mark.drill
@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=[pytest.mark.sample] if name in SAMPLE else []) for name in EXPECTED]
)
def test_a_fault_turns_its_line_and_healing_turns_it_back(
    lab: running.Lab, tmp_path: Path, rehearse: Rehearse, fault: str
) -> None:
    expected = EXPECTED[fault]
    with watched(lab, tmp_path) as target:
        before = dt.datetime.now(dt.UTC)
        until_well(rehearse, target, before)
        lab.run("fault", fault)
        try:
            run = _until_seen(rehearse, target, expected, before)
            code = exit_code(lab, expected.procedure)
        finally:
            lab.run("heal", fault)
        line = run.of(expected.check, expected.subject)
        assert expected.says in line.observed
        assert line.next_step
        assert code in {int(verdict) for verdict in (*expected.verdicts, CRITICAL)}, "or worse, by what else it does"
        healed = dt.datetime.now(dt.UTC)
        until_well(rehearse, target, healed)
    with watched(lab, tmp_path / "the day after") as target:
        until_well(rehearse, target, healed, also_the_day=True)


def _until_seen(rehearse: Rehearse, target: Target, expected: Expected, since: dt.datetime) -> MemoryRun:
    options = {"since": since.isoformat()} if expected.procedure == SECURITY else {}
    deadline = time.monotonic() + SEEN_S
    while True:
        run = rehearse(expected.procedure, target, **options)
        if run.of(expected.check, expected.subject).verdict in expected.verdicts:
            return run
        assert time.monotonic() < deadline, run.of(expected.check, expected.subject)
        time.sleep(1)


@pytest.mark.drill
@pytest.mark.parametrize("mornings", [pytest.param(5, marks=pytest.mark.sample), 50])
def test_without_a_fault_every_morning_is_good(
    lab: running.Lab, tmp_path: Path, rehearse: Rehearse, mornings: int
) -> None:
    with watched(lab, tmp_path) as target:
        until_well(rehearse, target, dt.datetime.now(dt.UTC))
        began = dt.datetime.now(dt.UTC).isoformat()
        for number in range(mornings):
            for name in (DAILY, DATABASE, SECURITY):
                run = rehearse(name, target, **({"since": began} if name == SECURITY else {}))
                assert run.wrong() == [], f"run {number} of {name}"
                assert run.verdict is Verdict.OK
            time.sleep(0.2)
