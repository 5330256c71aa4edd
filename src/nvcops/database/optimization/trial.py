"""Proposals are tried on a copy of the database, under the statements of the live one: what each really gains.

Before and after take turns, round by round, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from nvcops.core.clones import Clones, Copy, Load, Timing
from nvcops.core.errors import NvcopsError
from nvcops.core.progress import tell
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.core.workload import Statement
from nvcops.database.optimization.proposals import Kind, Proposal
from nvcops.database.texts import shown

# --- Facts ---


class Round(msgspec.Struct, frozen=True):
    """Seconds of each statement (by its id) in one round, before and after."""

    before: dict[int, float]
    after: dict[int, float]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal and what its measurement came to. `weights` are the statements' calls, `texts` how they begin."""

    proposal: Proposal
    rounds: tuple[Round, ...] = ()
    weights: dict[int, float] = {}
    texts: dict[int, str] = {}
    trouble: str = ""


class Sessions(msgspec.Struct, frozen=True):
    """How much a number of sessions got done side by side."""

    sessions: int
    load: Load


def tried(clones: Clones, run: str, found: Sequence[Proposal], statements: Sequence[Statement]) -> list[Trial]:
    """Measure each proposal on a run's copy; those on tables last, since they leave it changed."""
    trials = []
    last = [one for one in found if one.kind is Kind.TABLE]
    for number, one in enumerate([*(one for one in found if one.kind is not Kind.TABLE), *last], 1):
        tell(0, 0, f"trying {one.subject} = {one.to} ({number} of {len(found)})")
        try:
            rounds = _rounds(clones, run, one, statements)
        except NvcopsError as error:
            trials.append(Trial(proposal=one, trouble=error.sentence))
            continue
        weights = {statement.id: statement.calls for statement in statements}
        texts = {statement.id: shown(statement.text) for statement in statements}
        trials.append(Trial(proposal=one, rounds=tuple(rounds), weights=weights, texts=texts))
    return trials


def _rounds(clones: Clones, run: str, one: Proposal, statements: Sequence[Statement]) -> list[Round]:
    if one.kind is Kind.RESTART:
        return [
            Round(_alone(clones, run, {}, statements), _alone(clones, run, one.settings, statements))
            for _ in range(_RESTARTS)
        ]
    with clones.opened(run) as copy:
        if one.kind is Kind.SESSION:
            return [Round(_once(copy, statements, None), _once(copy, statements, one.settings)) for _ in range(_ROUNDS)]
        before = [_once(copy, statements, None) for _ in range(_ROUNDS)]
        copy.execute(*one.prepare)
        return [Round(earlier, _once(copy, statements, None)) for earlier in before]


def _alone(clones: Clones, run: str, settings: Mapping[str, str], statements: Sequence[Statement]) -> dict[int, float]:
    with clones.opened(run, settings) as copy:
        return _once(copy, statements, None)


def _once(copy: Copy, statements: Sequence[Statement], settings: Mapping[str, str] | None) -> dict[int, float]:
    timings = copy.timed(statements, rounds=1, deadline_s=_STATEMENT_S, settings=settings)
    return {timing.id: median(timing.seconds) for timing in timings if _whole(timing)}


def _whole(timing: Timing) -> bool:
    return bool(timing.seconds) and not timing.trouble


def side_by_side(copy: Copy, statements: Sequence[Statement], most: int) -> list[Sessions]:
    """What 1, 2, 4, 8 ... sessions get done, up to so many."""
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= most]
    return [Sessions(count, copy.load(statements, sessions=count, seconds=_LOAD_S)) for count in counts]


# --- Rules ---

_ROUNDS = 5
_RESTARTS = 3
_STATEMENT_S = 30.0
_LOAD_S = 3.0
_WORTH = 0.03
_SLOWER = 1.1
_SLOWER_S = 50e-6  # less is a breath of the machine
_BEST_SHARE = 0.95


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial says: the share of the workload's time that is gained, and the least and most of its rounds.

    `slower` are the statements that lose more than a tenth, by id, with how many times as long each takes; for ever
    where it fails.
    """

    share: Ratio
    least: Ratio
    most: Ratio
    slower: dict[int, float] = {}

    @property
    def worth(self) -> bool:
        """Gained in every round, 3 % at the median, and nobody pays for it."""
        return self.share >= _WORTH and self.least > 0 and not self.slower


def gain(trial: Trial) -> Gain | None:
    """Weigh each statement with its calls; None where nothing was measured both times."""
    shares: list[float] = []
    ratios: dict[int, list[tuple[float, float]]] = {}
    for turn in trial.rounds:
        both = [one for one in turn.before if one in turn.after]
        before = sum(trial.weights[one] * turn.before[one] for one in both)
        after = sum(trial.weights[one] * turn.after[one] for one in both)
        if before > 0:
            shares.append(1 - after / before)
        for one in both:
            ratios.setdefault(one, []).append((turn.before[one], turn.after[one]))
    if not shares:
        return None
    slower = {one: round(factor, 2) for one, pairs in ratios.items() if (factor := _slowed(pairs)) > _SLOWER}
    slower |= dict.fromkeys(_lost(trial.rounds), math.inf)
    return Gain(share=Ratio(median(shares)), least=Ratio(min(shares)), most=Ratio(max(shares)), slower=slower)


def _lost(rounds: Sequence[Round]) -> list[int]:
    """The statements that are carried out before and mostly not after: no time of theirs says that."""
    lost = Counter(one for turn in rounds for one in turn.before if one not in turn.after)
    there = Counter(one for turn in rounds for one in turn.before)
    return [one for one, times in lost.items() if 2 * times > there[one]]


def _slowed(pairs: Sequence[tuple[float, float]]) -> float:
    """How many times as long a statement takes; 1 where the difference is none that anybody could feel."""
    before, after = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    return after / before if before > 0 and after - before > _SLOWER_S else 1.0


def told(trial: Trial) -> str:
    """What a trial came to, for a person."""
    found = gain(trial)
    if trial.trouble or found is None:
        return trial.trouble or "no statement could be measured"
    span = f"{_signed(found.share)} of the workload's time ({_signed(found.least)} to {_signed(found.most)})"
    if found.slower:
        slowest = max(found.slower, key=lambda one: found.slower[one])
        text = trial.texts.get(slowest, f"statement {slowest}")
        if math.isinf(found.slower[slowest]):
            return f"{span}, but one is not carried out any more: {text}"
        return f"{span}, but one takes {found.slower[slowest]:g} times as long: {text}"
    return span


def _signed(share: float) -> str:
    """A gain of 12 % is 12 % less time.

    >>> _signed(0.123), _signed(-0.02)
    ('-12.3 %', '+2 %')
    """
    return f"{'-' if share >= 0 else '+'}{Ratio(round(abs(share), 3))}"


def enough(measured: Sequence[Sessions]) -> int | None:
    """The fewest sessions that do almost as much as any number of them; None where nothing was measured."""
    best = max((one.load.rate for one in measured), default=0.0)
    return next((one.sessions for one in measured if best and one.load.rate >= _BEST_SHARE * best), None)


def pool_told(measured: Sequence[Sessions]) -> str:
    """What each number of sessions got done."""
    return ", ".join(
        f"{one.sessions}: {Count(round(one.load.rate))}/s p99 {Seconds(one.load.p99_s)}" for one in measured
    )
