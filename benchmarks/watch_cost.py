"""CPU that `nvcops serve` takes to watch a lab with two bank instances, in percent of one core, children included.

The lab's interval is 2 s; the default is 15 s. Beside it, in the same window: what the operated bank itself takes.

    watch_cost.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from nvclab import running
from nvcops.adapters.files import load_manifest
from nvcops.adapters.target import connect

BOUND_PERCENT = 5.0
USERS = 100
SETTLE_S = 8.0
ROUNDS_SHARE_MIN = 0.7  # a watch that does not look is not cheap, it is broken
END_S = 20.0


@dataclass(frozen=True)
class Run:
    """One window."""

    percent: float
    bank_percent: float
    rounds: int


@contextmanager
def watch(lab: running.Lab) -> Iterator[psutil.Process]:
    """`nvcops serve` beside the lab."""
    command = [sys.executable, "-m", "nvcops", "serve", "--target", str(lab.folder / "platform.toml")]
    with (lab.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(END_S)


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and all below it, ended children included."""
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    return float(total) + sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))


def measure(seconds: float, runs: int) -> list[Run]:
    """A lab with customers, watched."""
    with running.temporary(users=USERS) as lab, watch(lab) as process:
        time.sleep(SETTLE_S)
        return [window(lab, process, seconds) for _ in range(runs)]


def window(lab: running.Lab, process: psutil.Process, seconds: float) -> Run:
    """CPU over wall time; the rounds of the watch are counted in its own store."""
    target = connect(load_manifest(Path(lab.folder / "platform.toml")))
    bank = [psutil.Process(lab.part(name)["pid"]) for name in ("bank-1", "bank-2")]
    start, began = target.host.now(), time.monotonic()
    before, bank_before = cpu_s(process), sum(cpu_s(one) for one in bank)
    time.sleep(seconds)
    wall = time.monotonic() - began
    percent, bank_percent = (
        100 * (after - was) / wall
        for after, was in ((cpu_s(process), before), (sum(cpu_s(one) for one in bank), bank_before))
    )
    rounds = target.metrics.scrapes("bank", start, target.host.now()).asked
    expected = seconds / target.manifest.metrics.interval
    if rounds < ROUNDS_SHARE_MIN * expected:
        sys.exit(f"watch_cost: {rounds} rounds instead of {expected:.0f}: {(lab.folder / 'serve.log').read_text()}")
    return Run(percent, bank_percent, rounds)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one window of 15 s instead of three of 30 s")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    runs = measure(*((15.0, 1) if options.quick else (30.0, 3)))
    figure = sorted(run.percent for run in runs)[len(runs) // 2]
    if options.json:
        found = {"figure": figure, "unit": "% of a core", "bound": BOUND_PERCENT, "ratio": figure / BOUND_PERCENT}
        print(json.dumps({**found, "runs": [vars(run) for run in runs]}))
    else:
        print(f"watch_cost: nvcops serve beside a lab with two instances and {USERS} customers")
        print(f"  watch   {figure:.2f} % of a core   bound <= {BOUND_PERCENT:g} %   ratio {figure / BOUND_PERCENT:.2f}")
        for run in runs:
            print(
                f"  run     {run.percent:.2f} %, {run.rounds} rounds; the bank's two instances {run.bank_percent:.1f} %"
            )
    return 0 if figure <= BOUND_PERCENT else 2


if __name__ == "__main__":
    sys.exit(main())
