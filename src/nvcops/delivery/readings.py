"""From counters to intervals, and all that can be wrong with them: what is not beyond doubt is no sign of safety."""

from __future__ import annotations

import itertools
import math
from typing import TypeGuard

import msgspec

from nvcops.delivery.betting import Counts
from nvcops.delivery.looks import Look, Plan, Reading

_CLOCK_STEP_S = 1.0
_COUNT_MAX = 2**53  # beyond that a float skips some


class Interval(msgspec.Struct, frozen=True):
    """What came between two looks: errors, and by edge of the latency histogram what was slower."""

    seconds: float
    errors: Counts
    slower: dict[str, Counts]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a look brought: an interval where one can be counted, and why no one may pass now.

    A *doubt* holds while it lasts: what is missing or stale may come back, since counters go on counting. After a
    *defect* nobody knows what the counters mean. `fell`: it is one of the canary's counters that fell.
    """

    interval: Interval | None = None
    doubt: str = ""
    defect: str = ""
    fell: bool = False


class Defect(Exception):
    """What cannot be in readings that are true."""

    def __init__(self, said: str, fell: str = "") -> None:
        super().__init__(said)
        self.fell = fell


class Intake:
    """Takes looks in, one after the other, until one has a defect."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._arms = {**dict.fromkeys(plan.canary, True), **dict.fromkeys(plan.control, False)}
        self._edges = ("+Inf", *plan.latency.edges) if plan.latency else ()
        self._now = -1.0
        self._last: dict[str, Reading] = {}
        self._base: dict[str, Reading] = {}
        self._base_time = 0.0
        self._first: dict[str, Reading] = {}
        self._moved: dict[str, float] = {}
        self._bad_moved: set[bool] = set()
        self._alike = set(itertools.combinations(self._arms, 2))
        self._fresh = {True: 0.0, False: 0.0}

    @property
    def gone_s(self) -> float:
        """For how long the canary alone has had no readings, while the control had them."""
        return self._fresh[False] - self._fresh[True]

    def take(self, look: Look) -> Taken:
        """The interval since the last look that could be counted."""
        try:
            return self._take(look)
        except Defect as defect:
            return Taken(defect=str(defect), fell=defect.fell in self._plan.canary)

    def _take(self, look: Look) -> Taken:
        if not _is_number(look.time):
            raise Defect("a look has no time")
        if look.time <= self._now:
            raise Defect(f"a look at {look.time:g} s follows one at {self._now:g} s: repeated, or out of order")
        self._now = look.time
        readings = self._named(look)
        doubts = {name: doubt for name in self._arms if (doubt := self._unusable(readings.get(name), name))}
        for name, reading in readings.items():
            if name not in doubts:
                self._keep(reading)
        for side in (True, False):
            if not doubts.keys() & set(self._side(side)):
                self._fresh[side] = self._now
        if doubts:
            return Taken(doubt=next(iter(doubts.values())))
        if (spread := _spread_s(readings)) > self._plan.skew_max_s:
            return Taken(doubt=f"the readings are {spread:.1f} s apart: they are not of the same time")
        return self._count(readings)

    def _named(self, look: Look) -> dict[str, Reading]:
        """The readings by instance."""
        names = [reading.instance for reading in look.readings]
        if strange := sorted(set(names) - set(self._arms)):
            raise Defect(f"{strange[0]} is not in the plan: renamed, or added since")
        if len(set(names)) < len(names):
            raise Defect(f"{next(name for name in names if names.count(name) > 1)} was read twice at one look")
        return {reading.instance: reading for reading in look.readings}

    def _unusable(self, reading: Reading | None, name: str) -> str:
        """Why a reading cannot be used now."""
        if reading is None:
            return f"{name} was not read"
        values = {"requests": reading.requests, "bad": reading.bad, **{e: reading.buckets.get(e) for e in self._edges}}
        for key, value in values.items():
            if _is_number(value) and not _is_count(value):
                raise Defect(f"{name}: {value:g} is not a count ({key})")
        if missing := [key for key, value in values.items() if not _is_number(value)]:
            return f"{name} has no {missing[0]}"
        self._check_sums(name, self._values(reading))
        return self._untimely(reading, reading.time) if _is_number(reading.time) else f"{name} has no time"

    def _check_sums(self, name: str, values: list[float]) -> None:
        """A part is not more than the whole: since the instance began, and from look to look."""
        requests, bad, *buckets = values
        if bad > requests:
            raise Defect(f"{name}: {bad:g} bad of {requests:g} {self._plan.unit}s")
        timed, *quick = buckets or [0.0]
        if any(later < one for one, later in itertools.pairwise([*quick, timed])):
            raise Defect(f"{name}: fewer took at most a longer time, by its latency histogram")

    def _untimely(self, reading: Reading, time: float) -> str:
        """Why a reading is not of now."""
        name, last = reading.instance, self._last.get(reading.instance)
        if time > self._now + _CLOCK_STEP_S:
            raise Defect(f"{name} was read at {time:g} s, after the look at {self._now:g} s")
        if last is not None:
            if time < (last.time or 0.0):
                raise Defect(f"{name}: a reading of {time:g} s follows one of {last.time:g} s")
            before, after = self._values(last), self._values(reading)
            if any(now < then for then, now in zip(before, after, strict=True)):
                raise Defect(f"{name}: a counter fell: it began anew, or another has its name", fell=name)
            if time == last.time and before != after:
                raise Defect(f"{name}: two readings of {time:g} s differ")
        if (age := self._now - time) > self._plan.stale_after_s:
            return f"{name} was last read {age:.0f} s ago"
        return ""

    def _keep(self, reading: Reading) -> None:
        """Remember a good reading."""
        name = reading.instance
        last = self._last.get(name)
        if last is None or reading.requests != last.requests:
            self._moved[name] = self._now
        if last is not None and reading.bad != last.bad:
            self._bad_moved.add(self._arms[name])
        self._last[name] = reading

    def _values(self, reading: Reading) -> list[float]:
        """The counters of a reading in which all of them can be read."""
        return [reading.requests or 0, reading.bad or 0, *(reading.buckets[edge] or 0 for edge in self._edges)]

    def _side(self, canary: bool) -> tuple[str, ...]:
        return self._plan.canary if canary else self._plan.control

    def _count(self, readings: dict[str, Reading]) -> Taken:
        """The interval since the base: the first look after the warm-up, then the last that was counted."""
        if self._now < self._plan.warm_up_s:
            return Taken(doubt="the canary is warming up")
        if not self._base:
            self._base, self._base_time, self._first = readings, self._now, readings
            return Taken(doubt="there is nothing to compare with yet")
        if old := [name for name, reading in readings.items() if reading.time == self._base[name].time]:
            return Taken(doubt=f"{old[0]} has no new reading")
        interval = self._interval(readings, self._now - self._base_time)
        self._alike = {(a, b) for a, b in self._alike if self._since(a, readings) == self._since(b, readings)}
        self._base, self._base_time = readings, self._now
        return Taken(interval=interval, doubt=self._doubt())

    def _since(self, name: str, readings: dict[str, Reading]) -> tuple[float, float]:
        then, here = self._first[name], readings[name]
        return (here.requests or 0) - (then.requests or 0), (here.bad or 0) - (then.bad or 0)

    def _doubt(self) -> str:
        """Why what was counted may not be what happened."""
        for name, moved in self._moved.items():
            if (still := self._now - moved) > self._plan.stale_after_s:
                return f"{name}'s count of {self._plan.unit}s has stood still for {still:.0f} s"
        for side in (True, False):
            if side not in self._bad_moved:
                which = "canary" if side else "control"
                return f"no bad {self._plan.unit} of the {which} was ever counted: perhaps they are not counted"
        if self._alike:
            return "{} and {} have always counted the same: perhaps they are one".format(*min(self._alike))
        return ""

    def _interval(self, readings: dict[str, Reading], seconds: float) -> Interval:
        """What came since the base."""
        rises: dict[str, list[float]] = {}
        for name, reading in readings.items():
            pairs = zip(self._values(self._base[name]), self._values(reading), strict=True)
            rises[name] = [after - before for before, after in pairs]
            self._check_sums(name, rises[name])
        slower = {
            edge: self._sides({name: (rise[2], rise[2] - rise[at]) for name, rise in rises.items()})
            for at, edge in enumerate(self._edges[1:], 3)
        }
        return Interval(seconds, self._sides({name: (rise[0], rise[1]) for name, rise in rises.items()}), slower)

    def _sides(self, rises: dict[str, tuple[float, float]]) -> Counts:
        """Each side's instances together."""
        canary, control = ([rises[name] for name in self._side(side)] for side in (True, False))
        return Counts(
            sum(count for count, _ in canary),
            sum(count for count, _ in control),
            sum(bad for _, bad in canary),
            sum(bad for _, bad in control),
        )


def _is_number(value: float | None) -> TypeGuard[float]:
    """Whether it is one: NaN is not, and JSON writes it as null."""
    return value is not None and math.isfinite(value)


def _is_count(value: float) -> bool:
    """Whether a counter can say this.

    >>> [_is_count(value) for value in (0, 7.0, 2**53, -1, 0.5, 2**54, True)]
    [True, True, True, False, False, False, False]
    """
    return not isinstance(value, bool) and 0 <= value <= _COUNT_MAX and value == int(value)


def _spread_s(readings: dict[str, Reading]) -> float:
    """Seconds between the oldest and the newest."""
    times = [reading.time for reading in readings.values() if reading.time is not None]
    return max(times) - min(times)
