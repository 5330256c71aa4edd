"""Conditions of keys, planted: the right verdict, the right column or sequence named; and its healthy counterpart."""

from __future__ import annotations

import pytest
from database_world import World

from nvcops.core.checks import Finding, Verdict
from nvcops.core.units import Bytes
from nvcops.database.checks import keys

both = pytest.mark.parametrize("world", [17, 18], indirect=True)
GRANT = "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO nvcops"


def line(world: World, check: str) -> Finding:
    return world.lines(keys, foreign_key_min=Bytes(256 << 10)).of(f"database.{check}")


@both
def test_a_serial_key_near_its_end(world: World) -> None:
    world.execute("CREATE TABLE entry (id serial PRIMARY KEY)", GRANT, "SELECT setval('entry_id_seq', 1600000000)")
    assert line(world, "integer_keys").verdict is Verdict.OK
    world.execute("SELECT setval('entry_id_seq', 1700000000)")
    found = line(world, "integer_keys")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry.id")
    assert found.observed == "79.2 %, 1,700,000,000 of 2,147,483,647"
    world.execute("SELECT setval('entry_id_seq', 2000000000)")
    assert line(world, "integer_keys").verdict is Verdict.CRITICAL
    assert line(world, "sequences").verdict is Verdict.OK, "said once"


def test_a_small_identity_key(world: World) -> None:
    world.execute("CREATE TABLE branch (id smallint GENERATED ALWAYS AS IDENTITY (START 32000))", GRANT)
    world.execute("INSERT INTO branch DEFAULT VALUES")
    found = line(world, "integer_keys")
    assert (found.verdict, found.subject) == (Verdict.CRITICAL, "public.branch.id")


def test_a_large_sequence_that_fills_a_small_column(world: World) -> None:
    world.execute("CREATE SEQUENCE numbers", "CREATE TABLE entry (id int DEFAULT nextval('numbers'))", GRANT)
    assert line(world, "integer_keys").verdict is Verdict.OK
    world.execute("SELECT setval('numbers', 2100000000)")
    found = line(world, "integer_keys")
    assert (found.verdict, found.subject) == (Verdict.CRITICAL, "public.entry.id")


def test_a_large_key_that_smaller_columns_refer_to(world: World) -> None:
    world.execute(
        "CREATE TABLE account (id bigserial PRIMARY KEY)",
        "CREATE TABLE entry (account int REFERENCES account)",
        "CREATE TABLE hold (account bigint REFERENCES account)",
        GRANT,
        "SELECT setval('account_id_seq', 2000000000)",
    )
    found = line(world, "integer_keys")
    assert (found.verdict, found.subject) == (Verdict.CRITICAL, "public.entry.account")


def test_a_sequence_with_an_end_of_its_own(world: World) -> None:
    world.execute("CREATE SEQUENCE cheques MAXVALUE 1000", GRANT, "SELECT setval('cheques', 700)")
    assert line(world, "sequences").verdict is Verdict.OK
    world.execute("SELECT setval('cheques', 950)")
    found = line(world, "sequences")
    assert (found.verdict, found.subject) == (Verdict.CRITICAL, "public.cheques")
    world.execute(found.next_step.partition(":")[0])
    assert line(world, "sequences").verdict is Verdict.OK, "its next step helps"


def test_a_sequence_that_counts_down(world: World) -> None:
    world.execute("CREATE SEQUENCE down INCREMENT -1 MINVALUE -100 MAXVALUE -1", GRANT, "SELECT setval('down', -80)")
    found = line(world, "sequences")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.down")


def test_a_sequence_that_begins_anew_has_no_end(world: World) -> None:
    world.execute("CREATE SEQUENCE round MAXVALUE 100 CYCLE", GRANT, "SELECT setval('round', 99)")
    assert world.lines(keys).wrong() == []


@both
def test_what_may_not_be_read_is_unknown_until_it_is_granted(world: World) -> None:
    world.execute(
        'CREATE SCHEMA "the bank"',
        'CREATE TABLE "the bank".entry (id serial)',
        "SELECT setval('\"the bank\".entry_id_seq', 2000000000)",
    )
    found = line(world, "integer_keys")
    assert (found.verdict, '"the bank".entry.id' in found.observed) == (Verdict.UNKNOWN, True)
    assert found.next_step.startswith('GRANT SELECT ON ALL SEQUENCES IN SCHEMA "the bank" TO ')
    world.execute(found.next_step.replace("the user of nvcops", "nvcops"), 'GRANT USAGE ON SCHEMA "the bank" TO nvcops')
    assert line(world, "integer_keys").verdict is Verdict.CRITICAL


@both
def test_keys_of_64_bits_need_not_be_read(world: World) -> None:
    world.execute(
        "CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)", "CREATE TABLE t (id bigserial)"
    )
    assert world.lines(keys).wrong() == []


def referring(world: World, columns: str = "account bigint REFERENCES account ON DELETE CASCADE") -> None:
    world.execute(
        "CREATE TABLE account (id bigint PRIMARY KEY, bank int, number int, UNIQUE (bank, number))",
        "INSERT INTO account SELECT n, n % 7, n FROM generate_series(1, 100) n",
        f"CREATE TABLE entry (id bigint, {columns})",
        "INSERT INTO entry SELECT n FROM generate_series(1, 20000) n",
    )
    world.flushed()
    world.execute("VACUUM (ANALYZE) entry")


def lost(world: World) -> None:
    world.execute("DELETE FROM account WHERE id = 1")
    world.flushed()


@both
def test_a_foreign_key_that_no_index_serves(world: World) -> None:
    referring(world)
    assert line(world, "foreign_keys").verdict is Verdict.OK, "nothing was deleted yet"
    lost(world)
    found = line(world, "foreign_keys")
    assert (found.verdict, found.subject) == (Verdict.WARNING, "public.entry")
    assert "entry_account_fkey (account)" in found.observed
    world.execute(found.next_step.partition(":")[0])
    assert world.lines(keys).wrong() == []


def test_a_small_table_needs_no_index(world: World) -> None:
    referring(world)
    lost(world)
    assert world.lines(keys).of("database.foreign_keys").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("index", "verdict"),
    [
        ("(number, bank, id)", Verdict.OK),
        ("(bank, number)", Verdict.OK),
        ("(bank, id, number)", Verdict.WARNING),
        ("(bank, number) WHERE id > 5", Verdict.WARNING),
        ("(bank)", Verdict.WARNING),
    ],
)
def test_an_index_serves_a_foreign_key_when_it_begins_with_its_columns(
    world: World, index: str, verdict: Verdict
) -> None:
    referring(world, "bank int, number int, FOREIGN KEY (bank, number) REFERENCES account (bank, number)")
    world.execute(f"CREATE INDEX ON entry {index}")
    lost(world)
    assert line(world, "foreign_keys").verdict is verdict


def test_an_index_without_the_rows_that_refer_to_nothing_serves_too(world: World) -> None:
    referring(world)
    world.execute("CREATE INDEX ON entry (account) WHERE account IS NOT NULL")
    lost(world)
    assert line(world, "foreign_keys").verdict is Verdict.OK
