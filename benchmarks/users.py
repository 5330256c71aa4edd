"""10,000 customers, one request per 10 s each, through HAProxy, on this machine: their mean response time and errors.

The loop is open: a request counts from the moment at which it was due. The load generator is one of the parts measured.

    users.py [--quick] [--json] [--users 10000]      ends with 0, with 2 when a bound is missed
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil

from nvclab import running
from nvclab.errors import LabError

BOUND_MEAN_MS = 200.0
BOUND_ERROR_SHARE = 0.001
THINK_S = 10.0
RAMP_DEADLINE_S = 600.0
SETTLE_S = 5.0


@dataclass(frozen=True)
class Reading:
    """What the customers have seen so far, and the CPU seconds that each part has used."""

    figures: dict[str, Any]
    cpu_s: dict[str, float]

    def since(self, before: Reading) -> Run:
        """The time between two readings."""
        answers = {
            status: count - before.figures["outcomes"].get(status, 0)
            for status, count in self.figures["outcomes"].items()
        }
        counts = {
            int(ms): count - before.figures["histogram_ms"].get(ms, 0)
            for ms, count in self.figures["histogram_ms"].items()
        }
        seconds = self.figures["at_s"] - before.figures["at_s"]
        requests = self.figures["requests"] - before.figures["requests"]
        return Run(
            seconds=seconds,
            requests=requests,
            errors=self.figures["errors"] - before.figures["errors"],
            mean_ms=(self.figures["sum_ms"] - before.figures["sum_ms"]) / max(requests, 1),
            p99_ms=quantile_ms(counts, 0.99),
            answers={status: count for status, count in answers.items() if count},
            cores={name: (used - before.cpu_s.get(name, 0.0)) / seconds for name, used in self.cpu_s.items()},
        )


@dataclass(frozen=True)
class Run:
    """One measured span. `answers`: how many of each HTTP status, 0 is none; `cores`: how many each part used."""

    seconds: float
    requests: int
    errors: int
    mean_ms: float
    p99_ms: float
    answers: dict[str, int]
    cores: dict[str, float]


def quantile_ms(counts: dict[int, int], share: float) -> float:
    """Upper edge of the millisecond below which `share` of the requests lie."""
    rank, seen = share * sum(counts.values()), 0
    for ms, count in sorted(counts.items()):
        seen += count
        if seen >= rank:
            return ms + 1.0
    return 0.0


def read(lab: running.Lab, pids: dict[str, int]) -> Reading:
    """Read the customers' figures and every part's CPU time, its children's included."""
    figures = json.loads((lab.folder / "customers" / "figures.json").read_text(encoding="utf-8"))
    return Reading(figures, {name: cpu_s(pid) for name, pid in pids.items()})


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, those that have ended included."""
    total = 0.0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue  # a short-lived child ended between the two lines
        total += times.user + times.system + times.children_user + times.children_system
    return total


def wait_for_all(lab: running.Lab, users: int) -> None:
    """Wait until all customers are there, and a little longer."""
    end = time.monotonic() + RAMP_DEADLINE_S
    while json.loads((lab.folder / "customers" / "figures.json").read_text(encoding="utf-8"))["users"] < users:
        if time.monotonic() > end:
            sentence = f"Not all {users} customers had come after {RAMP_DEADLINE_S:g} s."
            raise LabError(sentence, hint="the machine is busy with something else")
        time.sleep(1)
    time.sleep(SETTLE_S)


def measure(users: int, seconds: float, runs: int) -> list[Run]:
    """Start a lab, wait for the customers, and measure."""
    with running.temporary(users=users, think_s=THINK_S) as lab:
        pids = {part["name"]: part["pid"] for part in lab.status()["parts"]}
        wait_for_all(lab, users)
        readings = [read(lab, pids)]
        for _ in range(runs):
            time.sleep(seconds)
            readings.append(read(lab, pids))
    return [after.since(before) for before, after in itertools.pairwise(readings)]


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of 10 s instead of three of 20 s")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--users", type=int, default=10_000, help="customers at the same time (10000)")
    options = parser.parse_args()
    try:
        runs = measure(options.users, *((10.0, 1) if options.quick else (20.0, 3)))
    except LabError as error:
        print(f"users: {error.sentence}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    requests, errors = sum(run.requests for run in runs), sum(run.errors for run in runs)
    figure = sum(run.mean_ms * run.requests for run in runs) / max(requests, 1)
    error_share = errors / requests if requests else 1.0
    missed = figure >= BOUND_MEAN_MS or error_share >= BOUND_ERROR_SHARE
    if options.json:
        found = {"figure": figure, "unit": "ms", "bound": BOUND_MEAN_MS, "ratio": figure / BOUND_MEAN_MS}
        more = {"runs": [run.mean_ms for run in runs], "errors": error_share, "errors_bound": BOUND_ERROR_SHARE}
        more |= {"p99_ms": [run.p99_ms for run in runs], "cores": [run.cores for run in runs]}
        print(json.dumps({**found, **more}))
    else:
        show(options.users, runs, figure, error_share)
    return 2 if missed else 0


def show(users: int, runs: list[Run], figure: float, error_share: float) -> None:
    """The same for a person."""
    print(f"users: {users} customers, one request per {THINK_S:g} s each, {psutil.cpu_count()} cores")
    print(f"  mean      {figure:8.1f} ms   bound < {BOUND_MEAN_MS:g} ms   ratio {figure / BOUND_MEAN_MS:.2f}")
    print(f"  errors    {error_share:8.3%}      bound < {BOUND_ERROR_SHARE:.1%}")
    for run in runs:
        rate = run.requests / run.seconds
        print(f"  run       {rate:8.0f} requests/s  mean {run.mean_ms:.1f} ms  p99 {run.p99_ms:.0f} ms")
        print(f"    answers: {'  '.join(f'{status} {count}' for status, count in run.answers.items())}")
        shares = "  ".join(f"{name} {cores:.0%}" for name, cores in run.cores.items())
        print(f"    of a core: {shares}  together {sum(run.cores.values()):.0%}")


if __name__ == "__main__":
    sys.exit(main())
