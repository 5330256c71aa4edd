"""Events per second and core: every rule of our own pack over a generated log of all kinds of lines.

Beside it, in the same run and on the same lines: one pass of a JSON parser (those lines that are JSON; the others are
put into a JSON text first), and the same rules one by one as SQL over the events in SQLite. All three in one process.

    detection_engine.py [--quick] [--json] [--megabytes N]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from nvcops.adapters.lookback import Lookback
from nvcops.security.detection.engine import Engine
from nvcops.security.detection.fold import Folder
from nvcops.security.detection.matcher import Matcher
from nvcops.security.detection.pack import own_pack
from nvcops.security.detection.parsers.audit import AuditParser
from nvcops.security.detection.parsers.haproxy import HaproxyParser
from nvcops.security.detection.parsers.lines import Parser
from nvcops.security.detection.parsers.postgres import PostgresParser
from nvcops.security.detection.parsers.service import ServiceParser
from nvcops.security.detection.parsers.syslog import SyslogParser
from nvcops.security.detection.parsers.valkey import ValkeyParser
from nvcops.security.detection.sql import FUNCTIONS, where

BOUND_PER_S = 40_000.0
UTC = ZoneInfo("UTC")
BEGIN = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
SQL_EVENTS_MAX = 20_000  # rule by rule takes long, and each event takes the same
CHUNK = 50_000
KINDS = ("bank", "proxy", "postgres", "host", "audit", "valkey")
SHARES = (45, 25, 15, 8, 4, 3)
ATTACKS = {  # about one line in a thousand
    "proxy": ["GET /a?id=1%20UNION%20SELECT%20password", "GET /%2e%2e/%2e%2e/etc/passwd", "GET /.env"],
    "postgres": ["statement: COPY t FROM PROGRAM 'id'", "statement: ALTER ROLE e SUPERUSER", "statement: GRANT a TO b"],
    "host": ["Failed password for invalid user oracle from 198.51.100.7 port 4711 ssh2"],
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one run saw; rates in events per second, seconds of the processor."""

    megabytes: float
    events: int
    malformed: int
    detections: int
    episodes: int
    engine: float
    json_pass: float
    sql: float


