"""POST /v1/payments is the hot path: a trusted token, a decoded body, a place in the next group."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from nvcbank.api.common import Body, Currency, Id, Minor, customer, read_body, trusted_customer
from nvcbank.posting import Order, Poster, Verdict, digest
from nvcbank.web.message import Problem, Request, Response, json_response
from nvcbank.web.router import Route

if TYPE_CHECKING:
    from nvcbank.service import Service
    from nvcbank.sessions import Session

Reference = Annotated[str, msgspec.Meta(max_length=140, pattern=r"^[^\x00]*$")]
_KEY = re.compile(rb"[\x21-\x7e]{1,128}")
_REPLAYED = b"Idempotent-Replayed: true\r\n"


class PaymentBody(Body, frozen=True):
    """A payment from an own account. `amount` is in minor units of `currency`."""

    from_account: Id
    to_account: Id
    amount: Minor
    currency: Currency
    reference: Reference = ""


class Payment(msgspec.Struct, frozen=True):
    """A payment and its verdict. `reason` says why it was declined."""

    id: int
    status: str
    reason: str | None
    from_account: int
    to_account: int
    amount: int
    currency: str
    reference: str
    created_at: datetime


_decoder = msgspec.json.Decoder(PaymentBody)
_SELECT = (
    "SELECT t.id, t.outcome::text, t.debit_account, t.credit_account, t.amount, t.currency, t.reference, t.created_at "
    "FROM bank.transfer t WHERE t.id = $1 AND t.kind = 'payment' AND (t.customer_id = $2 OR (t.outcome = 'settled' "
    "AND EXISTS (SELECT FROM bank.account a WHERE a.id = t.credit_account AND a.customer_id = $2)))"
)


def routes(service: Service, poster: Poster[Response]) -> list[Route]:
    """The routes of payments."""

    def pay(request: Request) -> asyncio.Future[Response] | asyncio.Task[Response]:
        session = trusted_customer(service, request)
        if session is None:
            return asyncio.get_running_loop().create_task(pay_after_lookup(request))
        return poster.submit(_order(request, session))

    async def pay_after_lookup(request: Request) -> Response:
        return await poster.submit(_order(request, await customer(service, request)))

    async def read(request: Request) -> Response:
        session = await customer(service, request)
        row = await service.database.fetchrow(_SELECT, request.path_id, session.user_id)
        if row is None:
            raise Problem(404, "not-found", "there is no such payment")
        return json_response(200, _payment(*row))

    return [Route("POST", "/v1/payments", pay), Route("GET", "/v1/payments/{id}", read)]


def render(order: Order, verdict: Verdict) -> Response:
    """The answer to a payment that was posted, now or before: a replay has the same body."""
    payment = _payment(
        verdict.transfer_id,
        verdict.outcome,
        order.debit_account,
        order.credit_account,
        order.amount,
        order.currency,
        order.reference,
        verdict.posted_at,
    )
    return json_response(201, payment, b"" if verdict.answer == "new" else _REPLAYED)


def _order(request: Request, session: Session) -> Order:
    key = request.headers.get(b"idempotency-key", b"")
    if not _KEY.fullmatch(key):
        raise Problem(400, "idempotency-key-missing", "send an Idempotency-Key of 1 to 128 visible ASCII characters")
    body = read_body(request, _decoder)
    if body.from_account == body.to_account:
        raise Problem(422, "invalid-body", "a payment needs two accounts")
    return Order(
        session.user_id,
        digest(f"{session.user_id} {key.decode()}"),
        digest(f"{body.from_account} {body.to_account} {body.amount} {body.currency} {body.reference}"),
        body.from_account,
        body.to_account,
        body.amount,
        body.currency,
        body.reference,
    )


def _payment(number: int, outcome: str, *rest: object) -> Payment:
    """A payment as clients see it: the database's outcome as a status and a reason.

    >>> _payment(1, "declined_limit", 1, 2, 5, "EUR", "", datetime(2026, 1, 1)).reason
    'limit'
    """
    status, _, reason = outcome.partition("_")
    return Payment(number, status, reason or None, *rest)  # type: ignore[arg-type] # the columns of both queries
