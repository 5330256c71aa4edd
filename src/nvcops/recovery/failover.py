"""Failover: tested on the live pair while customers write, and proved after the guard did one."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.clients import Kept, Seen
from nvcops.core.cluster import Cluster, Failover
from nvcops.core.errors import NvcopsError, Refused, StepFailed, TargetError, UsageError
from nvcops.core.manifest import Bound, Limits
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Count, Seconds
from nvcops.recovery import pair as pairs
from nvcops.recovery.pair import Pair, pair_now, ready_findings, whole_again

# --- Facts ---

_BEFORE = dt.timedelta(seconds=5)
_RESOLVED_S = 45.0
_RESUMED_S = 60.0
_HANDED_OVER_S = 150.0
_LOOK_EVERY_S = 1.0


class CustomersView(msgspec.Struct, frozen=True, kw_only=True):
    """What customers saw of it, and whether the primary has all that they were told. `trouble`: why not known."""

    trouble: str = ""
    seen: Seen | None = None
    kept: Kept | None = None


class OldPrimary(msgspec.Struct, frozen=True):
    """Whether the old primary's server runs, by its host's word; None: not known, and why."""

    runs: bool | None
    trouble: str = ""


def moment(target: Target) -> dt.datetime:
    """Note the time."""
    return target.host.now()


@conduct(deadline="3 min", idempotent=True)
def customers(target: Target, began: dt.datetime) -> CustomersView:
    """Read what customers were told since then, when the outcomes that were unknown have been asked for again."""
    if target.clients is None:
        return CustomersView(trouble="platform.toml has no [recovery.acknowledgements]")
    start, end = began - _BEFORE, time.monotonic() + _RESOLVED_S
    try:
        target.clients.acknowledged_after(began, _RESUMED_S)
        while True:
            now = target.host.now()
            seen = target.clients.seen(start, now)
            if not seen.unresolved_count or time.monotonic() > end:
                return CustomersView(seen=seen, kept=target.clients.kept(start, now))
            time.sleep(_LOOK_EVERY_S)
    except NvcopsError as error:
        return CustomersView(trouble=error.sentence)


@conduct(deadline="2 min", idempotent=True)
def successor(target: Target, old: str) -> Pair:
    """Wait until another than the old primary has the lease and the log's backup follows it."""
    end = time.monotonic() + _RESUMED_S
    while True:
        pair = pair_now(target)
        lines = successor_findings(old, pair, target.manifest.limits)
        if all(line.verdict in (Verdict.OK, Verdict.WARNING) for line in lines) or time.monotonic() > end:
            return pair
        time.sleep(_LOOK_EVERY_S)


def old_primary(target: Target, name: str) -> OldPrimary:
    """Ask whether the old primary's server runs."""
    try:
        return OldPrimary(target.control.running(name))
    except TargetError as error:
        return OldPrimary(None, error.sentence)


# --- Rules ---

KINDS = ("switchover", "postmaster", "crash", "freeze", "partition")
# Seconds without an acknowledged write: what each kind is held to, and from when on it is an outage.
_GAPS = {
    "switchover": (3, 30),
    "postmaster": (4, 30),
    "crash": (6, 30),
    "freeze": (10, 30),
    "partition": (30, 60),
}
TEST = Check("failover.test", "Failover test", "the lines below say why; `nvcops show RUN` has all steps")
TAKEN_OVER = Check("failover.taken_over", "Taken over", "patronictl list; is there a synchronous standby?")
HISTORY = Check("failover.history", "Timelines", "patronictl history; compare what the members say")
GAP = Check("failover.gap", "Writes stood still", "the guard's and Patroni's logs say where the seconds went")
UNRESOLVED = Check("failover.unknown", "Unknown outcomes", "ask again with the same idempotency key")
LOST = Check(
    "failover.acknowledged", "Acknowledged writes", "stop; restore beside it and compare, before anybody writes"
)
OFF = Check("failover.fenced", "Old primary off", "[control] fence: its host must stay off until it was looked at")
GUARD = Check("failover.guard", "Guard", "")


def refusal(findings: Sequence[Finding]) -> Finding:
    """Why a failover is not done on purpose now."""
    reasons = "; ".join(f"{line.title} {line.subject}: {line.observed}".replace(" :", ":") for line in findings)
    return TEST.unknown(f"not begun: {reasons}")


