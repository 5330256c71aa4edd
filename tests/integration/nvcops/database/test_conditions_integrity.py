"""Conditions of what can be relied upon, and of settings, planted in a real server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from checked import STANDBY, caught_up, checked, followed, socket_of, wrong
from database_world import PASSWORD, World

from nvclab.parts import postgres
from nvclab.parts.account import give
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import run_tool
from nvcops.core.checks import Finding

BOTH = pytest.mark.parametrize("world", [17, 18], indirect=True)
BOOKS = ("books.%",)
TABLES = (
    "CREATE SCHEMA books",
    "CREATE TABLE books.account (id int PRIMARY KEY, balance int)",
    "CREATE TABLE plain (id int PRIMARY KEY, account int)",
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
)


@dataclass(frozen=True)
class Condition:
    """What is planted, and the one line that must not be OK."""

    name: str
    planted: tuple[str, ...]
    check: str
    verdict: str
    subject: str
    observed: str
    next_step: str
    settings: dict[str, str] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)


INTEGRITY = (
    Condition(
        "unlogged",
        ("CREATE UNLOGGED TABLE cache (id int)",),
        "database.unlogged",
        "WARNING",
        "public.cache",
        "a crash empties it",
        "ALTER TABLE public.cache SET LOGGED",
    ),
    Condition(
        "unlogged books before others",
        ("CREATE UNLOGGED TABLE a_cache (id int)", 'CREATE UNLOGGED TABLE books."Entry" (id int)'),
        "database.unlogged",
        "CRITICAL",
        "books.Entry",
        "the books",
        'ALTER TABLE books."Entry" SET LOGGED',
    ),
    Condition(
        "a foreign key that was not validated",
        ("ALTER TABLE plain ADD CONSTRAINT owner FOREIGN KEY (account) REFERENCES books.account NOT VALID",),
        "database.unvalidated",
        "WARNING",
        "public.plain",
        "owner is not validated",
        "ALTER TABLE public.plain VALIDATE CONSTRAINT owner",
    ),
    Condition(
        "a check of the books that was not validated",
        ('ALTER TABLE books.account ADD CONSTRAINT "Not negative" CHECK (balance >= 0) NOT VALID',),
        "database.unvalidated",
        "CRITICAL",
        "books.account",
        "Not negative is not validated",
        'VALIDATE CONSTRAINT "Not negative"',
    ),
    Condition(
        "a trigger that is off",
        (
            "CREATE TRIGGER append_only BEFORE DELETE ON plain EXECUTE FUNCTION refuse()",
            "ALTER TABLE plain DISABLE TRIGGER append_only",
        ),
        "database.disabled_triggers",
        "WARNING",
        "public.plain",
        "append_only do not fire",
        "ALTER TABLE public.plain ENABLE TRIGGER ALL",
    ),
    Condition(
        "foreign keys of the books that are off",
        (
            "ALTER TABLE books.account ADD COLUMN owner int REFERENCES plain",
            "ALTER TABLE books.account DISABLE TRIGGER ALL",
        ),
        "database.disabled_triggers",
        "CRITICAL",
        "books.account",
        "foreign keys are not kept",
        "ENABLE TRIGGER ALL",
    ),
)
SETTINGS = (
    *(
        Condition(
            f"{name} = {value}",
            (),
            "database.dangerous_settings",
            verdict,
            "db-1",
            f"{name} = {value}",
            f"ALTER SYSTEM RESET {name}",
            {name: value},
        )
        for name, value, verdict in (
            ("fsync", "off", "CRITICAL"),
            ("full_page_writes", "off", "CRITICAL"),
            ("synchronous_commit", "off", "CRITICAL"),
            ("zero_damaged_pages", "on", "CRITICAL"),
            ("ignore_checksum_failure", "on", "CRITICAL"),
            ("enable_hashjoin", "off", "WARNING"),
            ("password_encryption", "md5", "WARNING"),
        )
    ),
    Condition(
        "a role that does not wait for its commits",
        ("ALTER ROLE bank SET synchronous_commit = off",),
        "database.dangerous_settings",
        "CRITICAL",
        "db-1",
        "synchronous_commit = off for bank",
        "ALTER SYSTEM RESET synchronous_commit",
    ),
    Condition(
        "a database whose triggers are off",
        (
            """DO $$ BEGIN EXECUTE
            concat('ALTER DATABASE ', current_catalog, ' SET session_replication_role = replica'); END $$""",
        ),
        "database.dangerous_settings",
        "CRITICAL",
        "db-1",
        "session_replication_role = replica",
        "",
    ),
    Condition(
        "a setting that is not as written",
        (),
        "database.settings_drift",
        "WARNING",
        "db-1",
        "max_wal_size is 512MB, not 4GB",
        "[database] settings",
        entry={"settings": {"max_wal_size": "4GB", "wal_level": "logical", "max_slot_wal_keep_size": "0.5GB"}},
    ),
    Condition(
        "a setting that waits for a restart",
        (),
        "database.pending_settings",
        "WARNING",
        "db-1",
        "waits for a restart: max_connections",
        "restart the server",
        {"max_connections": "61"},
    ),
)


def _found(world: World, condition: Condition) -> Finding:
    world.configure(**{"fsync": "on", **condition.settings})
    world.execute(*TABLES, *condition.planted)
    lines = checked(world, books=BOOKS, **condition.entry)
    line = lines.of(condition.check)
    assert (line.verdict.name, line.subject) == (condition.verdict, condition.subject)
    assert condition.observed in line.observed
    assert condition.next_step in line.next_step
    assert set(wrong(lines)) - {condition.check} == set()
    return line


@BOTH
@pytest.mark.parametrize("condition", INTEGRITY, ids=lambda condition: condition.name)
def test_what_cannot_be_relied_upon_is_found_and_named(world: World, condition: Condition) -> None:
    _found(world, condition)


@pytest.mark.parametrize("condition", SETTINGS, ids=lambda condition: condition.name)
def test_a_setting_is_found_and_named(world: World, condition: Condition) -> None:
    world.at_end(world.execute, "ALTER ROLE bank RESET ALL")
    line = _found(world, condition)
    if condition.check == "database.dangerous_settings" and condition.settings.get("fsync") != "off":
        assert "fsync" not in line.observed


@pytest.mark.parametrize("world", [18], indirect=True)
def test_a_constraint_that_nobody_enforces(world: World) -> None:
    world.execute(*TABLES, "ALTER TABLE plain ADD CONSTRAINT owner CHECK (account > 0) NOT ENFORCED")
    line = checked(world, books=BOOKS).of("database.unvalidated")
    assert (line.verdict.name, line.subject) == ("WARNING", "public.plain")
    assert line.observed == "owner is not enforced"
    assert line.next_step == "ALTER TABLE public.plain ALTER CONSTRAINT owner ENFORCED"


def test_rules_that_are_kept_are_no_finding(world: World) -> None:
    world.configure(fsync="on")
    world.execute(
        *TABLES,
        "ALTER TABLE plain ADD CONSTRAINT owner FOREIGN KEY (account) REFERENCES books.account NOT VALID",
        "ALTER TABLE plain VALIDATE CONSTRAINT owner",
        "CREATE TRIGGER append_only BEFORE DELETE ON plain EXECUTE FUNCTION refuse()",
        "ALTER TABLE plain ENABLE ALWAYS TRIGGER append_only",
        "CREATE TEMPORARY TABLE passing (id int)",
    )
    lines = checked(world, books=BOOKS, settings={"max_wal_size": "0.5 GB", "fsync": "on", "log_lock_waits": "yes"})
    assert wrong(lines) == {}
    assert lines.of("database.dangerous_settings").observed == "none"
    assert lines.of("database.settings_drift").observed == "3 as written"


def test_what_our_own_session_hides_is_not_said_to_be_right(world: World) -> None:
    line = checked(world, settings={"statement_timeout": "0"}).of("database.settings_drift")
    assert line.verdict.name == "UNKNOWN"
    assert "GRANT SELECT ON pg_file_settings" in line.next_step


def test_a_mistake_in_a_file_is_seen_where_that_is_granted(world: World) -> None:
    """ALTER SYSTEM refuses what is wrong; a hand does not."""
    file = Path(str(world.value("SHOW config_file")))
    before = file.read_text(encoding="utf-8")

    def put_back() -> None:
        postgres.replace_file(file, before)
        world.execute("SELECT pg_reload_conf()")

    world.at_end(put_back)
    postgres.replace_file(file, f"{before}work_mem = 'much'\n")
    give(file)
    blind = checked(world).of("database.pending_settings")
    assert blind.verdict.name == "OK"
    assert "GRANT SELECT ON pg_file_settings" in blind.observed
    world.execute("GRANT SELECT ON pg_file_settings TO nvcops")
    world.execute("GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO nvcops")
    line = checked(world).of("database.pending_settings")
    assert line.verdict.name == "WARNING"
    assert "postgresql.conf:" in line.observed
    assert "work_mem" in line.observed
    assert "pg_reload_conf" in line.next_step


def test_a_role_whose_statements_have_no_end(world: World) -> None:
    """Only roles that have asked something count, here or gone, and neither superusers nor those that watch."""
    world.execute(f"ALTER ROLE bank PASSWORD '{PASSWORD}'")
    world.at_end(world.execute, "ALTER ROLE bank RESET ALL")
    assert checked(world).of("database.role_timeouts").observed == "no role has asked anything"
    session = psycopg.connect(world.server.conninfo(user="bank", password=PASSWORD, dbname=world.database))
    seen = [checked(world).of("database.role_timeouts")]
    session.execute("SELECT 1")
    session.close()
    world.wait_until(lambda: not world.value("SELECT 1 FROM pg_stat_activity WHERE usename = 'bank'"), "bank is gone")
    seen.append(checked(world).of("database.role_timeouts"))
    assert [(one.verdict.name, one.subject) for one in seen] == [("WARNING", "bank")] * 2
    line = seen[1]
    assert line.observed == "bank has no idle_in_transaction_session_timeout"
    assert line.next_step.startswith("ALTER ROLE bank SET idle_in_transaction_session_timeout")
    world.execute("ALTER ROLE bank SET idle_in_transaction_session_timeout = '5s'")
    assert checked(world).of("database.role_timeouts").observed == "all have them"
    world.execute("ALTER ROLE bank SET statement_timeout = 0")
    assert checked(world).of("database.role_timeouts").observed == "bank has no statement_timeout"


def test_a_page_that_is_not_what_was_written(world: World) -> None:
    """The file is changed behind the server's back, as a dying disk does, and somebody reads the page."""
    world.execute("CREATE EXTENSION pg_buffercache", "CREATE TABLE ledger (id int)")
    world.execute("INSERT INTO ledger SELECT generate_series(1, 1000)", "CHECKPOINT")
    file = world.server.data / str(world.value("SELECT pg_relation_filepath('ledger')"))
    world.execute(
        "SELECT pg_buffercache_evict(bufferid) FROM pg_buffercache"
        " WHERE relfilenode = pg_relation_filenode('ledger') AND relforknumber = 0"
    )
    page = bytearray(file.read_bytes())
    page[5000] ^= 0xFF
    file.write_bytes(page)
    with pytest.raises(psycopg.errors.DataCorrupted):
        world.execute("SELECT sum(id) FROM ledger")
    world.flushed()
    lines = checked(world, books=BOOKS)
    line = lines.of("database.checksum_failures")
    assert (line.verdict.name, line.subject) == ("CRITICAL", "db-1")
    assert line.observed.startswith(f"1 in {world.database}, last at ")
    assert set(wrong(lines)) == {"database.checksum_failures"}


