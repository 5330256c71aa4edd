"""Conditions of sessions and locks, planted: the right verdict, the right one named; and its healthy counterpart."""

from __future__ import annotations

import time

import psycopg
import pytest
from database_world import World

from nvcops.core.checks import Verdict
from nvcops.core.manifest import Bound, Limits
from nvcops.core.units import Count, Seconds
from nvcops.database.checks import sessions

SOON: Bound[Seconds] = Bound(warning=Seconds(0.05), critical=Seconds(3600))
LIMITS = Limits(idle_in_transaction=SOON, longest_query=SOON, lock_wait=SOON)
QUEUE: Bound[Count] = Bound(warning=Count(3), critical=Count(6))
both = pytest.mark.parametrize("world", [17, 18], indirect=True)


def a_moment() -> None:
    """Longer than SOON allows."""
    time.sleep(0.1)


def ended(session: psycopg.Connection) -> None:
    session.cancel_safe(timeout=10)
    session.close()


def test_a_session_idle_in_transaction_is_named(world: World) -> None:
    idle = world.begin("SELECT 1", application_name="teller")
    a_moment()
    line = world.lines(sessions, limits=LIMITS).of("performance.idle_in_transaction")
    pid = idle.info.backend_pid
    assert line.verdict is Verdict.WARNING
    assert f"pid {pid} (postgres, teller)" in line.observed
    assert str(pid) in line.next_step
    idle.rollback()
    assert world.lines(sessions, limits=LIMITS).of("performance.idle_in_transaction").verdict is Verdict.OK


def test_a_query_that_takes_long_is_named(world: World) -> None:
    slow = world.send("SELECT pg_sleep(60)", application_name="report")
    a_moment()
    line = world.lines(sessions, limits=LIMITS).of("performance.longest_query")
    assert line.verdict is Verdict.WARNING
    assert f"pid {slow.info.backend_pid} (postgres, report)" in line.observed
    ended(slow)
    world.wait_until(
        lambda: world.lines(sessions, limits=LIMITS).of("performance.longest_query").verdict is Verdict.OK, "it ended"
    )


def test_the_longest_transaction_is_critical_when_it_is_too_long(world: World) -> None:
    first = world.begin("CREATE TABLE account (id int)")
    a_moment()
    at_once = Limits(longest_query=Bound(warning=Seconds(0.01), critical=Seconds(0.02)))
    line = world.lines(sessions, limits=at_once).of("performance.longest_transaction")
    assert (line.verdict, f"pid {first.info.backend_pid}" in line.observed) == (Verdict.CRITICAL, True)
    assert world.lines(sessions).of("performance.longest_transaction").verdict is Verdict.OK


def test_who_waits_for_a_row_and_who_holds_it_are_named(world: World) -> None:
    world.execute("CREATE TABLE account (id int)", "INSERT INTO account VALUES (1)")
    holder = world.begin("UPDATE account SET id = 1")
    waiter = world.send("UPDATE account SET id = 2")
    world.blocked(waiter)
    a_moment()
    line = world.lines(sessions, limits=LIMITS).of("performance.lock_waits")
    assert line.verdict is Verdict.WARNING
    assert f"pid {waiter.info.backend_pid} (postgres) waits for {holder.info.backend_pid} (" in line.observed
    assert line.next_step.startswith(f"SELECT pg_terminate_backend({holder.info.backend_pid})")
    holder.rollback()
    world.wait_until(
        lambda: world.lines(sessions, limits=LIMITS).of("performance.lock_waits").verdict is Verdict.OK, "it goes on"
    )


@both
@pytest.mark.parametrize(("behind", "verdict"), [(2, Verdict.OK), (3, Verdict.WARNING), (6, Verdict.CRITICAL)])
def test_a_change_of_a_table_that_waits_and_whom_it_keeps_waiting(world: World, behind: int, verdict: Verdict) -> None:
    world.execute('CREATE TABLE "the account" (id int)')
    holder = world.begin('SELECT FROM "the account"')
    change = world.send('ALTER TABLE "the account" ADD note text', application_name="release")
    world.blocked(change)
    customers = [world.send('SELECT FROM "the account"') for _ in range(behind)]
    world.blocked(*customers)
    line = world.lines(sessions, lock_queue=QUEUE).of("database.lock_queue")
    assert line.verdict is verdict
    if verdict is not Verdict.OK:
        pid = change.info.backend_pid
        assert line.subject == 'public."the account"'
        assert line.observed.startswith(f"{behind} wait behind pid {pid} (postgres, release)")
        assert f"for pid {holder.info.backend_pid} to have all of" in line.observed
        assert line.next_step.startswith(f"SELECT pg_cancel_backend({pid})")


