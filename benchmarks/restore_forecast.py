"""Error of the forecast of restores, over sizes and amounts of log that it did not learn from.

Real restores - unpacked, verified, replayed, every page, constraint and row looked at - of base backups of growing
size, each up to points with a growing amount of log behind it. It learns from the first and third size and amount, and
is asked about the second and fourth, so between and beyond what it saw. All of them are restored in turns, so that
what else the machine does hits both alike.

    restore_forecast.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import msgspec

from _restores import Bench, bench
from nvcops.adapters.backup.receiver import Receiver
from nvcops.core.backups import RestoreFigures, RestoreTarget, lsn_bytes
from nvcops.core.restores import Purpose
from nvcops.recovery.forecast import Forecast, learn
from nvcops.recovery.proof import figures_of

BOUND = 0.25
_WAIT_S = 120.0
_NO_FORECAST = Forecast(seconds=0, low=0, high=0, learnt=0)


class Point(msgspec.Struct, frozen=True):
    """A backup, an LSN after it, and whether the forecast may learn from it."""

    backup: str
    lsn: str
    learn: bool


@contextmanager
def receiving(world: Bench) -> Iterator[None]:
    """The transaction log goes into the repository for as long as the block lasts."""
    stop = threading.Event()
    thread = threading.Thread(target=Receiver(world.restores.repository).run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: world.backups.receiver().slot_active)
        yield
    finally:
        stop.set()
        thread.join(_WAIT_S)


def wait_for(there: Callable[[], object]) -> None:
    """Ask until it is so."""
    end = time.monotonic() + _WAIT_S
    while not there():
        if time.monotonic() > end:
            sys.exit("restore_forecast: the transaction log does not arrive")
        time.sleep(0.1)


def points(world: Bench, megabytes: list[int], log_megabytes: list[int]) -> list[Point]:
    """Grow the data, back them up, write log behind that; four sizes with four amounts each."""
    made, size = [], 0
    for number, wanted in enumerate(megabytes):
        fill(world, f"size_{number}", wanted - size)
        size = wanted
        backup = f"2026112{number}T000000Z-F"
        entry = world.backups.back_up(backup, full=True)
        start = lsn_bytes(entry.database.start_lsn) if entry.database else 0
        for amount, log in enumerate(log_megabytes):
            while lsn_bytes(position(world)) - start < log << 20:
                world.execute("UPDATE churn SET text = md5(text) WHERE id % 4 = 0")
            made.append((number, amount, Point(backup, position(world), number % 2 == amount % 2 == 0)))
    world.execute("SELECT pg_create_restore_point('the end')")
    end = lsn_bytes(position(world))
    wait_for(lambda: lsn_bytes(world.backups.receiver().received_lsn or "0/0") >= end)
    return [point for number, amount, point in made if number % 2 == amount % 2]


def fill(world: Bench, table: str, megabytes: int) -> None:
    """A table of about so many MB: rows of 100 bytes that compress as text does."""
    world.execute(
        f"CREATE TABLE {table} AS SELECT n AS id, repeat(md5(n::text), 2) AS text "  # noqa: S608 - ours
        f"FROM generate_series(1, {megabytes * 9_500}) n"
    )
    world.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")


def position(world: Bench) -> str:
    """Where the server's log is."""
    with world.server.connect() as session:
        row = session.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    return str(row[0]) if row else "0/0"


def restored(world: Bench, point: Point) -> RestoreFigures:
    """What a restore took; nothing is left of it."""
    into = world.folder / "restored"
    plan = world.restores.plan("bench", point.backup, RestoreTarget(lsn=point.lsn), purpose=Purpose.FOLDER, into=into)
    try:
        unpacked, replayed = world.restores.unpack(plan), world.restores.replay(plan)
        seen = world.restores.verify(plan)
    finally:
        world.restores.discard(plan)
    return figures_of(plan, unpacked, replayed, seen, _NO_FORECAST, good=True)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 160 MB and 2 rounds instead of 1 GB and 3")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    sizes, logs = (
        ([20, 60, 110, 160], [16, 64, 112, 160]) if options.quick else ([100, 300, 650, 1000], [32, 160, 320, 512])
    )
    seen: dict[bool, list[RestoreFigures]] = {True: [], False: []}
    with bench(1) as world:
        fill(world, "churn", 8)
        with receiving(world):
            asked = points(world, sizes, logs)
        restored(world, asked[0])  # not counted: it opens what is opened once
        for _ in range(2 if options.quick else 3):
            for point in asked:
                seen[point.learn].append(restored(world, point))
    model = learn(seen[True])
    errors = sorted(
        abs(model.forecast(figures.bytes, figures.wal_bytes).seconds / figures.seconds - 1) for figures in seen[False]
    )
    figure = errors[math.ceil(0.9 * len(errors)) - 1]
    if options.json:
        runs = [{"bytes": f.bytes, "wal_bytes": f.wal_bytes, "seconds": f.seconds} for f in seen[False]]
        found = {"figure": figure, "unit": "relative error, p90", "bound": BOUND, "ratio": figure / BOUND}
        print(json.dumps({**found, "median": errors[len(errors) // 2], "learnt": len(seen[True]), "runs": runs}))
    else:
        print(f"restore_forecast: learnt from {len(seen[True])} restores, asked about {len(errors)} of other sizes")
        print(f"  error  p90 {figure:.1%}, median {errors[len(errors) // 2]:.1%}   bound <= {BOUND:.0%}")
        for taken in seen[False]:
            said = model.forecast(taken.bytes, taken.wal_bytes)
            print(f"  {taken.bytes >> 20} MiB, log {taken.wal_bytes >> 20} MiB: {taken.seconds:.2f} s, forecast {said}")
    return 0 if figure <= BOUND else 2


if __name__ == "__main__":
    sys.exit(main())
