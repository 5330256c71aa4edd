"""A part is gone or frozen: 503 with Retry-After within the deadline, and recovery by itself; drain loses nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bank_world
import httpx
import psutil
import pytest
from bank_world import Bank, World, wait_for

DEADLINE_S = 2.0
NOISE_S = 1.5  # the deadline is the bank's; the machine may be busy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Parts of one's own: here they are stopped and frozen."""
    with bank_world.world(tmp_path_factory.mktemp("outages"), durable=True) as started:
        yield started


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and its children without ending them; they go on afterwards."""
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            if process.is_running():
                process.resume()


def assert_refused_in_time(ask: httpx.Response) -> None:
    assert ask.status_code == 503, ask.text
    assert int(ask.headers["retry-after"]) >= 1
    assert ask.elapsed.total_seconds() < DEADLINE_S + NOISE_S


def not_ready(bank: Bank, part: str) -> bool:
    answer = bank.client.get("/readyz")
    return answer.status_code == 503 and not answer.json()["parts"][part]["ok"]


def ready(bank: Bank) -> bool:
    return bank.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_database_the_bank_says_so_in_time_and_recovers(bank: Bank, how: str) -> None:
    payer = bank.sign_in(1)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    order = {"from_account": mine, "to_account": theirs, "amount": 5}
    assert bank.pay(payer, "before", **order).status_code == 201
    server = bank.world.server

    def while_it_is_gone() -> None:
        assert_refused_in_time(bank.pay(payer, "during", **order))
        assert_refused_in_time(bank.client.get(f"/v1/accounts/{mine}", headers=payer))
        wait_for(lambda: not_ready(bank, "database"))
        assert bank.client.get("/readyz").json()["parts"]["cache"]["ok"]
        assert bank.client.get("/healthz").status_code == 200
        assert bank.client.get("/version").status_code == 200
        assert bank.client.get("/metrics").status_code == 200

    if how == "killed":
        server.process.kill()
        while_it_is_gone()
        server.start()
    else:
        assert server.process.pid is not None
        with frozen(server.process.pid):
            while_it_is_gone()
    wait_for(lambda: ready(bank))
    wait_for(lambda: bank.pay(payer, "during", **order).status_code == 201)
    assert bank.pay(payer, "before", **order).headers["idempotent-replayed"] == "true"
    assert bank.client.get(f"/v1/accounts/{mine}", headers=payer).json()["balance"] == 1_000_000 - 10
    events = "\n".join(bank.lines())
    assert '"event":"part.down"' in events
    assert '"event":"bug"' not in events


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_cache_the_bank_says_so_in_time_and_recovers(bank: Bank, how: str) -> None:
    payer = bank.sign_in(1)
    mine = bank.account(payer)
    cache = bank.world.cache

    def while_it_is_gone() -> None:
        wait_for(lambda: not_ready(bank, "cache"))
        assert bank.client.get("/readyz").json()["parts"]["database"]["ok"]
        login = {"login": "customer-000002@nvcbank.example", "password": bank_world.PASSWORD}
        assert_refused_in_time(bank.client.post("/v1/sessions", json=login))
        other = {"Authorization": "Bearer " + "x" * 43}
        assert_refused_in_time(bank.client.get(f"/v1/accounts/{mine}", headers=other))

    if how == "killed":
        cache.process.kill()
        while_it_is_gone()
        cache.start()
    else:
        assert cache.process.pid is not None
        with frozen(cache.process.pid):
            while_it_is_gone()
    wait_for(lambda: ready(bank))
    assert bank.client.get("/v1/accounts", headers=bank.sign_in(1)).status_code == 200
    assert '"event":"bug"' not in "\n".join(bank.lines())


def test_a_bank_that_starts_before_its_parts_becomes_ready_when_they_do(world: World, database: str) -> None:
    world.server.process.kill()
    early = Bank(world, database, "early", {})
    try:
        early._instance.launch()
        wait_for(lambda: early.process.exit_code is None and _answers(early))
        assert not_ready(early, "database")
        world.server.start()
        wait_for(lambda: ready(early))
    finally:
        early.client.close()
        early.process.kill()
        if not world.server.ready():
            world.server.start()


def _answers(bank: Bank) -> bool:
    try:
        return bank.client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_locked_account_delays_its_own_group_and_is_refused_in_time(bank: Bank) -> None:
    payer, other = bank.sign_in(1), bank.sign_in(3)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    with bank.world.connect(bank.database, "owner") as owner, owner.transaction():
        owner.execute("SELECT FROM bank.account WHERE id = %s FOR UPDATE", [mine])
        assert_refused_in_time(bank.pay(payer, "k1", from_account=mine, to_account=theirs))
        paid = bank.pay(other, "k1", from_account=bank.account(other), to_account=theirs)
        assert paid.json()["status"] == "settled"
    wait_for(lambda: bank.pay(payer, "k1", from_account=mine, to_account=theirs).status_code == 201)


def test_a_stop_lets_go_of_clients_finishes_what_is_in_flight_and_ends_with_0(bank: Bank) -> None:
    accounts = {number: bank.account(bank.sign_in(number)) for number in range(1, 9)}
    who = {number: bank.sign_in(number) for number in accounts}
    acknowledged: list[int] = []
    broken: list[str] = []
    stopping = threading.Event()

    def keep_paying(number: int) -> None:
        with httpx.Client(base_url=bank.client.base_url, timeout=10, trust_env=False) as client:
            for count in range(10_000):
                headers = {**who[number], "Idempotency-Key": f"k{count}"}
                order = {"from_account": accounts[number], "to_account": accounts[number % 8 + 1]}
                try:
                    answer = client.post(
                        "/v1/payments", headers=headers, json={**order, "amount": 1, "currency": "EUR"}
                    )
                except httpx.TransportError as error:
                    if not stopping.is_set():  # afterwards nobody listens: a client repeats it elsewhere
                        broken.append(repr(error))
                    return
                if answer.status_code == 201:
                    acknowledged.append(answer.json()["id"])
                elif not stopping.is_set():
                    broken.append(answer.text)

    payers = [threading.Thread(target=keep_paying, args=(number,)) for number in accounts]
    for payer in payers:
        payer.start()
    time.sleep(1.0)
    stopping.set()
    bank.process.send(signal.SIGTERM)
    wait_for(lambda: bank.process.exit_code is not None)
    for payer in payers:
        payer.join(timeout=20)
    assert bank.process.exit_code == 0
    assert broken == []
    assert len(acknowledged) > 50
    with bank.world.connect(bank.database, "auditor") as auditor:
        row = auditor.execute(
            "SELECT count(*) FROM bank.transfer WHERE id = ANY (%s) AND outcome = 'settled'", [acknowledged]
        ).fetchone()
    assert row == (len(set(acknowledged)),)
    assert bank.world.run(bank.database, "check-books").returncode == 0
    assert '"event":"server.stopped"' in bank.lines()[-1]


def test_while_it_drains_it_is_not_ready(world: World, database: str) -> None:
    with world.bank(database, "leaving", NVCBANK_DRAIN_S="3") as leaving:
        leaving.process.send(signal.SIGTERM)
        wait_for(lambda: leaving.client.get("/readyz").json()["status"] == "draining")
        assert leaving.client.get("/readyz").status_code == 503
        assert leaving.client.get("/healthz").status_code == 200
        wait_for(lambda: leaving.process.exit_code == 0)


def test_a_full_disk_under_the_log_does_not_stop_payments(world: World, database: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with world.bank(database, "mute") as mute:
        mute.log.unlink()
        mute.log.symlink_to("/dev/full")
        mute.process.send(signal.SIGHUP)
        payer = mute.sign_in(1)
        order = {"from_account": mute.account(payer), "to_account": mute.account(mute.sign_in(2))}
        assert mute.pay(payer, "k", **order).json()["status"] == "settled"
        wait_for(lambda: mute.metric("nvcbank_log_dropped_lines") > 0)
