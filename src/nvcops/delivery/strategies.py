"""The steps of a rollout as a machine: from what is seen of the slots, and where they are to come, to the next move.

Pure. Every move is derived from what was read and never from what was done, so that a rollout which was killed, or that
found a host gone, goes on from wherever it is. `next_move` has two ways to a goal: gently (nobody who serves loses the
slot before another serves), and urgently: all traffic to the goal's release first, everything else afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import msgspec

from nvcops.core.errors import UsageError
from nvcops.core.manifest.delivery import DeliveryEntry, RolloutStep, Strategy
from nvcops.core.manifest.strategies import BUILT_IN

FULL = 100
_WEIGHT_MAX = 256


class SlotSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A slot as it is: what is to run there, what answers from there, and what the balancer sends and counts.

    `digest` is what it points at, `release` what its program says of itself. `weight` None: the balancer does not know
    it, or does not answer. `trouble` says why it is not `ready`.
    """

    slot: str
    main: bool
    digest: str = ""
    running: bool = False
    release: str = ""
    version: str = ""
    started: str = ""
    ready: bool = False
    trouble: str = ""
    weight: int | None = None
    healthy: bool | None = None
    sessions: int | None = None
    requests: int | None = None
    failed: int | None = None

    def runs(self, digest: str) -> bool:
        """Whether this release runs here and is ready: by its own word, not by where the slot points."""
        return bool(digest) and self.ready and self.release == digest == self.digest

    @property
    def serves(self) -> bool:
        """Whether traffic is sent to it."""
        return bool(self.weight)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All slots at one moment, main ones first. `trouble`: the balancer does not answer, so no weight is known."""

    slots: tuple[SlotSeen, ...]
    trouble: str = ""

    def running(self, digest: str) -> list[SlotSeen]:
        """Where a release runs and is ready."""
        return [one for one in self.slots if one.runs(digest)]

    @property
    def main(self) -> list[SlotSeen]:
        """The service's instances."""
        return [one for one in self.slots if one.main]

    @property
    def spare(self) -> list[SlotSeen]:
        """The others."""
        return [one for one in self.slots if not one.main]

    @property
    def serving(self) -> list[SlotSeen]:
        """To whom traffic is sent."""
        return [one for one in self.slots if one.serves]


class Split(StrEnum):
    """How traffic is split between releases."""

    PERCENT = "percent"  # so much to the new one, the rest to the old one
    EVEN = "even"  # each slot of the new one, and each of the old one that serves still, as much as any other
    BOTH = "both"  # each slot of both, as much as any other
    ALL = "all"  # each slot of the new one, nobody else
    MAIN = "main"  # the main slots of the new one, nobody else


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Where the slots are to come: the main ones serve `serve`, the spare ones keep `warm` ready (empty: stopped).

    `leave` is the release that serves until then. `urgent`: what serves `serve` gets all traffic before anything else.
    """

    serve: str
    warm: str = ""
    leave: str = ""
    urgent: bool = False


class Act(StrEnum):
    """What a move does."""

    SPLIT = "split"
    REPLACE = "replace"
    STOP = "stop"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One act: split the traffic, give a slot another release, or stop a slot that nobody needs."""

    act: Act
    slot: str = ""
    digest: str = ""
    split: Split = Split.ALL

    @property
    def title(self) -> str:
        """For the journal.

        >>> Move(act=Act.REPLACE, slot="bank-1", digest="0123456789abcdef").title
        'give bank-1 release 01234567'
        """
        short = self.digest[:8]
        if self.act is Act.SPLIT:
            return f"send traffic to release {short}: {self.split}"
        return f"give {self.slot} release {short}" if self.act is Act.REPLACE else f"stop {self.slot}"


def strategy_of(entry: DeliveryEntry, name: str) -> Strategy:
    """A strategy by its name; the manifest's own take the place of those that are built in.

    Raises:
        UsageError: there is none.
    """
    known = {one.name: one for one in (*BUILT_IN, *entry.strategies)}
    wanted = name or entry.default
    if wanted not in known:
        raise UsageError(f"there is no strategy {wanted!r}", hint=f"one of: {', '.join(known)}")
    return known[wanted]


def words(strategy: Strategy) -> list[str]:
    """A strategy as it is read aloud, from the rehearsal to the promotion.

    >>> words(BUILT_IN[1])
    ['rehearseRollback', 'setWeight 50', 'analysis', 'setWeight 100', 'promote']
    """
    return ["rehearseRollback", *map(word, strategy.steps), "promote"]


def word(step: RolloutStep) -> str:
    """A step in the words of Argo Rollouts.

    >>> word(RolloutStep(pause="")), word(RolloutStep(pause="10 min")), word(RolloutStep(replace=2))
    ('pause', 'pause 10 min', 'replace 2')
    """
    if step.set_weight is not None:
        return f"setWeight {step.set_weight}"
    if step.replace is not None:
        return f"replace {step.replace}"
    return f"pause {step.pause}".strip() if step.pause is not None else "analysis"


