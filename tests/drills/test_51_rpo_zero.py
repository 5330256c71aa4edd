"""RPO 0: payments are made, the primary is killed with -9 and its data removed; the repository alone brings all back.

Everything that a customer was told is in the restored books, and what a customer was not told is resolved by asking
again with the same key. The ledger of what was told is the payers' own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcops" / "backup"))  # its repository
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its bank with many customers, all signed in

import backup_world
from backup_world import FULL, World

import payments
from nvclab.parts import bank
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.backup.spool import STANDBY_NAME
from payments import Bench

SEED = int(os.environ.get("NVC_DRILL_SEED", random.SystemRandom().randrange(1 << 30)))
CONNECTIONS = 96
CUSTOMERS = 120
AFTERWARDS_S = 1.5
PAYING_S = 240.0
Order = tuple[str, str]  # token, body


@dataclass
class Told:
    """What customers were told: by key the payment's id and status; and what they asked and were not told."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    unknown: dict[str, Order] = field(default_factory=dict)
    enough: int = 0
    stopping: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, key: str, number: int, status: str) -> None:
        """Note what a customer was told."""
        self.answers[key] = (number, status)
        if len(self.answers) >= self.enough:
            self.reached.set()


class Payer(asyncio.Protocol):
    """Pays again and again over one connection, until it is told to stop or is told nothing."""

    def __init__(self, number: int, payers: list[list[Any]], told: Told) -> None:
        self._random = random.Random(f"{SEED}-{number}")
        self._number, self._payers, self._told = number, payers, told
        self._count, self._buffer, self._key = 0, b"", ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._pay()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]):
            return
        self._buffer = b""
        if head.startswith(b"HTTP/1.1 201"):
            answer = json.loads(body)
            self._told.tell(self._key, answer["id"], answer["status"])
            del self._told.unknown[self._key]
        if self._told.stopping or not head.startswith(b"HTTP/1.1 201"):
            self._transport.close()
        else:
            self._pay()

    def _pay(self) -> None:
        self._count += 1
        self._key = f"rpo-{self._number}-{self._count}"
        (account, token), (payee, _) = self._random.sample(self._payers, 2)
        amount = self._random.randint(1, 2000)
        body = json.dumps({"from_account": account, "to_account": payee, "amount": amount, "currency": "EUR"})
        self._told.unknown[self._key] = (token, body)
        head = f"POST /v1/payments HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {token}\r\n"
        head += f"Idempotency-Key: {self._key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write((head + body).encode())


async def pay_until_the_primary_is_gone(bench: Bench, told: Told) -> None:
    """Pay; when so many payments were acknowledged, the primary and its data are lost in the middle of it."""
    loop = asyncio.get_running_loop()
    payers = [Payer(number, bench.payers, told) for number in range(CONNECTIONS)]
    for payer in payers:
        await loop.create_connection(partial(_same, payer), "127.0.0.1", bench.instance.port)
    await asyncio.wait_for(told.reached.wait(), PAYING_S)
    await asyncio.to_thread(lose, bench.server)
    await asyncio.sleep(AFTERWARDS_S)
    told.stopping = True
    await asyncio.wait_for(asyncio.gather(*(payer.done for payer in payers)), 30)


def _same(payer: Payer) -> Payer:
    return payer


def lose(server: Postgres) -> None:
    """Kill the primary with -9, and remove all of its data."""
    server.process.kill()
    server.forget_shared_memory()
    end = time.monotonic() + 20
    while server.data.exists() and time.monotonic() < end:
        shutil.rmtree(server.data, ignore_errors=True)  # its last children may be writing still
    assert not server.data.exists()


def missing(copy: Postgres, told: Told) -> int:
    """How many of the payments that somebody was told of are not in the books as they were told."""
    with copy.connect("bank") as connection:
        rows = connection.execute("SELECT id, outcome::text FROM bank.transfer WHERE kind = 'payment'").fetchall()
    outcomes = dict(rows)
    return sum(
        not outcomes.get(number, "").startswith(status)  # declined_limit is told as declined
        for number, status in told.answers.values()
    )


def resolve(bench: Bench, copy: Postgres, told: Told, folder: Path) -> None:
    """Ask again with the same keys, at a bank on the restored books; afterwards every payment in them was told of."""
    old, new = f":{bench.server.port}/", f":{copy.port}/"
    environment = {name: value.replace(old, new) for name, value in bench.instance.env.items()}
    instance = bank.Instance("restored", free_ports(1)[0], folder / "restored.out", environment)
    instance.launch()
    try:
        instance.process.wait_until(instance.ready, 30)
        with httpx.Client(base_url=f"http://127.0.0.1:{instance.port}", timeout=20, trust_env=False) as client:
            for key, (token, body) in told.unknown.items():
                who = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
                answer = client.post("/v1/payments", headers={**who, "Content-Type": "application/json"}, content=body)
                assert answer.status_code == 201, answer.text
                told.tell(key, answer.json()["id"], answer.json()["status"])
        assert json.loads(bank.run("check-books", "--json", env=environment))["balanced"]
    finally:
        instance.stop()
    with copy.connect("bank") as connection:
        rows = connection.execute("SELECT id FROM bank.transfer WHERE kind = 'payment'").fetchall()
    numbers = [number for number, _ in told.answers.values()]
    assert len(set(numbers)) == len(numbers), "two keys got the same payment"
    assert {number for (number,) in rows} == set(numbers), "each was made once, and somebody was told of it"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(payments, "CUSTOMERS", CUSTOMERS)
    with payments.start() as started:
        yield started


def drill(bench: Bench, folder: Path, count: int) -> None:
    print(f"NVC_DRILL_SEED={SEED}")
    world: World = backup_world.prepared(bench.server, folder, encrypted=True, database="bank")
    told = Told(enough=count)
    with world.receiving():
        bench.server.reload(synchronous_standby_names=STANDBY_NAME)
        world.wait(lambda: world.backups.receiver().synchronous)
        world.backups.back_up(FULL, full=True)
        uvloop.run(pay_until_the_primary_is_gone(bench, told))
    bench.instance.process.kill()
    acknowledged, unknown = len(told.answers), len(told.unknown)
    began = time.monotonic()
    with world.restored() as copy:
        seconds = time.monotonic() - began
        lost = missing(copy, told)
        print(f"{acknowledged:,} acknowledged, {lost} missing, {unknown} unknown; restored in {seconds:.1f} s")
        assert acknowledged >= count
        assert lost == 0
        assert unknown > 0, "the primary was lost while nobody paid: the drill proves nothing"
        resolve(bench, copy, told, folder)
        assert missing(copy, told) == 0


@pytest.mark.drill
@pytest.mark.sample
def test_five_thousand_payments_outlive_their_primary(bench: Bench, tmp_path: Path) -> None:
    drill(bench, tmp_path, 5_000)


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_hundred_thousand_payments_outlive_their_primary(bench: Bench, tmp_path: Path) -> None:
    drill(bench, tmp_path, 100_000)