def taken_over_findings(before: Pair, after: Pair) -> list[Finding]:
    """Another is primary, and the history went one timeline on: no second primary has written one of its own."""
    old, new = before.primary, after.primary
    if not before.state or not after.state or not new:
        return [TAKEN_OVER.finding(Verdict.CRITICAL, f"nobody: {after.trouble or 'the lease is free'}")]
    verdict = Verdict.OK if new != old else Verdict.CRITICAL
    taken = TAKEN_OVER.finding(verdict, f"{new} after {old}" if new != old else f"{old} is primary still")
    steps = after.state.timeline - before.state.timeline
    said = f"{before.state.timeline} to {after.state.timeline}"
    return [taken, HISTORY.finding(Verdict.OK if steps == 1 else Verdict.CRITICAL, said, limit="one further")]


def customers_findings(view: CustomersView, kind: str) -> list[Finding]:
    """How long writes stood still, what was left unknown, and whether anything acknowledged is not there."""
    if view.seen is None or view.kept is None:
        return [check.unknown(view.trouble) for check in (GAP, UNRESOLVED, LOST)]
    return [gap_finding(view.seen.gap_s, kind), unknown_finding(view.seen), lost_finding(view.kept)]


def gap_finding(gap_s: float | None, kind: str) -> Finding:
    """The longest time between two acknowledged writes.

    >>> [gap_finding(gap, "crash").verdict.name for gap in (5.9, 6.0, 30.0, None)]
    ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN']
    """
    if gap_s is None:
        return GAP.unknown("nobody wrote: nothing was measured")
    warning, critical = _GAPS[kind]
    return GAP.at_most(Seconds(gap_s), Bound(warning=Seconds(warning), critical=Seconds(critical)))


def unknown_finding(seen: Seen) -> Finding:
    """Every outcome that was unknown was learnt by asking again with its key."""
    said = f"{seen.unknown:,} answers told nothing, {seen.unresolved_count:,} are unknown still"
    return UNRESOLVED.finding(Verdict.CRITICAL if seen.unresolved_count else Verdict.OK, said, limit="0 still")


def lost_finding(kept: Kept) -> Finding:
    """Nothing that a customer was told is missing: also none that a second primary would have taken.

    >>> lost_finding(Kept(acknowledged=10, missing=1, missing_keys=("k",))).observed
    '1 of 10 missing: k'
    """
    if not kept.acknowledged:
        return LOST.unknown("nobody wrote: nothing could be lost")
    if kept.missing:
        said = f"{kept.missing:,} of {kept.acknowledged:,} missing: {', '.join(kept.missing_keys[:3])}"
        return LOST.finding(Verdict.CRITICAL, said, limit="none missing")
    return LOST.at_most(
        Count(0), Bound(warning=Count(1), critical=Count(1)), observed=f"all {kept.acknowledged:,} are there"
    )


def off_finding(old: str, seen: OldPrimary, pair: Pair) -> Finding:
    """The old primary is certainly off, or it is back already and follows."""
    server = pair.server(old)
    if server and server.standby and not server.trouble and pair.primary != old:
        return OFF.finding(Verdict.OK, f"back, and follows {pair.primary}", subject=old)
    if seen.runs is None:
        return OFF.unknown(seen.trouble, subject=old)
    return OFF.finding(Verdict.CRITICAL if seen.runs else Verdict.OK, "runs" if seen.runs else "off", subject=old)


def successor_findings(old: str, pair: Pair, limits: Limits) -> list[Finding]:
    """After a failover that nobody asked for: another is primary, the log's backup goes on; on one leg for now."""
    if not pair.state or not pair.primary or pair.primary == old:
        said = pair.trouble or (f"{old} has the lease still" if pair.primary else "nobody has the lease")
        return [TAKEN_OVER.finding(Verdict.CRITICAL, said)]
    streaming = [member.name for member in pair.followers if member.state == "streaming"]
    said = f"{', '.join(streaming)} streaming" if streaming else f"none: {pair.primary} is alone until {old} is mended"
    lines = [
        TAKEN_OVER.finding(Verdict.OK, f"{pair.primary} after {old}"),
        pairs.STANDBY.finding(Verdict.OK if streaming else Verdict.WARNING, said),
    ]
    return lines + [line for line in ready_findings(pair, limits) if line.check == pairs.ARCHIVE.name]


# --- Procedures ---


