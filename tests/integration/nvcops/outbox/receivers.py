"""Receivers of messages as they are in the world: they take them, refuse, hang, drip, or close the door."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

from nvcops.adapters.outbox.sender import Sender
from nvcops.core.alerts import Category
from nvcops.core.manifest import Contact, Contacted, EvidenceEntry, Manifest, Person, Platform
from nvcops.core.manifest.operations import OncallEntry
from nvcops.core.oncall import Message
from nvcops.core.records import Records

HEADER = "X-Nvcops-Message"
PATIENCE_S = 30.0


@dataclass
class Receiver:
    """A web service; the first word of a path says how it behaves: /ok, /500, /404, /hang, /drip, /close."""

    port: int
    taken: list[SimpleNamespace] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.port}/{how}"

    def apprise(self, how: str) -> str:
        return f"json://127.0.0.1:{self.port}/{how}"

    def ids(self, how: str = "ok") -> list[str]:
        return [one.id for one in self.taken if one.path.startswith(f"/{how}")]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        there = self.server.there
        body = self.rfile.read(int(self.headers["Content-Length"]))
        there.taken.append(SimpleNamespace(path=self.path, id=self.headers[HEADER], body=body, headers=self.headers))
        getattr(self, f"_{self.path.split('/')[1].split('?')[0]}")(there)

    def _ok(self, _there: Receiver) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _500(self, _there: Receiver) -> None:
        self.send_error(500)

    def _404(self, _there: Receiver) -> None:
        self.send_error(404)

    def _hang(self, there: Receiver) -> None:
        there.stop.wait(PATIENCE_S)

    def _drip(self, there: Receiver) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not there.stop.wait(0.2):
            self.wfile.write(b"X")

    def _close(self, _there: Receiver) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_about: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # whoever asked went away
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    there: Receiver


@contextmanager
def receiver() -> Iterator[Receiver]:
    server = Server(("127.0.0.1", 0), Handler)
    server.there = there = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield there
    finally:
        there.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def platform(folder: Path, people: dict[str, list[str]], *, attempts_max: int = 6) -> Manifest:
    """A platform with people and the addresses of their channels; `boss` is a contact, the others are staff."""
    ways = {
        name: tuple(
            Contact(kind="chat", url=url) if "://" in url else Contact(kind="sms", url_file=folder / url)
            for url in urls
        )
        for name, urls in people.items()
    }
    staff = [
        Person(name=name, full_name=name, roles=("operator",), contacts=ways[name]) for name in ways if name != "boss"
    ]
    boss = Contacted(name="boss", title="CTO", kind="management", contacts=ways.get("boss", ()))
    return Manifest(
        platform=Platform(name="t", title="T", state=folder / "state"),
        evidence=EvidenceEntry(origin="t.example.com/o"),
        people=tuple(staff),
        contacts=(boss,),
        oncall=OncallEntry(attempts_max=attempts_max),
    )


@dataclass
class Sending:
    """A sender at work, and what it said."""

    told: list[str] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)


@contextmanager
def sending(
    records: Records,
    manifest: Manifest,
    *,
    hooks: Callable[[str], list[SimpleNamespace]] = lambda _name: [],
    deadline_s: float = 2.0,
) -> Iterator[Sending]:
    seen, stop = Sending(), threading.Event()
    sender = Sender(
        records,
        manifest,
        hooks=hooks,
        dead=lambda _desk, message, _at: seen.dead.append(message),
        notify=seen.told.append,
        deadline_s=deadline_s,
    )
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def hook(url: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(url=url, url_file=None)]


CRITICAL = Category.CRITICAL
