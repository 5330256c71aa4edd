"""The self-test: one customer's way through one instance, with a real payment of one minor unit."""

from __future__ import annotations

import http.client
import json
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nvcbank.errors import SelfTestFailed, SettingError

_TIMEOUT_S = 5.0
_ANSWER_BYTES_MAX = 1 << 20
_HINT = "the instance's log says more, by the request's id"


@dataclass(frozen=True)
class Payment:
    """Who pays whom one minor unit."""

    login: str
    from_account: int
    to_account: int
    currency: str


class _Instance:
    """One instance, asked on one connection: nothing between us and it answers in its place."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname:
            raise SettingError(f"--url is not an http:// address: {url!r}", hint="for example http://127.0.0.1:8080")
        self.address = f"{parts.hostname}:{port}"
        self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=_TIMEOUT_S)
        self._token = ""

    def ask(self, expected: int, method: str, path: str, body: object = None, key: str = "") -> Any:
        """The answer's JSON; SelfTestFailed when it is another status than the one expected."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if key:
            headers["Idempotency-Key"] = key
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read(_ANSWER_BYTES_MAX)
            found = json.loads(content) if content else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SelfTestFailed(f"{self.address} did not answer {method} {path}: {error}", hint=_HINT) from error
        if answer.status != expected:
            said = found.get("detail", "") if isinstance(found, dict) else ""
            sentence = f"{self.address} answered {method} {path} with {answer.status} instead of {expected}"
            raise SelfTestFailed(f"{sentence}: {said}" if said else sentence, hint=_HINT)
        return found

    def sign_in(self, login: str, password: str) -> None:
        """From now on everything is asked as a customer."""
        self._token = str(self.ask(201, "POST", "/v1/sessions", {"login": login, "password": password})["token"])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def self_test(url: str, payment: Payment, password: str, release: str = "") -> str:
    """Sign in, pay, pay again with the same key, find the payment in the statement, sign out; what was done.

    Raises:
        SelfTestFailed: something of it was not as it must be.
        SettingError: the address is none.
    """
    instance = _Instance(url)
    try:
        version = _version(instance, release)
        instance.sign_in(payment.login, password)
        number = _paid(instance, payment)
        instance.ask(204, "DELETE", "/v1/sessions/current")
    except (KeyError, TypeError, AttributeError) as error:
        raise SelfTestFailed(f"an answer of {instance.address} lacks {error}", hint=_HINT) from error
    finally:
        instance.close()
    return f"{instance.address} ({version}) settled payment {number}, and knows it again"


def _version(instance: _Instance, release: str) -> str:
    said = instance.ask(200, "GET", "/version")
    if release and said["release"] != release:
        runs = said["release"] or "no release"
        raise SelfTestFailed(f"{instance.address} runs {runs} instead of {release}", hint="was it started anew?")
    return str(said["version"])


def _paid(instance: _Instance, payment: Payment) -> int:
    """Pay twice with one key: one payment, settled, which the statement shows once and first of all with its number."""
    key = f"self-test.{uuid.uuid4()}"
    body = {
        "from_account": payment.from_account,
        "to_account": payment.to_account,
        "amount": 1,
        "currency": payment.currency,
        "reference": "self-test",
    }
    first = instance.ask(201, "POST", "/v1/payments", body, key)
    again = instance.ask(201, "POST", "/v1/payments", body, key)
    found = instance.ask(200, "GET", f"/v1/payments/{first['id']}")
    if first["status"] != "settled":
        raise SelfTestFailed(f"{instance.address} declined the payment: {first['reason']}", hint="are there funds?")
    if not first == again == found:
        raise SelfTestFailed(f"{instance.address} does not know payment {first['id']} again", hint=_HINT)
    entries = instance.ask(200, "GET", f"/v1/accounts/{payment.from_account}/entries?limit=50")["entries"]
    booked = [entry["amount"] for entry in entries if entry["transfer_id"] == first["id"]]
    if booked != [-1]:
        raise SelfTestFailed(f"{instance.address} booked payment {first['id']} as {booked}", hint=_HINT)
    return int(first["id"])
