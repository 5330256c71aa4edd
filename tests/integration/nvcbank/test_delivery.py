"""What a rollout needs of the bank: it says which release it is, tests itself, and expands before it contracts."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import asyncpg
import pytest
from bank_world import PASSWORD, Bank, World

from nvcbank import __version__
from nvcbank import migrate as bank_migrate
from nvcbank.errors import MigrationError
from nvcbank.migrate import FOLDER, migrate, read_migrations
from nvclab.parts.process import free_ports

DIGEST = "0f" * 32


def self_test(bank: Bank, *more: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """As a rollout does it: with a customer's password in a file, and no right to the database."""
    payer, payee = (bank.account(bank.sign_in(number)) for number in (1, 2))
    secret = bank.world.folder / "customer.password"
    secret.write_text(PASSWORD, encoding="utf-8")
    environment = {"NVCBANK_SELF_TEST_PASSWORD_FILE": str(secret), "NVCBANK_ADMIN_URL": "", **changed}
    asked = {"url": f"http://127.0.0.1:{bank.port}", "login": "customer-000001@nvcbank.example"}
    asked |= {"from-account": str(payer), "to-account": str(payee)}
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    return bank.world.run(bank.database, "self-test", *words, *more, **environment)


def test_it_says_which_artifact_was_started(world: World, database: str) -> None:
    with world.bank(database, NVCBANK_RELEASE=DIGEST) as bank:
        assert bank.client.get("/version").json()["release"] == DIGEST
        assert bank.metric(f'nvcbank_build_info{{version="{__version__}",release="{DIGEST}"}}') == 1
        assert self_test(bank, "--release", DIGEST).returncode == 0
        wrong = self_test(bank, "--release", "1f" * 32)
        assert (wrong.returncode, "instead of" in wrong.stderr) == (2, True)
    refused = world.run(database, "serve", "--port", "1", NVCBANK_RELEASE="latest")
    assert (refused.returncode, "is not a SHA-256" in refused.stderr) == (3, True)


def test_the_self_test_makes_one_real_payment(bank: Bank) -> None:
    paid = "SELECT count(*) FROM bank.transfer WHERE reference = 'self-test' AND outcome = 'settled'"
    with bank.world.connect(bank.database) as connection:
        before = connection.execute(paid).fetchone()
        done = self_test(bank)
        assert (done.returncode, done.stderr) == (0, "")
        assert "settled payment" in done.stdout
        assert connection.execute(paid).fetchone() == (1,)
        assert before == (0,)


def test_a_self_test_that_fails_is_no_self_test_that_cannot_be_asked(bank: Bank) -> None:
    closed = f"http://127.0.0.1:{free_ports(1)[0]}"
    for code, words, more, changed in (
        (2, "did not answer", ("--url", closed), {}),
        (2, "with 401 instead of 201", (), {"NVCBANK_SELF_TEST_PASSWORD_FILE": "", "NVCBANK_SELF_TEST_PASSWORD": "no"}),
        (2, "declined the payment: unknown_account", ("--to-account", "999999"), {}),
        (2, "with 422", ("--currency", "EURO"), {}),
        (3, "is not an http:// address", ("--url", "bank"), {}),
        (3, "NVCBANK_SELF_TEST_PASSWORD is not set", (), {"NVCBANK_SELF_TEST_PASSWORD_FILE": ""}),
    ):
        done = self_test(bank, *more, **changed)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_what_contracts_waits_when_only_expanding_is_asked_for(world: World, database: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "migrations"))
    first = len(read_migrations()) + 1
    later = ["expand_more", "contract_less", "expand_after"]
    names = [f"{first + place:04d}_{name}.sql" for place, name in enumerate(later)]
    for name in names:
        (folder / name).write_text("SELECT 1;", encoding="utf-8")

    async def both() -> tuple[list[str], list[str]]:
        connection = await asyncpg.connect(world.server.url(database))
        try:
            expanded = await migrate(connection, read_migrations(folder), expand_only=True)
            return expanded, await migrate(connection, read_migrations(folder))
        finally:
            await connection.close()

    assert asyncio.run(both()) == (names[:1], names[1:])
    assert world.run(database, "migrate", "--kind", "expand").stdout == "nothing to apply\n"


def test_a_migration_that_waits_for_a_table_keeps_no_customer_waiting(
    world: World, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads for long, the migration wants the table, customers come after it: they are served meanwhile."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "migrations"))
    name = f"{len(read_migrations()) + 1:04d}_expand_note.sql"
    (folder / name).write_text("ALTER TABLE account ADD COLUMN note text;", encoding="utf-8")
    monkeypatch.setattr(bank_migrate, "_LOCK_PAUSE_S", 0.1)

    async def at_once() -> tuple[list[str], list[int], int]:
        reader, customer, owner = [await asyncpg.connect(world.server.url(database)) for _ in range(3)]
        try:
            reading = reader.transaction()
            await reading.start()
            await reader.fetchval("SELECT count(*) FROM bank.account")
            changing = asyncio.create_task(migrate(owner, read_migrations(folder)))
            waited = 0
            await customer.execute("SET statement_timeout = '1500ms'")  # as the service's own
            counts = []
            while waited < 2:  # it came to wait twice: it gave up in between
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
                before = await reader.fetchval(waits)
                counts.append(await customer.fetchval("SELECT count(*) FROM bank.account"))
                waited += bool(before) and not await reader.fetchval(waits)
                assert not changing.done()
                await asyncio.sleep(0.02)
            await reading.rollback()
            return await changing, counts, waited
        finally:
            for connection in (reader, customer, owner):
                await connection.close()

    applied, counts, _ = asyncio.run(asyncio.wait_for(at_once(), 60))
    assert applied == [name]
    assert len(set(counts)) == 1


def test_a_migration_that_never_gets_the_table_says_so_and_leaves_nothing(
    world: World, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "migrations"))
    name = f"{len(read_migrations()) + 1:04d}_expand_note.sql"
    (folder / name).write_text("ALTER TABLE account ADD COLUMN note text;", encoding="utf-8")
    monkeypatch.setattr(bank_migrate, "_LOCK_PAUSE_S", 0.01)
    monkeypatch.setattr(bank_migrate, "_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(bank_migrate, "_LOCK_TRIES", 3)

    async def refused() -> str:
        reader, owner = [await asyncpg.connect(world.server.url(database)) for _ in range(2)]
        try:
            async with reader.transaction():
                await reader.fetchval("SELECT count(*) FROM bank.account")
                with pytest.raises(MigrationError, match="tried 3 times and got no lock") as caught:
                    await migrate(owner, read_migrations(folder))
            assert await migrate(owner, read_migrations(folder)) == [name]
            return str(caught.value)
        finally:
            await reader.close()
            await owner.close()

    assert name in asyncio.run(refused())


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "https://127.0.0.1", "http://"])
def test_an_address_that_is_none(bank: Bank, url: str) -> None:
    assert self_test(bank, "--url", url).returncode == 3
