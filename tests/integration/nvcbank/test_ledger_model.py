"""A model of the ledger walks beside the real one: groups of payments, holds, reversals, replays, and time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import hypothesis.strategies as st
import psycopg
import pytest
from bank_world import World
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

PAYMENT_LIMIT, DAILY_LIMIT, OVERDRAFT = 500_000, 1_500_000, 50_000
ACCOUNTS = 4
_POST = """
    SELECT transfer_id, verdict, answer FROM bank.post_payments(
        %s::bigint[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])
"""


@dataclass
class Account:
    balance: int = 1_000_000
    spent: int = 0
    blocked: bool = False
    holds: dict[int, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.balance - sum(self.holds.values()) + OVERDRAFT


Order = tuple[int, int, int, str]  # payer, payee, amount, currency
ORDERS = st.tuples(
    st.integers(0, ACCOUNTS - 1),
    st.integers(0, ACCOUNTS),  # one account that nobody has
    st.integers(1, 600_000),
    st.sampled_from(["EUR"] * 9 + ["USD"]),
).filter(lambda order: order[0] != order[1])


class Ledger(RuleBasedStateMachine):
    """The database is the one of the test; each example starts with what the one before left, read back once."""

    database: psycopg.Connection
    owner: psycopg.Connection
    keys = 0

    def __init__(self) -> None:
        super().__init__()
        rows = self.owner.execute(
            "SELECT a.id, a.customer_id FROM bank.account a WHERE a.kind = 'current' ORDER BY a.id LIMIT %s", [ACCOUNTS]
        ).fetchall()
        self.ids = [row[0] for row in rows] + [10**9]
        self.customers = [row[1] for row in rows]
        self._start_afresh()
        self.accounts = [Account() for _ in rows]
        self.posted: dict[bytes, tuple[Order, int, str]] = {}
        self.settled: list[int] = []
        self.reversed: set[int] = set()
        self.orders_by_id: dict[int, Order] = {}

    def _start_afresh(self) -> None:
        """Bring the accounts to where every example begins. Only a superuser may step around the triggers."""
        with self.owner.transaction():
            self.owner.execute("SET LOCAL session_replication_role = replica")
            for table in ("entry", "hold_end", "hold", "transfer", "staff_action"):
                self.owner.execute(f"TRUNCATE bank.{table} CASCADE".encode())
            self.owner.execute(
                "UPDATE bank.account SET balance = 0, held = 0, spent = 0, blocked = false, "
                "holds_expire_at = 'infinity', overdraft_limit = %s, payment_limit = %s, daily_limit = %s",
                [OVERDRAFT, PAYMENT_LIMIT, DAILY_LIMIT],
            )
        for account in self.ids[:ACCOUNTS]:
            Ledger.keys += 1
            key = self._digest(f"fund {Ledger.keys}")
            self.owner.execute(
                "SELECT bank.post_transfers('funding', ARRAY[NULL::bigint], ARRAY[%(k)s::bytea], ARRAY[%(k)s::bytea], "
                "ARRAY[(SELECT id FROM bank.account WHERE kind = 'house' AND currency = 'EUR')], ARRAY[%(a)s::bigint], "
                "ARRAY[1000000::bigint], ARRAY['EUR'], ARRAY[''])",
                {"k": key, "a": account},
            )

    @staticmethod
    def _digest(text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    @rule(orders=st.lists(ORDERS, min_size=1, max_size=6))
    def pay_as_a_group(self, orders: list[Order]) -> None:
        keys = []
        for _ in orders:
            Ledger.keys += 1
            keys.append(self._digest(f"pay {Ledger.keys}"))
        answers = self._post(keys, orders)
        for key, order, (number, verdict, answer) in zip(keys, orders, answers, strict=True):
            assert (verdict, answer) == (self._expected(order), "new"), order
            self.posted[key] = (order, number, verdict)
            if verdict == "settled":
                self._move(order)
                self.settled.append(number)
                self.orders_by_id[number] = order

    @rule(data=st.data(), other=st.booleans(), fresh=ORDERS)
    def repeat_in_a_group_with_a_new_one(self, data: st.DataObject, *, other: bool, fresh: Order) -> None:
        if not self.posted:
            return
        key = data.draw(st.sampled_from(sorted(self.posted)))
        order, number, verdict = self.posted[key]
        asked = (order[0], order[1], order[2] + 1, order[3]) if other else order
        Ledger.keys += 1
        new = self._digest(f"pay {Ledger.keys}")
        first, second = self._post([key, new], [asked, fresh])
        assert first == (number, verdict, "conflict" if other else "replay")
        assert second[1:] == (self._expected(fresh), "new")
        self.posted[new] = (fresh, second[0], second[1])
        if second[1] == "settled":
            self._move(fresh)
            self.settled.append(second[0])
            self.orders_by_id[second[0]] = fresh

    @rule(place=st.integers(0, ACCOUNTS - 1), amount=st.integers(1, 1_200_000))
    def hold(self, place: int, amount: int) -> None:
        account = self.accounts[place]
        try:
            row = self.database.execute(
                "SELECT bank.place_hold(1, %s, %s, now() + interval '1 hour', 'model')", [self.ids[place], amount]
            ).fetchone()
        except psycopg.Error as error:
            assert error.sqlstate == "BK409"  # noqa: PT017 - both ways are expected, by the model
            assert amount > account.available
        else:
            assert row is not None
            assert amount <= account.available
            account.holds[row[0]] = amount

    @rule(place=st.integers(0, ACCOUNTS - 1), data=st.data())
    def release(self, place: int, data: st.DataObject) -> None:
        holds = self.accounts[place].holds
        if holds:
            hold = data.draw(st.sampled_from(sorted(holds)))
            self.database.execute("SELECT bank.release_hold(1, %s, 'model')", [hold])
            del holds[hold]

    @rule(place=st.integers(0, ACCOUNTS - 1))
    def let_holds_expire(self, place: int) -> None:
        """An hour passes for one account: its holds are over, and nobody has swept yet."""
        with self.owner.transaction():
            self.owner.execute("SET LOCAL session_replication_role = replica")
            self.owner.execute("UPDATE bank.hold SET expires_at = now() WHERE account_id = %s", [self.ids[place]])
            self.owner.execute(
                "UPDATE bank.account SET holds_expire_at = now() WHERE id = %s AND held > 0", [self.ids[place]]
            )
        self.accounts[place].holds.clear()
        self.database.execute("SELECT bank.expire_due_holds(0)")  # sweeps nothing: posting must see it by itself

    @rule(place=st.integers(0, ACCOUNTS - 1), blocked=st.booleans())
    def block(self, place: int, *, blocked: bool) -> None:
        self.database.execute("SELECT bank.block_account(1, %s, %s, 'model')", [self.ids[place], blocked])
        self.accounts[place].blocked = blocked

    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        if not self.settled:
            return
        number = data.draw(st.sampled_from(self.settled))
        payer, payee, amount, _ = self.orders_by_id[number]
        try:
            row = self.database.execute(
                "SELECT verdict FROM bank.reverse_transfer(2, %s, 'model')", [number]
            ).fetchone()
        except psycopg.Error as error:
            assert error.sqlstate == "BK409"  # noqa: PT017 - as above
            assert number in self.reversed
            return
        assert row is not None
        covered = amount <= self.accounts[payee].available
        assert row[0] == ("settled" if covered else "declined_insufficient_funds")
        if covered:
            assert number not in self.reversed
            self.reversed.add(number)
            self.accounts[payee].balance -= amount
            self.accounts[payee].spent += amount
            self.accounts[payer].balance += amount

    @invariant()
    def balances_and_what_is_available_agree(self) -> None:
        rows = self.owner.execute(
            "SELECT balance, (SELECT coalesce(sum(e.amount), 0) FROM bank.entry e WHERE e.account_id = a.id) "
            "FROM bank.account a WHERE a.id = ANY (%s) ORDER BY a.id",
            [self.ids],
        ).fetchall()
        assert [tuple(map(int, row)) for row in rows] == [(account.balance,) * 2 for account in self.accounts]

    def _expected(self, order: Order) -> str:
        payer, payee, amount, currency = order
        if payee == ACCOUNTS:
            return "declined_unknown_account"
        debit, credit = self.accounts[payer], self.accounts[payee]
        if debit.blocked or credit.blocked:
            return "declined_blocked"
        if currency != "EUR":
            return "declined_currency"
        if amount > PAYMENT_LIMIT or debit.spent + amount > DAILY_LIMIT:
            return "declined_limit"
        return "settled" if amount <= debit.available else "declined_insufficient_funds"

    def _move(self, order: Order) -> None:
        payer, payee, amount, _ = order
        self.accounts[payer].balance -= amount
        self.accounts[payer].spent += amount
        self.accounts[payee].balance += amount

    def _post(self, keys: list[bytes], orders: list[Order]) -> list[tuple[int, str, str]]:
        rows = self.database.execute(
            _POST,
            [
                [self.customers[order[0]] for order in orders],
                keys,
                [self._digest(repr(order)) for order in orders],
                [self.ids[order[0]] for order in orders],
                [self.ids[order[1]] for order in orders],
                [order[2] for order in orders],
                [order[3] for order in orders],
                ["model"] * len(orders),
            ],
        ).fetchall()
        return [tuple(row) for row in rows]


@pytest.fixture
def machine(world: World, database: str) -> Iterator[type[Ledger]]:
    with world.connect(database, "service") as service, world.connect(database) as administrator:
        yield type("LedgerHere", (Ledger,), {"database": service, "owner": administrator})


def test_the_ledger_does_what_the_model_does(world: World, database: str, machine: type[Ledger]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert world.run(database, "check-books").returncode == 0
