"""python -m nvclab.pager --port P --file F.

POST /PERSON/CHANNEL     a page: JSON, as apprise's json:// and webhooks send it
GET  /-/behaviour        how it behaves now
PUT  /-/behaviour        {"way": "take|refuse|hang|slow|close", "seconds": 5, "only": "/dana/sms"}; one that changed
                         lets go of whoever hangs
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from nvclab.json_lines import JsonLines
from nvclab.pager.pages import BEHAVIOUR, REFUSED, TAKEN, Behaviour, Page, Way

BODY_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 64 << 20
CONNECTIONS_MAX = 256
HANG_S_MAX = 600.0
IDLE_S = 30.0


@dataclass
class Desk:
    """What arrived, and how the next one is met."""

    lines: JsonLines
    behaviour: Behaviour = field(default_factory=Behaviour)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def change(self, behaviour: Behaviour) -> None:
        """Behave so from now on."""
        with self._changed:
            self.behaviour = behaviour
            self._changed.notify_all()

    def arrived(self, path: str, key: str, body: Any) -> int | None:
        """Keep a page; the status to answer, after the wait that belongs to it. None: hang up."""
        with self._changed:
            met = self.behaviour
            way = met.towards(path)
            status = {Way.REFUSE: REFUSED, Way.HANG: None, Way.CLOSE: None}.get(way, TAKEN)
            self.lines.write([asdict(Page(time.time(), path, key, body, way.value, status))])
            wait_s = {Way.HANG: HANG_S_MAX, Way.SLOW: met.seconds}.get(way, 0.0)
            if wait_s:
                self._changed.wait_for(lambda: self.behaviour != met, wait_s)
        return status


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: Server

    def do_GET(self) -> None:
        """Say how it behaves."""
        if self.path == BEHAVIOUR:
            self._answer(HTTPStatus.OK, asdict(self.server.desk.behaviour))
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"pages are posted; {BEHAVIOUR} says how they are met"})

    def do_PUT(self) -> None:
        """Behave otherwise."""
        body = self._body()
        if body is None or self.path != BEHAVIOUR:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"a JSON object is put to {BEHAVIOUR}"})
            return
        try:
            said = json.loads(body)
            behaviour = Behaviour(**{**said, "way": Way(said["way"])})
        except (ValueError, TypeError, KeyError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"not understood: {error!r}"})
            return
        self.server.desk.change(behaviour)
        self._answer(HTTPStatus.OK, asdict(behaviour))

    def do_POST(self) -> None:
        """Take a page, or what the behaviour makes of it."""
        body = self._body()
        if body is None:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"at most {BODY_BYTES_MAX} bytes"})
            return
        try:
            said = json.loads(body)
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "a page is JSON"})
            return
        path = self.path.partition("?")[0]
        status = self.server.desk.arrived(path, self.headers.get("Idempotency-Key", ""), said)
        if status is None:
            self.close_connection = True
        else:
            self._answer(HTTPStatus(status), {"status": status})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: what matters stands in the file."""

    def _body(self) -> bytes | None:
        """The request's body; None where it is too long, or does not say how long it is."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """A thread per connection, at most CONNECTIONS_MAX of them: more wait at the door."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, port: int, desk: Desk) -> None:
        self.desk = desk
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer when there is a thread to spare."""
        self._slots.acquire()  # the thread that answers releases it
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let the log tell of errors, but not of callers who went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def main(port: int, path: Path) -> None:
    """Take pages until SIGTERM."""
    Server(port, Desk(JsonLines(path, FILE_BYTES_MAX))).serve_forever()


if __name__ == "__main__":
    main()
