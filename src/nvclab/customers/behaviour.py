"""What customers do: they sign in, look at their balance and their entries, and pay each other.

Each signs in once, a few at a time, and comes from then on; whoever loses their session signs in again, and what they
wanted meanwhile counts as an error. A small share of it goes wrong as it does in life: wrong passwords, and payments
that the bank must decline. Payments whose outcome is unknown are tried again with the same key until the bank answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvclab.customers.acknowledgements import Acknowledgement
from nvclab.customers.wire import Pool, Request, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvclab.customers.figures import Figures

# Shares of 1000 requests; the rest are balances.
ENTRIES, PAYMENTS, DECLINED, SIGN_INS, WRONG_PASSWORDS = 250, 240, 15, 5, 5
AMOUNTS_MINOR = (100, 5_000)
TOO_MUCH_MINOR = 4_900_000  # below the limit of one payment, above what anybody here has
PATIENCE_S = 120.0
_RETRY_FIRST_S, _RETRY_MAX_S = 0.5, 10.0
RETRYING_MAX = 5_000
_SIGN_IN_PAUSE_S = 1.0
_OK = range(200, 300)
_UNAUTHORIZED = 401


@dataclass
class Customer:
    """One customer of the bank; several users may be the same one."""

    login: str
    account: int
    token: str | None = None
    came: bool = False  # has been signed in at least once


@dataclass
class Payment:
    """A payment that was sent at least once."""

    key: str
    body: bytes
    attempts: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def hash(self) -> str:
        """SHA-256 of what was asked for."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class Behaviour:
    """Turns "it is this user's turn" into requests. `figures` and `book` get what comes back."""

    customers: list[Customer]
    password: str
    pool: Pool
    figures: Figures
    book: list[Acknowledgement] = field(default_factory=list)  # emptied into the file by its owner, many times a second
    retrying: int = 0
    signed_out: asyncio.Queue[Customer] = field(default_factory=asyncio.Queue)

    async def sign_in_those_who_are_out(self) -> None:
        """For ever: sign in whoever is signed out, as one of several such tasks; who is refused waits in line again."""
        while True:
            customer = await self.signed_out.get()
            over = asyncio.Event()
            self._sign_in(customer, time.monotonic(), over.set)
            await over.wait()
            if customer.token is None:
                self.signed_out.put_nowait(customer)
                await asyncio.sleep(_SIGN_IN_PAUSE_S)

    def act(self, customer: Customer, due: float) -> None:
        """One request of a customer that was due at `due` (monotonic); latency counts from then."""
        if customer.token is None:
            self._note("signed out", 0, due, error=True)
            return
        dice = random.randrange(1000)  # noqa: S311 - load, not secrets
        for share, deed in (
            (ENTRIES, self._entries),
            (PAYMENTS, self._pay),
            (DECLINED, self._pay_too_much),
            (SIGN_INS, self._sign_in),
            (WRONG_PASSWORDS, self._mistype),
        ):
            if dice < share:
                deed(customer, due)
                return
            dice -= share
        self._read(customer, due, "balance", f"/v1/accounts/{customer.account}")

    def _entries(self, customer: Customer, due: float) -> None:
        self._read(customer, due, "entries", f"/v1/accounts/{customer.account}/entries?limit=20")

    def _read(self, customer: Customer, due: float, kind: str, path: str) -> None:
        def done(status: int, _: bytes) -> None:
            self._note(kind, status, due, error=status not in _OK)
            self._forget_token(customer, status, used)

        used = customer.token
        self.pool.send(Request(encode("GET", path, headers=_authorized(customer)), done))

    def _sign_in(self, customer: Customer, due: float, over: Callable[[], None] = lambda: None) -> None:
        def done(status: int, body: bytes) -> None:
            self._note("sign-in", status, due, error=status not in _OK)
            if status in _OK:
                customer.token, customer.came = str(json.loads(body)["token"]), True
            over()

        self._post_session(customer.login, self.password, done)

    def _mistype(self, customer: Customer, due: float) -> None:
        def done(status: int, _: bytes) -> None:
            self._note("wrong password", status, due, error=status != _UNAUTHORIZED)

        self._post_session(customer.login, "Passw0rd!", done)

    def _post_session(self, login: str, password: str, done: Callable[[int, bytes], None]) -> None:
        body = json.dumps({"login": login, "password": password}).encode()
        self.pool.send(Request(encode("POST", "/v1/sessions", body), done))

    def _pay(self, customer: Customer, due: float) -> None:
        self._send_payment(customer, random.randint(*AMOUNTS_MINOR), due)  # noqa: S311 - load, not secrets

    def _pay_too_much(self, customer: Customer, due: float) -> None:
        self._send_payment(customer, TOO_MUCH_MINOR, due)

    def _send_payment(self, customer: Customer, amount_minor: int, due: float) -> None:
        other = random.choice(self.customers)  # noqa: S311 - load, not secrets
        if other is customer:
            self._read(customer, due, "balance", f"/v1/accounts/{customer.account}")
            return
        body = json.dumps(
            {
                "from_account": customer.account,
                "to_account": other.account,
                "amount": amount_minor,
                "currency": "EUR",
                "reference": "between friends",
            }
        ).encode()
        self._try_payment(customer, Payment(f"{customer.account}.{uuid.uuid4()}", body), due)

    def _try_payment(self, customer: Customer, payment: Payment, due: float) -> None:
        def done(status: int, answer: bytes) -> None:
            known = status in _OK or (400 <= status < 500)
            outcome, number = _verdict(status, answer)
            self._note("payment" if payment.attempts == 1 else "payment again", status, due, error=status not in _OK)
            entry = Acknowledgement(time.time(), payment.key, payment.hash, payment.attempts, outcome, number, status)
            self.book.append(entry)
            self._forget_token(customer, status, used)
            if not known:
                self._try_again(customer, payment, request.retry_after_s)

        payment.attempts += 1
        used = customer.token
        headers = (*_authorized(customer), f"Idempotency-Key: {payment.key}")
        request = Request(encode("POST", "/v1/payments", payment.body, headers), done)
        self.pool.send(request)

    def _try_again(self, customer: Customer, payment: Payment, retry_after_s: int | None) -> None:
        """With the same key, when the bank says, or later and later; patience has an end, and so has our memory."""
        if time.monotonic() - payment.began > PATIENCE_S or self.retrying >= RETRYING_MAX:
            return
        pause_s = retry_after_s or min(_RETRY_FIRST_S * 2 ** min(payment.attempts - 1, 5), _RETRY_MAX_S)
        self.retrying += 1

        def again() -> None:
            self.retrying -= 1
            self._try_payment(customer, payment, time.monotonic())

        asyncio.get_running_loop().call_later(pause_s, again)

    def _note(self, kind: str, status: int, due: float, *, error: bool) -> None:
        self.figures.add(kind, str(status), (time.monotonic() - due) * 1000, error=error)

    def _forget_token(self, customer: Customer, status: int, used: str | None) -> None:
        """The bank does not know the session any more: sign in again, once for all who share it."""
        if status == _UNAUTHORIZED and used is not None and customer.token == used:
            customer.token = None
            self.signed_out.put_nowait(customer)


def _authorized(customer: Customer) -> tuple[str, ...]:
    return (f"Authorization: Bearer {customer.token}",)


def _verdict(status: int, answer: bytes) -> tuple[str, str | None]:
    """The outcome and the payment's number in an answer: what the bank decided, "refused", or "unknown"."""
    if status in _OK:
        found = json.loads(answer)
        reason = f"_{found['reason']}" if found["reason"] else ""
        return f"{found['status']}{reason}", str(found["id"])
    return ("refused" if 400 <= status < 500 else "unknown"), None
