"""The canary's verdict: FAIL, PASS or INCONCLUSIVE, with the error rates of its plan, however often one looks.

What nobody could read, or could not believe, never passes. docs/decisions/canary.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from nvcops.core.units import Ratio, Seconds
from nvcops.delivery.betting import Counts, Guard, Measure, log_mean, log_sum
from nvcops.delivery.looks import INSTANCES_MIN, LOOKS_MAX, Look, Plan, checked
from nvcops.delivery.readings import Intake, Interval, Taken

# --- Facts ---


class Outcome(StrEnum):
    """What is known of the canary."""

    FAIL = "FAIL"
    PASS = "PASS"  # noqa: S105 - the field's word
    INCONCLUSIVE = "INCONCLUSIVE"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comparison: its counts, and the natural logarithms of its e-values. needed: to pass, it must be proven."""

    name: str
    counts: Counts
    log_e_worse: float
    log_e_safe: float
    needed: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long proving safety takes at this traffic if the canary is as good as the control: about, from now on.

    None: that cannot be said, because nothing bad was counted yet, or no request.
    """

    requests: float | None
    seconds: float | None
    by: str


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict at a look, and why. abort: take the canary back; else PASS means go on, INCONCLUSIVE wait."""

    outcome: Outcome
    abort: bool
    reason: str
    time: float
    looks: int
    share: float | None
    log_e_fail: float
    log_e_failing: float
    parts: tuple[Part, ...]
    proof: Proof
    limited: tuple[str, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a verdict follows from, and the verdict; see `verify`."""

    plan: Plan
    looks: tuple[Look, ...]
    result: Result


# --- Rules ---

_ERRORS = "errors"
_LATENCY_WEIGHT = 0.15
_GUARD_WEIGHT = 0.10
_BAD_MIN = 3
_TOLERANCE = 1e-6


class Evidence:
    """The e-values of all comparisons. They are one bet: the stake is laid on errors, on latency and on the guard.

    A weighted mean of martingales is one, so all together call at most alpha of the good canaries worse.
    """

    def __init__(self, plan: Plan) -> None:
        cluster = 1.0 if plan.unit == plan.assigned_by else plan.cluster_max or 1.0
        self.errors = Measure(_ERRORS, plan.margin, cluster)
        latency = plan.latency
        self.edges = (
            {edge: Measure(f"slower than {edge} s", latency.margin, cluster) for edge in latency.edges}
            if latency
            else {}
        )
        self.needed = [self.errors, *(self.edges[edge] for edge in latency.prove)] if latency else [self.errors]
        self.guard = Guard(plan.failing_max, plan.time_limit_s, cluster)
        self._weight = math.log(1 - _GUARD_WEIGHT - (_LATENCY_WEIGHT if latency else 0))

    def add(self, interval: Interval) -> None:
        """Take an interval in."""
        self.errors.add(interval.errors)
        for edge, counts in interval.slower.items():
            self.edges[edge].add(counts)
        self.guard.add(interval.errors, interval.seconds)

    def stakes(self) -> dict[str, float]:
        """The logarithm of what each stake has become."""
        stakes = {_ERRORS: self._weight + self.errors.worse.log_e, "guard": math.log(_GUARD_WEIGHT) + self.guard.log_e}
        if self.edges:
            edges = log_mean([edge.worse.log_e for edge in self.edges.values()])
            stakes["latency"] = math.log(_LATENCY_WEIGHT) + edges
        return stakes

    @property
    def log_e_fail(self) -> float:
        """The logarithm of the e-value against the canary being no worse."""
        return log_sum(self.stakes().values())


class Canary:
    """A canary on trial: give it looks until it is `over`."""

    def __init__(self, plan: Plan) -> None:
        """Begin.

        Raises:
            UsageError: the plan contradicts itself.
        """
        self._plan = checked(plan)
        self._intake = Intake(self._plan)
        self._evidence = Evidence(self._plan)
        self._limited = limits(self._plan)
        self._looks = 0
        self._time = 0.0
        self._outcome = Outcome.INCONCLUSIVE
        self._reason = "nobody looked yet"
        self.over = False

    def look(self, look: Look) -> Outcome:
        """Take a look in. When it is over, nothing changes any more."""
        if self.over:
            return self._outcome
        self._looks += 1
        taken = self._intake.take(look)
        if taken.interval:
            self._evidence.add(taken.interval)
        if look.time is not None and not taken.defect:
            self._time = look.time
        doubt = taken.defect or self._why_not(taken)
        if failed := self._why_failed(taken):
            self._conclude(Outcome.FAIL, failed, over=True)
        elif taken.defect or self._time > self._plan.time_limit_s or self._looks >= LOOKS_MAX:
            self._conclude(Outcome.INCONCLUSIVE, doubt or "the time limit has passed", over=True)
        elif doubt:
            self._conclude(Outcome.INCONCLUSIVE, doubt, over=False)
        else:
            self._conclude(Outcome.PASS, self._why_safe(), over=True)
        return self._outcome

    def result(self) -> Result:
        """The verdict so far."""
        seen = self._evidence.guard.total
        return Result(
            outcome=self._outcome,
            abort=self.over and self._outcome is not Outcome.PASS,
            reason=self._reason,
            time=self._time,
            looks=self._looks,
            share=seen.canary / (seen.canary + seen.control) if seen.canary + seen.control else None,
            log_e_fail=self._evidence.log_e_fail,
            log_e_failing=self._evidence.guard.log_e,
            parts=tuple(self._part(measure) for measure in (self._evidence.errors, *self._evidence.edges.values())),
            proof=expected(self._evidence.needed, self._plan, self._time),
            limited=self._limited,
        )

    def _conclude(self, outcome: Outcome, reason: str, *, over: bool) -> None:
        self._outcome, self._reason, self.over = outcome, reason, over

    def _part(self, measure: Measure) -> Part:
        return Part(
            name=measure.name,
            counts=measure.total,
            log_e_worse=measure.worse.log_e,
            log_e_safe=measure.safe.log_e,
            needed=measure in self._evidence.needed,
        )

    def _why_failed(self, taken: Taken) -> str:
        """Why the canary is taken back at once; empty when it is not."""
        if taken.fell:
            return taken.defect
        if self._evidence.log_e_fail >= -math.log(self._plan.alpha):
            return self._why_worse()
        if self._intake.gone_s > self._plan.gone_after_s:
            return f"only the canary has had no readings for {Seconds(self._intake.gone_s)}: {taken.doubt}"
        return ""

    def _why_not(self, taken: Taken) -> str:
        """Why the canary does not pass now; empty when it does."""
        seen = self._evidence.guard.total
        if taken.doubt:
            return taken.doubt
        if self._limited:
            return self._limited[0]
        if not seen.canary or not seen.control:
            return "one side had no requests"
        if (share := seen.canary / (seen.canary + seen.control)) > self._plan.share_max:
            return f"the canary served {Ratio(share)}, at most {Ratio(self._plan.share_max)} was planned"
        for measure in self._evidence.needed:
            if said := self._unproven(measure):
                return f"{measure.name}: {said}"
        return ""

    def _unproven(self, measure: Measure) -> str:
        """Why a measure is not proven; empty when it is."""
        seen = measure.total
        if seen.canary_bad < _BAD_MIN:
            return f"{seen.canary_bad:g} of the canary's were counted: too few to know that they are"
        if measure.silent:
            return "the canary has had none for so long, while the control had them, that they may not be counted"
        if measure.safe.log_e < -math.log(self._plan.beta):
            proven = max(0.0, measure.safe.log_e / -math.log(self._plan.beta))
            return (
                f"less than {measure.margin:g} times the control's odds is not proven yet ({Ratio(proven)} of the way)"
            )
        return ""

    def _why_worse(self) -> str:
        """What the evidence against the canary is, in a sentence."""
        stakes = self._evidence.stakes()
        most = max(stakes, key=lambda name: stakes[name])
        if most == "guard":
            seen = self._evidence.guard.total
            return (
                f"the canary fails {seen.canary_bad:,.0f} of {seen.canary:,.0f} {self._plan.unit}s, "
                f"lately more than {Ratio(self._plan.failing_max)}"
            )
        if most == _ERRORS:
            return f"the canary is worse in {_compared(self._evidence.errors)}"
        return f"the canary is {_compared(max(self._evidence.edges.values(), key=lambda edge: edge.worse.log_e))}"

    def _why_safe(self) -> str:
        """What was proven, in a sentence."""
        said = "; ".join(f"{_compared(m)}: odds below {m.margin:g} times the control's" for m in self._evidence.needed)
        return f"{said}; wrong in at most {Ratio(self._plan.beta)} of canaries that are worse"


def _compared(measure: Measure) -> str:
    """A measure's counts, as a clause.

    >>> measure = Measure("errors", 2, 1)
    >>> measure.add(Counts(1_000, 9_000, 25, 50))
    >>> _compared(measure)
    'errors: 25 of 75 fell to the canary, which served 10 %'
    """
    seen = measure.total
    bad = seen.canary_bad + seen.control_bad
    share = seen.canary / (seen.canary + seen.control)
    return f"{measure.name}: {seen.canary_bad:,.0f} of {bad:,.0f} fell to the canary, which served {Ratio(share)}"


def limits(plan: Plan) -> tuple[str, ...]:
    """What keeps a plan from ever passing.

    >>> limits(Plan(canary=("a",), control=("b", "c")))
    ('the canary has 1 instance, and 2 are needed to tell the release from its host',)
    """
    return tuple(
        f"the {side} has {len(names)} instance, and {INSTANCES_MIN} are needed to tell the release from its host"
        for side, names in (("canary", plan.canary), ("control", plan.control))
        if len(names) < INSTANCES_MIN
    )


def expected(needed: Sequence[Measure], plan: Plan, time: float) -> Proof:
    """How long it takes from now until the slowest of what is needed is proven."""
    longest = Proof(requests=0.0, seconds=0.0, by="")
    for measure in needed:
        seen = measure.total
        requests, bad = seen.canary + seen.control, seen.canary_bad + seen.control_bad
        events, seconds = measure.missing(-math.log(plan.beta)), time - plan.warm_up_s
        if events is None or seconds <= 0:
            return Proof(requests=None, seconds=None, by=measure.name)
        if (more := events * requests / bad) > (longest.requests or 0.0):
            longest = Proof(requests=more, seconds=more * seconds / requests, by=measure.name)
    return longest


def judge(plan: Plan, looks: Sequence[Look]) -> Record:
    """The verdict of all looks in their order: that of the first that decides, else of the last.

    Raises:
        UsageError: the plan contradicts itself.
    """
    canary = Canary(plan)
    for look in looks:
        canary.look(look)
    return Record(plan=plan, looks=tuple(looks), result=canary.result())


def verify(record: Record) -> bool:
    """Whether the verdict follows from what stands in the record.

    Raises:
        UsageError: the plan contradicts itself.
    """
    return _same(msgspec.to_builtins(judge(record.plan, record.looks).result), msgspec.to_builtins(record.result))


def _same(one: object, other: object) -> bool:
    """Equal, but for the last digits that another machine's logarithm may give otherwise.

    >>> _same({"a": (1.0, "x")}, {"a": (1.0 + 1e-12, "x")}), _same({"a": 1.0}, {"a": 1.1}), _same([1], [1, 2])
    (True, False, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return one == other
