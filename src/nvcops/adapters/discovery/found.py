"""What `nvcops init` is asked to look at, and what it found there: plain types between asking and writing."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nvcops.core.manifest import CacheEntry, DatabaseEntry, Events, Instance


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look. Entries carry addresses and the place of a password, never the password."""

    service: str = ""
    instances: tuple[Instance, ...] = ()
    ca_file: Path | None = None
    database: DatabaseEntry | None = None
    cache: CacheEntry | None = None
    proxy_socket: Path | None = None
    log: Path | None = None
    person: str = ""


class Note(msgspec.Struct, frozen=True):
    """One line of the answer: something that was found, or that was not, with what to do about it."""

    part: str
    found: bool
    text: str
    hint: str = ""


class Choice(msgspec.Struct, frozen=True):
    """A metric that was chosen, the label that matters in it, why it was, and what else it could have been."""

    name: str
    label: str
    why: str
    others: tuple[str, ...] = ()


class SeriesFound(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen metrics; None where the page holds none that fits."""

    requests: Choice | None = None
    latency: Choice | None = None
    outcomes: Choice | None = None
    outcome_title: str = ""


class ServiceFound(msgspec.Struct, frozen=True, kw_only=True):
    """A service that answers; `ready`, `version` and `metrics` are paths, empty where there are none."""

    url: str
    ready: str
    version: str = ""
    metrics: str = ""
    series: SeriesFound | None = None
    instances: tuple[Instance, ...] = ()
    ca_file: Path | None = None


class LogFound(msgspec.Struct, frozen=True, kw_only=True):
    """A log of events: the names that were seen in it, and those of them that are about security."""

    path: Path
    names: tuple[str, ...]
    events: Events


class StandbyFound(msgspec.Struct, frozen=True, kw_only=True):
    """A standby that streams from the primary. `reached`: it answers at that host under the primary's port."""

    name: str
    host: str
    reached: bool


class DatabaseFound(msgspec.Struct, frozen=True, kw_only=True):
    """A PostgreSQL server that let us in. Empty strings stand for what it does not say, or what is out of our sight."""

    entry: DatabaseEntry
    version: str
    standbys: tuple[StandbyFound, ...] = ()
    log: str = ""
    data_directory: str = ""
    indexes: tuple[str, ...] = ()


class CacheFound(msgspec.Struct, frozen=True, kw_only=True):
    """A cache that answers."""

    entry: CacheEntry
    version: str


class PersonFound(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked: the first entry of the roster. `key` is the line of a public key, empty where there is none."""

    name: str
    full_name: str
    key: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    host: str
    time_zone: str
    person: PersonFound
    service: ServiceFound | None = None
    database: DatabaseFound | None = None
    cache: CacheFound | None = None
    proxy_socket: Path | None = None
    backends: tuple[str, ...] = ()
    certificate: str = ""
    log: LogFound | None = None
    notes: tuple[Note, ...] = ()
