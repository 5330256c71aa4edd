"""Another server becomes primary, or a commit does not end: the bank goes on, and acknowledges what is certain."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bank_world
import httpx
import pytest
from bank_world import Bank, World, wait_for

from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports

SLOT = "second"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Parts of one's own: a primary is lost here."""
    with bank_world.world(tmp_path) as started:
        yield started


@pytest.fixture
def standby(world: World, tmp_path: Path) -> Iterator[Postgres]:
    """A second server that streams from the first."""
    first = world.server
    with first.connect() as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    tmp_path.chmod(0o755)
    source = first.conninfo(application_name=SLOT).replace("dbname=postgres", "connect_timeout=1")
    second = Postgres(
        name="second",
        data=first.data.parent / "second",  # where the database's account may go
        logs=first.data.parent / "second-logs",
        sockets=first.sockets,
        port=free_ports(1)[0],
        password=first.password,
        settings={**first.settings, "primary_conninfo": source, "primary_slot_name": SLOT},
    )
    second.clone(first, "postgres", first.password, SLOT)
    try:
        second.start()
        yield second
    finally:
        second.stop()


def url_of_both(world: World, database: str, second: Postgres) -> str:
    user, _, rest = world.url(database, "service").rpartition("@")
    host, _, name = rest.partition("/")
    return f"{user}@{host},127.0.0.1:{second.port}/{name}?target_session_attrs=read-write"


@contextmanager
def gone(server: Postgres, how: str) -> Iterator[None]:
    """The server is killed, or computes nothing any more, with all its sessions."""
    if how == "killed":
        server.power_off()
        yield
        return
    server.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal_all(signal.SIGCONT)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_the_bank_goes_on_with_the_server_that_is_promoted(world: World, standby: Postgres, how: str) -> None:
    database = world.database()
    both = url_of_both(world, database, standby)
    with world.bank(database, NVCBANK_DATABASE_URL=both) as bank:
        payer = bank.sign_in(1)
        mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
        order = {"from_account": mine, "to_account": theirs}
        number = bank.pay(payer, "before", **order).json()["id"]
        with standby.connect() as connection:
            wait_for(lambda: _knows(standby, database, number))
            with gone(world.server, how):
                assert bank.pay(payer, "during", **order).status_code == 503
                connection.execute("SELECT pg_promote()")
                promoted = time.monotonic()
                wait_for(lambda: bank.pay(payer, "during", **order).status_code == 201)
                assert time.monotonic() - promoted < 10
                wait_for(lambda: bank.client.get("/readyz").status_code == 200)
                again = bank.pay(payer, "before", **order)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["id"] == number
        assert '"event":"bug"' not in "\n".join(bank.lines())


def _knows(server: Postgres, database: str, number: int) -> bool:
    with server.connect(database) as connection:
        return connection.execute("SELECT FROM bank.transfer WHERE id = %s", [number]).fetchone() is not None


@contextmanager
def nobody_confirms(world: World) -> Iterator[None]:
    """Commits wait for a standby that does not exist."""
    world.server.reload(synchronous_standby_names="nobody")
    try:
        wait_for(lambda: _setting(world) == "nobody")
        yield
    finally:
        world.server.reload()


def _setting(world: World) -> str:
    with world.server.connect() as connection:
        row = connection.execute("SHOW synchronous_standby_names").fetchone()
        assert row is not None
        return str(row[0])


def is_unknown(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and "outcome-unknown" in answer.json()["type"] and "retry-after" in answer.headers


def waiting_backends(world: World) -> list[int]:
    with world.server.connect() as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall()
    return [int(row[0]) for row in rows]


def payment(bank: Bank) -> tuple[dict[str, str], dict[str, int]]:
    payer = bank.sign_in(1)
    return payer, {"from_account": bank.account(payer), "to_account": bank.account(bank.sign_in(2))}


def test_what_no_standby_confirmed_is_unknown_and_is_not_made_certain_by_impatience(world: World) -> None:
    database = world.database()
    with world.bank(database) as bank:
        payer, order = payment(bank)
        with nobody_confirms(world):
            assert is_unknown(bank.pay(payer, "k", **order))
            assert len(waiting_backends(world)) == 1, "the commit goes on waiting: nobody cancelled it"
            assert bank.pay(payer, "k", **order).status_code == 503
        wait_for(lambda: bank.pay(payer, "k", **order).status_code == 201)
        assert bank.pay(payer, "k", **order).headers["idempotent-replayed"] == "true"


def test_a_commit_whose_wait_is_cancelled_is_unknown_until_a_later_one_is_confirmed(world: World) -> None:
    database = world.database()
    with world.bank(database) as bank:
        payer, order = payment(bank)
        answers: list[httpx.Response] = []
        with nobody_confirms(world):
            paying = threading.Thread(target=lambda: answers.append(bank.pay(payer, "k", **order)))
            paying.start()
            wait_for(lambda: waiting_backends(world))
            with world.server.connect() as connection:
                connection.execute("SELECT pg_cancel_backend(%s)", waiting_backends(world))
            paying.join()
            assert is_unknown(answers[0]), answers[0].text
            with world.connect(database) as connection:
                row = connection.execute("SELECT count(*) FROM bank.transfer WHERE kind = 'payment'").fetchone()
            assert row == (1,), "it is done here, and nowhere else"
            assert bank.pay(payer, "k", **order).status_code == 503, "found again, and still not certain"
        wait_for(lambda: bank.pay(payer, "k", **order).status_code == 201)
