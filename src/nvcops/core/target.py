"""The sockets: what a room may ask of the platform. Adapters implement them; dry run and tests plug in others.

Every call has a deadline of its own and raises a TargetError when nothing is known: Unreachable, DeadlineExceeded,
Refused. Nothing is retried in here: unknown is not failed, and the room decides what it means.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from nvcops.core.manifest import Manifest


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer: status code, seconds from the first byte sent to the last received, body (at most 1 MiB)."""

    status: int
    seconds: float
    body: bytes


class Service(Protocol):
    """A service behind HTTP: at the address of its customers, and at each instance."""

    @property
    def name(self) -> str: ...
    @property
    def instances(self) -> Sequence[str]:
        """Names of the instances, in the manifest's order."""
        ...

    def get(self, path: str, *, instance: str | None = None) -> Answer:
        """GET a path from one instance, or as a customer does where none is named."""
        ...

    def get_all(self, path: str) -> Mapping[str, Answer | Exception]:
        """GET a path from all instances at once; an instance that did not answer has its TargetError."""
        ...


class Database(Protocol):
    """One PostgreSQL server, read with least privilege in a read-only session."""

    @property
    def name(self) -> str: ...

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of a query (at most 10,000), as dictionaries by column name."""
        ...


class Cache(Protocol):
    """A Valkey or Redis server."""

    @property
    def name(self) -> str: ...

    def info(self) -> Mapping[str, Any]:
        """The fields of `INFO everything`."""
        ...


class ProxyServer(msgspec.Struct, frozen=True):
    """One line of HAProxy's `show stat`: a server of a backend."""

    backend: str
    server: str
    status: str
    check: str
    down_s: float
    sessions: int


class Proxy(Protocol):
    """A load balancer."""

    @property
    def name(self) -> str: ...

    def servers(self) -> list[ProxyServer]:
        """Every server of every backend."""
        ...


class Disk(msgspec.Struct, frozen=True):
    """Bytes used of bytes there."""

    used: int
    size: int


class Certificate(msgspec.Struct, frozen=True):
    """A certificate as a customer sees it in the handshake; `trusted` is empty when the chain and the name verify."""

    subject: str
    issuer: str
    not_before: dt.datetime
    not_after: dt.datetime
    key: str
    distrust: str


class Host(Protocol):
    """The machine that nvcops runs on, and what can be seen from it."""

    def disk(self, name: str) -> Disk:
        """How full a disk of the manifest is."""
        ...

    def certificate(self, name: str) -> Certificate:
        """A certificate of the manifest, off the handshake."""
        ...

    def now(self) -> dt.datetime:
        """The machine's clock, in UTC."""
        ...


class Increase(msgspec.Struct, frozen=True):
    """How much a counter rose in a window, for one set of labels (restarts of the counter are bridged)."""

    labels: dict[str, str]
    value: float


class ScrapeSummary(msgspec.Struct, frozen=True):
    """`first` and `last` are the moments of the first and last scrape in the window, None where there is none."""

    asked: int
    ready: int
    first: dt.datetime | None
    last: dt.datetime | None


class Metrics(Protocol):
    """Series scraped off the services' /metrics, kept for 24 hours and more."""

    def increases(self, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        """How much each labelled counter of that name rose between two moments."""
        ...

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        """How often a service's front door was asked in that time, and how often it was ready."""
        ...


class LogEvent(msgspec.Struct, frozen=True):
    """One line of a log: its own time, who wrote it, its event's name, and its fields.

    A line that cannot be parsed is an event too, "log.malformed", at the time of the line before it: nothing is dropped.
    """

    time: dt.datetime
    source: str
    event: str
    fields: dict[str, Any]


class Logs(Protocol):
    """The logs that the manifest names."""

    @property
    def sources(self) -> Sequence[str]: ...

    def events(self, source: str, start: dt.datetime, end: dt.datetime) -> Iterator[LogEvent]:
        """The events of a source between two moments, rotated files included, in the file's order; Unreachable if unread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The platform as a procedure sees it. What the manifest does not name is None or empty."""

    manifest: Manifest
    services: Sequence[Service]
    database: Database | None
    standbys: Sequence[Database]
    cache: Cache | None
    proxy: Proxy | None
    host: Host
    metrics: Metrics
    logs: Logs
