"""The API as a client meets it."""

from __future__ import annotations

import datetime as dt
import json
import socket

import pytest
from bank_world import PASSWORD, Bank, wait_for

JSON = {"Content-Type": "application/json"}


def test_a_payment_moves_money_once_and_the_same_key_gives_the_same_answer(bank: Bank) -> None:
    payer, payee = bank.sign_in(1), bank.sign_in(2)
    mine, theirs = bank.account(payer), bank.account(payee)
    order = {"from_account": mine, "to_account": theirs, "amount": 1234, "reference": "invoice 7"}
    first = bank.pay(payer, "k1", **order)
    again = bank.pay(payer, "k1", **order)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["status"] == "settled"
    assert bank.client.get(f"/v1/accounts/{mine}", headers=payer).json()["balance"] == 1_000_000 - 1234
    assert bank.client.get(f"/v1/accounts/{theirs}", headers=payee).json()["balance"] == 1_000_000 + 1234
    number = first.json()["id"]
    for who in (payer, payee):
        assert bank.client.get(f"/v1/payments/{number}", headers=who).content == first.content
    assert bank.client.get(f"/v1/payments/{number}", headers=bank.sign_in(3)).status_code == 404
    assert bank.metric('nvcbank_payments_total{outcome="settled"}') == 1


def test_the_same_key_with_another_body_is_a_conflict(bank: Bank) -> None:
    payer = bank.sign_in(1)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    assert bank.pay(payer, "k1", from_account=mine, to_account=theirs, amount=1).status_code == 201
    other = bank.pay(payer, "k1", from_account=mine, to_account=theirs, amount=2)
    assert other.status_code == 409
    assert other.json()["type"] == "urn:nvcbank:problem:idempotency-conflict"
    # The key belongs to the customer: somebody else's is another one.
    assert bank.pay(bank.sign_in(2), "k1", from_account=theirs, to_account=mine, amount=2).status_code == 201


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": 1_000_001}, "insufficient_funds"),
        ({"amount": 5_000_001}, "limit"),
        ({"to_account": 999_999}, "unknown_account"),
        ({"from_account": 999_999}, "unknown_account"),
        ({"currency": "USD"}, "currency"),
    ],
)
def test_a_payment_is_declined_with_its_reason_and_stays_declined(
    bank: Bank, change: dict[str, object], reason: str
) -> None:
    payer = bank.sign_in(1)
    order = {"from_account": bank.account(payer), "to_account": bank.account(bank.sign_in(2)), **change}
    answer = bank.pay(payer, "k1", **order)
    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["reason"]) == ("declined", reason)
    assert bank.pay(payer, "k1", **order).content == answer.content
    assert bank.metric(f'nvcbank_payments_total{{outcome="declined_{reason}"}}') == 1


def test_somebody_elses_account_cannot_be_paid_from_or_read(bank: Bank) -> None:
    thief = bank.sign_in(1)
    theirs = bank.account(bank.sign_in(2))
    answer = bank.pay(thief, "k1", from_account=theirs, to_account=bank.account(thief))
    assert answer.json()["reason"] == "unknown_account"
    assert bank.client.get(f"/v1/accounts/{theirs}", headers=thief).status_code == 404
    assert bank.client.get(f"/v1/accounts/{theirs}/entries", headers=thief).status_code == 404


