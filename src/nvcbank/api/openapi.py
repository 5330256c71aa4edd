"""The API's description, OpenAPI 3.1, made of the types that read and write the bodies."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from nvcbank import __version__
from nvcbank.api.customers import (
    MOST_ON_PAGE,
    AccountBody,
    AccountList,
    AccountView,
    CustomerBody,
    CustomerView,
    EntryPage,
)
from nvcbank.api.payments import Payment, PaymentBody
from nvcbank.api.sign_in import SessionBody, SessionView
from nvcbank.api.staff import (
    BlockBody,
    CaseList,
    DecisionBody,
    HoldBody,
    HoldEndView,
    HoldView,
    KycBody,
    ReasonBody,
    ReversalView,
)
from nvcbank.web.message import json_response
from nvcbank.web.router import Route


class ProblemView(msgspec.Struct, frozen=True):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class Operation(NamedTuple):
    """What the description says of one route; `refusals` are the statuses besides those every route may answer."""

    method: str
    path: str
    summary: str
    status: int
    answer: type | None
    body: type | None = None
    refusals: tuple[int, ...] = ()
    signed_in: bool = True


OPERATIONS = (
    Operation("GET", "/healthz", "Is the process alive?", 200, None, signed_in=False),
    Operation("GET", "/readyz", "Is it ready, and if not, which part is not?", 200, None, signed_in=False),
    Operation("GET", "/version", "Which version, which instance, what time does it read?", 200, None, signed_in=False),
    Operation("GET", "/metrics", "Prometheus text format.", 200, None, signed_in=False),
    Operation("GET", "/openapi.json", "This description.", 200, None, signed_in=False),
    Operation("POST", "/v1/sessions", "Sign in.", 201, SessionView, SessionBody, (401, 429), signed_in=False),
    Operation("DELETE", "/v1/sessions/current", "Sign out.", 204, None, None),
    Operation("POST", "/v1/customers", "Become a customer.", 201, CustomerView, CustomerBody, (409,), signed_in=False),
    Operation("POST", "/v1/accounts", "Open an account.", 201, AccountView, AccountBody, (403, 409)),
    Operation("GET", "/v1/accounts", "Your accounts.", 200, AccountList, None, (403,)),
    Operation("GET", "/v1/accounts/{id}", "One of your accounts.", 200, AccountView, None, (403, 404)),
    Operation("GET", "/v1/accounts/{id}/entries", "Its statement.", 200, EntryPage, None, (403, 404, 422)),
    Operation("POST", "/v1/payments", "Pay.", 201, Payment, PaymentBody, (403, 409)),
    Operation("GET", "/v1/payments/{id}", "A payment you made or received.", 200, Payment, None, (403, 404)),
    Operation("POST", "/v1/staff/sessions", "Sign in.", 201, SessionView, SessionBody, (401, 429), signed_in=False),
    Operation("POST", "/v1/staff/customers/{id}/kyc", "Staff: move KYC.", 204, None, KycBody, (403, 404, 409)),
    Operation("POST", "/v1/staff/accounts/{id}/block", "Staff: block or unblock.", 204, None, BlockBody, (403, 404)),
    Operation("POST", "/v1/staff/holds", "Staff: place a hold.", 201, HoldView, HoldBody, (403, 404, 409)),
    Operation("POST", "/v1/staff/holds/{id}/release", "Staff: end a hold.", 200, HoldEndView, ReasonBody, (403, 404)),
    Operation(
        "POST", "/v1/staff/transfers/{id}/reverse", "Supervisor: move money back.", 201, ReversalView, ReasonBody,
        (403, 404, 409),
    ),
    Operation("GET", "/v1/staff/cases", "Staff: AML cases.", 200, CaseList, None, (403,)),
    Operation("POST", "/v1/staff/cases/{id}/decision", "Close a case.", 204, None, DecisionBody, (403, 404, 409)),
)  # fmt: skip
_HEADERS = {
    "Idempotency-Key": ("1 to 128 visible ASCII characters; repeat a payment with the same key.", "^[!-~]{1,128}$")
}


def routes() -> list[Route]:
    """The route of the description."""
    description = json_response(200, document())
    return [Route("GET", "/openapi.json", lambda _request: description)]


def document() -> dict[str, Any]:
    """The whole description."""
    types = [kind for operation in OPERATIONS for kind in (operation.answer, operation.body) if kind is not None]
    names = list(dict.fromkeys([*types, ProblemView]))
    _, components = msgspec.json.schema_components(names, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nvcbank",
            "version": __version__,
            "description": "Amounts are integers in minor units; errors are RFC 9457 problem details.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()}{operation.path.replace('/', '_')}",
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    if operation.signed_in:
        described["security"] = [{"token": []}]
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{id}" in operation.path:
        number = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
        parameters.append({"name": "id", "in": "path", "required": True, "schema": number})
    if operation.path.endswith("/entries"):
        cursor = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
        limit = {"type": "integer", "minimum": 1, "maximum": MOST_ON_PAGE}
        parameters.append({"name": "cursor", "in": "query", "schema": cursor})
        parameters.append({"name": "limit", "in": "query", "schema": limit})
    if operation.body is PaymentBody:
        for name, (about, pattern) in _HEADERS.items():
            schema = {"type": "string", "pattern": pattern}
            parameters.append({"name": name, "in": "header", "required": True, "description": about, "schema": schema})
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if operation.path == "/metrics":
        answer["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif operation.status != 204:
        schema = _ref(operation.answer) if operation.answer else {"type": "object"}
        answer["content"] = {"application/json": {"schema": schema}}
    refusals = {400, 408, 413, 414, 431, 503, *operation.refusals}
    if operation.body is not None:
        refusals |= {415, 422}
    if operation.signed_in:
        refusals |= {401}
    problem = {"application/problem+json": {"schema": _ref(ProblemView)}}
    if operation.path == "/readyz":
        problem |= {"application/json": {"schema": {"type": "object"}}}
    described = {str(status): {"description": "Refused.", "content": problem} for status in sorted(refusals)}
    return {str(operation.status): answer, **described}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
