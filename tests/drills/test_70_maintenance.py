"""Who keeps the database is killed with -9 at many moments: no index is left invalid, no session goes on.

The process dies in the middle of VACUUM, REINDEX CONCURRENTLY and CREATE INDEX CONCURRENTLY, while customers write. The
server ends what it did within seconds, and the next run leaves nothing half done. Then a live bank is kept under load.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcops" / "upkeep"))  # its server and role
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcops" / "restore"))

from upkeep_world import ROLE, UpkeepWorld, served, upkeep_on

from nvclab import running
from nvcops.adapters.files import load_manifest
from nvcops.adapters.upkeep.latency import Latency, risen

FOLDERS = [str(Path(__file__).parents[1] / "integration" / "nvcops" / name) for name in ("restore", "upkeep")]
SEED = int(os.environ.get("NVC_DRILL_SEED", random.SystemRandom().randrange(1 << 30)))
MAJOR = 17
ROWS = 120_000
GONE_S = 15.0
_PROGRAM = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from acting import ActingRun
from nvcops.adapters.files import load_manifest
from nvcops.adapters.target import connect
from nvcops.core.procedures import find
from nvcops.core.upkeep import Guard, Order
target = connect(load_manifest(Path(sys.argv[1])))
run = ActingRun()
print("ready", flush=True)
if sys.argv[2] == "index":
    made = Order(title="make it", sql="CREATE INDEX CONCURRENTLY more ON t (filler, owner)",
                 undo=("DROP INDEX CONCURRENTLY IF EXISTS more",))
    done = target.upkeep.carry_out(made, Guard())
    print(done.outcome, done.why, flush=True)
else:
    procedure = find("db-maintenance")
    options = dict(vacuum=True, analyze=True, freeze=True, reindex=True, table="t")
    procedure.function(run, target, **procedure.arguments(options))
    wrong = [line for line in run.wrong if line.check != "database.maintenance_rights"]
    print([(line.check, line.observed) for line in wrong], flush=True)
"""
# A table large enough that keeping it takes a while, half of it dead.
BALLAST = (
    "SET synchronous_commit = local",
    "CREATE TABLE bank.ballast AS SELECT n AS id, md5(n::text) AS a FROM generate_series(1, 800000) n",
    "CREATE INDEX ballast_id ON bank.ballast (id)",
    "CREATE INDEX ballast_a ON bank.ballast (a)",
    "ALTER TABLE bank.ballast OWNER TO nvcbank_owner",
    "DELETE FROM bank.ballast WHERE id % 2 = 0",
)
_CHANGED = """
SELECT json_build_object(
    'settings', (SELECT json_agg(json_build_array(name, setting) ORDER BY name) FROM pg_file_settings),
    'roles', (SELECT json_agg(s ORDER BY s::text) FROM pg_db_role_setting s),
    'tables', (SELECT json_agg(json_build_array(relname, reloptions) ORDER BY relname) FROM pg_class
               WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'),
    'indexes', (SELECT json_agg(indexdef ORDER BY indexdef) FROM pg_indexes
                WHERE schemaname = 'public' AND indexname <> 'more'))::text
"""


@pytest.fixture(scope="module")
def kept() -> Iterator[UpkeepWorld]:
    with served(MAJOR) as server, upkeep_on(server, MAJOR) as world:
        world.table("t", ROWS)
        yield world


def started(folder: Path, what: str) -> subprocess.Popen[str]:
    """A process of its own that keeps the database; it is about to begin when this returns."""
    argv = [sys.executable, "-c", _PROGRAM, str(folder / "platform.toml"), what, *FOLDERS]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> str:
    said, trouble = process.communicate(timeout=120)
    assert process.returncode == 0, trouble
    return said.strip()


@contextmanager
def writing(kept: UpkeepWorld) -> Iterator[dict[str, float]]:
    """Customers who change rows all the time, and reports for whose snapshots CONCURRENTLY waits a moment.

    Said is the longest that a customer waited.
    """
    stop, felt = threading.Event(), {"longest_s": 0.0, "written": 0.0}
    session, reporter = kept.world.connect(), kept.world.connect()

    def report() -> None:
        while not stop.wait(0.1):
            reporter.execute("SELECT pg_sleep(0.5) FROM t WHERE id = 1")

    def write() -> None:
        chance = random.Random(SEED)
        while not stop.wait(0.005):
            began = time.monotonic()
            session.execute("UPDATE t SET filler = 'written' WHERE id = %s", [chance.randrange(1, ROWS)])
            felt["longest_s"] = max(felt["longest_s"], time.monotonic() - began)
            felt["written"] += 1

    threads = [threading.Thread(target=act) for act in (write, report)]
    for thread in threads:
        thread.start()
    try:
        yield felt
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill_and_look(kept: UpkeepWorld, folder: Path, kills: int) -> None:
    chance = random.Random(SEED)
    print(f"NVC_DRILL_SEED={SEED}")
    kept.manifest(folder)
    before = kept.world.value(_CHANGED)
    takes_s = {what: timed(folder, what) for what in ("index", "maintenance")}
    states: dict[str, int] = {}
    slowest_s = 0.0
    with writing(kept) as felt:
        for number in range(kills):
            what = ("index", "maintenance")[number % 2]
            process = started(folder, what)
            if number % 3:
                kept.world.wait_until(lambda: doing_now(kept), "an order is being carried out")
                time.sleep(chance.uniform(0, 0.4) * takes_s[what])
            else:
                time.sleep(chance.uniform(0.05, 1) * takes_s[what])
            doing = doing_now(kept)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            states[doing] = states.get(doing, 0) + 1
            slowest_s = max(slowest_s, gone(kept))
            if chance.random() < 0.2:
                assert_whole(kept, folder, before)
    assert_whole(kept, folder, before)
    interrupted = sum(count for doing, count in states.items() if doing)
    print(f"{kills} kills, {interrupted} in the middle of {states}; ended after {slowest_s:.1f} s at most")
    print(f"a customer waited {felt['longest_s']:.2f} s at most, of {felt['written']:.0f} writes")
    assert interrupted > 0, "nothing was interrupted: the drill proves nothing"


