"""Speed of a restore with its verification, as a share of `cp -a` of the same data in the same run.

Restored is a base backup of about 1 GiB of pgbench's tables: every pack read, hashed, unpacked and written, and then
pg_verifybackup over all of it. Beside it, in turns: `cp -a` of what was restored. Then both again with all of it forced
to the disk, and the same for an incremental backup on top, which pg_combinebackup puts together.

    restore_speed.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _restores import Bench, bench
from nvcops.adapters.backup.restores_plan import chain_of, database_of
from nvcops.adapters.backup.unpack import Pace, Unpacking

BOUND = 0.60
FULL, INCREMENTAL = "20261122T000000Z-F", "20261122T060000Z-I"


@dataclass(frozen=True)
class Run:
    """Seconds of one restore, of the copy beside it, and of each with the flush to the disk."""

    restore_s: float
    copy_s: float
    restore_flushed_s: float
    copy_flushed_s: float


def timed(act: Callable[[], object], folder: Path) -> tuple[float, float]:
    """Seconds of an act, and with everything that it wrote on the disk."""
    flush(folder)
    began = time.perf_counter()
    act()
    took = time.perf_counter() - began
    flush(folder)
    return took, time.perf_counter() - began


def flush(folder: Path) -> None:
    """Force to the disk what was written."""
    subprocess.run(["sync", "--file-system", str(folder)], check=True)


def one(world: Bench, backup: str) -> tuple[tuple[float, float], Path]:
    """Restore a backup: seconds without and with the flush, and where it is."""
    work = world.folder / "work"
    work.mkdir(mode=0o700, exist_ok=True)
    repository = world.restores.repository
    entries = world.backups.catalogue()
    entry = next(entry for entry in entries if entry.id == backup)
    chain = chain_of(entries, entry)
    tools = repository.tools(database_of(entry).major)
    tools.give(work)
    unpacking = Unpacking(repository=repository, chain=chain, work=work, tools=tools, pace=Pace())
    return timed(unpacking.carry_out, work), work / "data"


def measure(world: Bench, backup: str, runs: int) -> list[Run]:
    """Both, in turns; a first round that is not counted brings the repository into the memory."""
    measured = []
    for number in range(runs + 1):
        restored, data = one(world, backup)
        copy = world.folder / "copy"
        copied = timed(functools.partial(subprocess.run, ["cp", "-a", data, copy], check=True), world.folder)
        shutil.rmtree(copy)
        shutil.rmtree(data)
        if number:
            measured.append(Run(restored[0], copied[0], restored[1], copied[1]))
    return measured


def ratio(copies: Iterable[float], restores: Iterable[float]) -> float:
    """How fast the restore is, as a share of the copy's speed: medians."""
    return statistics.median(copies) / statistics.median(restores)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="150 MB and 3 runs instead of 1 GiB and 7")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    scale, runs = (10, 3) if options.quick else (70, 7)
    with bench(scale) as world:
        full = world.backups.back_up(FULL, full=True)
        plain = measure(world, FULL, runs)
        world.pgbench("-t", "2000", "-c", "2")
        world.backups.back_up(INCREMENTAL, full=False)
        chain = measure(world, INCREMENTAL, max(runs // 2, 2))
    figure = ratio((run.copy_s for run in plain), (run.restore_s for run in plain))
    flushed = ratio((run.copy_flushed_s for run in plain), (run.restore_flushed_s for run in plain))
    combined = ratio((run.copy_s for run in chain), (run.restore_s for run in chain))
    if options.json:
        found = {"figure": figure, "unit": "ratio", "bound": BOUND, "ratio": figure / BOUND, "bytes": full.raw_bytes}
        print(json.dumps({**found, "flushed": flushed, "chain": combined, "runs": [vars(run) for run in plain]}))
    else:
        size = full.raw_bytes / 2**30
        seconds = statistics.median(run.restore_s for run in plain)
        print(f"restore_speed: {size:.2f} GiB unpacked and verified, beside cp -a of the same, {os.cpu_count()} cores")
        print(f"  restore  {seconds:.2f} s, {size / seconds:.2f} GiB/s: {figure:.2f} of cp -a   bound >= {BOUND:.2f}")
        print(f"  both forced to the disk: {flushed:.2f} of cp -a; full and incremental combined: {combined:.2f}")
    return 0 if figure >= BOUND else 2


if __name__ == "__main__":
    sys.exit(main())
