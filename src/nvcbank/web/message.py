"""Requests and responses, and errors as RFC 9457 problem details."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

JSON = b"application/json"
PROBLEM = b"application/problem+json"
RETRY_AFTER_S = 1

_encode = msgspec.json.Encoder().encode
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request:
    """One request. `path_id` is the number in the path, where the route has one; header names are lower case."""

    __slots__ = ("body", "headers", "id", "method", "path", "path_id", "query", "route", "started")

    def __init__(self, method: str, path: str, query: str, headers: dict[bytes, bytes], body: bytes) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.id = ""
        self.route = "unknown"
        self.path_id = 0
        self.started = 0.0


class Response:
    """A status, a body, and further headers as raw lines, each with its line end."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", content_type: bytes = JSON, headers: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers

    def wire(self, request_id: str, *, close: bool, with_body: bool = True) -> bytes:
        """The bytes to send."""
        return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n%b%b%b\r\n%b" % (
            self.status,
            _REASONS[self.status],
            self.content_type,
            len(self.body),
            request_id.encode(),
            b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.headers,
            b"Connection: close\r\n" if close else b"",
            self.body if with_body else b"",
        )


def json_response(status: int, content: Any, headers: bytes = b"") -> Response:
    """A response with a JSON body."""
    return Response(status, _encode(content), JSON, headers)


class Problem(Exception):
    """A refusal that a client reads: status, a stable `kind` for programs, a sentence for people."""

    def __init__(self, status: int, kind: str, detail: str, *, headers: bytes = b"", **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.more = more

    def response(self, request_id: str) -> Response:
        """RFC 9457: type, title, status, detail; the request's id is the instance."""
        content = {
            "type": f"urn:nvcbank:problem:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:nvcbank:request:{request_id}",
            **self.more,
        }
        return Response(self.status, _encode(content), PROBLEM, self.headers)


def unavailable(detail: str, *, kind: str = "unavailable", retry_after_s: int = RETRY_AFTER_S) -> Problem:
    """503: nothing is wrong with the request; send it again later."""
    return Problem(503, kind, detail, headers=b"Retry-After: %d\r\n" % retry_after_s)
