"""The acts of a rollout: each looks for itself before it changes anything, may be begun again, and reads back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import DeadlineExceeded, Refused, StepFailed
from nvcops.core.progress import tell
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.delivery.quiet import quiet
from nvcops.delivery.standing import answering, balancer_of, entry_of, slots_of, standing
from nvcops.delivery.strategies import Act, Goal, Move, SlotSeen, Split, Standing, next_move, split_weights

P = ParamSpec("P")
T = TypeVar("T")
LOOK_EVERY_S = 0.25
_MOVES_MAX = 400
_TRIES_MAX = 3
_SPLITS_MAX = 10  # a balancer that restarts takes no weights for a while

# --- Facts ---


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A slot runs another release: in how many seconds, what the self-test said, and whether it was empty before."""

    slot: str
    seconds: float = 0.0
    said: str = ""
    drained: bool = True


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """The rollback, before it is needed: what both self-tests said, and how long the way back took."""

    slot: str
    seconds: float
    new_said: str
    old_said: str


def seen_ready(target: Target, slot: str, digest: str) -> SlotSeen:
    """Wait until a slot runs a release by its own word, and is ready.

    Raises:
        DeadlineExceeded: it is not, within delivery.ready_within; the sentence says what it was last.
    """
    within = entry_of(target.manifest).ready_within
    end = time.monotonic() + within
    while True:
        seen = _slot(answering(target), slot)
        if seen.runs(digest):
            return seen
        if time.monotonic() > end:
            raise DeadlineExceeded(f"{slot} does not run release {digest[:8]} after {within}: {_why_not(seen, digest)}")
        tell(0, 0, f"{slot}: {seen.trouble or 'waits to be ready'}")
        time.sleep(LOOK_EVERY_S)


def _slot(seen: Standing, slot: str) -> SlotSeen:
    return next(one for one in seen.slots if one.slot == slot)


def _why_not(seen: SlotSeen, digest: str) -> str:
    """Why a slot does not count as running a release.

    >>> _why_not(SlotSeen(slot="a", main=True, digest="x", ready=True), "x")
    'it does not say which release it is'
    """
    if seen.trouble:
        return seen.trouble
    if seen.release and seen.release != digest:
        return f"it says that it is release {seen.release[:8]}"
    return "it does not say which release it is" if not seen.release else "it points at another release"


# --- Rules ---

SLOT = Check("delivery.slot", "Slot", "its log; `nvcops release status`; scripts/restore_application.sh --version V")
TRAFFIC = Check("delivery.traffic", "Traffic", "echo 'show stat' to the proxy's socket; `nvcops release status`")


def at_goal(seen: Standing, goal: Goal) -> list[Finding]:
    """Whether all traffic goes to one release, and every slot is as it is to be; read again at the end."""
    return [traffic_finding(seen, goal.serve), *(_slot_finding(one, goal) for one in seen.slots)]


def traffic_finding(seen: Standing, digest: str) -> Finding:
    """That all traffic goes to slots that run this release, and that there is one."""
    if seen.trouble:
        return TRAFFIC.unknown(seen.trouble)
    stray = [one.slot for one in seen.serving if not one.runs(digest)]
    if stray:
        said = f"sent to {', '.join(stray)}, which do not run release {digest[:8]}"
        return TRAFFIC.finding(Verdict.CRITICAL, said, limit="one release")
    if not seen.serving:
        return TRAFFIC.finding(Verdict.CRITICAL, "sent to nobody", limit="one release")
    return TRAFFIC.finding(Verdict.OK, f"release {digest[:8]} in {', '.join(one.slot for one in seen.serving)}")