def weights_for(percent: int, new: int, old: int) -> tuple[int, int]:
    """The weights of each of `new` and of each of `old` slots, so that `percent` of the traffic goes to the new ones.

    >>> weights_for(10, 2, 2), weights_for(50, 1, 3), weights_for(100, 2, 2), weights_for(0, 2, 2)
    ((28, 252), (255, 85), (100, 0), (0, 100))
    """
    if percent in (0, 100) or not new or not old:
        return (FULL, 0) if percent and new else (0, FULL)
    wanted = percent / 100

    def off(pair: tuple[int, int]) -> tuple[float, int]:
        share = new * pair[0] / (new * pair[0] + old * pair[1])
        return round(abs(share - wanted), 6), -sum(pair)

    pairs = []
    for one in range(1, _WEIGHT_MAX + 1):
        other = round(new * one * (1 - wanted) / (wanted * old))
        if 1 <= other <= _WEIGHT_MAX:
            pairs.append((one, other))
    return min(pairs, key=off) if pairs else (1, _WEIGHT_MAX) if wanted < 0.5 else (_WEIGHT_MAX, 1)


def split_weights(seen: Standing, split: Split, new: str, old: str = "", percent: int = 0) -> dict[str, int]:
    """The weight of every slot: of those that run a release and are ready only; empty where that would leave nobody."""
    fresh, stays = seen.running(new), [one for one in seen.running(old) if old != new]
    if split is Split.PERCENT:
        if (percent and not fresh) or (percent < FULL and not stays):
            return {}
        one, other = weights_for(percent, len(fresh), len(stays))
    else:
        one, other = FULL, FULL
    if split is Split.EVEN:
        stays = [slot for slot in stays if slot.serves]
    elif split in (Split.ALL, Split.MAIN):
        stays = []
    if split is Split.MAIN:
        fresh = [slot for slot in fresh if slot.main]
    if not fresh and split is not Split.PERCENT and not (split is Split.BOTH and stays):
        return {}
    given = {**{slot.slot: one for slot in fresh}, **{slot.slot: other for slot in stays}}
    return {slot.slot: given.get(slot.slot, 0) for slot in seen.slots}


def is_so(seen: Standing, weights: Mapping[str, int]) -> bool:
    """Whether the balancer has these weights."""
    return bool(weights) and all(one.weight == weights[one.slot] for one in seen.slots)


def next_move(seen: Standing, goal: Goal, aside: Collection[str] = ()) -> Move | None:
    """The next move towards a goal; None: it is reached, as far as it can be without the slots set `aside`."""
    right = seen.running(goal.serve)
    wrong = [one for one in seen.main if one not in right and one.slot not in aside]
    if not right:
        first = next((one for one in _first_to_start(seen, goal) if one.slot not in aside), None)
        return Move(act=Act.REPLACE, slot=first.slot, digest=goal.serve) if first else None
    if not wrong and any(one.main for one in right):
        return _settle(seen, goal, aside)
    split = Split.ALL if goal.urgent or not seen.running(goal.leave) else Split.EVEN
    if not is_so(seen, split_weights(seen, split, goal.serve, goal.leave)):
        return Move(act=Act.SPLIT, split=split, digest=goal.serve)
    if not wrong:  # all that are left are set aside: what serves, serves
        return None
    if not goal.urgent and (kept := _to_keep(seen, goal, wrong)):
        return Move(act=Act.REPLACE, slot=kept, digest=goal.leave)
    return Move(act=Act.REPLACE, slot=wrong[0].slot, digest=goal.serve)


def _first_to_start(seen: Standing, goal: Goal) -> Sequence[SlotSeen]:
    """Where a release that runs nowhere is started: where nobody is served, spare slots first.

    Never in a main slot that serves, whatever serves there: it may turn out that the goal's release starts nowhere.
    """
    idle = [one for one in seen.slots if not (one.main and one.serves and one.ready)]
    return sorted(idle, key=lambda one: (one.serves, one.runs(goal.leave), one.main))


def _to_keep(seen: Standing, goal: Goal, wrong: Sequence[SlotSeen]) -> str:
    """The spare slot that takes the old release back before the last slot with it is replaced: the way back stays."""
    old = seen.running(goal.leave)
    if not goal.warm or goal.warm != goal.leave or [one.slot for one in old] != [wrong[0].slot]:
        return ""
    free = [one for one in seen.spare if not one.runs(goal.leave)]
    others = [one for one in seen.running(goal.serve) if one.serves]
    return free[0].slot if free and len(others) > 1 else ""


def _settle(seen: Standing, goal: Goal, aside: Collection[str]) -> Move | None:
    """The main slots are right: they get all traffic, and the spare ones keep what is to be kept warm."""
    if not is_so(seen, split_weights(seen, Split.MAIN, goal.serve)):
        return Move(act=Act.SPLIT, split=Split.MAIN, digest=goal.serve)
    for one in seen.spare:
        if one.slot in aside:
            continue
        if goal.warm and not one.runs(goal.warm):
            return Move(act=Act.REPLACE, slot=one.slot, digest=goal.warm)
        if not goal.warm and one.running:
            return Move(act=Act.STOP, slot=one.slot)
    return None
