"""The command line: migrations, seeds, bad input."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psycopg
import pytest
from bank_world import Bank, World, wait_for

from nvcbank.errors import MigrationError
from nvcbank.migrate import FOLDER, migrate, read_migrations, status


def test_migrating_twice_is_migrating_once(world: World) -> None:
    database = world.empty_database()
    names = [migration.name for migration in read_migrations()]
    before = json.loads(world.run(database, "migrate", "--status", "--json").stdout)
    assert before == {"applied": [], "pending": names}
    assert json.loads(world.run(database, "migrate", "--json").stdout) == {"applied": names}
    assert world.run(database, "migrate").stdout == "nothing to apply\n"
    after = json.loads(world.run(database, "migrate", "--status", "--json").stdout)
    assert after == {"applied": names, "pending": []}


def test_two_migrations_at_once_wait_for_each_other(world: World) -> None:
    database = world.empty_database()
    argv = [sys.executable, "-m", "nvcbank", "migrate", "--json"]
    environment = world.environment(database)
    both = [subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    applied = sorted(len(json.loads(process.communicate(timeout=60)[0])["applied"]) for process in both)
    assert applied == [0, len(read_migrations())]
    assert [process.returncode for process in both] == [0, 0]


async def _connected(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "migrations"))


@pytest.mark.parametrize("spoil", ["changed", "renamed"])
def test_changed_history_is_refused_with_a_sentence(world: World, database: str, folder: Path, spoil: str) -> None:
    first = folder / "0001_expand_customers.sql"
    if spoil == "changed":
        first.write_text(first.read_text(encoding="utf-8") + "\n-- one more word\n", encoding="utf-8")
    else:
        first.rename(folder / "0001_expand_people.sql")

    async def try_it() -> None:
        connection = await asyncpg.connect(world.server.url(database))
        try:
            with pytest.raises(MigrationError) as refused:
                await migrate(connection, read_migrations(folder))
            assert "0001" in refused.value.sentence
            assert refused.value.hint
        finally:
            await connection.close()

    asyncio.run(try_it())


def test_a_migration_that_fails_leaves_nothing_of_itself(world: World, database: str, folder: Path) -> None:
    number = len(read_migrations()) + 1
    bad = folder / f"{number:04d}_expand_bad.sql"
    bad.write_text("CREATE TABLE half (a int); SELECT 1/0;", encoding="utf-8")

    async def try_it() -> tuple[object, object]:
        connection = await asyncpg.connect(world.server.url(database))
        try:
            with pytest.raises(MigrationError, match="rolled back"):
                await migrate(connection, read_migrations(folder))
            return (
                await connection.fetchval("SELECT to_regclass('bank.half')"),
                (await status(connection, read_migrations(folder))).pending,
            )
        finally:
            await connection.close()

    assert asyncio.run(try_it()) == (None, [bad.name])


def test_migration_files_are_numbered_without_gaps(folder: Path) -> None:
    (folder / "0099_expand_late.sql").write_text("SELECT 1;", encoding="utf-8")
    with pytest.raises(MigrationError, match="does not follow"):
        read_migrations(folder)


def test_the_release_before_still_runs_on_a_schema_that_is_ahead(world: World, database: str) -> None:
    with world.connect(database, "owner") as owner:
        owner.execute("INSERT INTO bank.applied_migration VALUES (9999, '9999_expand_future.sql', 'x')")
    assert world.run(database, "migrate").stdout == "nothing to apply\n"
    with world.bank(database) as ahead:
        assert ahead.client.get("/readyz").status_code == 200


def test_seeding_again_adds_only_what_is_missing(world: World, database: str) -> None:
    first = json.loads(world.run(database, "seed", "--customers", "12").stdout)
    assert (first["customers"], first["accounts"], first["staff"]) == (12, 12, 2)
    more = json.loads(world.run(database, "seed", "--customers", "30").stdout)
    assert (more["customers"], more["accounts"], more["funded_minor"]) == (30, 30, 30 * 1_000_000)
    assert world.run(database, "check-books").returncode == 0


def test_a_new_staff_user_can_sign_in(bank: Bank) -> None:
    arguments = ["staff", "add", "Ida@nvcbank.example", "--name", "Ida", "--role", "supervisor"]
    done = bank.world.run(bank.database, *arguments, NVCBANK_STAFF_PASSWORD="a long password")
    assert (done.returncode, done.stderr) == (0, "")
    again = bank.world.run(bank.database, *arguments, NVCBANK_STAFF_PASSWORD="a long password")
    assert again.returncode == 3
    who = {"login": "ida@nvcbank.example", "password": "a long password"}
    assert bank.client.post("/v1/staff/sessions", json=who).status_code == 201


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        (["serve", "--port", "1"], {"NVCBANK_DATABASE_URL": ""}, "NVCBANK_DATABASE_URL is not set"),
        (["serve", "--port", "1"], {"NVCBANK_DATABASE_URL": "mysql://x"}, "is not a postgresql:// URL"),
        (["serve", "--port", "1"], {"NVCBANK_CACHE_URL": ""}, "NVCBANK_CACHE_URL is not set"),
        (["serve", "--port", "1"], {"NVCBANK_CLOCK_OFFSET_S": "late"}, "is not a number of seconds"),
        (["serve", "--port", "1"], {"NVCBANK_INSTANCE": "two words"}, "is not a name"),
        (["serve", "--port", "9"], {"NVCBANK_LOG": "/nowhere/at/all/log"}, "NVCBANK_LOG cannot be written"),
        (["serve", "--port", "0"], {}, "is not a port"),
        (["serve"], {}, "--port"),
        (["seed", "--customers", "many"], {}, "is not a number from 0"),
        (["seed", "--customers", "3"], {"NVCBANK_SEED_PASSWORD": ""}, "NVCBANK_SEED_PASSWORD is not set"),
        (["migrate"], {"NVCBANK_ADMIN_URL": "postgresql://x@127.0.0.1:1/x"}, "the database is not available"),
        (["migrate"], {"NVCBANK_ADMIN_URL_FILE": "/nowhere"}, "NVCBANK_ADMIN_URL_FILE cannot be read"),
        (["check-books"], {"NVCBANK_ADMIN_URL": ""}, "NVCBANK_ADMIN_URL is not set"),
        (["dance"], {}, "invalid choice"),
        ([], {}, "required"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(
    world: World, arguments: list[str], change: dict[str, str], words: str
) -> None:
    ended = world.run("postgres", *arguments, **change)
    assert ended.returncode == 3
    assert words in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ended.stdout == ""


def test_a_taken_port_is_answered_with_one_sentence(bank: Bank) -> None:
    ended = bank.world.run(bank.database, "serve", "--port", str(bank.port), NVCBANK_LOG="")
    assert ended.returncode == 3
    assert ended.stderr.strip().startswith(f"nvcbank: cannot listen on 127.0.0.1:{bank.port}")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_help_says_what_each_variable_is_for(world: World) -> None:
    shown = world.run("postgres", "--help")
    assert shown.returncode == 0
    for word in (
        "migrate",
        "seed",
        "serve",
        "check-books",
        "NVCBANK_DATABASE_URL",
        "NVCBANK_CLOCK_OFFSET_S",
        "exit status",
    ):
        assert word in shown.stdout


def test_secrets_may_stand_in_files(world: World, database: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(world.server.url(database) + "\n", encoding="utf-8")
    ended = world.run(database, "migrate", NVCBANK_ADMIN_URL="", NVCBANK_ADMIN_URL_FILE=str(file))
    assert (ended.returncode, ended.stdout) == (0, "nothing to apply\n")


def test_the_log_goes_on_in_a_new_file_after_a_rotation(bank: Bank) -> None:
    bank.client.get("/version")
    rotated = bank.log.with_suffix(".1")
    wait_for(lambda: "/version" in bank.log.read_text(encoding="utf-8"))
    bank.log.rename(rotated)
    bank.process.send(signal.SIGHUP)
    wait_for(bank.log.exists)
    bank.client.get("/healthz")
    wait_for(lambda: "/healthz" in bank.log.read_text(encoding="utf-8"))
    assert "/version" in rotated.read_text(encoding="utf-8")


def test_a_shifted_clock_shows_in_version_and_log(world: World, database: str) -> None:
    with world.bank(database, "late", NVCBANK_CLOCK_OFFSET_S="-7200") as late:
        shown = dt.datetime.fromisoformat(late.client.get("/version").json()["now"])
        with world.connect(database, "service") as connection:
            row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    assert dt.timedelta(seconds=7100) < row[0] - shown < dt.timedelta(seconds=7300)


def test_the_owner_migrates_when_the_roles_exist(world: World, database: str) -> None:
    ended = world.run(database, "migrate", NVCBANK_ADMIN_URL=world.url(database, "owner"))
    assert (ended.returncode, ended.stdout) == (0, "nothing to apply\n")


def test_no_password_of_a_role_stands_in_the_servers_log(world: World, database: str) -> None:
    with psycopg.connect(world.server.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    world.tool(database, "migrate")
    text = "".join(path.read_text(encoding="utf-8") for path in world.server.logs.iterdir())
    assert "ALTER ROLE nvcbank_service" in text
    assert world.environment(database)["NVCBANK_SERVICE_PASSWORD"] not in text
