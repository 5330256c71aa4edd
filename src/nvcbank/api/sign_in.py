"""Sessions of customers and of staff: the same work for a wrong password as for a name that nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from nvcbank.api.common import Body, Login, bearer_token, read_body
from nvcbank.log import pseudonym
from nvcbank.sessions import LIFETIME_S, Session
from nvcbank.web.message import Problem, Request, Response, json_response
from nvcbank.web.router import Route

if TYPE_CHECKING:
    from nvcbank.service import Service

Kind = Literal["customer", "staff"]
_FACTS = {
    "customer": (
        "SELECT c.id, k.password_hash FROM bank.customer c JOIN bank.credential k ON k.customer_id = c.id "
        "WHERE c.login = lower($1) AND c.kyc_state <> 'closed'"
    ),
    "staff": "SELECT id, password_hash FROM bank.staff WHERE login = lower($1) AND active",
}
_LOCKED_S = (
    "SELECT extract(epoch FROM locked_until - now())::int FROM bank.sign_in_guard "
    "WHERE login_ref = $1 AND locked_until > now()"
)


class SessionBody(Body, frozen=True):
    """Who signs in. A wrong password may have any length."""

    login: Login
    password: str


class SessionView(msgspec.Struct, frozen=True):
    """A new session: send the token as `Authorization: Bearer TOKEN`."""

    token: str
    expires_in: int
    user_id: int


class _Attempt(NamedTuple):
    request: Request
    kind: Kind
    ref: str
    guard: bytes


_decoder = msgspec.json.Decoder(SessionBody)


def routes(service: Service) -> list[Route]:
    """The routes of sessions."""

    async def sign_in_customer(request: Request) -> Response:
        return await _sign_in(service, request, "customer")

    async def sign_in_staff(request: Request) -> Response:
        return await _sign_in(service, request, "staff")

    async def sign_out(request: Request) -> Response:
        await service.sessions.revoke(bearer_token(request))
        return Response(204)

    return [
        Route("POST", "/v1/sessions", sign_in_customer),
        Route("DELETE", "/v1/sessions/current", sign_out),
        Route("POST", "/v1/staff/sessions", sign_in_staff),
    ]


async def _sign_in(service: Service, request: Request, kind: Kind) -> Response:
    """Check the lock, then the password, then count: known and unknown names take the same steps."""
    body = read_body(request, _decoder)
    ref = pseudonym(await service.pseudonym_key(), kind, body.login.lower())
    attempt = _Attempt(request, kind, ref, bytes.fromhex(ref))
    locked = await service.database.fetchrow(_LOCKED_S, attempt.guard)
    if locked is not None:
        raise _refuse_locked(service, attempt, max(1, locked[0]))
    user = await service.database.fetchrow(_FACTS[kind], body.login)
    if not await service.passwords.verify(user and user["password_hash"], body.password):
        raise await _refuse_wrong(service, attempt)
    assert user is not None  # noqa: S101 - nobody's password never fits
    allowed = await service.database.fetchrow("SELECT bank.sign_in_succeeded($1)", attempt.guard)
    if allowed is None or not allowed[0]:
        raise _refuse_locked(service, attempt, 60)
    token = await service.sessions.create(Session(kind, user["id"], ref))
    _count(service, attempt, "ok")
    service.log.event("info", _event(kind, "created"), request.id, customer=ref)
    return json_response(201, SessionView(token, LIFETIME_S, user["id"]))


async def _refuse_wrong(service: Service, attempt: _Attempt) -> Problem:
    row = await service.database.fetchrow("SELECT bank.sign_in_failed($1)", attempt.guard)
    _count(service, attempt, "wrong_password")
    service.log.event("warning", _event(attempt.kind, "failed"), attempt.request.id, customer=attempt.ref)
    if row is not None and row[0]:
        service.log.event("warning", _event(attempt.kind, "locked"), attempt.request.id, customer=attempt.ref)
    return Problem(401, "wrong-credentials", "the login or the password is wrong")


def _refuse_locked(service: Service, attempt: _Attempt, seconds: int) -> Problem:
    _count(service, attempt, "locked")
    service.log.event(
        "warning", _event(attempt.kind, "refused"), attempt.request.id, customer=attempt.ref, why="locked"
    )
    return Problem(
        429,
        "locked",
        "too many wrong passwords; this login is locked for a while",
        headers=b"Retry-After: %d\r\n" % seconds,
    )


def _count(service: Service, attempt: _Attempt, outcome: str) -> None:
    if attempt.kind == "customer":
        service.metrics.sessions.add(outcome)


def _event(kind: Kind, what: str) -> str:
    return f"session.{what}" if kind == "customer" else f"staff.session_{what}"
