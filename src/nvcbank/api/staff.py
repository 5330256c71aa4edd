"""What staff may do. The database notes who did it and why, in the same transaction, or refuses."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from nvcbank.api.common import Body, Id, Minor, Text, read_body, staff
from nvcbank.web.message import Request, Response, json_response
from nvcbank.web.router import Route

if TYPE_CHECKING:
    import asyncpg

    from nvcbank.service import Service
    from nvcbank.sessions import Session

KycState = Literal["in_review", "verified", "rejected", "suspended", "closed"]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
MOST_CASES = 200


class KycBody(Body, frozen=True):
    """Where a customer's KYC goes next, and why."""

    state: KycState
    reason: Text


class BlockBody(Body, frozen=True):
    """Block an account for payments, or unblock it."""

    blocked: bool
    reason: Text


class HoldBody(Body, frozen=True):
    """Money to set aside until a moment."""

    account_id: Id
    amount: Minor
    expires_at: Moment
    reason: Text


class ReasonBody(Body, frozen=True):
    """Why."""

    reason: Text


class DecisionBody(Body, frozen=True):
    """What came of an AML case."""

    decision: Literal["reported", "dismissed"]
    reason: Text


class CaseView(msgspec.Struct, frozen=True):
    """An AML case; `decision` is null while it is open."""

    id: int
    rule: str
    account_id: int
    payments: int
    total: int
    created_at: datetime
    decision: str | None


class CaseList(msgspec.Struct, frozen=True):
    """The newest cases, at most 200."""

    cases: list[CaseView]


class HoldView(msgspec.Struct, frozen=True):
    """A hold that was placed."""

    id: int


class HoldEndView(msgspec.Struct, frozen=True):
    """How a hold ended: released, or expired before."""

    id: int
    ending: str


class ReversalView(msgspec.Struct, frozen=True):
    """The transfer that moves the money back, or why it could not."""

    id: int
    status: str
    reason: str | None
    reverses: int
    created_at: datetime


_kyc, _block, _hold = msgspec.json.Decoder(KycBody), msgspec.json.Decoder(BlockBody), msgspec.json.Decoder(HoldBody)
_reason, _decision = msgspec.json.Decoder(ReasonBody), msgspec.json.Decoder(DecisionBody)
_CASES = (
    "SELECT c.id, c.rule::text, c.account_id, c.payments, c.total, c.created_at, d.decision FROM bank.aml_case c "
    "LEFT JOIN bank.aml_decision d ON d.case_id = c.id ORDER BY c.id DESC LIMIT $1"
)


def routes(service: Service) -> list[Route]:
    """The routes of staff."""
    acts = _Acts(service)
    return [
        Route("POST", "/v1/staff/customers/{id}/kyc", acts.move_kyc),
        Route("POST", "/v1/staff/accounts/{id}/block", acts.block),
        Route("POST", "/v1/staff/holds", acts.place_hold),
        Route("POST", "/v1/staff/holds/{id}/release", acts.release_hold),
        Route("POST", "/v1/staff/transfers/{id}/reverse", acts.reverse),
        Route("GET", "/v1/staff/cases", acts.cases),
        Route("POST", "/v1/staff/cases/{id}/decision", acts.decide),
    ]


class _Acts:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def move_kyc(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _kyc)
        await self._act(
            request, who, "kyc", "SELECT bank.move_kyc($1, $2, $3::text::bank.kyc_state, $4)",
            request.path_id, body.state, body.reason,
        )  # fmt: skip
        return Response(204)

    async def block(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _block)
        await self._act(
            request, who, "block", "SELECT bank.block_account($1, $2, $3, $4)",
            request.path_id, body.blocked, body.reason,
        )  # fmt: skip
        return Response(204)

    async def place_hold(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _hold)
        row = await self._act(
            request, who, "hold", "SELECT bank.place_hold($1, $2, $3, $4, $5)",
            body.account_id, body.amount, body.expires_at, body.reason,
        )  # fmt: skip
        return json_response(201, HoldView(row[0]))

    async def release_hold(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _reason)
        row = await self._act(
            request, who, "release", "SELECT bank.release_hold($1, $2, $3)::text", request.path_id, body.reason
        )
        return json_response(200, HoldEndView(request.path_id, row[0]))

    async def reverse(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _reason)
        row = await self._act(
            request, who, "reverse", "SELECT * FROM bank.reverse_transfer($1, $2, $3)", request.path_id, body.reason
        )
        status, _, reason = row["verdict"].partition("_")
        return json_response(
            201, ReversalView(row["transfer_id"], status, reason or None, request.path_id, row["posted_at"])
        )

    async def cases(self, request: Request) -> Response:
        await staff(self._service, request)
        rows = await self._service.database.fetch(_CASES, MOST_CASES)
        return json_response(200, CaseList([CaseView(*row) for row in rows]))

    async def decide(self, request: Request) -> Response:
        who = await staff(self._service, request)
        body = read_body(request, _decision)
        await self._act(
            request, who, "decide", "SELECT bank.decide_case($1, $2, $3, $4)",
            request.path_id, body.decision, body.reason,
        )  # fmt: skip
        return Response(204)

    async def _act(self, request: Request, who: Session, act: str, query: str, *arguments: object) -> asyncpg.Record:
        """Do it in the name of this person; log who, what and which, without the reason, which people write."""
        row = await self._service.database.fetchrow(query, who.user_id, *arguments)
        self._service.log.event("info", f"staff.{act}", request.id, staff=who.ref, subject=arguments[0])
        assert row is not None  # noqa: S101 - a function returns one row
        return row
