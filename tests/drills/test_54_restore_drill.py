"""Customers do not notice the restore drill: how long they wait for their commits, before it and while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/restore"))

from restore_world import FULL, RestoreWorld, restore_world

RESTORE = Path(__file__).parents[1] / "integration/nvcops/restore"
pytestmark = pytest.mark.drill
CUSTOMERS = 4
BEFORE_S = 20.0
WORSE_MAX = 1.5
GRANULE_S = 0.005  # a 99th percentile below this is the scheduler's, not ours


def customer(world: RestoreWorld, number: int, stop: threading.Event, waits: list[float]) -> None:
    """Pay again and again, 20 times a second, and note how long each commit took."""
    with world.world.server.connect() as session:
        paid = 0
        while not stop.wait(0.05):
            paid += 1
            key = f"c{number}-{paid}"
            began = time.perf_counter()
            session.execute(f"INSERT INTO entry VALUES ('{key}', 1, 5), ('{key}', 2, -5)".encode())  # noqa: S608 - ours
            waits.append(time.perf_counter() - began)


def p99(waits: list[float]) -> float:
    return sorted(waits)[int(0.99 * len(waits))]


def test_the_99th_percentile_is_at_most_half_as_long_again(tmp_path: Path) -> None:
    with restore_world(tmp_path, pair=True, settings={"fsync": "on"}) as world, world.world.receiving():
        world.world.execute("INSERT INTO account SELECT n, 'more ' || n, 0 FROM generate_series(1001, 1000000) n")
        world.world.backups.back_up(FULL, full=True)
        waits, stop = [[0.0] for _ in range(CUSTOMERS)], threading.Event()
        threads = [threading.Thread(target=customer, args=(world, n, stop, waits[n])) for n in range(CUSTOMERS)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(BEFORE_S)
            before = [wait for mine in waits for wait in mine]
            counts = [len(mine) for mine in waits]
            argv = [sys.executable, str(RESTORE / "killed.py"), str(tmp_path), "test-backup-restore", "{}", "drill@1"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=250, check=False)
            during = [wait for mine, count in zip(waits, counts, strict=True) for wait in mine[count:]]
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(json.loads(done.stdout)["wrong"]) <= {"restore.loss", "restore.acknowledged"}
    print(f"p99 before {p99(before) * 1000:.1f} ms ({len(before)}), during {p99(during) * 1000:.1f} ms ({len(during)})")
    assert p99(during) <= WORSE_MAX * max(p99(before), GRANULE_S)
