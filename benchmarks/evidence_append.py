"""Durable evidence entries per second: processes with many threads append to one log, on disk when append returns.

Beside it, in the same run: the disk's fsync alone, and one write and fsync per entry without a log.

    evidence_append.py [--quick] [--json] [--dir D]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.evidence.log import open_log
from nvcops.core.evidence import Entry
from nvcops.core.evidence.entry import encode

BOUND_PER_S = 3_000.0
PROCESSES, THREADS = 2, 24
NAIVE_S = 0.5
CHILD_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Run:
    """What one run saw, each per second."""

    appended: float
    alone: float
    naive: float
    fsyncs: float


def entry(name: str) -> Entry:
    """An entry as a step of a run leaves it: about 400 bytes."""
    body = {"step": "vacuum", "result": {"table": "transfers", "dead_ratio": 0.031, "seconds": 4.2}, "note": "x" * 150}
    return Entry(
        id=name,
        time="2026-01-05T13:00:00.000000Z",
        kind="step.finished",
        platform="nvc-bank",
        run="db-maintenance@2026-01-05T07:00:00Z",
        procedure="db-maintenance",
        actor="scheduler",
        body=body,
    )


def rate(act: object, seconds: float) -> float:
    """How often per second something can be done."""
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        act(count)  # type: ignore[operator]
        count += 1
    return count / (time.monotonic() - began)


def naive(folder: Path, *, with_entry: bool) -> float:
    """One write and one fsync each: of an encoded entry, or of a byte."""
    handle = os.open(folder / "naive", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def write(number: int) -> None:
        os.write(handle, encode(entry(f"n{number}")) + b"\n" if with_entry else b"x")
        os.fsync(handle)

    try:
        return rate(write, NAIVE_S)
    finally:
        os.close(handle)


def produce(folder: Path, name: str, threads: int, seconds: float) -> int:
    """Append one entry at a time from each thread; how many became durable."""
    with open_log(folder, origin="bench.example/log") as log:
        print("ready", flush=True)
        sys.stdin.readline()
        end, counts = time.monotonic() + seconds, [0] * threads

        def append(thread: int) -> None:
            while time.monotonic() < end:
                (index,) = log.append([entry(f"{name}.{thread}.{counts[thread]}")])
                if index < 0:
                    raise SystemExit("an entry was spooled: the disk is too slow for this benchmark")
                counts[thread] += 1

        workers = [threading.Thread(target=append, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts)


def together(folder: Path, processes: int, threads: int, seconds: float) -> float:
    """Entries per second of all producers; afterwards the log must hold exactly these, and verify."""
    command = [sys.executable, __file__, "--dir", str(folder), "--seconds", str(seconds), "--threads", str(threads)]
    children = [
        subprocess.Popen(
            [*command, "--producer", f"p{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(processes)
    ]
    for child in children:
        if child.stdout is None or child.stdout.readline() != "ready\n":
            sys.exit("evidence_append: a producer did not start")
    for child in children:
        if child.stdin is not None:
            child.stdin.write("go\n")
            child.stdin.flush()
    counts = [int(child.communicate(timeout=CHILD_DEADLINE_S)[0]) for child in children]
    with open_log(folder, origin="bench.example/log") as log:
        report = log.audit()
    if report.size != sum(counts) or report.problems:
        sys.exit(f"evidence_append: {sum(counts)} entries were acknowledged, the log has {report.size}")
    return sum(counts) / seconds


def measure(base: Path, seconds: float, runs: int) -> list[Run]:
    """Everything side by side, in each run."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=base) as name:
            folder = Path(name)
            fsyncs, one_each = naive(folder, with_entry=False), naive(folder, with_entry=True)
            many = together(folder / "many", PROCESSES, THREADS, seconds)
            alone = together(folder / "alone", 1, 1, NAIVE_S)
            found.append(Run(many, alone, one_each, fsyncs))
    return found


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of 2 s, not three of 4 s")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk in question"
    )
    parser.add_argument("--producer", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.producer:
        print(produce(options.dir, options.producer, options.threads, options.seconds))
        return 0
    runs = measure(options.dir, *((2.0, 1) if options.quick else (4.0, 3)))
    figure = sorted(run.appended for run in runs)[len(runs) // 2]
    if options.json:
        found = {"figure": figure, "unit": "entries/s", "bound": BOUND_PER_S, "ratio": figure / BOUND_PER_S}
        print(json.dumps({**found, "runs": [vars(run) for run in runs]}))
    else:
        show(runs, figure)
    return 0 if figure >= BOUND_PER_S else 2


def show(runs: list[Run], figure: float) -> None:
    """The same for a person."""
    print(f"evidence_append: {PROCESSES} processes with {THREADS} threads each, one entry per append, all on disk")
    print(f"  durable   {figure:8,.0f} entries/s   bound >= {BOUND_PER_S:,.0f}   ratio {figure / BOUND_PER_S:.2f}")
    for run in runs:
        print(
            f"  run       {run.appended:8,.0f} entries/s   {run.appended / run.naive:.2f} of one fsync an entry without"
            f" a log ({run.naive:,.0f}/s); one thread alone {run.alone:,.0f}/s; fsync alone {run.fsyncs:,.0f}/s"
        )


if __name__ == "__main__":
    sys.exit(main())
