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


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "https://127.0.0.1", "http://"])
def test_an_address_that_is_none(bank: Bank, url: str) -> None:
    assert self_test(bank, "--url", url).returncode == 3
