"""Payments per second through HTTP, beside pgbench's TPC-B on the same server in the same run.

Both are durable (fsync and synchronous_commit are on), both have the whole machine in turn, each as often as the
other; the load generator runs on the same cores. The ratio of the medians must be at least 2. Afterwards the books are
checked, and every payment that was acknowledged must be in the ledger.

    payments.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from nvcbank.sessions import Session, Sessions
from nvclab.parts import bank, postgres, valkey
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import child_environment, free_ports

BOUND = 2.0
CUSTOMERS = 10_000
PGBENCH_SCALE = 20
PGBENCH_CLIENTS = 16
CONNECTIONS = 384
ROLE_PASSWORD = "only-for-this-benchmark"  # noqa: S105 - the server lives for minutes on loopback
# Documented settings, the same for both: memory, and checkpoints that do not fall into a measurement of seconds.
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "wal_buffers": "16MB"}
LOAD = Path(__file__).with_name("_payments_load.py")


@dataclass
class Bench:
    """The running parts."""

    server: Postgres
    instance: bank.Instance
    payers: list[list[Any]]

    def tpc_b(self, seconds: float) -> float:
        """Transactions per second of pgbench."""
        argv = [self.server.binaries.path("pgbench"), "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2"]
        printed = self._pgbench([*argv, "-T", f"{seconds:.0f}"])
        match = re.search(r"tps = ([\d.]+)", printed)
        if match is None:
            raise RuntimeError(f"pgbench said no figure: {printed}")
        return float(match[1])

    def prepare_tpc_b(self) -> None:
        """Make pgbench's tables."""
        with self.server.connect() as connection:
            connection.execute("CREATE DATABASE tpcb")
        self._pgbench([self.server.binaries.path("pgbench"), "-i", "-q", "-s", str(PGBENCH_SCALE)])

    def pay(self, run: int, seconds: float) -> dict[str, Any]:
        """One measured run of payers; see _payments_load.py for the result. Adds the CPU seconds of each part."""
        plan = {
            "port": self.instance.port,
            "connections": CONNECTIONS,
            "warmup_s": min(6.0, seconds),  # the first request of each token asks the cache
            "seconds": seconds,
            "payers": self.payers,
            "seed": run,
        }
        before = self._cpu_s()
        ended = subprocess.run(
            [sys.executable, str(LOAD)],
            input=json.dumps(plan),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if ended.returncode != 0:
            raise RuntimeError(f"the load generator failed: {ended.stderr}")
        result: dict[str, Any] = json.loads(ended.stdout)
        count = max(1, len(result["acknowledged"]) + result["declined"])
        result["us"] = {part: 1e6 * (now - before[part]) / count for part, now in self._cpu_s().items()}
        result["us"]["payers"] = 1e6 * result["cpu_s"] / max(1, result["settled"])
        return result

    def missing(self, acknowledged: list[tuple[str, int]]) -> int:
        """How many acknowledged payments are not settled in the ledger."""
        with self.server.connect("bank") as connection:
            row = connection.execute(
                "SELECT count(*) FROM unnest(%s::bigint[]) AS a (id) WHERE NOT EXISTS (SELECT FROM bank.transfer t "
                "WHERE t.id = a.id AND t.outcome = 'settled' AND t.kind = 'payment')",
                [[number for _, number in acknowledged]],
            ).fetchone()
        return int(row[0]) if row else -1

    def _pgbench(self, argv: list[str]) -> str:
        where = ["-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres", "tpcb"]
        env = child_environment({**self.server.binaries.environment(), "PGPASSWORD": self.server.password})
        return subprocess.run([*argv, *where], env=env, capture_output=True, text=True, check=True, timeout=600).stdout

    def _cpu_s(self) -> dict[str, float]:
        parts = {"bank": self.instance.process.pid, "postgres": self.server.process.pid}
        return {name: _tree_cpu_s(pid) for name, pid in parts.items() if pid is not None}


def _tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, those that have ended included."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    total = ended.children_user + ended.children_system
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it ended a moment ago
            times = one.cpu_times()
            total += times.user + times.system
    return float(total)


@contextmanager
def start() -> Iterator[Bench]:
    """Start a server, a cache and a bank with its customers, all of them signed in."""
    with postgres.temporary(durable=True, settings=SETTINGS) as server, valkey.temporary() as cache:
        with server.connect() as connection:
            connection.execute("CREATE DATABASE bank")
        with tempfile.TemporaryDirectory(prefix="nvcbank-bench-") as folder:
            env = _environment(server, cache.url, Path(folder))
            bank.run("migrate", env=env)
            bank.run("seed", "--customers", str(CUSTOMERS), env=env)
            instance = bank.Instance("bench", free_ports(1)[0], Path(folder) / "bank.out", env)
            instance.launch()
            try:
                instance.process.wait_until(instance.ready, 30)
                yield Bench(server, instance, asyncio.run(_sign_in_everybody(server, cache.url)))
            finally:
                instance.stop()


def _environment(server: Postgres, cache_url: str, folder: Path) -> dict[str, str]:
    return {
        "NVCBANK_ADMIN_URL": server.url("bank"),
        "NVCBANK_DATABASE_URL": server.url("bank", user="nvcbank_service", password=ROLE_PASSWORD),
        "NVCBANK_SERVICE_PASSWORD": ROLE_PASSWORD,
        "NVCBANK_SEED_PASSWORD": ROLE_PASSWORD,
        "NVCBANK_CACHE_URL": cache_url,
        "NVCBANK_LOG": str(folder / "bank.jsonl"),
        "NVCBANK_DRAIN_S": "0",
    }


async def _sign_in_everybody(server: Postgres, cache_url: str) -> list[list[Any]]:
    """A session for each customer, as sign-in makes them but without 10,000 password checks."""
    with server.connect("bank") as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute("SELECT id, customer_id FROM bank.account WHERE kind = 'current' ORDER BY id")
        rows = cursor.fetchall()
        # The daily limit is for people: here one account pays thousands of times.
        cursor.execute("UPDATE bank.account SET daily_limit = %s WHERE kind = 'current'", [10**15])
    sessions = Sessions(cache_url)
    payers = [[account, await sessions.create(Session("customer", customer, "bench"))] for account, customer in rows]
    await sessions.close()
    return payers


def measure(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Run both, in turn, `rounds` times."""
    runs: list[dict[str, Any]] = []
    acknowledged: list[tuple[str, int]] = []
    with start() as bench:
        bench.prepare_tpc_b()
        for number in range(rounds):
            tps = bench.tpc_b(seconds)
            paid = bench.pay(number, seconds)
            acknowledged += paid.pop("acknowledged")
            rate = paid["settled"] / paid["seconds"]
            runs.append({"payments_per_s": rate, "tpc_b_tps": tps, "ratio": rate / tps, **paid})
        missing = bench.missing(acknowledged)
        books = json.loads(bank.run("check-books", "--json", env=dict(bench.instance.env)))
    rate = statistics.median(run["payments_per_s"] for run in runs)
    tps = statistics.median(run["tpc_b_tps"] for run in runs)
    return {
        "figure": rate,
        "unit": "payments/s",
        "bound": BOUND,
        "ratio": rate / tps,
        "runs": runs,
        "tpc_b_tps": tps,
        "acknowledged": len(acknowledged),
        "acknowledged_missing": missing,
        "books_balance": books["balanced"],
    }


def _print(result: dict[str, Any]) -> None:
    for run in result["runs"]:
        latency, us = run["latencies_ms"], run["us"]
        print(
            f"  run: {run['payments_per_s']:8,.0f} payments/s beside {run['tpc_b_tps']:7,.0f} tps, "
            f"ratio {run['ratio']:.2f}; mean {latency['mean']:.0f} ms, p99 {latency['p99']:.0f} ms; "
            f"refused {run['refused']}; "
            f"CPU us/payment: bank {us['bank']:.0f}, postgres {us['postgres']:.0f}, payers {us['payers']:.0f}"
        )
    print(
        f"payments: {result['figure']:,.0f} payments/s through HTTP, {result['tpc_b_tps']:,.0f} tps pgbench TPC-B: "
        f"ratio {result['ratio']:.2f} (bound >= {result['bound']:g})"
    )
    print(
        f"  {result['acknowledged']:,} payments acknowledged, {result['acknowledged_missing']} of them missing; "
        f"the books {'balance' if result['books_balance'] else 'DO NOT BALANCE'}"
    )


def main() -> int:
    """Measure and print; 0 when the bound is met and nothing is lost, else 2."""
    parser = argparse.ArgumentParser(description="Payments per second beside pgbench TPC-B.")
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    began = time.monotonic()
    result = measure(rounds=1, seconds=5) if arguments.quick else measure(rounds=3, seconds=15)
    if arguments.json:
        print(json.dumps(result))
    else:
        _print(result)
        print(f"  {os.cpu_count()} cores, {time.monotonic() - began:.0f} s in all")
    sound = result["books_balance"] and result["acknowledged_missing"] == 0
    return 0 if sound and result["ratio"] >= BOUND else 2


if __name__ == "__main__":
    sys.exit(main())