def written(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Lines with their kind, in the order of time."""
    chance = random.Random(seed)
    for at in range(count):
        (kind,) = chance.choices(KINDS, SHARES)
        attack = chance.choice(ATTACKS[kind]) if kind in ATTACKS and chance.random() < 0.002 else ""
        yield kind, WRITERS[kind](BEGIN + dt.timedelta(milliseconds=at), chance, attack).encode()


def bank(at: dt.datetime, chance: random.Random, _: str) -> str:
    """A request of the bank's log, as src/nvcbank writes it."""
    route = chance.choice(("/v1/payments", "/v1/accounts/{id}", "/v1/sessions", "/health/ready"))
    return (
        f'{{"time":"{at:%Y-%m-%dT%H:%M:%S.%f}Z","level":"info","event":"request",'
        f'"instance":"bank-{chance.randint(1, 2)}","request_id":"{chance.getrandbits(64):016x}",'
        f'"route":"{route}","method":"POST","status":201,"seconds":0.012345}}'
    )


def proxy(at: dt.datetime, chance: random.Random, attack: str) -> str:
    """A request of HAProxy's httplog."""
    request = attack or f"POST /v1/payments/{chance.getrandbits(40):x}?page={chance.randint(1, 9)}"
    return (
        f"10.0.{chance.randint(0, 9)}.{chance.randint(1, 250)}:{chance.randint(1024, 65000)} "
        f"[{at:%d/%b/%Y:%H:%M:%S}.{at.microsecond // 1000:03d}] front bank/bank-1 "
        f"0/0/1/{chance.randint(1, 99)}/12 201 431 - - ---- 12/12/3/2/0 0/0 "
        f'{{Mozilla/5.0 (X11; Linux)}} "{request} HTTP/1.1"'
    )


def postgres(at: dt.datetime, chance: random.Random, attack: str) -> str:
    """A line of PostgreSQL's jsonlog: connections, slow statements, checkpoints, and now and then a definition."""
    message = attack or chance.choice(
        (
            "connection received: host=10.0.0.7 port=50000",
            "connection authorized: user=nvcbank_service database=bank application_name=bank-1",
            "checkpoint complete: wrote 431 buffers (2.6%); 0 WAL file(s) added, 0 removed, 1 recycled",
            "duration: 212.004 ms  statement: SELECT id, amount FROM bank.transfer WHERE account_id = 4711 ORDER BY id",
        )
    )
    line = {
        "timestamp": f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC",
        "user": "eve" if attack else "nvcbank_service",
        "dbname": "bank",
        "pid": chance.randint(1000, 9000),
        "remote_host": "10.0.0.7",
        "remote_port": 50000,
        "session_id": f"{chance.getrandbits(32):x}.{chance.getrandbits(16):x}",
        "line_num": chance.randint(1, 99),
        "error_severity": "LOG",
        "message": message,
        "application_name": "bank-1",
        "backend_type": "client backend",
        "query_id": 0,
    }
    return json.dumps(line, separators=(",", ":"))


def host(at: dt.datetime, chance: random.Random, attack: str) -> str:
    """A line of syslog."""
    told = chance.choice(
        (
            "systemd[1]: Started Session 12 of user dana.",
            "CRON[812]: (root) CMD (/usr/lib/nvcops/rotate)",
            "sshd[4711]: Connection closed by 10.0.0.9 port 50000",
            "kernel: [1234.5] device eth0 entered promiscuous mode",
        )
    )
    return f"{at:%b} {at.day:2d} {at:%H:%M:%S} db-1 " + (f"sshd[99]: {attack}" if attack else told)


def audit(at: dt.datetime, chance: random.Random, _: str) -> str:
    """A record of auditd."""
    return (
        f"type=SYSCALL msg=audit({at.timestamp():.3f}:{chance.randint(1, 10**6)}): arch=c000003e syscall=257 "
        'success=yes exit=3 a0=ffffff9c items=1 ppid=1 pid=812 auid=4294967295 uid=0 comm="nvcops" '
        'exe="/usr/bin/python3.11" key="files"'
    )


def valkey(at: dt.datetime, chance: random.Random, _: str) -> str:
    """A command as MONITOR shows it."""
    return f'{at.timestamp():.6f} [0 10.0.0.7:50000] "GET" "session:{chance.getrandbits(64):016x}"'


WRITERS = {"bank": bank, "proxy": proxy, "postgres": postgres, "host": host, "audit": audit, "valkey": valkey}


def parsers() -> dict[str, Parser]:
    """One for each log."""
    near = BEGIN + dt.timedelta(days=1)
    return {
        "bank": ServiceParser("bank"),
        "proxy": HaproxyParser("proxy", UTC, near),
        "postgres": PostgresParser("db-1", UTC),
        "host": SyslogParser("db-1", UTC, near),
        "audit": AuditParser("db-1"),
        "valkey": ValkeyParser("cache", UTC, near),
    }


def measure(megabytes: float, seed: int) -> Run:
    """Generate the log into a file, then read it three times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        events = generate(path, megabytes, seed)
        with path.open("rb") as file:
            first = [file.readline().partition(b" ")[2] for _ in range(min(events, 20_000))]
        quick, malformed, detections, episodes = through_engine(path, first)
        size = path.stat().st_size / 1e6
        return Run(size, events, malformed, detections, episodes, events / quick, events / parsed(path), by_sql(path))


def generate(path: Path, megabytes: float, seed: int) -> int:
    """Write lines with their kind in front, until there are enough bytes."""
    size = events = 0
    with path.open("wb") as file:
        while size < megabytes * 1e6:
            for kind, line in written(CHUNK, seed + events):
                size += file.write(kind.encode() + b" " + line + b"\n")
                events += 1
                if size >= megabytes * 1e6:
                    break
    return events


def lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each line with its kind."""
    with path.open("rb") as file:
        for line in file:
            kind, _, rest = line.partition(b" ")
            yield kind.decode(), rest


def through_engine(path: Path, sample: list[bytes]) -> tuple[float, int, int, int]:
    """Parse, match, correlate, fold; seconds, malformed lines, detections, episodes."""
    began = time.process_time()
    pack, read, folder = own_pack(), parsers(), Folder()
    engine = Engine(pack, Matcher(pack.rules, sample))
    malformed = detections = 0
    parse = {kind: parser.parse for kind, parser in read.items()}
    for kind, line in lines(path):
        event = parse[kind](line)
        malformed += bool(event.trouble)
        for found in engine.see(event, line):
            detections += 1
            folder.add(found)
    episodes = len(folder.episodes())
    return time.process_time() - began, malformed, detections, episodes


def parsed(path: Path) -> float:
    """Seconds of one pass of the JSON parser that our own parsers use, reading the file included."""
    began, aside = time.process_time(), 0.0
    for _, line in lines(path):
        if line[:1] == b"{":
            msgspec.json.decode(line)
        else:
            before = time.process_time()
            text = msgspec.json.encode(line.decode())
            aside += time.process_time() - before
            msgspec.json.decode(text)
    return time.process_time() - began - aside


def by_sql(path: Path) -> float:
    """Events per second when each rule asks all events by itself; filling the table is not counted."""
    read = parsers()
    with Lookback(None, FUNCTIONS) as store:
        count = store.add(read[kind].parse(line) for kind, line in islice(lines(path), SQL_EVENTS_MAX))
        began = time.process_time()
        for rule in own_pack().rules:
            store.count(where(rule), 0, 1 << 50)
        return count / (time.process_time() - began)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run over 10 MB, not three over 1 GB")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--megabytes", type=float, help="size of the log")
    options = parser.parse_args()
    size = options.megabytes or (10.0 if options.quick else 1000.0)
    runs = [measure(size, seed) for seed in range(1 if options.quick else 3)]
    figure = sorted(run.engine for run in runs)[len(runs) // 2]
    ratio = figure / BOUND_PER_S
    if options.json:
        found = {"figure": figure, "unit": "events/s per core", "bound": BOUND_PER_S, "ratio": ratio}
        print(json.dumps({**found, "runs": [asdict(run) for run in runs]}))
    else:
        show(runs, figure)
    return 0 if figure >= BOUND_PER_S else 2


def show(runs: list[Run], figure: float) -> None:
    """The same for a person."""
    pack = own_pack()
    print(f"detection_engine: {len(pack.rules)} rules and {len(pack.correlations)} correlations over a generated log")
    print(f"  engine   {figure:9,.0f} events/s   bound >= {BOUND_PER_S:,.0f}   ratio {figure / BOUND_PER_S:.2f}")
    for run in runs:
        print(
            f"  run      {run.engine:9,.0f} events/s over {run.megabytes:,.0f} MB, {run.events:,} events,"
            f" {run.malformed} malformed;"
            f" {run.engine / run.json_pass:.3f} of a JSON parser's pass ({run.json_pass:,.0f}/s);"
            f" {run.engine / run.sql:.1f} times SQL rule by rule ({run.sql:,.0f}/s);"
            f" {run.detections:,} detections in {run.episodes} episodes"
        )


if __name__ == "__main__":
    sys.exit(main())
