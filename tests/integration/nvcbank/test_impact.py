"""What a time cost, read out of the bank's own books by the operator."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from bank_world import World
from psycopg.conninfo import conninfo_to_dict

import nvcbank
from nvcops.adapters.ledger import LedgerFile
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.errors import ManifestError

IMPACT = Path(nvcbank.__file__).with_name("impact.sql")
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
INSERT = """
INSERT INTO bank.transfer
    (created_at, debit_account, credit_account, amount, customer_id, idempotency_key, request_hash, kind, outcome,
     currency)
VALUES (%s, 1, 2, 5, %s, decode(md5(%s), 'hex'), decode(md5(%s), 'hex'), 'payment', %s, 'EUR')"""


def ledger(world: World, name: str, path: Path = IMPACT) -> LedgerFile:
    to = conninfo_to_dict(world.server.url(name))
    server = PostgresServer(
        name="db-1",
        host=str(to["host"]),
        port=int(str(to["port"])),
        database=name,
        user=str(to["user"]),
        password=str(to["password"]),
        deadline_s=10.0,
    )
    return LedgerFile(path, server)


def test_the_books_say_what_was_paid_and_who_could_not(world: World) -> None:
    name = world.database()
    with world.connect(name) as connection:
        connection.execute("SET session_replication_role = replica")  # rows of the past, without posting them now
        paid = [
            (-10, 1, "settled"),
            (-10, 2, "settled"),
            (-90, 3, "settled"),
            (5, 1, "settled"),
            (6, 2, "declined_limit"),
        ]
        for minutes, customer, outcome in paid:
            key = f"{minutes}/{customer}"
            connection.execute(INSERT, (NOON + minutes * MINUTE, customer, key, key, outcome))
    found = {one.title: one for one in ledger(world, name).booked(NOON, NOON + 30 * MINUTE)}
    assert {title: one.value for title, one in found.items()} == {
        "payments settled": 1,
        "payments declined": 1,
        "customers who paid in the hour before and could not while it lasted": 1,
    }


def test_a_query_that_fails_says_why_and_takes_no_other_with_it(world: World, tmp_path: Path) -> None:
    file = tmp_path / "impact.sql"
    file.write_text(
        "-- name: lost\nSELECT count(*) FROM bank.nothing;\n-- name: one\nSELECT 1;\n-- name: none\nSELECT NULL;\n"
    )
    lost, one, none = ledger(world, world.database(), file).booked(NOON, NOON + MINUTE)
    assert "bank.nothing" in lost.why
    assert (lost.value, one.value) == (None, 1)
    assert none.why == "the query answers with no number"


def test_a_file_that_is_not_there_is_a_sentence(world: World, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"impact\.sql cannot be read"):
        ledger(world, "any", tmp_path / "impact.sql").booked(NOON, NOON + MINUTE)
