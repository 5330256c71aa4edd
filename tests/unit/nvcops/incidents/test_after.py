"""After an incident: what it cost, what must change, and the figures of a month."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec
import pytest
from incident_world import DOOR, NOON, ONE, hours, lines, minutes, notice, opened, over, resolved
from platform_world import ActingRun, Customers, Figures, Journal, Lines, platform

from desk import MemoryDesk
from nvcops.core.checks import Verdict
from nvcops.core.clients import Kept, Seen
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import ActionItem, Incident, IncidentState, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import find
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.target import Booked, Increase, LogEvent
from nvcops.incidents import actions, checklists, figures, impact, leading, opening
from nvcops.incidents.measuring import link_runs, measure

DAY = dt.date(2026, 11, 22)
RISES = {
    "nvcbank_http_requests_total": [
        Increase({"status": "200", "route": "/payments"}, 900),
        Increase({"status": "503", "route": "/payments"}, 100),
        Increase({"status": "503", "route": "/readyz"}, 5_000),
    ],
    "nvcbank_payments_total": [
        Increase({"outcome": "settled"}, 600),
        Increase({"outcome": "declined_limit"}, 300),
        Increase({"outcome": "failed"}, 100),
    ],
    "nvcbank_http_request_seconds_sum": [Increase({"route": "/payments"}, 100.0)],
    "nvcbank_http_request_seconds_count": [Increase({"route": "/payments"}, 1_000)],
}


# --- impact ---


def of(manifest: Manifest, **sockets: object) -> dict[str, impact.Figure]:
    desk = MemoryDesk()
    incident = resolved(desk, manifest)
    found = impact.impact(platform(manifest, **sockets), incident, hours(3))
    assert (found.start, found.end, found.minutes) == (NOON, minutes(40), 40)
    return {figure.title: figure for figure in found.figures}


def test_what_it_cost_is_counted_without_machines_and_without_customers_own_reasons(manifest: Manifest) -> None:
    found = of(manifest, metrics=Figures(RISES))
    assert found["Payments failed"].text == "100 of 700"
    assert found["Requests failed"].text == "100 of 1,000"


def test_customers_are_counted_by_their_pseudonyms_in_the_log(manifest: Manifest) -> None:
    def seen(who: str, level: str) -> LogEvent:
        return LogEvent(minutes(1), "bank", "payment.failed", {"level": level, "customer": who})

    log = {"bank": [seen("a", "error"), seen("a", "warning"), seen("b", "error"), seen("c", "info"), seen("", "error")]}
    found = of(manifest, logs=Lines(log))["Customers of bank touched, at least"]
    assert (found.value, found.source) == (2, "log of bank")


class Books:
    """core.target.Ledger."""

    def booked(self, start: dt.datetime, end: dt.datetime) -> list[Booked]:
        assert (start, end) == (NOON, minutes(40))
        return [Booked(title="payments settled", value=12), Booked(title="customers", why="db-1 does not answer")]


def test_what_the_books_say_and_what_they_could_not(manifest: Manifest) -> None:
    found = of(manifest, ledger=Books())
    assert found["Payments settled"].text == "12"
    assert found["Customers"].text == "not known: db-1 does not answer"


def test_what_customers_were_told_and_what_the_ledger_has(manifest: Manifest) -> None:
    told = Customers(
        Seen(unknown=7, unresolved_count=2, gap_s=35.0), Kept(acknowledged=500, missing=1, missing_keys=("k",))
    )
    found = of(manifest, clients=told)
    assert found["Payments whose outcome is unknown still"].value == 2
    assert found["Settled payments that the ledger does not have"].text == "1 of 500"
    assert found["Longest time without a settled payment"].text == "35 s"


def test_what_is_not_known_says_why(manifest: Manifest) -> None:
    found = of(manifest, metrics=Figures(down=True))
    assert found["Payments failed"].text == "not known: the metrics do not answer"
    assert found["Customers of bank touched, at least"].text == "not known: the log of bank cannot be read"


def test_severity_follows_the_figures_while_it_lasts(manifest: Manifest) -> None:
    target = platform(manifest, metrics=Figures(RISES))
    with target.records.changing() as desk:
        opened(desk, manifest, ONE)
    assert [(one.number, one.severity) for one in measure(target, minutes(2))] == [(1, Severity.P0)]
    assert measure(target, minutes(3)) == []
    target.metrics.down = True
    assert measure(target, minutes(4)) == []  # nothing is known: nothing falls
    target.metrics.down = False
    target.metrics.rises = {
        "nvcbank_http_requests_total": [Increase({"status": "200"}, 900)],
        "nvcbank_payments_total": [Increase({"outcome": "settled"}, 900)],
    }
    assert [one.severity for one in measure(target, minutes(5))] == [Severity.P1]
    with target.records.changing() as desk:
        opening.of_notice(desk, notice(minutes(6), resolved=[over(ONE, minutes(6))]), manifest=manifest, at=minutes(6))
    target.metrics.rises = RISES
    assert measure(target, minutes(7)) == []  # it is over: it stays what it was


def test_what_people_had_run_stands_in_the_timeline(manifest: Manifest) -> None:
    def ran(name: str, by: str, began: float, **said: object) -> RunRecord:
        times = {"requested": minutes(began), "started": minutes(began), "ended": minutes(began + 1)}
        return run(**({"id": f"{name}@{began}", "procedure": name, "requested_by": by} | times | said))

    journal = Journal(
        [
            ran("system-status", "dana", 3),
            ran("backup-audit", "schedule", 3),
            ran("db-performance-check", "dana", -9),
            ran("db-maintenance", "dana", 4, dry_run=True),
        ]
    )
    target = platform(manifest, runs=journal)
    assert link_runs(target, minutes(1)) == 0
    with target.records.changing() as desk:
        opened(desk, manifest, DOOR)
    assert link_runs(target, minutes(5)) == 1
    assert link_runs(target, minutes(6)) == 0
    with target.records.reading() as desk:
        assert lines(desk, 1, "run") == ["system-status: OK"]
        done = {line.item: line for line in checklists.checklist(checklists.seen(desk, 1), manifest)}
    assert done["Check system status"].by == "run system-status@3"


# --- action items ---


def add(desk: MemoryDesk, manifest: Manifest, **said: object) -> ActionItem:
    words = {"text": "alarm on the pool", "owner": "omar", "due": DAY + dt.timedelta(days=9), "person": "dana"}
    return actions.add(desk, 1, **({"manifest": manifest, "at": hours(1)} | words | said))


def run(**said: object) -> RunRecord:
    whole = {
        "id": "test-backup-restore@y",
        "procedure": "test-backup-restore",
        "platform": "nvc-bank",
        "state": RunState.CONCLUDED,
        "requested_by": "dana",
        "requested": hours(2),
        "started": hours(2),
        "ended": hours(3),
        "verdict": Verdict.OK,
    }
    return RunRecord(**(whole | said))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, ""),
        ({"procedure": "system-status"}, "the item wants test-backup-restore"),
        ({"dry_run": True}, "was a rehearsal"),
        ({"state": RunState.RUNNING, "verdict": None}, "came to no verdict"),
        ({"verdict": Verdict.WARNING}, "came to WARNING"),
        ({"verdict": Verdict.UNKNOWN}, "came to UNKNOWN"),
        ({"started": minutes(59)}, "began before the item was made"),
        ({"started": None}, "began before the item was made"),
    ],
)
def test_an_item_closes_by_a_green_run_only(
    desk: MemoryDesk, manifest: Manifest, said: dict[str, object], why: str
) -> None:
    resolved(desk, manifest)
    add(desk, manifest, procedure="test-backup-restore")
    by = {"manifest": manifest, "person": "dana", "at": hours(4)}
    if why:
        with pytest.raises(UsageError, match=why):
            actions.close_by_run(desk, "1-1", run(**said), **by)
        assert desk.every(ActionItem)[0].closed is None
        return
    closed = actions.close_by_run(desk, "1-1", run(**said), **by)
    assert (closed.closed, closed.closed_by) == (hours(4), "test-backup-restore@y")
    assert lines(desk, 1, "action-item-closed") == ["1-1: closed by the run test-backup-restore@y"]
    with pytest.raises(UsageError, match="was closed by test-backup-restore@y"):
        actions.close_by_run(desk, "1-1", run(), **by)


def test_an_item_closes_by_somebodys_word(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    add(desk, manifest, measure="runbooks")
    by = {"manifest": manifest, "at": hours(4)}
    with pytest.raises(UsageError, match="an attestation says nothing"):
        actions.attest(desk, "1-1", note=" ", person="dana", **by)
    with pytest.raises(UsageError, match="'cto' is nobody in"):
        actions.attest(desk, "1-1", note="done", person="cto", **by)
    closed = actions.attest(desk, "1-1", note="page 3 is new", person="dana", **by)
    assert (closed.closed_by, closed.note) == ("dana", "page 3 is new")
    assert next(entry for entry in desk.notes if entry.kind == "incident.action-item-closed").actor == "dana"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"text": ""}, "an action item says nothing"),
        ({"owner": "nobody"}, "'nobody' is nobody"),
        ({"due": DAY - dt.timedelta(days=1)}, "2026-11-21 is past"),
        ({"measure": "hope"}, "'hope' is no measure"),
        ({"procedure": "pray"}, "there is no procedure 'pray'"),
    ],
)
def test_a_mistake_in_an_item_is_a_sentence(
    desk: MemoryDesk, manifest: Manifest, said: dict[str, object], error: str
) -> None:
    resolved(desk, manifest)
    with pytest.raises((UsageError, NotFoundError), match=error):
        add(desk, manifest, **said)
    assert not desk.every(ActionItem)


def test_items_are_numbered_within_their_incident(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    assert [add(desk, manifest, text=f"item {n}").id for n in range(3)] == ["1-1", "1-2", "1-3"]
    with pytest.raises(NotFoundError, match="no action item '1-9'"):
        actions.attest(desk, "1-9", manifest=manifest, note="n", person="dana", at=hours(4))


# --- figures ---

NEW_YORK = ZoneInfo("America/New_York")


def incident(number: int, detected: dt.datetime, **said: object) -> Incident:
    whole = {
        "number": number,
        "title": "t",
        "state": IncidentState.RESOLVED,
        "severity": Severity.P1,
        "inferred": Severity.P1,
        "source": "alerts",
        "began": detected - dt.timedelta(seconds=4),
        "detected": detected,
        "acknowledged": detected + dt.timedelta(minutes=number),
        "mitigated": detected + dt.timedelta(minutes=10),
        "resolved": detected + dt.timedelta(minutes=20),
    }
    return Incident(**(whole | said))


def test_the_figures_of_months_in_the_banks_zone() -> None:
    last_of_october = dt.datetime(2026, 11, 1, 3, tzinfo=dt.UTC)  # 23:00 of 31 October in New York
    months = figures.monthly(
        [
            incident(1, last_of_october),
            incident(2, NOON),
            incident(4, NOON, severity=Severity.P0, resolved=None),
            incident(9, NOON, source="drill"),
            incident(3, NOON, source="person", began=NOON - dt.timedelta(hours=5), acknowledged=None),
        ],
        NEW_YORK,
    )
    assert [(month.month, month.drills, month.incidents) for month in months] == [
        ("2026-10", False, 1),
        ("2026-11", False, 3),
        ("2026-11", True, 1),
    ]
    november = months[1]
    assert (november.mttd_s, november.mtta_s, november.mttr_s) == (4.0, 180.0, 1200.0)
    assert (november.severities, november.open) == ({"P0": 1, "P1": 2}, 1)
    assert november.text == "3 incidents (1 P0, 2 P1): MTTD 4 s, MTTA 3 min, MTTM 10 min, MTTR 20 min"


def test_a_month_of_which_nothing_is_known_yet_says_nothing() -> None:
    month = figures.monthly([incident(1, NOON, acknowledged=None, mitigated=None, resolved=None)], NEW_YORK)[0]
    assert (month.mtta_s, month.mttr_s, month.open) == (None, None, 1)


# --- the review ---


def test_the_review_shows_the_month_and_what_is_owed(manifest: Manifest) -> None:
    target = platform(manifest)
    with target.records.changing() as desk:
        resolved(desk, manifest)
        add(desk, manifest, due=DAY)
        desk.put(incident(7, minutes(-5_000), source="drill", state=IncidentState.CLOSED))
    review = ActingRun(started=hours(24 * 7))
    find("incident-review").function(review, target)
    assert review.verdicts() == {
        "incident.figures": "OK",
        "incident.mtta": "OK",
        "incident.drill": "OK",
        "incident.action": "CRITICAL",
        "incident.postmortem": "CRITICAL",
    }
    follow_up = ActingRun(started=hours(1))
    find("incident-follow-up").function(follow_up, target)
    assert follow_up.verdicts() == {"incident.action": "WARNING", "incident.postmortem": "WARNING"}


def test_with_nothing_owed_the_follow_up_is_ok(manifest: Manifest) -> None:
    quiet = ActingRun(started=NOON)
    find("incident-follow-up").function(quiet, platform(manifest))
    assert quiet.verdicts() == {"incident.action": "OK"}


def test_late_acknowledgements_are_seen_in_the_month(manifest: Manifest) -> None:
    target = platform(manifest)
    with target.records.changing() as desk:
        opened(desk, manifest, DOOR)
        leading.acknowledge(desk, 1, manifest=manifest, person="dana", at=minutes(30))
        desk.put(msgspec.structs.replace(desk.get(Incident, 1), state=IncidentState.CLOSED))
    review = ActingRun(started=hours(2))
    find("incident-review").function(review, target)
    assert review.verdicts()["incident.mtta"] == "CRITICAL"
    assert review.verdicts()["incident.drill"] == "WARNING"


def test_what_nobody_counted_is_not_known_to_be_none(manifest: Manifest) -> None:
    found = of(manifest, metrics=Figures({}))
    assert found["Requests failed"].text == "not known: none was counted in that time"
    assert found["Payments failed"].value is None
    ungraded = msgspec.structs.replace(manifest, slos=())
    found = of(ungraded, metrics=Figures(RISES))
    assert found["Payments failed"].text == "not known: no objective says which outcomes are good"
