"""Whether statements got slower after something was changed: by the server's own counters, statement by statement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from nvcops.core import queries
from nvcops.core.errors import TargetError
from nvcops.core.progress import tell
from nvcops.core.runs import conduct
from nvcops.core.target import Database, Target
from nvcops.core.units import Ratio, Seconds
from nvcops.core.workload import Workload
from nvcops.database.topics import Extension, placed

_LOOK_S = 10.0
_SILENT_MAX = 6  # looks in a row without an answer: then nobody watches, and that is told
_EXTENSIONS = queries.load("nvcops.database.checks", "performance.sql")["extensions"]
_ASKED = queries.load("nvcops.database.optimization", "regression.sql")

# --- Facts ---


class Counter(msgspec.Struct, frozen=True):
    """What the server counted of a statement since its statistics began."""

    calls: float
    seconds: float


class Slower(msgspec.Struct, frozen=True):
    """A statement that takes longer than before: seconds of a call before and since, and how many calls that is of."""

    id: int
    before_s: float
    after_s: float
    calls: float


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """How long statements were watched, how many could be compared, which got slower; `blind`: why nobody could."""

    seconds: float
    statements: int = 0
    slower: tuple[Slower, ...] = ()
    blind: str = ""


def counted(database: Database) -> dict[int, Counter]:
    """The counters of the costliest statements, by id.

    Raises:
        TargetError: the server does not answer, or does not count.
    """
    there = {row["name"]: Extension(row["schema"], bool(row["loaded"])) for row in database.rows(_EXTENSIONS)}
    asked, refused = placed(_ASKED, there)
    if isinstance(error := refused.get("counted"), TargetError):
        raise error
    return {row["id"]: Counter(row["calls"], row["seconds"]) for row in database.rows(asked["counted"])}


@conduct(deadline="8 d", idempotent=True)  # longer than any [database.upkeep] watch_after
def watched(target: Target, before: dict[int, float], seconds: float, control: list[int] | None = None) -> Watched:
    """Watch the statements for a while; it ends at once when one got slower in two looks running.

    control: statements that the change cannot concern; by as much as those got slower, all others may.
    """
    if target.database is None:
        return Watched(seconds=0, blind="platform.toml names no [database]")
    began = time.monotonic()
    ends, silent, why, last = began + seconds, 0, "", frozenset[int]()
    server, before_that, seen = "", dict[int, Counter](), dict[int, Counter]()
    compared = 0
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left) if server else 0)
        try:
            name, now = target.database.name, counted(target.database)
        except TargetError as error:
            silent, why = silent + 1, error.sentence
            if silent >= _SILENT_MAX:
                return Watched(seconds=time.monotonic() - began, blind=why)
            time.sleep(_LOOK_S)
            continue
        if name == server:
            seen = added(seen, before_that, now)
        silent, server, before_that = 0, name, now  # another server counted for itself: it is begun with anew
        usually = adjusted(before, seen, control or [])
        found, compared = slower(usually, seen), len(comparable(usually, seen))
        tell(0, 0, f"watching {compared} statements, {Seconds(max(0.0, round(left)))} to go")
        if found and (both := last & {one.id for one in found}):
            slow = tuple(one for one in found if one.id in both)
            return Watched(seconds=time.monotonic() - began, statements=compared, slower=slow)
        last = frozenset(one.id for one in found)
    blind = "" if server else why or "there was no time to look"
    return Watched(seconds=time.monotonic() - began, statements=compared, blind=blind)


# --- Rules ---

_CALLS_MIN = 20
_COUNTED_MAX = 2000  # as the query asks for
_SLOWER = 1.25
_SLOWER_S = 100e-6


def means(workload: Workload) -> dict[int, float]:
    """Seconds of a call of each statement that was called often enough to say."""
    return {one.id: one.mean_s for one in workload.statements if one.calls >= _CALLS_MIN}


def added(seen: Mapping[int, Counter], last: Mapping[int, Counter], now: Mapping[int, Counter]) -> dict[int, Counter]:
    """What was seen, and what came since the last look; of those that were called.

    A counter that is less than it was began anew (reset, or forgotten meanwhile) and counts from zero.

    >>> added({1: Counter(5, 0.5)}, {1: Counter(10, 1.0)}, {1: Counter(30, 2.0), 2: Counter(5, 0.5)})
    {1: Counter(calls=25, seconds=1.5), 2: Counter(calls=5, seconds=0.5)}
    >>> added({1: Counter(5, 0.5)}, {1: Counter(90, 9.0)}, {1: Counter(10, 1.0)})
    {1: Counter(calls=15, seconds=1.5)}
    """
    total, nothing = dict(seen), Counter(0, 0.0)
    cut = len(last) >= _COUNTED_MAX  # then one that is new here may have counted for long
    for one, count in now.items():
        base = last.get(one, count if cut else nothing)
        if count.calls < base.calls or count.seconds < base.seconds:
            base = nothing
        if count.calls > base.calls:
            known = total.get(one, nothing)
            calls, took = known.calls + count.calls - base.calls, known.seconds + count.seconds - base.seconds
            total[one] = Counter(calls, took)
    return total


def comparable(before: Mapping[int, float], since: Mapping[int, Counter]) -> list[int]:
    """The statements that were called often enough, before and since, for anybody to say something about them."""
    return [one for one, count in since.items() if one in before and count.calls >= _CALLS_MIN]


def adjusted(before: Mapping[int, float], since: Mapping[int, Counter], control: Sequence[int]) -> Mapping[int, float]:
    """What calls would take by now without the change, the control's left out: the machine may have become busier.

    >>> since = {1: Counter(20, 0.4), 2: Counter(20, 0.3), 3: Counter(20, 0.8)}
    >>> adjusted({1: 0.010, 2: 0.010, 3: 0.010}, since, [1, 2])[3]
    0.0175
    >>> adjusted({1: 0.040, 3: 0.010}, since, [1])
    {3: 0.01}
    """
    ratios = [
        since[one].seconds / since[one].calls / before[one]
        for one in control
        if before.get(one) and one in since and since[one].calls >= _CALLS_MIN
    ]
    factor = max(1.0, median(ratios)) if ratios else 1.0
    return {one: mean * factor for one, mean in before.items() if one not in control}


def slower(before: Mapping[int, float], since: Mapping[int, Counter]) -> list[Slower]:
    """The statements whose mean rose by a quarter, and by more than anybody's breath; the dearest first.

    >>> [one.id for one in slower({1: 0.010, 2: 0.010, 3: 0.000_010}, {
    ...     1: Counter(20, 0.26), 2: Counter(19, 1.9), 3: Counter(1000, 0.1), 4: Counter(99, 9.9)})]
    [1]
    """
    found = [
        Slower(one, before[one], since[one].seconds / since[one].calls, since[one].calls)
        for one in comparable(before, since)
    ]
    worse = [one for one in found if one.after_s > _SLOWER * one.before_s and one.after_s - one.before_s > _SLOWER_S]
    return sorted(worse, key=lambda one: -(one.after_s - one.before_s) * one.calls)


def told(one: Slower) -> str:
    """What got slower, for a person.

    >>> told(Slower(7, 0.010, 0.020, 40))
    'statement 7 takes 20 ms, 10 ms before (100 % more, 40 calls)'
    """
    more = Ratio(round(one.after_s / one.before_s - 1, 2)) if one.before_s else "much"
    return (
        f"statement {one.id} takes {Seconds(round(one.after_s, 6))}, {Seconds(round(one.before_s, 6))} before "
        f"({more} more, {one.calls:,.0f} calls)"
    )