def test_the_statement_is_paged_by_cursor_without_gaps_or_repeats(bank: Bank) -> None:
    payer = bank.sign_in(1)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    for number in range(7):
        bank.pay(payer, f"k{number}", from_account=mine, to_account=theirs, amount=1 + number)
    seen, cursor = [], ""
    while True:
        page = bank.client.get(f"/v1/accounts/{mine}/entries?limit=3{cursor}", headers=payer).json()
        assert len(page["entries"]) <= 3
        seen += page["entries"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [entry["amount"] for entry in seen] == [-7, -6, -5, -4, -3, -2, -1, 1_000_000]
    balances = [entry["balance_after"] for entry in reversed(seen)]
    assert balances[0] == 1_000_000
    assert all(
        after - before == entry["amount"]
        for before, after, entry in zip(balances, balances[1:], list(reversed(seen))[1:], strict=False)
    )
    for wrong in ("cursor=x", "limit=0", "limit=201", "cursor=-1"):
        assert bank.client.get(f"/v1/accounts/{mine}/entries?{wrong}", headers=payer).status_code == 422


def test_a_new_customer_is_verified_by_staff_before_an_account_is_opened(bank: Bank) -> None:
    body = {"login": "New.Person@example.com", "password": "long enough", "name": "Nia Neu"}
    created = bank.client.post("/v1/customers", json=body)
    assert created.status_code == 201
    assert created.json()["kyc_state"] == "registered"
    assert bank.client.post("/v1/customers", json=body).status_code == 409
    token = bank.client.post("/v1/sessions", json={"login": "new.person@example.com", "password": "long enough"}).json()
    who = {"Authorization": f"Bearer {token['token']}"}
    assert bank.client.post("/v1/accounts", headers=who, json={"currency": "EUR"}).status_code == 403
    officer = bank.sign_in(staff="officer")
    kyc = f"/v1/staff/customers/{created.json()['id']}/kyc"
    assert bank.client.post(kyc, headers=who, json={"state": "verified", "reason": "me"}).status_code == 403
    wrong = bank.client.post(kyc, headers=officer, json={"state": "verified", "reason": "in a hurry"})
    assert wrong.status_code == 409
    for state in ("in_review", "verified"):
        done = bank.client.post(kyc, headers=officer, json={"state": state, "reason": "passport seen"})
        assert done.status_code == 204
    opened = bank.client.post("/v1/accounts", headers=who, json={"currency": "JPY"})
    assert opened.status_code == 201
    assert (opened.json()["balance"], opened.json()["exponent"]) == (0, 0)
    assert bank.client.post("/v1/accounts", headers=who, json={"currency": "XTS"}).status_code == 422
    with bank.world.connect(bank.database, "auditor") as auditor:
        trail = auditor.execute("SELECT action, reason FROM bank.staff_action ORDER BY id").fetchall()
    assert trail == [("kyc.in_review", "passport seen"), ("kyc.verified", "passport seen")]


def test_staff_hold_release_block_and_reverse(bank: Bank) -> None:
    payer, officer, supervisor = bank.sign_in(1), bank.sign_in(staff="officer"), bank.sign_in(staff="supervisor")
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()

    def act(who: dict[str, str], path: str, **body: object) -> tuple[int, dict[str, object]]:
        answer = bank.client.post(f"/v1/staff/{path}", headers=who, json={"reason": "court order", **body})
        return answer.status_code, answer.json() if answer.content else {}

    status, hold = act(officer, "holds", account_id=mine, amount=999_990, expires_at=later)
    assert status == 201
    assert act(officer, "holds", account_id=mine, amount=11, expires_at=later)[0] == 409
    assert bank.pay(payer, "k1", from_account=mine, to_account=theirs).json()["reason"] == "insufficient_funds"
    assert act(officer, f"holds/{hold['id']}/release") == (200, {"id": hold["id"], "ending": "released"})
    assert act(officer, "holds/99999/release")[0] == 404
    paid = bank.pay(payer, "k2", from_account=mine, to_account=theirs)
    assert paid.json()["status"] == "settled"
    assert act(officer, f"accounts/{mine}/block", blocked=True)[0] == 204
    assert bank.pay(payer, "k3", from_account=mine, to_account=theirs).json()["reason"] == "blocked"
    assert act(officer, f"transfers/{paid.json()['id']}/reverse")[0] == 403
    status, reversal = act(supervisor, f"transfers/{paid.json()['id']}/reverse")
    assert (status, reversal["status"]) == (201, "settled")
    assert act(supervisor, f"transfers/{paid.json()['id']}/reverse")[0] == 409
    assert bank.client.get(f"/v1/accounts/{mine}", headers=payer).json()["balance"] == 1_000_000
    assert bank.world.run(bank.database, "check-books").returncode == 0


def test_an_expired_hold_sets_nothing_aside_any_more(bank: Bank) -> None:
    payer, officer = bank.sign_in(1), bank.sign_in(staff="officer")
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)).isoformat()
    body = {"account_id": mine, "amount": 1_000_000, "expires_at": soon, "reason": "card"}
    assert bank.client.post("/v1/staff/holds", headers=officer, json=body).status_code == 201
    wait_for(lambda: bank.client.get(f"/v1/accounts/{mine}", headers=payer).json()["available"] == 1_000_000)
    assert bank.pay(payer, "k1", from_account=mine, to_account=theirs).json()["status"] == "settled"


def test_many_quick_payments_and_payments_just_below_the_threshold_raise_cases(bank: Bank) -> None:
    quick, careful, payee = bank.sign_in(1), bank.sign_in(2), bank.account(bank.sign_in(3))
    for number in range(30):
        paid = bank.pay(quick, f"k{number}", from_account=bank.account(quick), to_account=payee, amount=1)
        assert paid.json()["status"] == "settled"
    with bank.world.connect(bank.database, "owner") as owner:
        owner.execute("UPDATE bank.account SET overdraft_limit = 5000000 WHERE id = %s", [bank.account(careful)])
    for number in range(3):
        paid = bank.pay(careful, f"k{number}", from_account=bank.account(careful), to_account=payee, amount=900_000)
        assert paid.json()["status"] == "settled"
    officer = bank.sign_in(staff="officer")

    def cases() -> list[dict[str, object]]:
        found: list[dict[str, object]] = bank.client.get("/v1/staff/cases", headers=officer).json()["cases"]
        return found

    wait_for(lambda: len(cases()) == 2)
    by_rule = {case["rule"]: case for case in cases()}
    assert by_rule["velocity"]["account_id"] == bank.account(quick)
    assert (by_rule["structuring"]["payments"], by_rule["structuring"]["total"]) == (3, 2_700_000)
    path = f"/v1/staff/cases/{by_rule['velocity']['id']}/decision"
    decided = {"decision": "dismissed", "reason": "a shop"}
    assert bank.client.post(path, headers=officer, json=decided).status_code == 204
    assert bank.client.post(path, headers=officer, json=decided).status_code == 409
    assert bank.metric("nvcbank_aml_cases_total") == 2