def test_pages_without_checksums_are_never_called_whole() -> None:
    with postgres.temporary() as server:
        server.stop()
        run_tool(
            [server.binaries.path("pg_checksums"), "--disable", "-D", str(server.data)],
            env=server.binaries.environment(),
            as_database_owner=True,
        )
        server.start()
        with server.connect() as superuser:
            superuser.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor".encode())
            lines = checked(World(server, "postgres", 17, superuser))
    assert lines.of("database.checksums").verdict.name == "WARNING"
    assert lines.of("database.checksum_failures").verdict.name == "UNKNOWN"


def test_a_standby_has_settings_and_checksums_of_its_own(world: World, server_17: Postgres) -> None:
    with followed(server_17, fsync="on", full_page_writes="off") as standby:
        caught_up(world, standby)
        lines = checked(world, standbys=[socket_of(standby, world.database)])
        line = lines.of("database.dangerous_settings", STANDBY)
        assert (line.verdict.name, line.observed.partition(":")[0]) == ("CRITICAL", "full_page_writes = off")
        assert lines.of("database.checksums", STANDBY).verdict.name == "OK"
    lines = checked(world, standbys=[socket_of(standby, world.database)])
    assert lines.of("database.dangerous_settings", STANDBY).verdict.name == "UNKNOWN"
    assert lines.of("database.checksums", STANDBY).verdict.name == "UNKNOWN"
