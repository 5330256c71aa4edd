"""What operations asks: are you alive, are you ready, who are you, how are you doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvcbank import __version__
from nvcbank.clock import rfc3339
from nvcbank.web.message import Request, Response, json_response
from nvcbank.web.router import Route

if TYPE_CHECKING:
    from nvcbank.service import Service

PARTS = ("database", "cache")


def routes(service: Service) -> list[Route]:
    """The routes of operations."""

    def healthz(_request: Request) -> Response:
        return json_response(200, {"status": "alive"})

    def readyz(_request: Request) -> Response:
        parts = {part: {"ok": part not in service.down, "why": service.down.get(part, "")} for part in PARTS}
        ready = not service.down and not service.draining
        status = "draining" if service.draining else "ready" if ready else "not ready"
        headers = b"" if ready else b"Retry-After: 1\r\n"
        return json_response(200 if ready else 503, {"status": status, "parts": parts}, headers)

    def version(_request: Request) -> Response:
        return json_response(
            200,
            {
                "service": "nvcbank",
                "version": __version__,
                "release": service.release,
                "instance": service.instance,
                "started": service.started,
                "now": rfc3339(service.clock.now()),
            },
        )

    def metrics(_request: Request) -> Response:
        return Response(200, service.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")

    return [
        Route("GET", "/healthz", healthz),
        Route("GET", "/readyz", readyz),
        Route("GET", "/version", version),
        Route("GET", "/metrics", metrics),
    ]
