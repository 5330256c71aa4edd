"""Which handler answers which method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from nvcbank.web.message import Problem, Request, Response

Handler = Callable[[Request], "Response | Awaitable[Response]"]
_LONGEST_ID = 18  # digits: every such number fits into 64 bits


class Route(NamedTuple):
    """A path template such as `/v1/accounts/{id}`, a method, and who answers."""

    method: str
    template: str
    handler: Handler


class Router:
    """Finds the route of a request and writes its name and id into it."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._methods: dict[str, dict[str, Handler]] = {}
        for route in routes:
            self._methods.setdefault(route.template, {})[route.method] = route.handler

    def find(self, request: Request) -> Handler:
        """The handler.

        Raises:
            Problem: 404 for an unknown path, 405 for a known path with another method.
        """
        methods = self._methods.get(request.path)
        template = request.path
        if methods is None:
            template, request.path_id = _template(request.path)
            methods = self._methods.get(template)
            if methods is None:
                raise Problem(404, "not-found", "there is nothing at this path")
        request.route = template
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods)).encode()
            raise Problem(405, "method-not-allowed", "this path has other methods", headers=b"Allow: %b\r\n" % allowed)
        return handler


def _template(path: str) -> tuple[str, int]:
    """Put {id} in the place of the number in a path.

    >>> _template("/v1/accounts/17/entries")
    ('/v1/accounts/{id}/entries', 17)
    >>> _template("/v1/accounts/x")
    ('/v1/accounts/x', 0)
    >>> _template("/v1/1/2")
    ('/v1/1/2', 0)
    """
    parts = path.split("/")
    numbers = [place for place, part in enumerate(parts) if part.isascii() and part.isdecimal()]
    if len(numbers) != 1 or len(parts[numbers[0]]) > _LONGEST_ID:
        return path, 0
    number = int(parts[numbers[0]])
    parts[numbers[0]] = "{id}"
    return "/".join(parts), number
