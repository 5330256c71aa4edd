"""What an alert is, and what decides where it goes: categories, matchers, silences, groups. Pure.

The words and their meaning are Alertmanager's, so that its configuration and its clients can be taken as they are.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

import msgspec
import re2

LABELS_MAX = 64  # more is a mistake or an attack: an alert with more is refused
LABEL_BYTES_MAX = 4_096
ALERTNAME = "alertname"
PROBE_DOWN, LIMIT_EXCEEDED = "ProbeDown", "LimitExceeded"  # a look that failed, and a figure of one that did not
CATEGORY_LABELS = ("category", "severity", "priority")
PATTERN_LENGTH_MAX = 1_000
_PATTERN_BYTES_MAX = 1 << 20  # of a compiled one: `(a{0,1000}){0,1000}` is short to write


class Category(StrEnum):
    """The runbook's alert categories; each has its time within which somebody acknowledges ([alerts.acknowledge])."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


WORDS = {
    Category.CRITICAL: {"critical", "page", "p0", "p1", "emergency", "fatal", "disaster"},
    Category.HIGH: {"high", "error", "major", "p2"},
    Category.MEDIUM: {"medium", "warning", "warn", "minor", "average", "p3"},
    Category.LOW: {"low", "info", "information", "informational", "notice", "none", "p4", "p5"},
}


def category_of(labels: Mapping[str, str]) -> Category:
    """The category that labels say; HIGH where they say none: what nobody graded is looked at, and wakes nobody twice.

    >>> str(category_of({"severity": "page"})), str(category_of({"category": "low"})), str(category_of({}))
    ('critical', 'low', 'high')
    """
    for name in CATEGORY_LABELS:
        said = labels.get(name, "").lower()
        for category, words in WORDS.items():
            if said in words:
                return category
    return Category.HIGH


def fingerprint(labels: Mapping[str, str]) -> str:
    """The identity of an alert: 16 hex digits of its labels, in whatever order they came.

    >>> fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"}), fingerprint({"a": "1b"})[:4]
    (True, '15f0')
    """
    digest = hashlib.sha256()
    for name in sorted(labels):
        for text in (name, labels[name]):
            data = text.encode()
            digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()[:16]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as it was last said. `fingerprint` is its key; it fires from `starts` to `ends` (None: until told).

    `expires` is when it counts as resolved unless it is said again (a Prometheus says it again each minute); None where
    the source says the end itself. `times` counts how often it was said; `noticed` is when it first reached us in this
    firing, `updated` when last. An alert that fires again after its end is a new firing under the same fingerprint.
    `began_again` is the latest start that its source has said in this firing: what ended before is not this firing.
    """

    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    source: str
    url: str = ""
    category: Category
    starts: dt.datetime
    noticed: dt.datetime
    updated: dt.datetime
    ends: dt.datetime | None = None
    expires: dt.datetime | None = None
    times: int = 1
    began_again: dt.datetime | None = None

    @property
    def name(self) -> str:
        """The label `alertname`."""
        return self.labels.get(ALERTNAME, "")

    @property
    def summary(self) -> str:
        """What a person reads first."""
        said = self.annotations
        return said.get("summary") or said.get("description") or said.get("message") or self.name

    def firing(self, at: dt.datetime) -> bool:
        """Whether it fires at a moment."""
        return (self.ends is None or at < self.ends) and (self.expires is None or at < self.expires)


@lru_cache(maxsize=1_000)
def compiled(pattern: str) -> Any:
    """A regular expression in RE2's syntax, as Alertmanager has it: however it is written, it comes to an end.

    Raises:
        ValueError: it is none: lookaround and back-references have no place in RE2.
    """
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise ValueError(f"a regular expression of {len(pattern):,} characters is longer than {PATTERN_LENGTH_MAX:,}")
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_capture = _PATTERN_BYTES_MAX, False, True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"{pattern[:60]!r} is no regular expression of RE2: {why}") from None


@lru_cache(maxsize=10_000)
def _matched(pattern: str, text: str) -> bool:
    """Whether all of a text matches; labels say the same again and again."""
    return compiled(pattern).fullmatch(text) is not None


class Matcher(msgspec.Struct, frozen=True):
    """`name = "value"`, `!=`, `=~` or `!~`; a regular expression matches the whole value, an absent label is empty.

    >>> Matcher("severity", "=~", "crit.*").matches({"severity": "critical"}), Matcher("a", "!=", "1").matches({})
    (True, True)
    """

    name: str
    operator: Literal["=", "!=", "=~", "!~"]
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels are meant.

        Raises:
            ValueError: the regular expression is none.
        """
        there = labels.get(self.name, "")
        if self.operator in ("=", "!="):
            return (there == self.value) == (self.operator == "=")
        return _matched(self.value, there) == (self.operator == "=~")

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{msgspec.json.encode(self.value).decode()}"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is notified of what all `matchers` match from `starts` to `ends`; somebody said so, and why.

    `reminded` is when its author was told that it is about to end.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts: dt.datetime
    ends: dt.datetime
    author: str
    reason: str
    created: dt.datetime
    reminded: dt.datetime | None = None

    def mutes(self, labels: Mapping[str, str], at: dt.datetime) -> bool:
        """Whether it mutes an alert at a moment; one that an older release wrote and nobody can read mutes nothing."""
        try:
            return self.starts <= at < self.ends and all(matcher.matches(labels) for matcher in self.matchers)
        except ValueError:
            return False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The alerts of a route that share the values of its `group_by`: what one notification is about.

    `key` is the route's path and the shared labels. `due` is when it is looked at next, `told_at` when it was last
    notified of. What belongs to it stands in its `Member`s, so that an alert more does not rewrite all of them.
    """

    key: str
    route: str
    receiver: str
    labels: dict[str, str]
    opened: dt.datetime
    due: dt.datetime
    told_at: dt.datetime | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that belongs to a group, or to what inhibits others: `key` is made of both, `group` says to which.

    `told` is the start of the firing that the receiver was last told of; None: not told, or told that it is over.
    """

    key: str
    group: str
    fingerprint: str
    told: dt.datetime | None = None


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a group has to say to its receiver at a moment: all that fires, and what was told and is over."""

    group: Group
    receiver: str
    at: dt.datetime
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]

    @property
    def category(self) -> Category:
        """The worst of what fires; of what is over where nothing fires."""
        order = list(Category)
        return min((alert.category for alert in self.firing or self.resolved), key=order.index)