def timed(folder: Path, what: str) -> float:
    began = time.monotonic()
    process = started(folder, what)
    began = time.monotonic()
    assert ended(process) in ("done", "[]")
    return time.monotonic() - began


def doing_now(kept: UpkeepWorld) -> str:
    """The words with which the order under way begins; empty where none is."""
    doing = kept.names(
        f"SELECT substring(query FOR 12) FROM pg_stat_activity WHERE usename = '{ROLE}' AND state = 'active'"  # noqa: S608 - ours
        " AND application_name = 'nvcops-upkeep' AND query !~ '^SELECT'"
    )
    return doing[0] if doing else ""


def gone(kept: UpkeepWorld) -> float:
    """Wait until the server has ended what the dead one did; how long that took."""
    began = time.monotonic()
    while kept.ours():
        assert time.monotonic() - began < GONE_S, kept.names("SELECT query FROM pg_stat_activity")
        time.sleep(0.05)
    return time.monotonic() - began


def assert_whole(kept: UpkeepWorld, folder: Path, before: str) -> None:
    """The next run of each leaves nothing half done, and nothing else than it should."""
    assert ended(started(folder, "maintenance")) == "[]"
    assert ended(started(folder, "index")) == "done"
    assert kept.invalid() == []
    assert json.loads(kept.world.value(_CHANGED)) == json.loads(before)
    assert kept.world.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.drill
@pytest.mark.sample
def test_a_few_killed_orders_leave_nothing(kept: UpkeepWorld, tmp_path: Path) -> None:
    kill_and_look(kept, tmp_path, 4)


@pytest.mark.drill
@pytest.mark.timeout(1500)
def test_many_killed_orders_leave_nothing(kept: UpkeepWorld, tmp_path: Path) -> None:
    kill_and_look(kept, tmp_path, 48)


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_live_bank_does_not_feel_that_it_is_kept() -> None:
    """Under load: p99 at most twice what it was, nobody queues for more than a second, no session is ended."""
    killed = "SELECT sum(sessions_killed + sessions_fatal)::int FROM pg_stat_database"
    with running.temporary(users=40, think_s=0.3) as lab:
        asked(lab, *BALLAST)
        manifest = load_manifest(lab.folder / "platform.toml")
        bank = Latency(manifest.services[0], 100)
        time.sleep(10)
        quick = watched(bank, lambda: time.sleep(20))
        before = asked(lab, killed)
        slow = watched(
            bank, lambda: [kept_once(lab, table) for table in ("bank.ballast", "bank.entry", "bank.account")]
        )
        print(f"p99 {quick * 1000:.0f} ms before, {slow * 1000:.0f} ms while they were kept: {slow / quick:.2f} times")
        assert slow <= 2 * quick
        assert asked(lab, killed) == before
        assert asked(lab, "SELECT count(*)::int FROM pg_index WHERE NOT indisvalid") == 0


def watched(bank: Latency, act: Callable[[], object]) -> float:
    """The p99 of all requests while something is done."""
    asyncio.run(bank.look())
    first = dict(bank._last)
    act()
    asyncio.run(bank.look())
    rise: dict[float, float] = {}
    for name, then in bank._last.items():
        for edge, count in risen(first[name], then).items():
            rise[edge] = rise.get(edge, 0) + count
    p99 = bank._of(rise)
    assert p99, "too few requests to know"
    return p99


def kept_once(lab: running.Lab, table: str) -> None:
    """Everything that can be done to a table is done; where customers feel it, as on a busy machine, it is stopped."""
    what = ("--vacuum", "--analyze", "--freeze", "--reindex", "--table", table)
    argv = [sys.executable, "-m", "nvcops", "run", "db-maintenance", *what]
    done = subprocess.run(
        [*argv, "--json", "--target", str(lab.folder / "platform.toml")], capture_output=True, timeout=300, check=False
    )
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    for line in findings:
        if line["check"] in ("database.maintenance", "database.maintenance_felt"):
            print(line.get("subject", ""), line["observed"])
    wrong = [line for line in findings if line["verdict"] != 0]
    stopped = any("stopped: the p99 of bank rose" in line["observed"] for line in wrong)
    told = {"database.maintenance", "database.maintenance_left", "database.maintenance_felt"} if stopped else set()
    assert {line["check"] for line in wrong} <= told, findings


def asked(lab: running.Lab, *queries: str) -> int:
    """The first column of the last one's first row, 0 where it has none."""
    where = {"host": "127.0.0.1", "dbname": "bank", "user": "postgres", "password": lab.layout.secret("administrator")}
    with psycopg.connect(port=lab.layout.record().ports["primary"], autocommit=True, **where) as session:
        for query in queries:
            answer = session.execute(query.encode())
        row = answer.fetchone() if answer.description else None
    return int(row[0]) if row else 0
