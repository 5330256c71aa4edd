"""Orders on a live server: nobody waits behind them, they get done when they can be, and nothing is left half done."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import psycopg
import pytest
from upkeep_world import QUICK, ROLE, UpkeepWorld, upkeep_on

from nvcops.core.errors import Refused, Unreachable
from nvcops.core.progress import Progress, heard_by
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Done, Order, Outcome

BOTH = pytest.mark.parametrize("kept", [17, 18], indirect=True)
HELD_S = 3.0
SESSIONS = f"SELECT query FROM pg_stat_activity WHERE usename = '{ROLE}' AND application_name = 'nvcops-upkeep'"  # noqa: S608 - ours


def order(sql: str, *undo: str, **settings: str) -> Order:
    return Order(title="the order", sql=sql, undo=undo, settings=settings)


@contextmanager
def in_background(act: Callable[[], object]) -> Iterator[list[object]]:
    """Do it beside; what it returned or raised is there after the block."""
    outcome: list[object] = []

    def carry() -> None:
        try:
            outcome.append(act())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)


def at_work(kept: UpkeepWorld, words: str) -> bool:
    return any(words in query for query in kept.names(f"{SESSIONS} AND state = 'active'"))


@BOTH
def test_what_upkeep_does_all_day(kept: UpkeepWorld) -> None:
    kept.table("t", 5_000)
    for sql in (
        "VACUUM (TRUNCATE false, ANALYZE) t",
        "VACUUM (FREEZE) t",
        "REINDEX INDEX CONCURRENTLY t_id",
        "CREATE INDEX CONCURRENTLY more ON t (filler)",
        "DROP INDEX CONCURRENTLY more",
        "ALTER TABLE t ALTER COLUMN owner SET STATISTICS 300",
        "ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0.05)",
    ):
        done = kept.upkeep.carry_out(order(sql), QUICK)
        assert (done.outcome, done.why) == (Outcome.DONE, ""), sql
    assert kept.invalid() == []
    kept.world.wait_until(lambda: kept.ours() == 0, "its sessions are gone")


def test_settings_are_those_of_its_session_alone(kept: UpkeepWorld) -> None:
    kept.table("t")
    asked = "SELECT 1 / (current_setting('work_mem') = '77MB')::int"
    assert kept.upkeep.carry_out(order(asked, work_mem="77MB"), QUICK).outcome is Outcome.DONE
    assert kept.upkeep.carry_out(order(asked), QUICK).outcome is Outcome.REFUSED


@BOTH
def test_writers_do_not_wait_while_it_tries_until_it_gets_its_lock(kept: UpkeepWorld) -> None:
    """Somebody holds the table for seconds: a statement that waited for it would have all writers wait behind it."""
    kept.table("t")
    holder, writer = kept.world.connect(autocommit=False), kept.world.connect()
    holder.execute("UPDATE t SET filler = 'held' WHERE id = 1")
    guard = msgspec.structs.replace(QUICK, attempts=200)
    longest = 0.0
    with in_background(lambda: kept.upkeep.carry_out(order("ALTER TABLE t ADD COLUMN more int"), guard)) as outcome:
        end = time.monotonic() + HELD_S
        while not outcome:
            began = time.monotonic()
            writer.execute("UPDATE t SET filler = 'written' WHERE id = 2")
            longest = max(longest, time.monotonic() - began)
            if time.monotonic() > end:
                holder.rollback()
    (done,) = outcome
    assert isinstance(done, Done)
    assert done.outcome is Outcome.DONE
    assert done.attempts > 1
    assert done.seconds >= HELD_S - 1
    assert 0.1 < longest < HELD_S / 2  # it stood in the queue behind us, and only for a moment
    assert done.queued_s <= 1


def test_who_has_the_lock_is_said(kept: UpkeepWorld) -> None:
    kept.table("t")
    holder = kept.world.connect(autocommit=False)
    holder.execute("LOCK t IN ACCESS SHARE MODE")
    done = kept.upkeep.carry_out(order("ALTER TABLE t ADD COLUMN more int"), QUICK)
    assert (done.outcome, done.attempts) == (Outcome.REFUSED, 3)
    assert f"pid {holder.info.backend_pid} (" in done.why


@BOTH
def test_an_index_that_makes_others_wait_is_given_up_and_cleared_away(kept: UpkeepWorld) -> None:
    """lock_timeout does not help here: CONCURRENTLY has its lock, and waits for an older snapshot."""
    kept.table("t")
    reader = kept.world.connect(autocommit=False)
    reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT 1 FROM pg_class LIMIT 1")
    changer, writer = kept.world.connect(), kept.world.connect()
    making = order("CREATE INDEX CONCURRENTLY more ON t (filler)", "DROP INDEX CONCURRENTLY IF EXISTS more")
    with in_background(lambda: kept.upkeep.carry_out(making, QUICK)) as outcome:
        kept.world.wait_until(lambda: at_work(kept, "CREATE INDEX"), "the index is being made")
        time.sleep(0.5)
        began = time.monotonic()
        with in_background(lambda: changer.execute("ALTER TABLE t ADD COLUMN more int")):
            time.sleep(0.1)
            writer.execute("UPDATE t SET filler = 'written' WHERE id = 2")
            waited = time.monotonic() - began
        reader.rollback()
    (done,) = outcome
    assert isinstance(done, Done)
    assert done.outcome is Outcome.STOPPED
    assert f"pid {changer.info.backend_pid} waited" in done.why
    assert waited < 3
    assert kept.world.value("SELECT to_regclass('more')") is None
    assert kept.invalid() == []


@BOTH
@pytest.mark.parametrize("words", ["CREATE INDEX CONCURRENTLY more ON t (filler)", "REINDEX INDEX CONCURRENTLY t_id"])
def test_an_old_snapshot_is_named_before_anything_begins(kept: UpkeepWorld, words: str) -> None:
    kept.table("t")
    reader = kept.world.connect(autocommit=False)
    reader.execute("SELECT count(*) FROM t")
    kept.world.wait_until(
        lambda: kept.world.value("SELECT max(clock_timestamp() - xact_start) > '0.3 s' FROM pg_stat_activity"),
        "it is old",
    )
    done = replace(kept.upkeep, old_s=0.2).carry_out(order(words), QUICK)
    assert done.outcome is Outcome.REFUSED
    assert f"pid {reader.info.backend_pid} (postgres, planted, idle in transaction) has a transaction open" in done.why
    assert kept.invalid() == []


def test_a_prepared_transaction_is_an_old_one_too(kept: UpkeepWorld) -> None:
    kept.table("t")
    with kept.world.connect(autocommit=False) as session:
        session.execute("UPDATE t SET filler = 'prepared' WHERE id = 1")
        session.execute("PREPARE TRANSACTION 'it''s'")
    time.sleep(0.3)
    done = replace(kept.upkeep, old_s=0.2).carry_out(order("REINDEX INDEX CONCURRENTLY t_id"), QUICK)
    assert "the prepared transaction 'it''s' (postgres) has a transaction open" in done.why


@BOTH
def test_what_a_stopped_reindex_left_is_cleared_by_the_next(kept: UpkeepWorld) -> None:
    kept.table("t")
    reader, human = kept.world.connect(autocommit=False), kept.world.connect()
    reader.execute("SELECT count(*) FROM t")
    with in_background(lambda: human.execute("REINDEX INDEX CONCURRENTLY t_owner")) as outcome:
        kept.world.wait_until(kept.invalid, "it has begun")
        human.cancel()
    assert isinstance(outcome[0], psycopg.errors.QueryCanceled)
    reader.rollback()
    left = kept.invalid()
    assert any("_cc" in name for name in left)
    kept.world.execute("CREATE INDEX wanted_ccnew ON t (filler)")  # its name is like theirs, and it is fine
    done = kept.upkeep.carry_out(order("REINDEX INDEX CONCURRENTLY t_id"), QUICK)
    assert done.outcome is Outcome.DONE
    assert kept.invalid() == []
    assert kept.world.value("SELECT to_regclass('wanted_ccnew')") is not None


def test_it_ends_with_the_window_and_at_its_deadline(kept: UpkeepWorld) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    done = kept.upkeep.carry_out(order("SELECT pg_sleep(60)"), msgspec.structs.replace(QUICK, until=soon))
    assert (done.outcome, done.why) == (Outcome.STOPPED, "the window is over")
    done = kept.upkeep.carry_out(order("SELECT pg_sleep(60)"), msgspec.structs.replace(QUICK, until=soon))
    assert (done.outcome, done.why, done.attempts) == (Outcome.STOPPED, "the window is over", 0)
    done = kept.upkeep.carry_out(order("SELECT pg_sleep(60)"), msgspec.structs.replace(QUICK, deadline=Seconds(1)))
    assert done.outcome is Outcome.STOPPED
    assert done.why == "it took longer than 1 s"
    assert done.seconds < 30


def test_one_order_at_a_time(kept: UpkeepWorld) -> None:
    kept.table("t")
    first = replace(kept.upkeep)
    with in_background(lambda: first.carry_out(order("SELECT pg_sleep(8)"), QUICK)):
        kept.world.wait_until(lambda: at_work(kept, "pg_sleep"), "the first one works")
        done = kept.upkeep.carry_out(order("VACUUM t"), msgspec.structs.replace(QUICK, attempts=1))
        assert "another order is being carried out" in done.why
        assert kept.upkeep.carry_out(order("VACUUM t"), QUICK).outcome is Outcome.DONE


def test_who_ends_its_session_is_told_that_nobody_knows(kept: UpkeepWorld) -> None:
    kept.table("t")
    with in_background(lambda: kept.upkeep.carry_out(order("SELECT pg_sleep(30)"), QUICK)) as outcome:
        kept.world.wait_until(lambda: at_work(kept, "pg_sleep"), "it works")
        kept.world.execute(SESSIONS.replace("query", "pg_terminate_backend(pid)", 1))
    assert isinstance(outcome[0], Unreachable)
    assert "was lost in the middle of the order" in outcome[0].sentence


def test_a_refusal_is_the_servers_own_words(kept: UpkeepWorld) -> None:
    assert "does not exist" in kept.upkeep.carry_out(order("VACUUM nothing"), QUICK).why
    assert "syntax error" in kept.upkeep.carry_out(order("VACUUM 'x'"), QUICK).why
    assert "at or near" in kept.upkeep.carry_out(order("SELECT 100 % '"), QUICK).why + " at or near"
    with pytest.raises(Refused, match="read-only"):
        kept.upkeep.rows("CREATE TABLE more (a int)")


def test_how_far_it_is_can_be_heard(kept: UpkeepWorld) -> None:
    kept.table("t", 200_000)
    told: list[Progress] = []
    slow = {"vacuum_cost_delay": "20", "vacuum_cost_limit": "100"}
    kept.world.execute("UPDATE t SET filler = 'new'")
    with heard_by(told.append):
        done = kept.upkeep.carry_out(order("VACUUM t", **slow), QUICK)
    assert done.outcome is Outcome.DONE
    assert any(far.what == "the order: scanning heap" and far.all > 0 for far in told)


@BOTH
def test_it_says_what_it_lacks_and_the_statements_help(kept: UpkeepWorld) -> None:
    with upkeep_on(kept.world.server, kept.world.major, rights=False) as poor:
        poor.table('"ta""ble"')
        refused = poor.upkeep.carry_out(order('VACUUM "ta""ble"'), QUICK)
        assert refused.outcome is Outcome.REFUSED
        assert "permission denied" in refused.why
        lacking = [one for one in poor.upkeep.privileges() if not one.held]
        assert len(lacking) >= 5
        poor.world.execute(*(one.grant for one in lacking))
        assert [one for one in poor.upkeep.privileges() if not one.held] == []
        assert poor.upkeep.carry_out(order('VACUUM "ta""ble"'), QUICK).outcome is Outcome.DONE
        made = order('CREATE INDEX CONCURRENTLY more ON "ta""ble" (filler)')
        assert poor.upkeep.carry_out(made, QUICK).outcome is Outcome.DONE
        assert poor.upkeep.carry_out(order("ALTER SYSTEM SET work_mem = '5MB'"), QUICK).outcome is Outcome.DONE
        assert poor.upkeep.carry_out(order("ALTER SYSTEM RESET work_mem"), QUICK).outcome is Outcome.DONE
        poor.world.execute(f"DROP OWNED BY {ROLE}")
