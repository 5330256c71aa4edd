"""Seconds of the full check on a database with 2,000 tables beside the bank's own, and what it costs the bank.

Floor, in the same run: one pass over the catalogue by the same socket. The cost is the share of the payments' rate that
is lost when the check runs once in 10 s: payments are measured in turn without it and with it running back to back,
which shows what one check costs; that is then counted once in 10 s.

    db_checks.py [--quick] [--json]      ends with 0, or with 2 when a bound is missed
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from nvclab.parts.postgres import Postgres
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.checks import Finding
from nvcops.core.manifest import EvidenceEntry, Manifest, Platform
from nvcops.core.manifest.database import DatabaseEntry, Server
from nvcops.core.target import Target
from nvcops.database.checks.performance import performance, performance_findings
from payments import Bench, start

TABLES, ROWS = 2_000, 20
BOUND_S, BOUND_PERCENT = 2.0, 1.0
CADENCE_S = 10.0
DEADLINE_S = 30.0
DATABASE, NAME = "bank", "db-1"
_PASSWORD = "only-for-this-benchmark"  # noqa: S105 - the server lives for minutes on loopback
_FLOOR = """
SELECT count(*) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace"""
_TABLE = """
CREATE TABLE many.t{0} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint, day date, memo text);
CREATE INDEX t{0}_day ON many.t{0} (day, parent);
INSERT INTO many.t{0} (parent, day, memo) SELECT n, date '2026-01-01' + n, 'memo ' || n FROM generate_series(1, {1}) n;
"""


def prepare(server: Postgres) -> tuple[Target, Manifest]:
    """Make the tables, and the role that looks; the platform as the check sees it."""
    with server.connect() as administrator:
        administrator.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{_PASSWORD}' IN ROLE pg_monitor".encode())
    with server.connect(DATABASE) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("CREATE SCHEMA many")
        for first in range(0, TABLES, 100):
            made = "".join(_TABLE.format(number, ROWS) for number in range(first, first + 100))
            connection.execute(f"BEGIN; {made} COMMIT".encode())
        connection.execute("ANALYZE")
    database = PostgresServer(
        name=NAME,
        host="127.0.0.1",
        port=server.port,
        database=DATABASE,
        user="nvcops",
        deadline_s=DEADLINE_S,
        password=_PASSWORD,
    )
    entry = DatabaseEntry(name=DATABASE, user="nvcops", primary=Server(name=NAME, host="127.0.0.1"))
    platform = Platform(name="bench", title="Bench", state=Path("unused"))
    manifest = Manifest(platform=platform, database=entry, evidence=EvidenceEntry(origin="bench.example/log"))
    return cast("Target", SimpleNamespace(database=database, standbys=[], manifest=manifest)), manifest


def check(target: Target, manifest: Manifest) -> tuple[float, list[Finding]]:
    """Seconds of one full check, and its lines."""
    began = time.perf_counter()
    seen = performance(target)
    if seen is None or seen.primary.trouble:
        sys.exit(f"db_checks: nothing was read: {seen and seen.primary.trouble}")
    findings = performance_findings(seen, manifest, NAME)
    return time.perf_counter() - began, findings


def floor(target: Target) -> float:
    """Seconds of a session with one pass over the catalogue."""
    assert target.database is not None  # noqa: S101 - made above
    began = time.perf_counter()
    target.database.rows(_FLOOR)
    return time.perf_counter() - began


@contextmanager
def back_to_back(target: Target, manifest: Manifest) -> Iterator[list[float]]:
    """Checks, one after the other, while the block lasts; when each ended."""
    ended: list[float] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            check(target, manifest)
            ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join(DEADLINE_S)


def cost(bench: Bench, target: Target, manifest: Manifest, rounds: int, seconds: float) -> list[dict[str, float]]:
    """Without, with, with, without: what drifts in a round weighs on both alike."""
    bench.pay(1_000_000, seconds)  # the first of all runs meets cold caches
    runs = []
    for round_ in range(rounds):
        rates: dict[bool, list[float]] = {False: [], True: []}
        checks = busy = 0.0
        for turn, checking in enumerate((False, True, True, False)):
            number = round_ * 4 + turn + 1
            if not checking:
                rates[False].append(_rate(bench, number, seconds))
                continue
            with back_to_back(target, manifest) as ended:
                began = time.monotonic()
                rates[True].append(_rate(bench, number, seconds))
                busy += time.monotonic() - began
            checks += len(ended)
        without, with_ = statistics.mean(rates[False]), statistics.mean(rates[True])
        lost = max(1 - with_ / without, 0.0)
        per_second = checks / busy
        runs.append(
            {
                "without": without,
                "with": with_,
                "checks_per_second": per_second,
                "percent": 100 * lost / (per_second * CADENCE_S),
            }
        )
    return runs


def _rate(bench: Bench, number: int, seconds: float) -> float:
    paid = bench.pay(number, seconds)
    return float(paid["settled"] / paid["seconds"])


def measure(*, checks: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The check on a quiet server, then beside payments."""
    with start() as bench:
        target, manifest = prepare(bench.server)
        check(target, manifest)
        floor(target)
        took, floors = [], []
        for _ in range(checks):
            seconds_, findings = check(target, manifest)
            took.append(seconds_)
            floors.append(floor(target))
        runs = cost(bench, target, manifest, rounds, seconds)
    figure, percent = statistics.median(took), statistics.median(run["percent"] for run in runs)
    return {
        "figure": figure,
        "unit": "s",
        "bound": BOUND_S,
        "ratio": figure / BOUND_S,
        "floor_s": statistics.median(floors),
        "lines": len(findings),
        "unread": [line.check for line in findings if line.verdict.name == "UNKNOWN"],
        "cost_percent": percent,
        "cost_bound_percent": BOUND_PERCENT,
        "runs": runs,
    }


def main() -> int:
    """Measure, print the figures beside their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    result = measure(checks=5, rounds=1, seconds=4) if options.quick else measure(checks=21, rounds=5, seconds=8)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"db_checks: {result['lines']} lines about a database with {TABLES:,} tables beside the bank's")
        print(f"  check   {result['figure']:.3f} s   bound <= {BOUND_S:g} s   ratio {result['ratio']:.2f}")
        print(f"  floor   {result['floor_s']:.3f} s of one pass over the catalogue")
        print(
            f"  cost    {result['cost_percent']:.2f} % of the payments at one check in {CADENCE_S:g} s"
            f"   bound <= {BOUND_PERCENT:g} %"
        )
        for run in result["runs"]:
            print(
                f"  run     {run['without']:,.0f} payments/s without, {run['with']:,.0f} with"
                f" {run['checks_per_second']:.1f} checks/s back to back"
            )
    return 0 if result["figure"] <= BOUND_S and result["cost_percent"] <= BOUND_PERCENT else 2


if __name__ == "__main__":
    sys.exit(main())
