"""Alerts a second that are taken in and decided upon, of a storm of 10,000, with the records in a file.

100 alerts a request, each request a durable transaction, then as many ticks as it takes until every group has spoken:
alerts, groups, one incident, its page and its messages. Beside it, in the same run: the rate at which SQLite alone
writes rows of the same size in the same transactions, with nothing decided. The bound is a share of that.

    alert_storm.py [--quick] [--json]      ends with 0, or with 2 when a bound is missed
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.records import open_records
from nvcops.alerts import desk as alerts
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core.alerts import Alert
from nvcops.core.manifest import Contact, EvidenceEntry, Manifest, Person, Platform
from nvcops.core.manifest.operations import OncallEntry, Policy, PolicyStep
from nvcops.core.oncall import Message
from nvcops.core.records import Records

ALERTS = 10_000
REQUEST = 100
SHARE_MIN = 0.02
MEMORY_MIB_MAX = 128
TICKS_MAX = 1_000
BEGIN = dt.datetime(2026, 11, 23, 7, 13, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Run:
    """One storm. `plain` is the rate of the rows alone; `memory_mib` is by how much the process grew at its peak."""

    rate: float
    plain: float
    memory_mib: float
    messages: int


def manifest_of(folder: Path) -> Manifest:
    """A platform with somebody on call."""
    way = Contact(kind="chat", url="json://127.0.0.1:9/nobody-listens")
    dana = Person(name="dana", full_name="Dana", roles=("operator",), contacts=(way,))
    policy = Policy(name="oncall", steps=(PolicyStep(person="dana"),))
    return Manifest(
        platform=Platform(name="storm", title="Storm", state=folder),
        evidence=EvidenceEntry(origin="storm.example.com/o"),
        people=(dana,),
        oncall=OncallEntry(policies=(policy,)),
    )


def storm() -> list[list[Said]]:
    """What a Prometheus says when a data centre goes: 20 rules on 500 instances of 5 services."""
    said = [
        Said(
            labels={
                "alertname": f"Rule{number % 20}",
                "instance": f"10.0.{number // 20 // 250}.{number // 20 % 250}:9100",
                "service": f"service-{number // 20 % 5}",
                "severity": "critical" if number % 20 < 4 else "warning",
                "job": "node",
            },
            annotations={"summary": f"rule {number % 20} is broken on instance {number // 20}", "runbook": "db-lag"},
            starts=BEGIN,
            source="prometheus",
            lasts=False,
        )
        for number in range(ALERTS)
    ]
    return [said[start : start + REQUEST] for start in range(0, ALERTS, REQUEST)]


def weather(records: Records, manifest: Manifest, requests: list[list[Said]]) -> float:
    """Take a storm and decide; alerts a second."""
    routing = default_routing(manifest)
    began, at = time.perf_counter(), BEGIN
    for said in requests:
        with records.changing() as desk:
            alerts.take(desk, said, at, manifest=manifest, routing=routing)
            due = alerts.tick(desk, at, manifest=manifest, routing=routing)
    horizon = BEGIN + dt.timedelta(minutes=2)  # the last group's wait is over by then
    for _ in range(TICKS_MAX):
        if due is None or due > horizon:
            return ALERTS / (time.perf_counter() - began)
        at = max(at, due)
        with records.changing() as desk:
            due = alerts.tick(desk, at, manifest=manifest, routing=routing)
    sys.exit(f"alert_storm: after {TICKS_MAX} ticks something is due still")


def plain_rate(folder: Path, rows: list[bytes]) -> float:
    """Rows a second that SQLite writes in such transactions, as durably."""
    connection = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE plain (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    began = time.perf_counter()
    for start in range(0, len(rows), REQUEST):
        connection.execute("BEGIN IMMEDIATE")
        some = enumerate(rows[start : start + REQUEST], start)
        connection.executemany("INSERT INTO plain VALUES (?, ?)", [(f"{n:016x}", row.decode()) for n, row in some])
        connection.execute("COMMIT")
    rate = len(rows) / (time.perf_counter() - began)
    connection.close()
    return rate


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(requests: list[list[Said]]) -> Run:
    """One storm on fresh records, and the same rows alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = manifest_of(folder)
        records = open_records(manifest)
        before = peak_mib()
        try:
            rate = weather(records, manifest, requests)
            memory = peak_mib() - before
            with records.reading() as reading:
                kept, messages = reading.find(Alert, limit=2 * ALERTS), reading.count(Message)
        finally:
            records.close()
        if len(kept) != ALERTS or not messages:
            sys.exit(f"alert_storm: {len(kept):,} of {ALERTS:,} alerts are kept, {messages} messages written")
        return Run(rate, plain_rate(folder, [msgspec.json.encode(alert) for alert in kept]), memory, messages)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one storm instead of three")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    requests = storm()
    runs = [measure(requests) for _ in range(1 if options.quick else 3)]
    middle = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
    bound = SHARE_MIN * sorted(run.plain for run in runs)[len(runs) // 2]
    memory = max(run.memory_mib for run in runs)
    if options.json:
        found = {"figure": middle.rate, "unit": "alerts/s", "bound": bound, "ratio": middle.rate / bound}
        print(json.dumps({**found, "memory_mib": memory, "runs": [vars(run) for run in runs]}))
    else:
        print(f"alert_storm: {ALERTS:,} alerts, {REQUEST} a request, from intake to written messages")
        print(f"  taken   {middle.rate:,.0f} alerts/s   bound >= {bound:,.0f}   ratio {middle.rate / bound:.2f}")
        print(f"  memory  {memory:.0f} MiB more at the peak   bound <= {MEMORY_MIB_MAX} MiB")
        for run in runs:
            print(f"  run     {run.rate:,.0f} alerts/s; SQLite alone {run.plain:,.0f} rows/s; {run.messages} messages")
    return 0 if middle.rate >= bound and memory <= MEMORY_MIB_MAX else 2


if __name__ == "__main__":
    sys.exit(main())
