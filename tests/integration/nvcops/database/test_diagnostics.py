"""Situations planted on a real server: the right root is named, and on a healthy one nothing is invented."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from database_world import NAME, World

from nvcops.core.errors import Unreachable
from nvcops.core.manifest import Bound, DiskEntry, Instance, Limits, Manifest, Objectives, ServiceEntry
from nvcops.core.manifest.tables import Series
from nvcops.core.statements import Waited, Waits
from nvcops.core.target import Change, Disk, Increase, Target
from nvcops.core.units import Seconds
from nvcops.core.workload import Statement, Workload
from nvcops.database.diagnostics import causes, db_diagnostics
from nvcops.database.diagnostics.causes import Cause

LIMITS = Limits(idle_in_transaction=Bound(warning=Seconds(1), critical=Seconds(900)))
BANK = ServiceEntry(
    name="bank",
    url="http://127.0.0.1:1",
    version="/version",
    instances=(Instance(name="bank-1", url="http://127.0.0.1:2"), Instance(name="bank-2", url="http://127.0.0.1:3")),
    series=Series(requests="r", latency="l", outcomes="o", outcome_title="payments"),
)
BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)


class Around:
    """What stands around the database, as the watch saw it; nothing unless a test says so."""

    def __init__(self) -> None:
        self.seen: list[Change] = []
        self.answered: dict[bool, tuple[float, float]] = {True: (100.0, 1.0), False: (3_000.0, 30.0)}
        self.sampled = Waits(observed_s=0.0)
        self.asked: dict[bool, Workload] = {}
        self.used = 10
        self.now = dt.datetime.now(dt.UTC)

    def ask(self, questions: list[Any]) -> list[Any]:
        return [Unreachable("nobody listens") for _ in questions]

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        return [one for one in self.seen if start <= one.time < end]

    def increases(self, _service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        count, total = self.answered[(end - start) < dt.timedelta(minutes=10)]
        return [Increase({"route": "/payments"}, count if series == "l_count" else total)]

    def waits(self, _start: dt.datetime, _end: dt.datetime) -> Waits:
        return self.sampled

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        lately = (end - start) < dt.timedelta(hours=1)
        none = Workload(server=NAME, since=None, until=end, statements=())
        return self.asked.get(lately, none)

    def disk(self, _name: str) -> Disk:
        return Disk(self.used, 100)


@pytest.fixture
def around() -> Around:
    return Around()


def target_of(world: World, around: Around) -> Target:
    socket = world.socket()
    host = SimpleNamespace(now=lambda: dt.datetime.now(dt.UTC), disk=around.disk)
    disks = (DiskEntry(name="data", path=world.server.data),)
    manifest = SimpleNamespace(services=(BANK,), limits=LIMITS, objectives=Objectives(), disks=disks)
    parts = {"manifest": manifest, "services": around, "metrics": around, "statements": around, "host": host}
    return cast("Target", SimpleNamespace(database=socket, standbys=[], runs=None, **parts))


def look(world: World, around: Around) -> list[Cause]:
    seen = db_diagnostics.seen(target_of(world, around))
    assert seen is not None
    assert seen.unread == {}
    return causes.causes(seen, LIMITS, Objectives().response_mean)


def until(world: World, around: Around, kind: str, when: Callable[[Cause], object] = bool) -> Cause:
    """The most harmful cause, as soon as it is of this kind."""
    found: list[Cause] = []

    def there() -> bool:
        found[:] = look(world, around)
        return bool(found) and found[0].kind == kind and bool(when(found[0]))

    world.wait_until(there, f"a {kind} is the worst of {[one.sentence for one in found]}")
    return found[0]


class Working:
    """A session that runs a statement on a thread of its own; it is cancelled at the end of the test."""

    def __init__(self, world: World, statement: str, **parameters: str) -> None:
        self.session = world.connect(**parameters)
        self.thread = threading.Thread(target=self._run, args=(statement,), daemon=True)
        self.thread.start()
        world.at_end(self._end)

    @property
    def pid(self) -> int:
        return self.session.info.backend_pid

    def _run(self, statement: str) -> None:
        try:
            self.session.execute(cast("Any", statement))
        except psycopg.Error:
            return  # cancelled, or ended by the server

    def _end(self) -> None:
        if not self.session.closed:
            self.session.cancel_safe(timeout=5)
        self.thread.join(10)


@pytest.fixture
def accounts(world: World) -> World:
    world.execute("CREATE SCHEMA bank", "CREATE TABLE bank.account (id int PRIMARY KEY, balance bigint)")
    world.execute("INSERT INTO bank.account SELECT n, 0 FROM generate_series(1, 100) n")
    return world


def holding(world: World, statement: str, **parameters: str) -> psycopg.Connection:
    session = world.connect(autocommit=False, **parameters)
    session.execute(cast("Any", statement))
    return session


@BOTH
def test_a_healthy_database_has_no_cause(accounts: World, around: Around) -> None:
    assert look(accounts, around) == []
    seen = db_diagnostics.seen(target_of(accounts, around))
    assert seen is not None
    manifest = cast("Manifest", SimpleNamespace(limits=LIMITS, objectives=Objectives()))
    (line,) = db_diagnostics.diagnosis(seen, manifest)
    assert (line.check, line.verdict.name) == ("diagnosis.none", "OK")
    assert line.observed.startswith("nobody waits, and nothing is wrong; looked at locks")


def test_short_locks_are_no_cause(accounts: World, around: Around) -> None:
    with holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 1"):
        Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
        accounts.wait_until(lambda: accounts.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "one waits")
        found = db_diagnostics.seen(target_of(accounts, around))
        assert found is not None
        waits = [one.waited_s for one in found.sessions if one.blocked_by]
        assert waits
        if max(waits) < causes.FELT_S:  # a slow machine may have taken longer than that to look
            assert causes.causes(found, LIMITS, 0.2) == []


@BOTH
def test_an_idle_transaction_that_many_wait_for(accounts: World, around: Around) -> None:
    began = dt.datetime.now(dt.UTC)
    around.seen = [
        Change(began - dt.timedelta(seconds=20), "bank", "bank-2", "version", "1.4.1", "1.4.2"),
        Change(began - dt.timedelta(seconds=5), "bank", "bank-1", "start", "a", "b"),
    ]
    around.answered[True] = (100.0, 190.0)
    root = holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 7", application_name="bank-2")
    for _ in range(4):
        Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 7", application_name="bank-1")
    cause = until(accounts, around, "lock", lambda one: "4 sessions" in one.sentence)
    pid = root.info.backend_pid
    assert cause.pid == pid
    assert cause.sentence.startswith(
        f"payments are slow (1.9 s on average, 10 ms before) because 4 sessions wait for pid {pid} (postgres, bank-2"
    )
    assert "idle in transaction for" in cause.sentence
    assert "it holds RowExclusiveLock on bank.account" in cause.sentence
    assert "after bank-2 went from release 1.4.1 to 1.4.2" in cause.sentence
    assert cause.next_step.startswith(f"SELECT pg_terminate_backend({pid})")
    assert any("pg_blocking_pids" in line for line in cause.evidence)


def test_the_root_of_a_chain_is_named_not_its_middle(accounts: World, around: Around) -> None:
    root = holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 1")
    middle = accounts.connect(autocommit=False)
    middle.execute("UPDATE bank.account SET balance = 1 WHERE id = 2")
    thread = threading.Thread(target=_quietly, args=(middle, "UPDATE bank.account SET balance = 3 WHERE id = 1"))
    thread.start()
    Working(accounts, "UPDATE bank.account SET balance = 4 WHERE id = 2")
    cause = until(accounts, around, "lock", lambda one: "2 sessions" in one.sentence)
    root.rollback()
    thread.join(10)
    assert cause.pid == root.info.backend_pid
    assert ", 2 deep" in cause.sentence


def _quietly(session: psycopg.Connection, statement: str) -> None:
    try:
        session.execute(cast("Any", statement))
    except psycopg.Error:
        return


@BOTH
def test_a_queue_behind_an_exclusive_lock_is_let_go_by_its_head(accounts: World, around: Around) -> None:
    root = holding(accounts, "SELECT * FROM bank.account")
    change = Working(accounts, "ALTER TABLE bank.account ADD COLUMN note text", application_name="migration")
    accounts.wait_until(lambda: accounts.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "it waits")
    for _ in range(3):
        Working(accounts, "SELECT * FROM bank.account")
    cause = until(accounts, around, "lock", lambda one: "4 sessions" in one.sentence)
    assert cause.pid == root.info.backend_pid
    assert f"pid {change.pid} waits for AccessExclusiveLock on bank.account" in cause.sentence
    assert "AccessShareLock on bank.account" in cause.sentence
    assert cause.next_step.startswith(f"SELECT pg_cancel_backend({change.pid}) lets the 3 behind it go on")


def test_a_prepared_transaction_has_no_session(accounts: World, around: Around) -> None:
    with accounts.connect(autocommit=False) as session:
        session.execute("UPDATE bank.account SET balance = 1 WHERE id = 1")
        session.execute("PREPARE TRANSACTION 'transfer 42''s'")
    Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
    cause = until(accounts, around, "lock")
    accounts.execute("ROLLBACK PREPARED 'transfer 42''s'")
    assert "the prepared transaction 'transfer 42's' of postgres" in cause.sentence
    assert cause.next_step.startswith("COMMIT PREPARED 'transfer 42''s', or ROLLBACK")


def test_a_statement_that_holds_others_up_is_cancelled(accounts: World, around: Around) -> None:
    root = Working(accounts, "SELECT pg_sleep(60) FROM (SELECT * FROM bank.account WHERE id = 1 FOR UPDATE) x")
    accounts.wait_until(lambda: accounts.value("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), "asleep")
    Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
    cause = until(accounts, around, "lock")
    assert cause.pid == root.pid
    assert "in a statement for" in cause.sentence
    assert cause.next_step == f"SELECT pg_cancel_backend({root.pid}) ends its statement"


def test_two_roots_are_two_causes_and_the_costlier_one_is_first(accounts: World, around: Around) -> None:
    one = holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 1")
    two = holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 2")
    Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
    for _ in range(3):
        Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 2")
    until(accounts, around, "lock", lambda first: "3 sessions" in first.sentence)
    accounts.wait_until(lambda: len([c for c in look(accounts, around) if c.kind == "lock"]) == 2, "both are felt")
    found = [cause.pid for cause in look(accounts, around) if cause.kind == "lock"]
    assert found == [two.info.backend_pid, one.info.backend_pid]


def test_an_explicit_lock_and_an_advisory_lock(accounts: World, around: Around) -> None:
    root = holding(accounts, "SELECT pg_advisory_xact_lock(4711)")
    Working(accounts, "SELECT pg_advisory_xact_lock(4711)")
    cause = until(accounts, around, "lock")
    assert cause.pid == root.info.backend_pid


@BOTH
def test_an_idle_transaction_that_nobody_waits_for(accounts: World, around: Around) -> None:
    root = holding(accounts, "SELECT * FROM bank.account WHERE id = 1", application_name="bank-1")
    cause = until(accounts, around, "idle")
    assert cause.pid == root.info.backend_pid
    assert cause.weight < 1
    assert "because" not in cause.sentence


def test_a_commit_that_waits_for_a_standby_that_is_not_there(accounts: World, around: Around) -> None:
    Working(accounts, "SET synchronous_commit = on")
    accounts.configure(synchronous_standby_names="db_2")
    try:
        Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
        accounts.wait_until(
            lambda: accounts.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), "it waits"
        )
        Working(accounts, "UPDATE bank.account SET balance = 3 WHERE id = 1")
        cause = until(accounts, around, "commit", lambda one: "2 sessions" in one.sentence)
    finally:
        accounts.superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
        accounts.superuser.execute("SELECT pg_reload_conf()")
    assert "none is connected (synchronous_standby_names = 'db_2')" in cause.sentence
    assert cause.critical


def test_connections_that_one_client_has_taken(accounts: World, around: Around) -> None:
    free = accounts.value(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - current_setting('reserved_connections')::int - count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend'"
    )
    for _ in range(free):
        accounts.connect(application_name="greedy client")
    cause = until(accounts, around, "unreachable")
    assert cause.sentence.startswith("db-1 has no connection free, not even one of those that are reserved")
    accounts.execute("GRANT pg_use_reserved_connections TO nvcops")
    accounts.at_end(accounts.execute, "REVOKE pg_use_reserved_connections FROM nvcops")
    cause = until(accounts, around, "connections")
    assert f"{free} by greedy client (idle)" in cause.sentence
    assert cause.critical


def test_a_server_that_is_not_there(accounts: World, around: Around) -> None:
    target = target_of(accounts, around)
    gone = SimpleNamespace(name=NAME, read=_refuse)
    seen = db_diagnostics.seen(cast("Target", SimpleNamespace(**{**vars(target), "database": gone})))
    assert seen is not None
    (cause,) = causes.causes(seen, LIMITS, 0.2)
    assert (cause.kind, cause.critical) == ("unreachable", True)
    assert "db-1 does not answer" in cause.sentence


def _refuse(_queries: object) -> None:
    raise Unreachable("db-1 does not answer: connection refused")


def test_a_statement_that_became_slower(accounts: World, around: Around) -> None:
    now = dt.datetime.now(dt.UTC)
    quick = Statement(id=5, text="SELECT balance FROM bank.account WHERE note = 'dana'", calls=9_000, total_s=18.0)
    slow = Statement(id=5, text=quick.text, calls=600, total_s=150.0)
    around.asked = {
        True: Workload(server=NAME, since=now - dt.timedelta(minutes=15), until=now, statements=(slow,)),
        False: Workload(
            server=NAME, since=now - dt.timedelta(days=8), until=now - dt.timedelta(hours=2), statements=(quick,)
        ),
    }
    (cause,) = look(accounts, around)
    assert cause.kind == "regression"
    assert "takes 250 ms on average and took 2 ms in the week before" in cause.sentence
    assert "dana" not in cause.sentence
    around.asked = {**around.asked, True: around.asked[False]}
    assert look(accounts, around) == []


def test_what_was_sampled_in_the_last_minutes(accounts: World, around: Around) -> None:
    io = Waited(kind="IO", event="DataFileRead", seconds=600.0)
    lock = Waited(kind="Client", event="ClientRead", seconds=900.0)
    around.sampled = Waits(observed_s=120.0, waited=(lock, io))
    (cause,) = look(accounts, around)
    assert cause.kind == "wait"
    assert cause.sentence.startswith("5.0 sessions at a time wait for the disk (IO: DataFileRead)")
    around.sampled = Waits(observed_s=120.0, waited=(lock,))
    assert look(accounts, around) == []


def test_a_full_disk_stands_above_all(accounts: World, around: Around) -> None:
    around.used = 99
    cause = look(accounts, around)[0]
    assert (cause.kind, cause.critical) == ("disk", True)
    assert "the disk data is 99 % full" in cause.sentence


def test_slow_customers_and_an_innocent_database(accounts: World, around: Around) -> None:
    around.answered[True] = (100.0, 190.0)
    seen = db_diagnostics.seen(target_of(accounts, around))
    assert seen is not None
    manifest = cast("Manifest", SimpleNamespace(limits=LIMITS, objectives=Objectives()))
    (line,) = db_diagnostics.diagnosis(seen, manifest)
    assert (line.check, line.verdict.name) == ("diagnosis.none", "WARNING")
    assert line.observed == "payments are slow (1.9 s on average, 10 ms before), and nothing in db-1 holds anybody up"


def test_a_look_is_quick_though_hundreds_wait(accounts: World, around: Around) -> None:
    began = time.monotonic()
    look(accounts, around)
    empty = time.monotonic() - began
    holding(accounts, "UPDATE bank.account SET balance = 1 WHERE id = 1")
    for _ in range(40):
        Working(accounts, "UPDATE bank.account SET balance = 2 WHERE id = 1")
    until(accounts, around, "lock", lambda one: "40 sessions" in one.sentence)
    began = time.monotonic()
    look(accounts, around)
    assert time.monotonic() - began < max(20 * empty, 2.0)
