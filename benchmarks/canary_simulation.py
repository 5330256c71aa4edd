"""How often the canary's verdict is wrong, and how soon it is right: canaries by the laws of chance, from fixed seeds.

A/A: canary and control are the same, looked at each second for 24 hours; who is aborted is aborted wrongly. At the
margin: the canary's odds of failing are exactly twice the control's; who passes passes wrongly. Then how long it takes
until a bad canary is gone and a good one has passed. Requests arrive at 100 a second, one in ten goes to the canary.

    canary_simulation.py [--quick] [--json]      ends with 0, or with 2 when a bound is missed
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

import msgspec

from _canaries import PLAN, TIMED, Service, errors, frequent, interval, timed
from nvcops.delivery.betting import Measure
from nvcops.delivery.canary import Evidence
from nvcops.delivery.looks import Plan
from nvcops.delivery.readings import Interval

DAY_S = 86_400.0
HOUR_S = 3_600.0
FAILING_ERRORS_MAX = 9
Seconds = Iterator[tuple[float, Interval]]


class Line(msgspec.Struct, frozen=True):
    """A line of the table; without a bound it is told and not judged."""

    name: str
    figure: float
    unit: str
    bound: float | None
    runs: int

    @property
    def kept(self) -> bool:
        """Whether the bound is; a share above it is a miss when chance shows so many in 2.5 % of tables at most."""
        if self.bound is None or self.figure <= self.bound:
            return True
        return self.unit == "share" and at_least(round(self.figure * self.runs), self.runs, self.bound) > 0.025

    def __str__(self) -> str:
        figure = f"{self.figure:.2%}" if self.unit == "share" else f"{self.figure:,.0f} {self.unit}"
        bound = f"{self.bound:.0%}" if self.unit == "share" and self.bound else f"{self.bound or 0:,.0f} {self.unit}"
        return f"  {self.name:62} {figure:>12}   {'bound <= ' + bound if self.bound else '':18} {self.runs} runs"


def at_least(many: int, runs: int, share: float) -> float:
    """The probability of so many or more, when each has that share as its own."""
    return 1 - sum(math.comb(runs, k) * share**k * (1 - share) ** (runs - k) for k in range(many))


def aborted_s(plan: Plan, seconds: Seconds) -> float:
    """When the canary is aborted; never is infinite."""
    evidence, threshold = Evidence(plan), -math.log(plan.alpha)
    for now, seen in seconds:
        evidence.add(seen)
        if evidence.log_e_fail >= threshold:
            return now
    return math.inf


def passed_s(plan: Plan, seconds: Seconds) -> float:
    """When its errors are proven safe; never is infinite."""
    measure, threshold = Measure("errors", plan.margin, 1), -math.log(plan.beta)
    for now, seen in seconds:
        measure.add(seen.errors)
        if measure.safe.log_e >= threshold:
            return now
    return math.inf


def errors_until_gone(seed: int, service: Service, good_requests: int = 0) -> int:
    """Errors of a canary that fails half its requests, after so many good ones; looked at with each request."""
    rng, evidence, bad = random.Random(seed), Evidence(PLAN), 0
    for number in range(10**6):
        is_canary = rng.random() < service.share
        fails = rng.random() < (0.5 if is_canary and number >= good_requests else service.failing)
        counted = is_canary and fails and number >= good_requests
        evidence.add(interval(1 / service.rps, is_canary, not is_canary, is_canary and fails, not is_canary and fails))
        bad += counted
        if counted and evidence.log_e_fail >= -math.log(PLAN.alpha):
            return bad
    return bad


def wrong(runs: int) -> Iterator[Line]:
    """How often the verdict is wrong."""
    for failing in (0.0005, 0.002):
        service = Service(failing=failing)
        false = sum(aborted_s(PLAN, errors(seed, service, DAY_S)) < DAY_S for seed in range(runs))
        yield Line(f"A/A, {failing:.2%} errors, each second for 24 h: aborted", false / runs, "share", PLAN.alpha, runs)
    few = max(10, runs // 2)
    false = sum(aborted_s(TIMED, timed(seed, Service(), HOUR_S / 2)) < HOUR_S for seed in range(few))
    yield Line("A/A with latency, each second for 30 min: aborted", false / few, "share", PLAN.alpha, few)
    for failing, drawn, limit in ((0.002, errors, 8 * HOUR_S), (0.05, frequent, HOUR_S / 6)):
        service = Service(failing=failing, odds=PLAN.margin)
        false = sum(passed_s(PLAN, drawn(seed, service, limit)) < DAY_S for seed in range(runs))
        yield Line(f"odds at the margin, {failing:.2%} errors: passed", false / runs, "share", PLAN.beta, runs)


def bad(runs: int) -> Iterator[Line]:
    """How soon a bad canary is gone."""
    for failing, bound in ((0.0005, None), (0.001, 300.0), (0.01, 300.0)):
        service = Service(failing=failing, odds=5)
        found = median(aborted_s(PLAN, errors(seed, service, DAY_S)) for seed in range(runs))
        yield Line(f"errors x 5, {failing:.2%} errors: found, median", found, "s", bound, runs)
    service = Service(slower=1.2)
    few = max(10, runs // 5)
    found = median(aborted_s(TIMED, timed(seed, service, HOUR_S)) for seed in range(few))
    yield Line("latency + 20 %: found, median", found, "s", 300.0, few)
    for share in (0.01, 0.1, 0.25, 0.5):
        service = Service(share=share, failing=0.0001)
        gone = sorted(errors_until_gone(seed, service) for seed in range(runs))
        name = f"failing half its requests, {share:.0%} canary: errors, 99 of 100"
        yield Line(name, gone[math.ceil(0.99 * runs) - 1], "errors", FAILING_ERRORS_MAX, runs)
    gone = sorted(errors_until_gone(seed, Service(failing=0.001), 60_000) for seed in range(few))
    yield Line("failing half only after 10 good minutes: errors, median", median(gone), "errors", None, few)


def good(runs: int) -> Iterator[Line]:
    """How long it takes to prove a good canary safe."""
    for failing in (0.001, 0.005, 0.02):
        taken = median(passed_s(PLAN, errors(seed, Service(failing=failing), DAY_S)) for seed in range(runs))
        yield Line(f"as good as the control, {failing:.2%} errors: proven safe, median", taken, "s", None, runs)


def main() -> int:
    """Measure, print figures beside bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 canaries a line instead of 400")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    runs = 40 if options.quick else 400
    if not options.json:
        print(f"canary_simulation: alpha {PLAN.alpha:.0%}, beta {PLAN.beta:.0%}, margin {PLAN.margin:g} times the odds")
    lines = []
    for table in (wrong, bad, good):
        for line in table(runs):
            lines.append(line)
            if not options.json:
                print(line, flush=True)
    first = lines[0]
    if options.json:
        found = {"figure": first.figure, "unit": first.unit, "bound": first.bound, "ratio": first.figure / PLAN.alpha}
        print(json.dumps({**found, "runs": first.runs, "table": msgspec.to_builtins(lines)}))
    return 0 if all(line.kept for line in lines) else 2


if __name__ == "__main__":
    sys.exit(main())
