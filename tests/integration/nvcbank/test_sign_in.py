"""Sign-in: lock-out, equal work for unknown names, revocation, shedding."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from bank_world import PASSWORD, Bank, World

from nvcbank.sessions import TRUSTED_S

KNOWN, UNKNOWN = "customer-000001@nvcbank.example", "nobody@nvcbank.example"


def attempt(bank: Bank, login: str, password: str | None = None) -> httpx.Response:
    return bank.client.post("/v1/sessions", json={"login": login, "password": password or "wrong"})


@pytest.mark.parametrize("login", [KNOWN, UNKNOWN])
def test_ten_wrong_passwords_lock_a_login_whether_or_not_it_exists(bank: Bank, login: str) -> None:
    answers = [attempt(bank, login) for _ in range(10)]
    assert [answer.status_code for answer in answers] == [401] * 10
    assert len({answer.json()["detail"] for answer in answers}) == 1
    locked = attempt(bank, login, PASSWORD)
    assert locked.status_code == 429
    assert 0 < int(locked.headers["retry-after"]) <= 900
    assert attempt(bank, login.upper(), PASSWORD).status_code == 429
    assert attempt(bank, "customer-000002@nvcbank.example", PASSWORD).status_code == 201
    assert bank.metric('nvcbank_sessions_total{outcome="wrong_password"}') == 10
    assert bank.metric('nvcbank_sessions_total{outcome="locked"}') == 2
    events = [json.loads(line)["event"] for line in bank.lines()]
    assert events.count("session.failed") == 10
    assert events.count("session.locked") == 1


def test_a_right_password_starts_the_count_again(bank: Bank) -> None:
    for _ in range(2):
        for _ in range(9):
            assert attempt(bank, KNOWN).status_code == 401
        assert attempt(bank, KNOWN, PASSWORD).status_code == 201


def test_a_lock_ends_after_its_time(bank: Bank) -> None:
    for _ in range(10):
        attempt(bank, KNOWN)
    assert attempt(bank, KNOWN, PASSWORD).status_code == 429
    with bank.world.connect(bank.database, "owner") as owner:
        owner.execute("UPDATE bank.sign_in_guard SET locked_until = now() - interval '1 second'")
    assert attempt(bank, KNOWN, PASSWORD).status_code == 201


def test_parallel_guesses_are_counted_too(bank: Bank) -> None:
    with ThreadPoolExecutor(8) as guessers:
        answers = list(guessers.map(lambda _: attempt(bank, KNOWN).status_code, range(24)))
    assert set(answers) <= {401, 429}
    assert attempt(bank, KNOWN, PASSWORD).status_code == 429


def test_customers_and_staff_cannot_sign_in_at_each_others_door(bank: Bank) -> None:
    staff = {"login": "officer-01@nvcbank.example", "password": PASSWORD}
    assert bank.client.post("/v1/sessions", json=staff).status_code == 401
    assert bank.client.post("/v1/staff/sessions", json={"login": KNOWN, "password": PASSWORD}).status_code == 401
    assert bank.client.post("/v1/staff/sessions", json=staff).status_code == 201
    assert bank.client.get("/v1/accounts", headers=bank.sign_in(staff="officer")).status_code == 403
    assert bank.client.get("/v1/staff/cases", headers=bank.sign_in(1)).status_code == 403


def test_a_session_holds_on_every_instance_and_ends_everywhere_within_the_stated_time(
    world: World, database: str
) -> None:
    with world.bank(database, "bank-a") as first, world.bank(database, "bank-b") as second:
        who = first.sign_in(1)
        assert second.client.get("/v1/accounts", headers=who).status_code == 200
        assert first.client.delete("/v1/sessions/current", headers=who).status_code == 204
        assert first.client.get("/v1/accounts", headers=who).status_code == 401
        time.sleep(TRUSTED_S + 0.5)
        assert second.client.get("/v1/accounts", headers=who).status_code == 401


def test_a_flood_of_sign_ins_is_shed_and_does_not_stop_payments(bank: Bank) -> None:
    payer = bank.sign_in(1)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    limits = httpx.Limits(max_connections=150)
    with httpx.Client(base_url=bank.client.base_url, limits=limits, timeout=20, trust_env=False) as flood:

        def guess(number: int) -> httpx.Response:
            body = {"login": f"nobody-{number}@nvcbank.example", "password": "wrong"}
            return flood.post("/v1/sessions", json=body)

        with ThreadPoolExecutor(150) as guessers:
            answers = guessers.map(guess, range(300))
            paid = [bank.pay(payer, f"k{number}", from_account=mine, to_account=theirs) for number in range(5)]
            refused = [answer for answer in answers if answer.status_code == 503]
    assert [answer.json()["status"] for answer in paid] == ["settled"] * 5
    assert refused
    assert {answer.json()["type"].rpartition(":")[2] for answer in refused} <= {"overloaded", "deadline", "unavailable"}
    assert all(answer.headers["retry-after"] for answer in refused)
