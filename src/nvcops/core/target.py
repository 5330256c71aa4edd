"""The sockets: what a room may ask of the platform. Adapters implement them; dry run and tests plug in others.

Every call has a deadline of its own and raises a TargetError when nothing is known: Unreachable, DeadlineExceeded,
Refused. Nothing is retried in here: unknown is not failed, and the room decides what it means.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from nvcops.core.backups import Backups
from nvcops.core.caches import Cache, Sweeper
from nvcops.core.clients import Clients
from nvcops.core.clones import Clones
from nvcops.core.cluster import Cluster, Control
from nvcops.core.commits import Commits
from nvcops.core.errors import TargetError
from nvcops.core.files import PlatformFiles
from nvcops.core.gates import Gates
from nvcops.core.manifest import Manifest
from nvcops.core.queries import Rows
from nvcops.core.records import Records
from nvcops.core.releases import Releases
from nvcops.core.restores import Restores
from nvcops.core.rollouts import Balancer, Looks, Slots
from nvcops.core.runs import RunRecord
from nvcops.core.schedule import Due
from nvcops.core.slo import Exclusion
from nvcops.core.statements import Statements
from nvcops.core.upkeep import Upkeep


class Question(msgspec.Struct, frozen=True):
    """A GET of a path: from one instance of a service, or as a customer asks where none is named."""

    service: str
    path: str
    instance: str = ""

    @property
    def subject(self) -> str:
        """Who is asked: the instance, else the service."""
        return self.instance or self.service


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer: status code, seconds from the first byte sent to the last received, body (at most 1 MiB).

    `received` is our clock at the last byte, in UTC.
    """

    status: int
    seconds: float
    body: bytes
    received: dt.datetime


class Services(Protocol):
    """The services behind HTTP, at the address of their customers and at each instance."""

    def ask(self, questions: Sequence[Question]) -> list[Answer | TargetError]:
        """Ask all of them side by side; the answers in the questions' order, and an error where none came.

        No redirect is followed. It takes as long as the slowest, and none longer than its service's deadline.
        """
        ...


class Database(Protocol):
    """One PostgreSQL server, read with least privilege in a read-only session."""

    @property
    def name(self) -> str: ...

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of a query (at most 10,000), as dictionaries by column name."""
        ...

    def read(self, queries: Mapping[str, str]) -> dict[str, Rows | TargetError]:
        """Several queries by name in one session; one that the server refuses has its error, the others go on.

        Raises:
            TargetError: no session, or the deadline passed: then nothing is known.
        """
        ...


class ProxyServer(msgspec.Struct, frozen=True):
    """One line of HAProxy's `show stat`: a server of a backend; `changed_s` is how long it has been in that status."""

    backend: str
    server: str
    status: str
    check: str
    changed_s: float
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
    """`first` and `last` are the moments of the first and last scrape in the window, None where there is none.

    `observed_s` is how much of the window was watched: gaps in which nobody asked are not in it. `pages` says when the
    metrics of each instance (empty: of the front door) were last read.
    """

    asked: int
    ready: int
    observed_s: float
    first: dt.datetime | None
    last: dt.datetime | None
    pages: dict[str, dt.datetime] = {}


class Answers(msgspec.Struct, frozen=True):
    """How often an instance (empty: the front door) answered whether it is ready; seconds on average."""

    instance: str
    count: int
    mean_s: float


class Change(msgspec.Struct, frozen=True):
    """Something about a service (`instance` empty: its front door) or an instance was seen to change.

    `what` is "ready", "version" or "start"; `before` is empty the first time that it was seen.
    """

    time: dt.datetime
    service: str
    instance: str
    what: str
    before: str
    after: str


class Sample(msgspec.Struct, frozen=True):
    """The newest reading of a gauge, for one set of labels."""

    labels: dict[str, str]
    value: float
    time: dt.datetime


class Series(Protocol):
    """Series of the services: in our own file, or in any server with Prometheus' HTTP API.

    Raises:
        TargetError: nothing is known.
    """

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        """How much each labelled counter of that name rose between two moments, all instances together."""
        ...

    def samples(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Sample]:
        """The newest reading of each labelled gauge of that name between two moments; its instance is a label."""
        ...


