"""What a failover is judged by, and that whatever it broke is put right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from nvcops.core.backups import ReceiverState
from nvcops.core.checks import Finding, Verdict
from nvcops.core.clients import Kept, Seen
from nvcops.core.cluster import ClusterState, Failover, Member
from nvcops.core.errors import StepFailed, UsageError
from nvcops.core.manifest import Limits
from nvcops.recovery.failover import (
    CustomersView,
    OldPrimary,
    customers_findings,
    failover_test,
    off_finding,
    refusal,
    successor_findings,
    taken_over_findings,
)
from nvcops.recovery.pair import Pair, ServerSeen, Slot, ready_findings

NOW = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)


def state(leader: str = "db-1", timeline: int = 3, **changed: Any) -> ClusterState:
    other = "db-2" if leader == "db-1" else "db-1"
    members = (
        Member(name=leader, role="primary", state="running", timeline=timeline),
        Member(name=other, role="standby", state="streaming", timeline=timeline, lag_bytes=0, synchronous=True),
    )
    return ClusterState(
        **{"leader": leader, "members": members, "timeline": timeline, "synchronous_mode": True, **changed}
    )


def servers(primary: str = "db-1") -> tuple[ServerSeen, ...]:
    used = (Slot("db_2", True, "reserved"),)
    return tuple(
        ServerSeen(name=name, standby=name != primary, rewinds=True, slots=used if name == primary else ())
        for name in ("db-1", "db-2")
    )


def pair(leader: str = "db-1", timeline: int = 3, **changed: Any) -> Pair:
    receiver = ReceiverState(running=True, timeline=timeline, lag_s=0.0)
    known = {"state": state(leader, timeline), "servers": servers(leader), "receiver": receiver}
    return Pair(**{**known, **changed})


def wrong(seen: Pair) -> dict[str, Finding]:
    return {line.check: line for line in ready_findings(seen, Limits()) if line.verdict is not Verdict.OK}


def test_a_whole_pair_is_ready_whoever_is_primary() -> None:
    assert not wrong(pair("db-1"))
    assert not wrong(pair("db-2"))


BOTH_WRITE = tuple(ServerSeen(name=name, rewinds=True, slots=()) for name in ("db-1", "db-2"))
NO_WAY_BACK = tuple(msgspec.structs.replace(server, rewinds=False) for server in servers())
SILENT = (servers()[0], ServerSeen(name="db-2", trouble="does not answer"))


@pytest.mark.parametrize(
    ("seen", "check", "verdict"),
    [
        (Pair(trouble="no Patroni answers"), "failover.cluster", Verdict.UNKNOWN),
        (pair(state=state(paused=True)), "failover.cluster", Verdict.WARNING),
        (pair(state=state(synchronous_mode=False)), "failover.synchronous", Verdict.CRITICAL),
        (pair(state=state(members=state().members[:1])), "failover.synchronous", Verdict.CRITICAL),
        (pair(servers=BOTH_WRITE), "failover.primary", Verdict.CRITICAL),
        (pair(servers=servers("db-2")), "failover.primary", Verdict.CRITICAL),
        (pair(servers=SILENT), "failover.primary", Verdict.UNKNOWN),
        (pair(servers=NO_WAY_BACK), "failover.rewind", Verdict.WARNING),
        (pair(receiver=ReceiverState(running=False)), "failover.archive", Verdict.CRITICAL),
        (pair(receiver=ReceiverState(running=True, timeline=2)), "failover.archive", Verdict.CRITICAL),
        (pair(receiver=ReceiverState(running=True, timeline=3, lag_s=61.0)), "failover.archive", Verdict.WARNING),
    ],
)
def test_what_is_missing_is_named_and_refuses_the_test(seen: Pair, check: str, verdict: Verdict) -> None:
    lines = wrong(seen)
    assert lines[check].verdict is verdict
    assert lines[check].observed in refusal(list(lines.values())).observed


@pytest.mark.parametrize(
    ("slot", "verdict"),
    [(Slot("nvcops", False, "reserved"), Verdict.WARNING), (Slot("nvcops", True, "lost"), Verdict.CRITICAL)],
)
def test_a_slot_that_is_not_used_or_lost_its_log_refuses_it(slot: Slot, verdict: Verdict) -> None:
    primary = msgspec.structs.replace(servers()[0], slots=(slot,))
    assert wrong(pair(servers=(primary, servers()[1])))["failover.slots"].verdict is verdict


def test_another_primary_one_timeline_on_is_a_failover() -> None:
    def verdicts(after: Pair) -> list[str]:
        return [line.verdict.name for line in taken_over_findings(pair(), after)]

    assert verdicts(pair("db-2", 4)) == ["OK", "OK"]
    assert verdicts(pair("db-1", 3)) == ["CRITICAL", "CRITICAL"]
    assert verdicts(pair("db-2", 6)) == ["OK", "CRITICAL"]
    assert verdicts(Pair(trouble="nobody answers")) == ["CRITICAL"]


def test_what_customers_saw() -> None:
    seen = Seen(settled=900, unknown=7, gap_s=2.4)

    def verdicts(view: CustomersView) -> list[str]:
        return [line.verdict.name for line in customers_findings(view, "switchover")]

    assert verdicts(CustomersView(seen=seen, kept=Kept(acknowledged=900, missing=0))) == ["OK", "OK", "OK"]
    assert verdicts(CustomersView(trouble="no journal")) == ["UNKNOWN", "UNKNOWN", "UNKNOWN"]
    bad = Seen(settled=900, unknown=7, unresolved=("k",), unresolved_count=1, gap_s=3.1)
    lost = Kept(acknowledged=900, missing=1, missing_keys=("j",))
    assert verdicts(CustomersView(seen=bad, kept=lost)) == ["WARNING", "CRITICAL", "CRITICAL"]
    nobody = CustomersView(seen=Seen(), kept=Kept(acknowledged=0, missing=0))
    assert verdicts(nobody) == ["UNKNOWN", "OK", "UNKNOWN"], "nothing seen is never OK"


def test_after_a_failover_that_nobody_asked_for() -> None:
    alone = pair("db-2", 4, state=state("db-2", 4, members=state("db-2", 4).members[:1]))
    assert [line.verdict.name for line in successor_findings("db-1", alone, Limits())] == ["OK", "WARNING", "OK"]
    assert successor_findings("db-1", pair("db-1"), Limits())[0].verdict is Verdict.CRITICAL
    silent = msgspec.structs.replace(alone, servers=(ServerSeen(name="db-1", trouble="away"), servers("db-2")[1]))
    said = [off_finding("db-1", OldPrimary(runs), silent).verdict.name for runs in (False, True, None)]
    assert said == ["OK", "CRITICAL", "UNKNOWN"]
    assert off_finding("db-1", OldPrimary(True), pair("db-2", 4)).observed == "back, and follows db-2"


@dataclass
class Rehearsal:
    """A run whose facts are given and whose acts are noted; those in `failing` fail."""

    facts: dict[str, list[Any]]
    failing: tuple[str, ...] = ()
    done: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    id: str = "rehearsal"
    started: dt.datetime = NOW

    def read(self, fact: Callable[..., Any], *_: Any) -> Any:
        return self.facts[fact.__name__].pop(0)

    def step(self, title: str, act: Callable[..., Any], _target: Any, *args: Any) -> Any:
        self.done.append((act.__name__, args))
        if act.__name__ in self.failing:
            raise StepFailed(f"{title}: it failed")
        return (
            Failover(old="db-1", began=NOW, successor="db-2") if act.__name__ in ("see_through", "hand_over") else None
        )

    def conclude(self, findings: list[Finding], *, summary: str = "") -> None:
        assert summary or findings
        self.findings = tuple(findings)

    def of(self, check: str) -> Finding:
        return next(line for line in self.findings if line.check == check)


@dataclass
class Platform:
    """As much of a target as the procedure itself looks at."""

    manifest: Any = field(default_factory=lambda: type("Manifest", (), {"limits": Limits()}))


def rehearsed(kind: str, before: Pair, failing: tuple[str, ...] = ()) -> Rehearsal:
    view = CustomersView(seen=Seen(settled=9, gap_s=1.0), kept=Kept(acknowledged=9, missing=0))
    facts = {"pair_now": [before], "moment": [NOW], "whole_again": [pair("db-2", 4)], "customers": [view]}
    run = Rehearsal(facts, failing)
    failover_test.function(run, Platform(), kind=kind)  # type: ignore[arg-type]
    return run


@pytest.mark.parametrize("kind", ["postmaster", "crash", "freeze", "partition"])
def test_what_is_broken_is_mended(kind: str) -> None:
    run = rehearsed(kind, pair())
    assert run.done == [("break_host", (kind, "db-1")), ("see_through", ("db-1",)), ("mend_host", ("db-1",))]
    assert {line.verdict for line in run.findings} == {Verdict.OK}


@pytest.mark.parametrize("failing", ["break_host", "see_through", "mend_host"])
def test_what_is_broken_is_mended_also_when_something_fails(failing: str) -> None:
    run = rehearsed("crash", pair(), (failing,))
    assert run.done[-1] == ("mend_host", ("db-1",))
    assert run.of("failover.test").verdict is Verdict.CRITICAL


def test_a_switchover_breaks_nothing() -> None:
    run = rehearsed("switchover", pair())
    assert run.done == [("hand_over", ("db-1", "db-2"))]
    assert run.of("failover.test").observed == "switchover of db-1"


def test_a_pair_that_is_not_whole_is_left_alone() -> None:
    run = rehearsed("crash", pair(state=state(synchronous_mode=False)))
    assert not run.done
    assert "not begun" in run.of("failover.test").observed


def test_an_unknown_kind_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="earthquake"):
        rehearsed("earthquake", pair())
