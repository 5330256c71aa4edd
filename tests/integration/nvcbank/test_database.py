"""What the database itself refuses, whoever asks: privileges, append-only tables, invariants."""

from __future__ import annotations

import psycopg
import pytest
from bank_world import ROLES, World
from psycopg import errors

_TABLES = """
    account aml_case aml_decision aml_limit aml_position applied_migration credential currency customer entry hold
    hold_end instance_secret kyc_event kyc_transition sign_in_guard staff staff_action transfer
"""
TABLES = _TABLES.split()
APPEND_ONLY = ["aml_case", "aml_decision", "entry", "hold", "hold_end", "kyc_event", "staff_action", "transfer"]
READS = {
    "service": "account aml_case aml_decision applied_migration credential currency entry hold hold_end "
    "instance_secret sign_in_guard transfer",
    "readonly": "account aml_position applied_migration currency entry hold hold_end kyc_transition transfer",
    "auditor": "account aml_case aml_decision aml_limit aml_position applied_migration currency customer entry hold "
    "hold_end kyc_event kyc_transition staff_action transfer",
}
SERVICE_MAY_CALL = {
    "register_customer", "sign_in_failed", "sign_in_succeeded", "forget_old_failures", "open_account",
    "expire_due_holds", "post_payments", "move_kyc", "block_account", "place_hold", "release_hold",
    "reverse_transfer", "aml_look", "decide_case",
}  # fmt: skip


@pytest.fixture(scope="module")
def database(world: World) -> str:
    """One for all: what is tried here is refused, and leaves nothing."""
    return world.database()


def test_every_table_is_in_the_table_of_privileges(owner: psycopg.Connection) -> None:
    found = owner.execute("SELECT relname FROM pg_class WHERE relnamespace = 'bank'::regnamespace AND relkind = 'r'")
    assert sorted(row[0] for row in found) == TABLES


@pytest.mark.parametrize("role", READS)
def test_a_role_reads_what_it_needs_and_writes_no_table(owner: psycopg.Connection, role: str) -> None:
    for privilege, allowed in {"SELECT": set(READS[role].split()), "INSERT, UPDATE, DELETE, TRUNCATE": set()}.items():
        found = {
            table
            for table in TABLES
            for row in owner.execute(
                "SELECT has_table_privilege(%s, %s, %s)", [f"nvcbank_{role}", f"bank.{table}", privilege]
            )
            if row[0]
        }
        assert found == allowed, privilege


@pytest.mark.parametrize("role", READS)
def test_a_role_calls_its_functions_only(owner: psycopg.Connection, role: str) -> None:
    found = owner.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'bank'::regnamespace "
        "AND has_function_privilege(%s, oid, 'EXECUTE')",
        [f"nvcbank_{role}"],
    )
    assert {row[0] for row in found} == (SERVICE_MAY_CALL if role == "service" else set())


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_more_than_it_must_be(owner: psycopg.Connection, role: str) -> None:
    row = owner.execute(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles "
        "WHERE rolname = %s",
        [f"nvcbank_{role}"],
    ).fetchone()
    assert row == (False,)


