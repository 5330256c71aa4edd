"""Customers and their accounts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from nvcbank.api.common import Body, Currency, Login, Password, Text, customer, read_body
from nvcbank.web.message import Problem, Request, Response, json_response
from nvcbank.web.router import Route

if TYPE_CHECKING:
    from nvcbank.service import Service

PAGE, MOST_ON_PAGE = 50, 200


class CustomerBody(Body, frozen=True):
    """Somebody who wants to be a customer."""

    login: Login
    password: Password
    name: Text


class AccountBody(Body, frozen=True):
    """An account to open."""

    currency: Currency


class CustomerView(msgspec.Struct, frozen=True):
    """A customer as the API shows them."""

    id: int
    login: str
    kyc_state: str


class AccountView(msgspec.Struct, frozen=True):
    """An account. Money is in minor units; `available` is what can be paid with now."""

    id: int
    currency: str
    exponent: int
    balance: int
    held: int
    available: int
    payment_limit: int
    daily_limit: int
    blocked: bool
    opened_at: datetime


class AccountList(msgspec.Struct, frozen=True):
    """All accounts of a customer: at most 20."""

    accounts: list[AccountView]


class EntryView(msgspec.Struct, frozen=True):
    """One line of a statement; `amount` is negative when money left the account."""

    transfer_id: int
    kind: str
    amount: int
    balance_after: int
    counterparty_account: int
    reference: str
    created_at: datetime


class EntryPage(msgspec.Struct, frozen=True):
    """Newest first; `next` is the cursor of the following page, null on the last."""

    entries: list[EntryView]
    next: int | None


_customer_decoder = msgspec.json.Decoder(CustomerBody)
_account_decoder = msgspec.json.Decoder(AccountBody)
# A hold that is over counts no more, whether or not housekeeping has ended it yet.
_ACCOUNTS = (
    "SELECT a.id, a.currency, c.exponent, a.balance, a.held - o.held, "
    "a.balance - a.held + o.held + a.overdraft_limit, a.payment_limit, a.daily_limit, a.blocked, a.opened_at "
    "FROM bank.account a JOIN bank.currency c ON c.code = a.currency "
    "CROSS JOIN LATERAL (SELECT CASE WHEN a.holds_expire_at > now() THEN 0 "
    "ELSE (SELECT coalesce(sum(h.amount), 0)::bigint FROM bank.hold h "
    "WHERE h.account_id = a.id AND h.expires_at <= now() "
    "AND NOT EXISTS (SELECT FROM bank.hold_end x WHERE x.hold_id = h.id)) END AS held) o "
)
_ENTRIES = (
    "SELECT e.transfer_id, t.kind::text, e.amount, e.balance_after, "
    "CASE WHEN e.amount < 0 THEN t.credit_account ELSE t.debit_account END, t.reference, t.created_at "
    "FROM bank.entry e JOIN bank.transfer t ON t.id = e.transfer_id "
    "WHERE e.account_id = $1 AND e.transfer_id < $2 ORDER BY e.transfer_id DESC LIMIT $3"
)


def routes(service: Service) -> list[Route]:
    """The routes of customers and accounts."""

    async def register(request: Request) -> Response:
        body = read_body(request, _customer_decoder)
        password_hash = await service.passwords.hash(body.password)
        login = body.login.lower()
        row = await service.database.fetchrow(
            "SELECT bank.register_customer($1, $2, $3)", login, body.name, password_hash
        )
        assert row is not None  # noqa: S101 - a function returns one row
        return json_response(201, CustomerView(row[0], login, "registered"))

    async def open_account(request: Request) -> Response:
        session = await customer(service, request)
        body = read_body(request, _account_decoder)
        row = await service.database.fetchrow("SELECT bank.open_account($1, $2)", session.user_id, body.currency)
        assert row is not None  # noqa: S101 - as above
        return json_response(201, await _account(service, row[0], session.user_id))

    async def accounts(request: Request) -> Response:
        session = await customer(service, request)
        rows = await service.database.fetch(f"{_ACCOUNTS} WHERE a.customer_id = $1 ORDER BY a.id", session.user_id)
        return json_response(200, AccountList([AccountView(*row) for row in rows]))

    async def account(request: Request) -> Response:
        session = await customer(service, request)
        return json_response(200, await _account(service, request.path_id, session.user_id))

    async def entries(request: Request) -> Response:
        session = await customer(service, request)
        before, limit = _page(request.query)
        await _account(service, request.path_id, session.user_id)
        rows = await service.database.fetch(_ENTRIES, request.path_id, before, limit + 1)
        shown = [EntryView(*row) for row in rows[:limit]]
        return json_response(200, EntryPage(shown, shown[-1].transfer_id if len(rows) > limit else None))

    return [
        Route("POST", "/v1/customers", register),
        Route("POST", "/v1/accounts", open_account),
        Route("GET", "/v1/accounts", accounts),
        Route("GET", "/v1/accounts/{id}", account),
        Route("GET", "/v1/accounts/{id}/entries", entries),
    ]


async def _account(service: Service, number: int, customer_id: int) -> AccountView:
    """An own account; somebody else's is as unknown as one that does not exist."""
    row = await service.database.fetchrow(f"{_ACCOUNTS} WHERE a.id = $1 AND a.customer_id = $2", number, customer_id)
    if row is None:
        raise Problem(404, "not-found", "there is no such account")
    return AccountView(*row)


def _page(query: str) -> tuple[int, int]:
    """The cursor and the limit of a query string.

    >>> _page("cursor=17&limit=5"), _page("")
    ((17, 5), (9223372036854775807, 50))
    """
    given = parse_qs(query, keep_blank_values=True)
    cursor, limit = given.get("cursor", [str(2**63 - 1)])[0], given.get("limit", [str(PAGE)])[0]
    if not (cursor.isascii() and cursor.isdecimal() and 1 <= int(cursor[:20]) <= 2**63 - 1):
        raise Problem(422, "invalid-cursor", "cursor is the `next` of the page before")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MOST_ON_PAGE):
        raise Problem(422, "invalid-limit", f"limit is a number from 1 to {MOST_ON_PAGE}")
    return int(cursor), int(limit)
