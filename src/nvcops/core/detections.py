"""Security events by the names of the Open Cybersecurity Schema Framework (OCSF), what is detected in them, episodes.

An event is flat: its fields stand under OCSF's dotted paths, so that a rule, a column of a table and a parser say the
same words. Classes: https://schema.ocsf.io
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import msgspec

Value = str | int | float
RAW = "raw_data"
UNMAPPED = "unmapped."


class Class(IntEnum):
    """What kind of thing an event tells: OCSF's class_uid."""

    BASE = 0
    FILE = 1001
    PROCESS = 1007
    ACCOUNT = 3001
    AUTHENTICATION = 3002
    ENTITY = 3004
    PRIVILEGE = 3005
    NETWORK = 4001
    HTTP = 4002
    CONFIGURATION = 5019
    LIFECYCLE = 6002
    API = 6003
    DATASTORE = 6005


FIELDS: Mapping[str, type] = {
    "class_uid": int,
    "activity_name": str,
    "status": str,
    "severity": str,
    "status_code": str,
    "status_detail": str,
    "message": str,
    RAW: str,
    "metadata.product": str,
    "metadata.log_name": str,
    "metadata.event_code": str,
    "metadata.uid": str,
    "actor.user.name": str,
    "actor.user.uid": str,
    "actor.app_name": str,
    "actor.session.uid": str,
    "actor.process.pid": int,
    "user.name": str,
    "user.uid": str,
    "group.name": str,
    "privileges": str,
    "src_endpoint.ip": str,
    "src_endpoint.port": int,
    "dst_endpoint.port": int,
    "device.hostname": str,
    "service.name": str,
    "auth_protocol": str,
    "http_request.http_method": str,
    "http_request.url.path": str,
    "http_request.url.url_string": str,
    "http_request.args": str,
    "http_request.user_agent": str,
    "http_response.code": int,
    "http_response.length": int,
    "duration": float,
    "database.name": str,
    "query_info.query_string": str,
    "query_info.data": str,
    "query_info.definition": str,
    "file.path": str,
    "process.name": str,
    "process.cmd_line": str,
    "process.file.path": str,
    "process.working_directory": str,
    "api.operation": str,
    "api.service.name": str,
    "resource.uid": str,
}
"""The fields that a rule may name, and their types. Beside them `unmapped.NAME`, always text.

`query_info.data` is a statement without comments, texts and line breaks, in small letters, and
`query_info.definition` the bodies of the functions that it makes; `http_request.args` is path and query with
percent-encoding taken off. Durations are in seconds.
"""

ASSIGNED = frozenset({"class_uid", "activity_name", "status", "severity", "metadata.product", "metadata.log_name"})
"""Fields whose values a parser assigns: their text does not stand in the line."""


class Event(msgspec.Struct, kw_only=True):
    """One line of a log. `time` is in milliseconds since 1970, UTC.

    `source` names the log, `route` (product, service) decides which rules look at it. `verbatim` says that every
    text in `fields`, those ASSIGNED apart, stands in the line as it is. A line that is no event of its format is of the
    class BASE, with `trouble`.
    """

    time: int
    source: str
    route: tuple[str, str]
    fields: dict[str, Value]
    verbatim: bool = True
    trouble: str = ""


class Level(IntEnum):
    """How bad it is if it is true: Sigma's levels."""

    INFORMATIONAL = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Evidence(msgspec.Struct, frozen=True):
    """A line that shows it: its time, its log, the line with what is secret masked, SHA-256 of the line as it is."""

    time: dt.datetime
    source: str
    line: str
    sha256: str


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that an event fulfilled, or completed. `technique` is ATT&CK's, as in "T1110.001", or empty.

    `actors` who, `touched` what; `signed_in`: the actor is somebody, not just an address. `evidence` are the lines that
    were not yet in an earlier detection of the same.
    """

    rule: str
    title: str
    level: Level
    technique: str
    time: int
    actors: tuple[str, ...]
    touched: tuple[str, ...]
    signed_in: bool
    evidence: tuple[Evidence, ...]


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs together: detections of one technique by one actor, or upon one target from several addresses.

    `rules` are the rules' names with their counts; `actors` and `touched` are the first so many, in order of
    appearance, of `actor_count` and `touched_count`; `count` is the lines'. `explanation` names the change
    window that it fell into.
    """

    id: str
    title: str
    level: Level
    techniques: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]
    first: dt.datetime
    last: dt.datetime
    count: int
    actors: tuple[str, ...]
    actor_count: int
    touched: tuple[str, ...]
    touched_count: int
    evidence: tuple[Evidence, ...]
    explanation: str = ""


class Window(msgspec.Struct, frozen=True):
    """A time in which somebody was allowed to change something, and what it was called."""

    name: str
    start: dt.datetime
    end: dt.datetime
    subjects: Sequence[str] = ()


def instant(milliseconds: int) -> dt.datetime:
    """An event's time as a datetime.

    >>> instant(1_500).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)


def milliseconds(time: dt.datetime) -> int:
    """An aware datetime as an event's time.

    >>> milliseconds(instant(-1))
    -1
    """
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_INTEGER = range(-(2**63), 2**63)


def typed(fields: Mapping[str, Any]) -> dict[str, Value]:
    """Fields with the types that FIELDS gives them; what has no such value is left out, what has no name is unmapped.

    >>> typed({"http_response.code": "200", "duration": 1, "user.name": 7, "seen": True, "status": None})
    {'http_response.code': 200, 'duration': 1.0, 'user.name': '7', 'unmapped.seen': 'true'}
    """
    found: dict[str, Value] = {}
    for name, value in fields.items():
        kind = FIELDS.get(name)
        if kind is str and value.__class__ is str:  # most are
            found[name] = value
            continue
        if value is None:
            continue
        key = name if kind is not None or name.startswith(UNMAPPED) else UNMAPPED + name
        converted = _converted(value, kind or str)
        if converted is not None:
            found[key] = converted
    return found


def _converted(value: Any, kind: type) -> Value | None:
    if kind is str:
        return value if isinstance(value, str) else written(value)
    try:
        number: int | float = kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if (number in _INTEGER if kind is int else math.isfinite(number)) else None


def written(value: Any) -> str:
    """A JSON value as text.

    >>> written(True), written(1.5), written([1, "a"])
    ('true', '1.5', '[1,"a"]')
    """
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