@pytest.mark.parametrize("role", READS)
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO bank.entry VALUES (1, 1, 5, 5, 'EUR')",
        "UPDATE bank.account SET balance = 1",
        "DELETE FROM bank.transfer",
        "TRUNCATE bank.entry",
        "INSERT INTO bank.account (kind, currency) VALUES ('house', 'EUR')",
        "ALTER TABLE bank.entry DISABLE TRIGGER ALL",
        "CREATE TABLE bank.mine (a int)",
        "DROP FUNCTION bank.post_payments",
        "SET ROLE nvcbank_owner",
    ],
)
def test_trying_it_is_refused(world: World, database: str, role: str, statement: str) -> None:
    with (
        world.connect(database, role) as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("role", ["readonly", "auditor"])
@pytest.mark.parametrize("secret", ["bank.credential", "bank.instance_secret", "bank.staff password_hash"])
def test_secrets_are_for_the_service(world: World, database: str, role: str, secret: str) -> None:
    table, _, column = secret.partition(" ")
    with world.connect(database, role) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(b"SELECT %b FROM %b" % (column.encode() or b"*", table.encode()))


def test_the_readonly_role_sees_no_personal_data(world: World, database: str) -> None:
    with world.connect(database, "readonly") as connection:
        assert connection.execute("SELECT count(id) FROM bank.customer").fetchone() == (12,)
        for column in ("name", "login"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(b"SELECT %b FROM bank.customer" % column.encode())


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", ["UPDATE bank.{} SET {} = {}", "DELETE FROM bank.{}", "TRUNCATE bank.{} CASCADE"])
def test_even_the_owner_changes_and_removes_nothing(owner: psycopg.Connection, table: str, change: str) -> None:
    column = "amount" if table == "entry" else "created_at"
    with pytest.raises(psycopg.Error, match="never changed or removed") as refused:
        owner.execute(change.format(table, column, column).encode())
    assert refused.value.sqlstate == "BK405"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("INSERT INTO bank.entry VALUES (6, 99999, 5, 5, 'EUR')", "made by transfers"),
        ("UPDATE bank.account SET balance = balance + 1 WHERE id = 6", "never set"),
        ("UPDATE bank.account SET held = 1 WHERE id = 6", "never set"),
        ("INSERT INTO bank.account (customer_id, currency, balance) VALUES (1, 'EUR', 5)", "nothing in it"),
        ("DELETE FROM bank.account WHERE id = 6", "never changed or removed"),
        ("UPDATE bank.account SET overdraft_limit = -1 WHERE id = 6", "overdraft_limit_check"),
        (
            "INSERT INTO bank.hold (account_id, amount, expires_at, reason) VALUES (6, 1000001, 'infinity', 'x')",
            "available",
        ),
        ("UPDATE bank.customer SET kyc_state = 'registered' WHERE id = 1", "cannot go from verified to registered"),
        ("INSERT INTO bank.customer (login, name, kyc_state) VALUES ('a@b', 'A', 'verified')", "is registered, not"),
        ("INSERT INTO bank.customer (login, name) VALUES ('CUSTOMER@b', 'A')", "customer_login_check"),
    ],
)
def test_invariants_hold_against_the_owner(owner: psycopg.Connection, statement: str, why: str) -> None:
    with pytest.raises(psycopg.Error, match=why):
        owner.execute(statement.encode())


TRANSFER = (
    "INSERT INTO bank.transfer (debit_account, credit_account, amount, customer_id, idempotency_key, request_hash, "
    "kind, outcome, currency) VALUES (%(debit)s, %(credit)s, %(amount)s, 1, uuid_send(gen_random_uuid()), "
    "uuid_send(gen_random_uuid()), 'payment', 'settled', %(currency)s)"
)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"amount": 1_000_001}, "available_not_negative"),
        ({"amount": 0}, "transfer_amount_check"),
        ({"amount": -5}, "transfer_amount_check"),
        ({"credit": 6}, "two_accounts"),
        ({"credit": 999}, "two and sum to zero"),
        ({"currency": "USD"}, "another currency"),
    ],
)
def test_a_wrong_transfer_made_by_hand_is_refused_whole(
    owner: psycopg.Connection, change: dict[str, object], why: str
) -> None:
    right = {"debit": 6, "credit": 7, "amount": 5, "currency": "EUR"}
    before = owner.execute("SELECT id, balance FROM bank.account ORDER BY id").fetchall()
    with pytest.raises(psycopg.Error, match=why):
        owner.execute(TRANSFER, {**right, **change})
    assert owner.execute("SELECT id, balance FROM bank.account ORDER BY id").fetchall() == before


def test_a_right_transfer_makes_its_entries_and_moves_both_balances(world: World) -> None:
    with world.connect(world.database(), "owner") as owner:
        owner.execute(TRANSFER, {"debit": 6, "credit": 7, "amount": 5, "currency": "EUR"})
        balances = owner.execute("SELECT balance FROM bank.account WHERE id IN (6, 7) ORDER BY id").fetchall()
    assert balances == [(999_995,), (1_000_005,)]


def test_the_owner_can_break_the_books_only_by_disabling_a_trigger_and_then_the_check_says_so(
    world: World,
) -> None:
    database = world.database()
    assert world.run(database, "check-books").returncode == 0
    with world.connect(database, "owner") as owner:
        owner.execute("ALTER TABLE bank.account DISABLE TRIGGER balance_follows")
        owner.execute("UPDATE bank.account SET balance = balance + 1 WHERE id = 6")
    broken = world.run(database, "check-books", "--json")
    assert broken.returncode == 2
    assert '"balanced": false' in broken.stdout
    plain = world.run(database, "check-books")
    assert "BROKEN" in plain.stdout
    assert "every balance is the sum of its entries  6: 1" in plain.stdout
