"""Customers keep paying while PostgreSQL and a bank instance are killed with -9, again and again.

Afterwards: the books balance, no acknowledged payment is missing, no key was answered two ways, and no payment was made
twice.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcbank"))  # its world of real parts

import bank_world
from bank_world import CUSTOMERS, Bank, World

PAYERS = 8
GIVE_UP_S = 60.0
Answer = tuple[int, str, str | None]  # id, status, reason


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bank_world.world(tmp_path, durable=True) as started:
        yield started


@dataclass
class Crowd:
    """Payers that repeat a payment with its key, at any instance, until somebody answers it - and then once more."""

    banks: list[Bank]
    who: dict[int, dict[str, str]]
    accounts: dict[int, int]
    answers: dict[str, set[Answer]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    unanswered: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def pay_until_stopped(self, payer: int) -> None:
        chance = random.Random(payer)
        with httpx.Client(timeout=5, trust_env=False) as client:
            for count in range(1_000_000):
                if self.stop.is_set():
                    return
                order = {
                    "from_account": self.accounts[payer],
                    "to_account": self.accounts[chance.choice([other for other in self.accounts if other != payer])],
                    "amount": chance.choice([1, 250, 90_000, 2_000_000]),
                    "currency": "EUR",
                }
                key = f"{payer}-{count}"
                self._insist(client, payer, key, order, chance)
                if chance.random() < 0.3:
                    self._insist(client, payer, key, order, chance)

    def _insist(
        self, client: httpx.Client, payer: int, key: str, order: dict[str, object], chance: random.Random
    ) -> None:
        end = time.monotonic() + GIVE_UP_S
        while time.monotonic() < end:
            bank = chance.choice(self.banks)
            try:
                answer = client.post(
                    f"http://127.0.0.1:{bank.port}/v1/payments",
                    headers={**self.who[payer], "Idempotency-Key": f"{key}"},
                    json=order,
                )
            except httpx.TransportError:
                self.unanswered += 1
                time.sleep(0.02)
                continue
            if answer.status_code == 201:
                body = answer.json()
                self.answers.setdefault(f"{payer}/{key}", set()).add((body["id"], body["status"], body["reason"]))
                return
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                self.troubles.append(f"{answer.status_code} {answer.text}")
                return
            self.unanswered += 1
            time.sleep(0.05)
        self.troubles.append(f"{key} was not answered for {GIVE_UP_S} s")


def kill_and_restart(world: World, bank: Bank, chance: random.Random) -> None:
    """First one, then the other, with -9, at any moment of their work."""
    time.sleep(chance.uniform(0.5, 1.5))
    world.server.process.send(signal.SIGKILL)
    world.server.process.kill()
    time.sleep(chance.uniform(0.0, 0.5))
    world.server.start()
    time.sleep(chance.uniform(0.5, 1.5))
    bank.process.kill()
    time.sleep(chance.uniform(0.0, 0.5))
    bank.start()


def drill(world: World, rounds: int) -> None:
    database = world.database()
    with world.bank(database, "bank-a") as first, world.bank(database, "bank-b") as second:
        who = {number: first.sign_in(number) for number in range(1, PAYERS + 1)}
        crowd = Crowd([first, second], who, {number: first.account(who[number]) for number in who})
        threads = [threading.Thread(target=crowd.pay_until_stopped, args=(number,)) for number in who]
        for thread in threads:
            thread.start()
        chance = random.Random(rounds)
        for _ in range(rounds):
            kill_and_restart(world, second, chance)
        time.sleep(1.0)
        crowd.stop.set()
        for thread in threads:
            thread.join(timeout=GIVE_UP_S + 10)
    assert crowd.troubles == [], [line for bank in crowd.banks for line in bank.lines() if '"bug"' in line]
    assert crowd.unanswered > 0, "nothing was interrupted: the drill proves nothing"
    assert_nothing_lost(world, database, crowd)


def assert_nothing_lost(world: World, database: str, crowd: Crowd) -> None:
    two_ways = {key: answers for key, answers in crowd.answers.items() if len(answers) != 1}
    assert two_ways == {}
    answered = {number: (status, reason) for answers in crowd.answers.values() for number, status, reason in answers}
    assert len(answered) == len(crowd.answers), "two keys got the same payment"
    with world.connect(database, "auditor") as auditor:
        rows = auditor.execute("SELECT id, outcome::text FROM bank.transfer WHERE kind = 'payment'").fetchall()
        doubled = auditor.execute(
            "SELECT count(*) - count(DISTINCT idempotency_key) FROM bank.transfer WHERE kind = 'payment'"
        ).fetchone()
    outcomes = dict(rows)
    wrong = {
        number: outcomes.get(number)
        for number, (status, reason) in answered.items()
        if outcomes.get(number) != (status if reason is None else f"{status}_{reason}")
    }
    assert wrong == {}
    assert doubled == (0,)
    assert set(outcomes) == set(answered), "every payment was in the end answered, and each was made once"
    settled = sum(status == "settled" for status, _ in answered.values())
    assert settled > 20
    assert len(answered) - settled > 0, "no payment was declined: the mix is wrong"
    assert CUSTOMERS >= PAYERS
    assert world.run(database, "check-books").returncode == 0


@pytest.mark.drill
@pytest.mark.sample
def test_one_kill_of_each_loses_nothing(world: World) -> None:
    drill(world, rounds=1)


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_many_kills_of_each_lose_nothing(world: World) -> None:
    drill(world, rounds=12)