class Metrics(Series, Protocol):
    """Series scraped off the services' /metrics, kept for 24 hours and more."""

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        """How often a service's front door was asked in that time, and how often it was ready."""
        ...

    def answers(self, service: str, start: dt.datetime, end: dt.datetime) -> list[Answers]:
        """How quickly a service and its instances answered; only as far back as single readings are kept."""
        ...

    def changes(self, start: dt.datetime, end: dt.datetime) -> list[Change]:
        """What was seen to change between two moments, oldest first; at most the newest 1,000."""
        ...


MALFORMED = "log.malformed"


class LogEvent(msgspec.Struct, frozen=True):
    """One line of a log: its own time, who wrote it, its event's name, and its fields.

    A line that cannot be parsed is an event too, MALFORMED, at the time of the line before it: nothing is dropped.
    """

    time: dt.datetime
    source: str
    event: str
    fields: dict[str, Any]


class Logs(Protocol):
    """The logs that the manifest names: each service's by the service's name, PostgreSQL's by the primary's."""

    @property
    def sources(self) -> Sequence[str]: ...

    def events(
        self, source: str, start: dt.datetime, end: dt.datetime, names: Collection[str] = ()
    ) -> Iterator[LogEvent]:
        """The events of a source between two moments, rotated files included, oldest file first.

        Only those of the given names, and malformed lines; all of them where no names are given.

        Raises:
            Unreachable: the log cannot be read.
        """
        ...

    def begins(self, source: str) -> dt.datetime | None:
        """The time of the first event that is still there; None of an empty log. Raises as `events` does."""
        ...


class RunHistory(Protocol):
    """The runs of this platform, as they stand in the journal.

    Raises:
        StateError: they cannot be read.
    """

    def run(self, run: str) -> RunRecord:
        """One run with its steps; raises NotFoundError where there is none."""
        ...

    def between(self, start: dt.datetime, end: dt.datetime) -> list[RunRecord]:
        """The runs that were under way at some moment between two, without their steps, newest first; at most 100."""
        ...

    def requester(self, run: str) -> tuple[str, str]:
        """Who asked for a run, and the fingerprint of the key that they signed with; empty where they did not."""
        ...

    def last(self, procedure: str, count: int) -> list[RunRecord]:
        """The last runs of a procedure that ended and were no rehearsal, without their steps; at most 100."""
        ...

    def missed(self, start: dt.datetime, end: dt.datetime) -> list[Due]:
        """What was due between two moments and was missed, oldest first; at most 100."""
        ...

    def approved(self, start: dt.datetime, end: dt.datetime) -> list[Exclusion]:
        """The time between two moments that runs took which a second person approved, oldest first; at most 1,000.

        From the approval on, until the run ended; of one that still goes on until `end`, and of none more than 4 h.
        """
        ...


class Booked(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the books; `value` None: it could not be had, and `why` not."""

    title: str
    value: float | None = None
    why: str = ""


class Ledger(Protocol):
    """What the service's own books say of a time."""

    def booked(self, start: dt.datetime, end: dt.datetime) -> list[Booked]:
        """Each figure of the moments from `start` to `end`.

        Raises:
            ManifestError: the file that says what is asked cannot be read.
        """
        ...


class Alarm(Protocol):
    """Where an alert of our own is said: it comes in as any other does."""

    def say(self, labels: Mapping[str, str], annotations: Mapping[str, str], *, over: bool = False) -> None:
        """Say an alert, or that it is over; it is durable when this returns.

        Raises:
            StateError: the records cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The platform as a procedure sees it. What the manifest does not name is None or empty."""

    manifest: Manifest
    services: Services
    database: Database | None
    standbys: Sequence[Database]
    cache: Cache | None
    proxy: Proxy | None
    host: Host
    metrics: Metrics
    logs: Logs
    control: Control
    backups: Backups | None = None
    files: PlatformFiles | None = None
    restores: Restores | None = None
    clones: Clones | None = None
    releases: Releases | None = None
    gates: Gates | None = None
    slots: Slots | None = None
    balancer: Balancer | None = None
    looks: Looks | None = None
    upkeep: Upkeep | None = None
    statements: Statements | None = None
    sweeper: Sweeper | None = None
    cluster: Cluster | None = None
    clients: Clients | None = None
    records: Records | None = None
    runs: RunHistory | None = None
    commits: Commits | None = None
    ledger: Ledger | None = None
    alarm: Alarm | None = None