def test_sessions_that_wait_for_a_row_are_no_queue_behind_a_table(world: World) -> None:
    world.execute("CREATE TABLE account (id int)", "INSERT INTO account VALUES (1)")
    world.begin("UPDATE account SET id = 1")
    waiters = [world.send("UPDATE account SET id = 2") for _ in range(4)]
    world.blocked(*waiters)
    assert world.lines(sessions, lock_queue=QUEUE).of("database.lock_queue").verdict is Verdict.OK


def test_a_role_near_its_own_limit_of_connections(world: World) -> None:
    world.execute("ALTER ROLE bank CONNECTION LIMIT 5", f"ALTER ROLE bank PASSWORD '{world.server.password}'")
    world.at_end(world.execute, "ALTER ROLE bank CONNECTION LIMIT -1 PASSWORD NULL")
    for _ in range(3):
        world.connect(user="bank")
    assert world.lines(sessions).of("database.connection_limits").verdict is Verdict.OK
    world.connect(user="bank")
    line = world.lines(sessions).of("database.connection_limits")
    assert (line.verdict, line.subject, line.observed) == (Verdict.WARNING, "role bank", "4 of 5 (80 %)")
    world.connect(user="bank")
    line = world.lines(sessions).of("database.connection_limits")
    assert line.verdict is Verdict.CRITICAL
    assert line.next_step.startswith('ALTER ROLE "bank" CONNECTION LIMIT')


def test_a_database_near_its_own_limit_of_connections(world: World) -> None:
    world.execute(f"ALTER DATABASE {world.database} CONNECTION LIMIT 6")
    world.connect()
    assert world.lines(sessions).of("database.connection_limits").verdict is Verdict.OK
    for _ in range(3):
        world.connect()
    line = world.lines(sessions).of("database.connection_limits")
    assert (line.verdict, line.subject) == (Verdict.WARNING, f"database {world.database}")


def test_deadlocks_are_counted_by_the_day(world: World) -> None:
    rarely: Bound[Count] = Bound(warning=Count(1), critical=Count(100))
    assert world.lines(sessions, deadlocks_per_day=rarely).of("database.deadlocks").verdict is Verdict.OK
    world.execute("CREATE TABLE account (id int)", "INSERT INTO account VALUES (1), (2)")
    first = world.begin("SET LOCAL deadlock_timeout = '1h'", "UPDATE account SET id = 1 WHERE id = 1")
    second = world.begin("SET LOCAL deadlock_timeout = '10ms'", "UPDATE account SET id = 2 WHERE id = 2")
    first.pgconn.send_query(b"UPDATE account SET id = 2 WHERE id = 2")
    world.blocked(first)
    with pytest.raises(psycopg.errors.DeadlockDetected):
        second.execute("UPDATE account SET id = 1 WHERE id = 1")
    second.close()  # what a session has counted is told when it ends
    world.wait_until(
        lambda: world.lines(sessions, deadlocks_per_day=rarely).of("database.deadlocks").verdict is Verdict.WARNING,
        "the deadlock is counted",
    )


@both
def test_a_prepared_transaction_that_nobody_commits(world: World) -> None:
    world.execute("CREATE TABLE account (id int)")
    forgotten = world.begin("INSERT INTO account VALUES (1)")
    forgotten.execute("PREPARE TRANSACTION 'the coordinator''s'")
    forgotten.close()
    a_moment()
    line = world.lines(sessions, prepared_transaction=SOON).of("database.prepared_transactions")
    assert (line.verdict, line.subject) == (Verdict.WARNING, "the coordinator's")
    assert line.next_step.startswith("ROLLBACK PREPARED 'the coordinator''s'")
    assert world.database in line.next_step
    world.execute("ROLLBACK PREPARED 'the coordinator''s'")
    assert world.lines(sessions, prepared_transaction=SOON).wrong() == []