def _slot_finding(seen: SlotSeen, goal: Goal) -> Finding:
    wanted = goal.serve if seen.main else goal.warm
    if not wanted:
        if not seen.running:
            return SLOT.finding(Verdict.OK, "stopped", subject=seen.slot)
        return SLOT.finding(Verdict.WARNING, f"runs still: {seen.trouble}".rstrip(": "), subject=seen.slot)
    if seen.runs(wanted):
        return SLOT.finding(Verdict.OK, f"runs release {wanted[:8]}, {seen.version}".rstrip(", "), subject=seen.slot)
    verdict = Verdict.CRITICAL if seen.main else Verdict.WARNING
    return SLOT.finding(verdict, _why_not(seen, wanted), subject=seen.slot, limit=f"release {wanted[:8]}")


# --- Procedures ---


class Doing(Protocol):
    """As much of a run as moving takes."""

    def read(self, fact: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""

    def step(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See core.runs.Run."""


@conduct(deadline="1 h", idempotent=True, attempts=2)
def lay(target: Target, slot: str, digest: str) -> bool:
    """Bring a release to a slot's host, and verify it there."""
    slots_of(target).lay(slot, digest)
    return True


@conduct(deadline="2 h", idempotent=True)
def migrate(target: Target, digest: str, *, contract: bool) -> bool:
    """Apply what is pending."""
    slots_of(target).migrate(digest, contract=contract)
    return True


@conduct(deadline="1 h", idempotent=True)
def rehearse(target: Target, slot: str, new: str, old: str) -> Rehearsed:
    """Put the new release into a spare slot, then the old one again: both do their work on the schema of today."""
    forth = _put(target, slot, new)
    began = time.monotonic()
    back = _put(target, slot, old)
    return Rehearsed(slot=slot, seconds=time.monotonic() - began, new_said=forth.said, old_said=back.said)


@conduct(deadline="1 h", idempotent=True)
def replace(target: Target, slot: str, digest: str) -> Replaced:
    """Take a slot out of the traffic, give it another release, and see it work there; it gets no traffic by this."""
    seen = standing(target)
    here = _slot(seen, slot)
    if here.runs(digest):
        return Replaced(slot=slot)
    if here.serves and here.ready and not any(one.serves and one.ready for one in seen.slots if one.slot != slot):
        raise Refused(f"{slot} is the only slot that serves", hint="another one must serve before")
    drained = True
    with quiet(target, slot, digest):
        if here.serves:
            drained = balancer_of(target).drain(slot, entry_of(target.manifest).drain_within)
        done = _put(target, slot, digest)
    return msgspec.structs.replace(done, drained=drained)


def _put(target: Target, slot: str, digest: str) -> Replaced:
    """Start a release in a slot that gets no traffic, wait until it is ready, and have it do its real work once."""
    began = time.monotonic()
    places = slots_of(target)
    places.put(slot, digest)
    seen_ready(target, slot, digest)
    said = places.self_test(slot, digest)
    return Replaced(slot=slot, seconds=time.monotonic() - began, said=said)


@conduct(deadline="2 min", idempotent=True, attempts=3)
def split(target: Target, how: Split, new: str, old: str, percent: int) -> dict[str, int]:
    """Send traffic to slots that run their release and are ready, and to no others.

    Raises:
        Refused: nobody would be served.
    """
    seen = answering(target)
    weights = split_weights(seen, how, new, old, percent)
    if not weights:
        raise Refused(f"release {(new or old)[:8]} is ready in no slot that could be sent traffic")
    balancer_of(target).share(weights)
    return weights


@conduct(deadline="2 min", idempotent=True, attempts=2)
def stop(target: Target, slot: str) -> bool:
    """Stop a slot that gets no traffic."""
    if any(one.slot == slot and one.serves for one in answering(target).slots):
        raise Refused(f"{slot} gets traffic")
    slots_of(target).stop(slot)
    return True


@conduct(deadline="2 min", idempotent=True)
def cut(target: Target, serve: str, bad: str) -> list[str]:
    """Where the balancer takes no weights: stop what runs the bad release, while the other one is ready elsewhere."""
    seen = standing(target)
    if not seen.running(serve):
        return []
    stopped = [one.slot for one in seen.slots if one.running and one.digest == bad]
    for slot in stopped:
        slots_of(target).stop(slot)
    return stopped


def carried(run: Doing, target: Target, move: Move, goal: Goal, *, again: bool) -> list[str] | None:
    """Carry out a move: what is to be said of it; None in a rehearsal, in which nothing is done.

    Raises:
        StepFailed: it failed, or it was done just now and is not so.
    """
    if again:
        raise StepFailed(f"{move.title}: it was done and is not so")
    if move.act is Act.SPLIT:
        weights = run.step(move.title, split, target, move.split, move.digest, goal.leave, 0)
        return None if weights is None else []
    if move.act is Act.STOP:
        return None if run.step(move.title, stop, target, move.slot) is None else []
    replaced = run.step(move.title, replace, target, move.slot, move.digest)
    return None if replaced is None else cut_off(replaced)


def cut_off(replaced: Replaced) -> list[str]:
    """A slot that was not empty when its program was stopped."""
    return [] if replaced.drained else [f"{replaced.slot} had requests still when it was given another release"]


@dataclass(frozen=True, slots=True)
class Reached:
    """How the slots stand when no move is left, and what went wrong on the way. `rehearsed`: nothing was done."""

    seen: Standing
    troubles: list[str]
    rehearsed: bool = False


def reach(
    run: Doing,
    target: Target,
    goal: Goal,
    heed: Callable[[], None] = lambda: None,
    began: Mapping[str, str] | None = None,
) -> Reached:
    """Move until the goal is reached; `heed` is called before each move, and may raise.

    `began`: when the goal's release was started in which slots; one that we did not start again must not begin anew.

    Raises:
        StepFailed: a move failed, or was done and is not so, or the release ended somewhere; an urgent goal is not
            given up for that: the slot is set aside after some tries, and the others go on.
    """
    known = dict(began or {})
    failed: dict[Move, int] = {}
    troubles: list[str] = []
    last: Move | None = None
    for _ in range(_MOVES_MAX):
        aside = [one.slot for one, times in failed.items() if one.slot and times >= _TRIES_MAX]
        seen = run.read(answering, target)
        if not goal.urgent:
            _same_as_before(seen, goal.serve, known)
        move = next_move(seen, goal, aside)
        if move is None:  # by the slots' own word: now by their hosts' too
            seen = run.read(standing, target)
            move = next_move(seen, goal, aside)
        if move is None or failed.get(move, 0) >= _SPLITS_MAX:
            return Reached(seen, troubles)
        heed()
        try:
            done = carried(run, target, move, goal, again=move == last)
            if done is None:
                return Reached(seen, troubles, rehearsed=True)
            troubles += done
            last = move
            known.pop(move.slot, None)
        except StepFailed as error:
            if not goal.urgent:
                raise
            last = None
            failed[move] = failed.get(move, 0) + 1
            troubles += [error.sentence, *_cut(run, target, goal, move)]
    raise StepFailed(f"release {goal.serve[:8]} is not everywhere after {_MOVES_MAX} moves")


def _same_as_before(seen: Standing, digest: str, known: dict[str, str]) -> None:
    """Raise StepFailed where a release ended that we did not stop: somebody starts it again, and it looks ready."""
    for one in seen.running(digest):
        if one.started and known.setdefault(one.slot, one.started) != one.started:
            raise StepFailed(f"{one.slot}: its program ended, and was started again")


def _cut(run: Doing, target: Target, goal: Goal, move: Move) -> list[str]:
    """Where the balancer does not take it, the bad release must not serve all the same. What went wrong with that."""
    if move.act is not Act.SPLIT or not goal.leave:
        return []
    title = f"stop release {goal.leave[:8]}, since the balancer takes no weights"
    try:
        run.step(title, cut, target, goal.serve, goal.leave)
    except StepFailed as error:
        return [error.sentence]
    return []
