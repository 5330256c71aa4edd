"""What RPO 0 costs: the share of the payments' rate that is given up when each commit waits for the log's receiver.

The bank takes payments through HTTP on a durable server, in turn with the synchronous receiver and without any. It
streams, forces to the disk, compresses and archives every segment, on the same disk and the same cores: the worst case.
Afterwards no acknowledged payment may be missing in the ledger.

    rpo_cost.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvclab.parts.postgres import Postgres
from nvcops.adapters.backup.receiver import Receiver
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.adapters.backup.spool import STANDBY_NAME, receiver_state
from nvcops.core.manifest import parse
from payments import Bench, start

BOUND = 25.0
READY_S = 60.0
_PASSWORD = "only-for-this-benchmark"  # noqa: S105 - the server lives for minutes on loopback
_PLATFORM = """
[platform]
name = "bank"
title = "Bank"
state = "{folder}/state"
[evidence]
origin = "bank.example/operations"
[database]
name = "bank"
user = "postgres"
port = {port}
primary = {{ name = "db-1", host = "127.0.0.1" }}
[backups]
repository = "{folder}/repository"
password_file = "{folder}/password"
binaries = "{binaries}"
"""


def repository_of(server: Postgres, folder: Path) -> Repository:
    """A repository beside a server, and the role that fills it."""
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE nvcops_backup LOGIN REPLICATION PASSWORD '{_PASSWORD}'".encode())
        connection.execute("GRANT pg_read_all_stats TO nvcops_backup")
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(_PASSWORD, encoding="utf-8")
    text = _PLATFORM.format(folder=folder, port=server.port, binaries=server.binaries.folder)
    return open_repository(parse(text, folder / "platform.toml"))


@contextmanager
def synchronous(server: Postgres, repository: Repository) -> Iterator[Receiver]:
    """Every commit within the block waits for the receiver."""
    receiver, stop = Receiver(repository), threading.Event()
    thread = threading.Thread(target=receiver.run, args=(stop,))
    thread.start()
    try:
        server.reload(synchronous_standby_names=STANDBY_NAME)
        _wait(lambda: receiver_state(repository).synchronous)
        yield receiver
        server.reload()
        _wait(lambda: not receiver_state(repository).synchronous)
    finally:
        stop.set()
        thread.join(READY_S)


def _wait(there: Any) -> None:
    end = time.monotonic() + READY_S
    while not there():
        if time.monotonic() > end:
            raise RuntimeError("the receiver did not come to it")
        time.sleep(0.1)


def measure(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Without, with, with, without: what drifts in a round (checkpoints, a growing ledger) weighs on both alike."""
    runs: list[dict[str, float]] = []
    acknowledged: list[tuple[str, int]] = []
    archived = seed = 0
    with start() as bench, tempfile.TemporaryDirectory(prefix="nvcops-rpo-") as folder:
        repository = repository_of(bench.server, Path(folder))
        _paid(bench, 1_000_000, seconds, acknowledged)  # the first of all runs meets cold caches
        for _ in range(rounds):
            rates: dict[bool, list[float]] = {False: [], True: []}
            for waits in (False, True, True, False):
                seed += 1
                if waits:
                    with synchronous(bench.server, repository) as receiver:
                        rates[waits].append(_paid(bench, seed, seconds, acknowledged))
                    archived += receiver.archived
                else:
                    rates[waits].append(_paid(bench, seed, seconds, acknowledged))
            run = {"with": statistics.mean(rates[True]), "without": statistics.mean(rates[False])}
            runs.append({**run, "cost": 100 * (1 - run["with"] / run["without"])})
        missing = bench.missing(acknowledged)
    figure = statistics.median(run["cost"] for run in runs)
    return {
        "figure": figure,
        "unit": "% of the payments' rate",
        "bound": BOUND,
        "ratio": 1 - figure / 100,
        "runs": runs,
        "segments_archived": archived,
        "acknowledged": len(acknowledged),
        "acknowledged_missing": missing,
    }


def _paid(bench: Bench, number: int, seconds: float, acknowledged: list[tuple[str, int]]) -> float:
    """Payments per second of one run."""
    paid = bench.pay(number, seconds)
    acknowledged += paid["acknowledged"]
    return float(paid["settled"] / paid["seconds"])


def main() -> int:
    """Measure, print the figure beside its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(rounds=2 if options.quick else 5, seconds=4 if options.quick else 8)
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        for run in result["runs"]:
            print(f"  run: {run['with']:8,.0f} payments/s with, {run['without']:8,.0f} without: {run['cost']:5.1f} %")
        print(
            f"rpo_cost: {result['figure']:.1f} % of the payments' rate given up for RPO 0 (bound <= {BOUND:g} %); "
            f"{result['segments_archived']} files archived, {result['acknowledged']:,} payments acknowledged, "
            f"{result['acknowledged_missing']} missing"
        )
    return 0 if result["figure"] <= BOUND and not result["acknowledged_missing"] else 2


if __name__ == "__main__":
    sys.exit(main())
