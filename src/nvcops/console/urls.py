"""Where everything is: the paths of the door, and how an error is answered."""

from __future__ import annotations

import hmac

from django.http import HttpRequest, HttpResponse
from django.urls import path
from ninja import NinjaAPI
from ninja.security import HttpBearer

from nvcops.console import aftermath, alertmanager, intake, metrics, people
from nvcops.console.served import served
from nvcops.core.errors import NotAllowed, NotFoundError, NvcopsError, StateError, UsageError

_RETRY_AFTER_S = 5


class Token(HttpBearer):
    """`Authorization: Bearer ...`: the token of [alerts] token_file; where there is none, no program is asked.

    A page that somebody's browser shows is no program: it may be anybody's, and could acknowledge what it never saw.
    """

    def __call__(self, request: HttpRequest) -> object:
        """Whether the request may go on."""
        if served().token:
            return super().__call__(request)
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            raise NotAllowed("a page in a browser asks without a token", hint="[alerts] token_file names one")
        return True

    def authenticate(self, request: HttpRequest, token: str) -> object:
        """Whether it is the token, in a time that tells nothing of how much of it was right."""
        return hmac.compare_digest(token.encode(), served().token.encode()) or None


api = NinjaAPI(title="nvcops", version="1", auth=Token(), docs_url=None, urls_namespace="nvcops")
api.add_router("", intake.router)
api.add_router("", alertmanager.router)
api.add_router("", people.router)
api.add_router("", aftermath.router)
api.add_router("", metrics.router)


@api.exception_handler(NvcopsError)
def refused(request: HttpRequest, error: Exception) -> HttpResponse:
    """Our errors are sentences with a hint over HTTP too."""
    assert isinstance(error, NvcopsError)  # noqa: S101 - that is what it is registered for
    status = 500
    for kind, code in (
        (intake.TooManyError, 429),
        (NotFoundError, 404),
        (NotAllowed, 403),
        (UsageError, 400),
        (StateError, 503),
    ):
        if isinstance(error, kind):
            status = code
            break
    response = api.create_response(request, {"error": error.sentence, "hint": error.hint}, status=status)
    if status in (429, 503):
        response["Retry-After"] = str(_RETRY_AFTER_S)
    return response


def alive(request: HttpRequest) -> HttpResponse:
    """This process answers; its supervisor asks here: to begin it anew helps only where it does not."""
    return HttpResponse("ok\n", content_type="text/plain")


def healthy(request: HttpRequest) -> HttpResponse:
    """What comes in becomes pages; its peer asks here, and tells somebody where it does not."""
    why = served().trouble()
    return HttpResponse(f"{why or 'ok'}\n", status=503 if why else 200, content_type="text/plain; charset=utf-8")


urlpatterns = [path("healthz", healthy), path("-/healthy", alive), path("-/ready", healthy), path("", api.urls)]
