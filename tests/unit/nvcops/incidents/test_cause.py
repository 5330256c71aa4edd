"""What lies around the beginning of an incident, what is suggested from it, and what is linked."""

from __future__ import annotations

from typing import Any

import pytest
from incident_world import DOOR, NOON, ONE, alert, minutes, notice, opened
from platform_world import ActingRun, Checkout, Figures, Journal, Lines, platform

from nvcops.core.checks import Verdict
from nvcops.core.commits import Commit
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import Event, Incident
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import find
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.schedule import Due, Standing
from nvcops.core.target import Change, LogEvent
from nvcops.incidents import cause, opening
from nvcops.incidents.correlation import row_of
from nvcops.incidents.traces import traces


def run(name: str, *, began: float, ended: float | None, lock: str = "") -> RunRecord:
    return RunRecord(
        id=f"{name}@x",
        procedure=name,
        platform="nvc-bank",
        state=RunState.CONCLUDED if ended is not None else RunState.RUNNING,
        requested_by="schedule",
        requested=minutes(began),
        started=minutes(began),
        ended=minutes(ended) if ended is not None else None,
        lock=lock,
        verdict=Verdict.OK if ended is not None else None,
    )


def line(minute: float, event: str, level: str = "error") -> LogEvent:
    return LogEvent(minutes(minute), "bank", event, {"level": level})


def surroundings(manifest: Manifest, **sockets: Any) -> cause.Traces:
    return traces(platform(manifest, **sockets), NOON, minutes(0.2))


def titles(seen: cause.Traces) -> list[str]:
    return [one.title for one in cause.suggest(seen)]


def test_a_release_right_before_it_is_the_likeliest_cause(manifest: Manifest) -> None:
    changes = [
        Change(minutes(-50), "bank", "bank-1", "start", "a", "b"),
        Change(minutes(-2), "bank", "bank-1", "version", "1.0", "1.1"),
        Change(minutes(0), "bank", "bank-1", "ready", "ready", "503"),
        Change(minutes(0.1), "bank", "bank-2", "ready", "ready", "503"),
    ]
    commits = [Commit("abc123", minutes(-20), "Omar", "Enlarge the pool")]
    seen = surroundings(manifest, metrics=Figures(seen=changes), commits=Checkout(commits))
    assert titles(seen) == [
        "bank-1 went from version 1.0 to 1.1",
        "bank-1 was the first that was not ready: 503",
        "Enlarge the pool",
        "bank-1 was restarted",
    ]
    assert cause.suggest(seen)[0].evidence == "the watch saw it 2 min before it began"
    assert cause.suggest(seen)[2].evidence == "commit abc123 by Omar, 20 min before it began"


def test_the_first_version_ever_seen_is_no_release(manifest: Manifest) -> None:
    first = [Change(minutes(-2), "bank", "bank-1", "version", "", "1.1")]
    assert titles(surroundings(manifest, metrics=Figures(seen=first))) == []


def test_a_run_that_acts_is_a_suspect_and_one_that_reads_is_not(manifest: Manifest) -> None:
    runs = [
        run("db-maintenance", began=-10, ended=None, lock="database"),
        run("application-backup", began=-40, ended=-30, lock="files"),
        run("system-status", began=-5, ended=-4),
    ]
    seen = surroundings(manifest, runs=Journal(runs))
    assert titles(seen) == ["db-maintenance was under way", "application-backup ended 30 min before it began"]
    assert cause.suggest(seen)[0].evidence == "the run db-maintenance@x (running)"
    assert [link["id"] for link in cause.links_of(seen)] == [
        "db-maintenance@x",
        "application-backup@x",
        "system-status@x",
    ]


def test_what_was_missed_is_linked(manifest: Manifest) -> None:
    late = [Due("database-backup", minutes(-600), Standing.MISSED)]
    seen = surroundings(manifest, runs=Journal(late=late))
    assert titles(seen) == ["database-backup was missed"]
    assert cause.suggest(seen)[0].procedure == "database-backup"


def test_a_log_line_that_was_not_there_before_stands_out(manifest: Manifest) -> None:
    lines = [
        *(line(minute / 10, "pool.exhausted") for minute in range(5)),
        *(line(minute / 10, "payment.slow") for minute in range(-5, 5)),
        *(line(minute / 10, "request.served", "info") for minute in range(9)),
        line(0.1, "postgresql.fatal", ""),
    ]
    seen = surroundings(manifest, logs=Lines({"bank": lines}))
    assert titles(seen) == ["bank logs pool.exhausted", "bank logs postgresql.fatal"]
    assert cause.suggest(seen)[0].evidence == "5 lines since it began, not before"


