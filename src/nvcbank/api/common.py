"""What every resource needs: reading bodies, knowing who asks, translating errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeVar

import asyncpg
import msgspec

from nvcbank.errors import OutcomeUnknown, PartDown
from nvcbank.passwords import Overloaded as PasswordsOverloaded
from nvcbank.posting import KeyConflict
from nvcbank.posting import Overloaded as PaymentsOverloaded
from nvcbank.web.message import Problem, Request, unavailable

if TYPE_CHECKING:
    from nvcbank.service import Service
    from nvcbank.sessions import Session

MOST_MINOR = 10**15
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
Login = Annotated[str, msgspec.Meta(min_length=3, max_length=254, pattern=r"^[^\x00-\x20\x7f]+$")]
Password = Annotated[str, msgspec.Meta(min_length=8, max_length=200)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$")]
Minor = Annotated[int, msgspec.Meta(ge=1, le=MOST_MINOR)]
Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

B = TypeVar("B", bound=msgspec.Struct)


class Body(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A request's body: what is not known is refused."""


def read_body(request: Request, decoder: msgspec.json.Decoder[B]) -> B:
    """The typed body.

    Raises:
        Problem: 415 for another media type, 400 for what is not JSON, 422 for JSON of another shape.
    """
    media_type = request.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise Problem(415, "unsupported-media-type", "send application/json")
    try:
        return decoder.decode(request.body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-body", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "not-json", "the body is not JSON") from None


def bearer_token(request: Request) -> bytes:
    """The bearer token of a request.

    Raises:
        Problem: 401 when there is none.
    """
    given = request.headers.get(b"authorization", b"")
    if given[:7].lower() != b"bearer " or not 20 <= len(given) - 7 <= 100:
        raise unauthorized("sign in first: POST /v1/sessions")
    return given[7:]


def unauthorized(detail: str) -> Problem:
    """401 with the scheme that is expected."""
    return Problem(401, "unauthorized", detail, headers=b'WWW-Authenticate: Bearer realm="nvcbank"\r\n')


def trusted_customer(service: Service, request: Request) -> Session | None:
    """The customer who asks, if their token was seen a moment ago; None means: look it up.

    Raises:
        Problem: 401 without a token, 403 for staff.
    """
    session = service.sessions.trusted(bearer_token(request), asyncio.get_running_loop().time())
    return session if session is None else _must_be(session, "customer")


async def customer(service: Service, request: Request) -> Session:
    """The customer who asks. Raises Problem, PartDown."""
    return _must_be(await _session(service, request), "customer")


async def staff(service: Service, request: Request) -> Session:
    """The staff user who asks. Raises Problem, PartDown."""
    return _must_be(await _session(service, request), "staff")


async def _session(service: Service, request: Request) -> Session:
    token = bearer_token(request)
    session = service.sessions.trusted(token, asyncio.get_running_loop().time())
    if session is None:
        session = await service.sessions.find(token)
    if session is None:
        raise unauthorized("this token is not, or no longer, valid")
    return session


def _must_be(session: Session, kind: str) -> Session:
    if session.kind != kind:
        raise Problem(403, "forbidden", f"this is for {kind} users")
    return session


# Our own SQLSTATEs say their HTTP status: BK404 is "there is no such ...".
_REFUSALS = {"BK403": "forbidden", "BK404": "not-found", "BK409": "conflict", "BK422": "invalid"}


def to_problem(error: Exception) -> Problem | None:
    """What a client is told about an error; None for a bug, which is logged and answered with 500."""
    match error:
        case Problem():
            problem = error
        case OutcomeUnknown():
            detail = f"the {error.part} did not say whether it was done; repeat a payment with the same key to know"
            problem = unavailable(detail, kind="outcome-unknown")
        case PartDown():
            problem = unavailable(f"the {error.part} is not available; a payment may be repeated with the same key")
        case PasswordsOverloaded() | PaymentsOverloaded():
            problem = unavailable(error.sentence, kind="overloaded")
        case KeyConflict():
            problem = Problem(409, "idempotency-conflict", error.sentence)
        case asyncpg.PostgresError() if error.sqlstate in _REFUSALS:
            problem = Problem(int(error.sqlstate[2:]), _REFUSALS[error.sqlstate], str(error))
        case asyncpg.QueryCanceledError():
            problem = unavailable("the database did not answer in time")
        case _:
            return None
    return problem