@conduct(deadline="2 min", idempotent=True)
def hand_over(target: Target, old: str, candidate: str) -> Failover:
    """Hand over in an orderly way."""
    began = target.host.now()
    _cluster(target).switch_over(candidate)
    return Failover(old=old, began=began, successor=candidate)


@conduct(deadline="2 min", idempotent=True)
def break_host(target: Target, kind: str, name: str) -> None:
    """Do to the primary's host what the test is about."""
    target.control.break_host(kind, name)


@conduct(deadline="4 min", idempotent=True)
def see_through(target: Target, old: str) -> Failover:
    """Detect, fence, free the lease, wait for the successor: beside the guard, or in its place."""
    return _cluster(target).see_through(old, _HANDED_OVER_S)


@conduct(deadline="3 min", idempotent=True, attempts=2)
def mend_host(target: Target, name: str) -> None:
    """Put the host right."""
    target.control.mend_host(name)


def _cluster(target: Target) -> Cluster:
    if target.cluster is None:
        raise Refused("platform.toml has no [cluster]")
    return target.cluster


@procedure(
    "test-failover",
    script="test_failover.sh",
    when="second Mon 14:00",
    lock="restore",
    needs=("cluster",),
)
def failover_test(run: Run, target: Target, *, kind: str = "switchover") -> None:  # noqa: D417 - its Args are flags
    """Fail over the live pair while customers write: the gap that they see, and that nothing acknowledged is lost.

    It is not begun unless the pair is whole. Afterwards the old primary follows again, the log's backup has gone on to
    the new timeline, and every acknowledged write was looked for. A run that was killed puts the host right when it is
    resumed.

    Args:
        kind: what happens to the primary: switchover, postmaster, crash, freeze or partition
    """
    if kind not in KINDS:
        raise UsageError(f"there is no failover of the kind {kind!r}", hint=f"one of: {', '.join(KINDS)}")
    limits = target.manifest.limits
    before = run.read(pair_now, target)
    if wrong := [line for line in ready_findings(before, limits) if line.verdict is not Verdict.OK]:
        run.conclude([refusal(wrong), *wrong])
        return
    began = run.read(moment, target)
    done, troubles = _taken_through(run, target, kind, before)
    if done is None and not troubles:  # nothing was done: a rehearsal
        run.conclude(ready_findings(before, limits), summary=f"would fail over {before.primary} ({kind})")
        return
    after = run.read(whole_again, target, before.primary if done else "")
    view = run.read(customers, target, began)
    test = TEST.finding(
        Verdict.CRITICAL if troubles else Verdict.OK, "; ".join(troubles) or f"{kind} of {before.primary}"
    )
    findings = [test, *taken_over_findings(before, after), *customers_findings(view, kind)]
    run.conclude([*findings, *ready_findings(after, limits)])


def _taken_through(run: Run, target: Target, kind: str, before: Pair) -> tuple[Failover | None, list[str]]:
    """Break or hand over, and put right whatever was broken, also when something of it fails."""
    old, troubles = before.primary, []
    done: Failover | None = None
    try:
        if kind == "switchover":
            candidate = next(member.name for member in before.followers if member.synchronous)
            done = run.step(f"hand over from {old} to {candidate}", hand_over, target, old, candidate)
        else:
            run.step(f"{kind} of {old}", break_host, target, kind, old)
            done = run.step(f"see another than {old} take over", see_through, target, old)
    except StepFailed as error:
        troubles.append(error.sentence)
    if kind != "switchover":
        try:
            run.step(f"mend the host of {old}", mend_host, target, old)
        except StepFailed as error:
            troubles.append(error.sentence)
    return done, troubles


@procedure("fail-over")
def fail_over(run: Run, target: Target, *, old: str = "", guard: str = "") -> None:  # noqa: D417 - its Args are flags
    """Prove a failover that the guard did: who is primary now, that the old one is off, that the log's backup goes on.

    Args:
        old: the server that was primary
        guard: what the guard saw and did
    """
    if not old:
        raise UsageError("which server was primary?", hint="--old NAME")
    pair = run.read(successor, target, old)
    off = run.read(old_primary, target, old)
    told = [GUARD.finding(Verdict.OK, guard, subject=old)] if guard else []
    run.conclude([*successor_findings(old, pair, target.manifest.limits), off_finding(old, off, pair), *told])