def test_what_cannot_be_read_is_unknown_and_the_rest_goes_on(manifest: Manifest) -> None:
    class Broken(Lines):
        @property
        def sources(self) -> list[str]:
            return ["bank", "db-1"]

    seen = surroundings(manifest, logs=Broken({"bank": [line(0.1, "pool.exhausted")]}))
    assert seen.troubles == {"log of db-1": "the log of db-1 cannot be read"}
    findings = cause.findings_of(cause.suggest(seen), seen.troubles)
    assert [finding.verdict for finding in findings] == [Verdict.OK, Verdict.UNKNOWN]


@pytest.mark.parametrize(
    ("labels", "first"),
    [
        ({"kind": "http", "service": "bank"}, "system-status"),
        ({"kind": "http", "service": "bank", "runbook": "daily-health-check"}, "daily-health-check"),
        ({"kind": "http", "service": "bank", "runbook": "https://wiki.example.com/x"}, "system-status"),
        ({"kind": "sql", "probe": "db-1"}, "db-diagnostics"),
        ({"signal": "corruption"}, "backup-verification"),
        ({"signal": "breach"}, "security-events-summary"),
        ({"limit": "replication_lag", "probe": "db-2"}, "db-diagnostics"),
    ],
)
def test_the_procedure_to_start_is_one_of_the_runbook(manifest: Manifest, labels: dict[str, str], first: str) -> None:
    found = cause.from_alerts([row_of(1, alert(**labels))], manifest)
    assert found[0].procedure == first
    assert all(find(one.procedure) for one in found)
    assert "is a sign of" in found[0].evidence


def test_an_investigation_links_what_it_found_and_changes_nothing_else(manifest: Manifest) -> None:
    target = platform(
        manifest,
        metrics=Figures(seen=[Change(minutes(-2), "bank", "bank-1", "version", "1.0", "1.1")]),
        commits=Checkout([Commit("abc123", minutes(-20), "Omar", "Enlarge the pool")]),
    )
    with target.records.changing() as desk:
        opened(desk, manifest, DOOR)
    acting = ActingRun(started=minutes(1), id="investigate-incident@x")
    find("investigate-incident").function(acting, target, number=1)
    with target.records.reading() as desk:
        incident = desk.get(Incident, 1)
        assert incident.suggestions[0].title == "bank-1 went from version 1.0 to 1.1"
        assert {one.procedure for one in incident.suggestions} >= {"system-status"}
        assert [link["kind"] for link in incident.links] == ["deployment", "commit"]
        looked = next(event for event in desk.every(Event) if event.kind == "looked")
        assert looked.text.startswith("looked around its beginning: most likely: bank-1 went from")
    assert acting.summary == "incident 1: bank-1 went from version 1.0 to 1.1"
    assert acting.findings[0].observed.endswith("(the watch saw it 2 min before it began)")


def test_which_incident(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="which incident"):
        find("investigate-incident").function(ActingRun(started=NOON), platform(manifest), number=0)
    with pytest.raises(NotFoundError, match="there is no incident 5"):
        find("investigate-incident").function(ActingRun(started=NOON), platform(manifest), number=5)


def test_suggestions_stay_few_and_each_title_once(manifest: Manifest) -> None:
    many = [Commit(f"c{n}", minutes(-n), "Omar", f"Change {n % 3}") for n in range(1, 60)]
    seen = surroundings(manifest, commits=Checkout(many))
    assert len(titles(seen)) == len(set(titles(seen))) <= 12
    assert len(cause.links_of(seen)) <= 60


def test_an_alert_that_joins_later_does_not_undo_what_was_found(manifest: Manifest) -> None:
    target = platform(manifest)
    with target.records.changing() as desk:
        opened(desk, manifest, DOOR)
    find("investigate-incident").function(ActingRun(started=minutes(1)), target, number=1)
    with target.records.changing() as desk:
        before = desk.get(Incident, 1).suggestions
        opening.of_notice(desk, notice(minutes(2), [DOOR, ONE]), manifest=manifest, at=minutes(2))
        assert desk.get(Incident, 1).suggestions == before
    assert before


def test_somebody_looks_at_once_and_again_when_more_is_known(manifest: Manifest) -> None:
    target = platform(manifest)
    with target.records.changing() as desk:
        opened(desk, manifest, DOOR)
    looked = [cause.look_into(target, minutes(minute)) for minute in (0.2, 0.5, 2.2, 3)]
    assert looked == [[1], [], [1], []]