def test_every_refusal_is_a_problem_document(bank: Bank) -> None:
    who = bank.sign_in(1)
    key = {"Idempotency-Key": "k"}
    refused = [
        (404, bank.client.get("/nothing/here")),
        (405, bank.client.put("/v1/payments")),
        (401, bank.client.get("/v1/accounts")),
        (401, bank.client.get("/v1/accounts", headers={"Authorization": "Bearer " + "x" * 43})),
        (400, bank.client.post("/v1/payments", headers=who, json={})),
        (400, bank.client.post("/v1/payments", headers={**who, **key, **JSON}, content=b"{")),
        (422, bank.client.post("/v1/payments", headers={**who, **key}, json={"amount": 1.5})),
        (422, bank.client.post("/v1/sessions", json={"login": "x"})),
        (415, bank.client.post("/v1/sessions", content=b"a=b", headers={"Content-Type": "text/plain"})),
        (413, bank.client.post("/v1/sessions", content=b"x" * 70_000, headers=JSON)),
        (431, bank.client.get("/healthz", headers={"X-Large": "x" * 20_000})),
        (414, bank.client.get("/" + "x" * 5_000)),
    ]
    for status, answer in refused:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert {"type", "title", "detail", "instance"} <= set(problem)


def test_money_is_a_whole_positive_number_of_a_known_size(bank: Bank) -> None:
    payer = bank.sign_in(1)
    mine, theirs = bank.account(payer), bank.account(bank.sign_in(2))
    for wrong in (0, -1, 1.5, "1", None, True, 10**15 + 1, 2**80):
        answer = bank.pay(payer, "k", from_account=mine, to_account=theirs, amount=wrong)
        assert answer.status_code == 422, answer.text
    assert bank.pay(payer, "k", from_account=mine, to_account=mine).status_code == 422


def test_a_client_that_does_not_speak_http_or_stops_half_way_does_not_disturb_others(bank: Bank) -> None:
    with socket.create_connection(("127.0.0.1", bank.port), timeout=5) as half:
        half.sendall(b"POST /v1/sessions HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        with socket.create_connection(("127.0.0.1", bank.port), timeout=5) as garbage:
            garbage.sendall(b"\x16\x03\x01\x02\x00\x01\x00 this is not HTTP\r\n\r\n")
            assert garbage.recv(1000).startswith(b"HTTP/1.1 400")
            assert garbage.recv(1000) == b""
        assert bank.client.get("/healthz").status_code == 200


def test_pipelined_requests_are_answered_in_order(bank: Bank) -> None:
    with socket.create_connection(("127.0.0.1", bank.port), timeout=5) as pipe:
        requests = [b"GET /readyz HTTP/1.1\r\nX-Request-Id: r%d\r\n\r\n" % number for number in range(5)]
        pipe.sendall(b"".join(requests) + b"GET /version HTTP/1.1\r\nX-Request-Id: last\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := pipe.recv(65_536):
            received += chunk
    ids = [line.split(b": ")[1] for line in received.split(b"\r\n") if line.startswith(b"X-Request-Id")]
    assert ids == [b"r0", b"r1", b"r2", b"r3", b"r4", b"last"]


def test_version_metrics_and_log_lines_say_what_operations_needs(bank: Bank) -> None:
    version = bank.client.get("/version").json()
    assert set(version) == {"service", "version", "release", "instance", "started", "now"}
    assert version["instance"] == "bank-a"
    wrong = {"login": "customer-000001@nvcbank.example", "password": "not the one"}
    bank.client.post("/v1/sessions", json=wrong, headers={"X-Request-Id": "abc-1"})
    payer = bank.sign_in(1)
    bank.pay(payer, "k", from_account=bank.account(payer), to_account=1, reference="for my sister")
    assert bank.metric('nvcbank_http_requests_total{route="/v1/sessions",method="POST",status="401"}') == 1
    edges = [f'nvcbank_http_request_seconds_bucket{{route="/v1/sessions",le="{edge}"}}' for edge in ("0.025", "+Inf")]
    assert 0 <= bank.metric(edges[0]) <= bank.metric(edges[1]) == 2
    text = "\n".join(bank.lines())
    for secret in (
        "customer-000001",
        "not the one",
        PASSWORD,
        payer["Authorization"][7:],
        "for my sister",
        "Customer 1",
    ):
        assert secret not in text
    lines = [json.loads(line) for line in bank.lines()]
    failed = next(line for line in lines if line["event"] == "session.failed")
    created = next(line for line in lines if line["event"] == "session.created")
    assert failed["customer"] == created["customer"]
    assert failed["request_id"] == "abc-1"
    request = next(line for line in lines if line["event"] == "request" and line.get("request_id") == "abc-1")
    assert (request["route"], request["status"], request["instance"]) == ("/v1/sessions", 401, "bank-a")
    assert request["seconds"] > 0
    assert dt.datetime.fromisoformat(request["time"]).utcoffset() == dt.timedelta(0)
