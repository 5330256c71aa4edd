"""The tables of `platform.toml` that say what is watched, who is woken, and how an incident is led."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.incidents import Severity
from nvcops.core.manifest.base import HostAndPort, Name, Port, Table, Url
from nvcops.core.manifest.probe_options import PathOptions
from nvcops.core.schedule import When
from nvcops.core.units import Ratio, Seconds
from nvcops.core.watch import ProbeKind

Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class Contact(Table, frozen=True, kw_only=True):
    """A way to reach a person, in the order in which they are tried: an apprise address.

    `url` where no secret stands in it, `url_file` where one does.
    """

    kind: Literal["sms", "call", "push", "chat", "email", "webhook"]
    url: str | None = None
    url_file: Path | None = None
    categories: tuple[Category, ...] = tuple(Category)


class Contacted(Table, frozen=True, kw_only=True):
    """Somebody outside of the roster: emergency contacts, vendors, regulators, stakeholders."""

    name: Name
    title: str
    kind: Literal["management", "vendor", "regulator", "stakeholder"]
    phone: str = ""
    email: str = ""
    covers: str = ""
    contacts: tuple[Contact, ...] = ()


class ObjectiveEntry(Table, frozen=True, kw_only=True):
    """A service level objective, in the terms of OpenSLO v1 (budgeting method Occurrences, rolling window)."""

    name: Name
    service: Name
    indicator: Literal["availability", "errors", "latency", "outcomes"]
    target: Ratio
    window: Seconds = Seconds(28 * 86400)
    threshold: Seconds | None = None  # of latency
    good: tuple[str, ...] = ()  # of outcomes: which count as good
    ignored: tuple[str, ...] = ()  # of outcomes: which count as nothing
    events_min: Positive = 20
    category: Category = Category.CRITICAL


class ProbeEntry(Table, frozen=True, kw_only=True):
    """A probe beyond those that follow from the rest of the manifest."""

    name: Name
    kind: ProbeKind
    service: Name | None = None
    interval: Seconds | None = None
    deadline: Seconds | None = None
    failures: Positive | None = None
    recoveries: Positive | None = None
    category: Category = Category.CRITICAL
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    options: PathOptions = msgspec.field(default_factory=PathOptions)  # see manifest.probe_options


class WatchEntry(Table, frozen=True, kw_only=True):
    """How often it is looked, and when a look that fails is believed."""

    enabled: bool = True
    interval: Seconds = Seconds(1)
    deadline: Seconds = Seconds(1)
    failures: Positive = 2
    recoveries: Positive = 3
    prometheus: Url | None = None
    probes: tuple[ProbeEntry, ...] = ()
    peer: Url | None = None
    peer_silent_after: Seconds = Seconds(30)
    heartbeat_url_file: Path | None = None
    heartbeat_interval: Seconds = Seconds(60)


class RecordsEntry(Table, frozen=True, kw_only=True):
    """Where alerts, pages and incidents are kept: a file under `state`, or a PostgreSQL database."""

    host: str | None = None
    port: Port = 5432
    name: str = "nvcops"
    user: str = "nvcops_records"
    password_file: Path | None = None
    password_env: str | None = None
    ca_file: Path | None = None


class Acknowledge(Table, frozen=True, kw_only=True):
    """Within which time somebody acknowledges an alert of a category; after it the next one is asked."""

    critical: Seconds = Seconds(300)
    high: Seconds = Seconds(1800)
    medium: Seconds = Seconds(7200)
    low: Seconds = Seconds(86400)


class AlertsEntry(Table, frozen=True, kw_only=True):
    """Where alerts come in, and how they are routed."""

    listen: HostAndPort | None = None
    token_file: Path | None = None
    routing: Path | None = None
    body_max: int = 1 << 20
    firing_max: int = 20_000
    resolve_after: Seconds = Seconds(300)
    high_error_ratio: Ratio = Ratio(0.05)
    acknowledge: Acknowledge = Acknowledge()


class Rotation(Table, frozen=True, kw_only=True):
    """Who takes turns: from `starts` on the first of `people`, the next at each hand-over."""

    name: Name
    people: tuple[Name, ...]
    handover: When = When("Mon 09:00")
    starts: dt.date


class PolicyStep(Table, frozen=True, kw_only=True):
    """Whom a policy asks: a rotation, a person, or a contact. The time to the next step is the category's own."""

    rotation: Name | None = None
    person: Name | None = None
    contact: Name | None = None


class Policy(Table, frozen=True, kw_only=True):
    """An escalation policy: its steps in turn, gone through `repeat` times more. Its name is a receiver's."""

    name: Name
    steps: tuple[PolicyStep, ...]
    repeat: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3


class OncallEntry(Table, frozen=True, kw_only=True):
    """Rotations and escalation policies; the first policy is asked where no route says another."""

    rotations: tuple[Rotation, ...] = ()
    policies: tuple[Policy, ...] = ()
    attempts_max: Positive = 6
    reach_test_every: Seconds = Seconds(30 * 86400)
    gaps_ahead: Seconds = Seconds(92 * 86400)

    def __bool__(self) -> bool:
        """Whether anybody is named: a procedure that needs this table is not due where nobody is.

        >>> bool(OncallEntry()), bool(OncallEntry(policies=(Policy(name="p", steps=()),)))
        (False, True)
        """
        return bool(self.rotations or self.policies)


class Respond(Table, frozen=True, kw_only=True):
    """Within which time the response to a severity begins."""

    p0: Seconds = Seconds(0)
    p1: Seconds = Seconds(3600)
    p2: Seconds = Seconds(4 * 3600)
    p3: Seconds = Seconds(24 * 3600)


class Informed(Table, frozen=True, kw_only=True):
    """Who is told of incidents of these severities, at once and then every so often."""

    severities: tuple[Severity, ...]
    people: tuple[Name, ...] = ()
    contacts: tuple[Name, ...] = ()
    every: Seconds = Seconds(1800)


class IncidentsEntry(Table, frozen=True, kw_only=True):
    """How an incident is led."""

    respond: Respond = Respond()
    informed: tuple[Informed, ...] = ()
    regulators: tuple[Literal["us", "gdpr", "dora"], ...] = ()
    status_page: Path | None = None
    status_url: Url | None = None
    impact: Path | None = None  # queries of what a time cost
    repository: Path | None = None  # the checkout of which `git log` is read
    postmortem_within: Seconds = Seconds(5 * 86400)
    change_for_drills: bool = True
