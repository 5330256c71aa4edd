"""The tables of `platform.toml` that say how releases are built, judged, rolled out, and how changes are approved."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nvcops.core.changes import ChangeCategory, ChangeKind
from nvcops.core.manifest.base import Name, Port, Table, Url
from nvcops.core.units import Ratio, Seconds

Weight = Annotated[int, msgspec.Meta(ge=0, le=100)]
Program = tuple[str, ...]
# The kinds of gates, with the options that each of them knows; those of `compliance` are procedures and their periods.
GATE_KINDS: dict[str, tuple[str, ...] | None] = {
    "program": (),
    "tests": ("path", "tests_min", "python"),
    "lint": ("select", "tool"),
    "sbom": (),
    "vulnerabilities": ("advisories", "max_age", "service", "ignore", "tool"),
    "secrets": ("accepted", "tool"),
    "migrations": ("lock_timeout", "transaction", "postgres", "exclude", "tool"),
    "licence": ("allow", "known", "accepted"),
    "performance": ("rounds", "worse"),
    "compliance": None,
}


class Slot(Table, frozen=True, kw_only=True):
    """A spare slot: a canary runs there, and the release before is kept warm there."""

    name: Name
    url: Url


class Builder(Table, frozen=True, kw_only=True):
    """Whose signature of a release counts: a line of a public key file (ssh-ed25519)."""

    name: Name
    key: str


class Analysis(Table, frozen=True, kw_only=True):
    """How the canary is judged: see docs/decisions/canary.md.

    `cluster_max` is the most bad events that one user makes, where the unit is "user". `memory`: an instance that holds
    so many times the memory of the largest one that it is compared with fails.
    """

    alpha: Ratio = Ratio(0.01)
    beta: Ratio = Ratio(0.05)
    margin: float = 2.0
    unit: Literal["request", "user"] = "request"
    cluster_max: Annotated[float, msgspec.Meta(ge=1, le=10_000)] | None = None
    memory: Annotated[float, msgspec.Meta(gt=1, le=100)] = 3.0
    inconclusive: Literal["abort", "pause"] = "abort"
    warm_up: Seconds = Seconds(60)
    time_limit: Seconds = Seconds(3600)
    interval: Seconds = Seconds(1)
    edges: tuple[str, ...] = ()
    prove: tuple[str, ...] = ()


class RolloutStep(Table, frozen=True, kw_only=True):
    """One step: exactly one of its keys is given, in the words of Argo Rollouts.

    set_weight: percent of the traffic to the new release. pause: so long, "" until a person promotes. analysis: until
    the canary's verdict. replace: so many main slots more get the new release.
    """

    set_weight: Weight | None = None
    pause: str | None = None
    analysis: bool | None = None
    replace: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None


class Strategy(Table, frozen=True, kw_only=True):
    """A way to roll out: `canary`, `blue-green` and `rolling` are there; one of the same name takes its place."""

    name: Name
    steps: tuple[RolloutStep, ...]


class Gate(Table, frozen=True, kw_only=True):
    """A gate of a stage: one of ours by its kind, or a program that ends with 0 when it lets pass.

    `control` is a folder with a seeded fault that the gate must refuse; ours bring their own.
    """

    name: Name
    kind: str = "program"
    program: Program = ()
    control: Path | None = None
    deadline: Seconds = Seconds(600)
    report: Literal["", "junit", "sarif"] = ""
    options: dict[str, str] = msgspec.field(default_factory=dict)


class Stage(Table, frozen=True, kw_only=True):
    """A stage of the pipeline, in order: dev, staging, production."""

    name: Name
    gates: tuple[Gate, ...] = ()


class SshHost(Table, frozen=True, kw_only=True):
    """A host on which slots are, reached by ssh: its address (`user@host`), and where releases lie there.

    `unit` is the slot's systemd unit, `python` the interpreter of which environments are made. Who it is, is known from
    `known_hosts` (None: the account's own), and we show it `identity` (None: what ssh finds).
    """

    slots: tuple[Name, ...]
    address: str
    root: str
    port: Port = 22
    unit: str = "{slot}.service"
    python: str = "python3"
    environments: str = ""
    identity: Path | None = None
    known_hosts: Path | None = None


class TargetGroup(Table, frozen=True, kw_only=True):
    """The AWS target group of a slot, by its ARN."""

    slot: Name
    arn: str


class AwsListener(Table, frozen=True, kw_only=True):
    """A listener (or a rule of one) of an AWS load balancer that splits the traffic between target groups.

    Credentials are as boto3 finds them.
    """

    listener: str
    groups: Annotated[tuple[TargetGroup, ...], msgspec.Meta(min_length=1, max_length=5)]
    region: str | None = None
    endpoint: Url | None = None
    deadline: Seconds = Seconds(10)


class DeliveryEntry(Table, frozen=True, kw_only=True):
    """How the service is delivered.

    Programs are without a shell; {release} is a folder, {url} a slot's address, {kind} expand or contract: a migration
    that expands applies what only adds, one that contracts everything.
    """

    service: Name
    store: Path
    root: Path | None = None
    backend: str = ""
    spare: tuple[Slot, ...] = ()
    builders: tuple[Builder, ...] = ()
    hosts: tuple[SshHost, ...] = ()
    migrate: Program = ()
    self_test: Program = ()
    applied: str = ""
    state_file: Path | None = None
    aws: AwsListener | None = None
    default: Name = "canary"
    strategies: tuple[Strategy, ...] = ()
    analysis: Analysis = Analysis()
    stages: tuple[Stage, ...] = ()
    keep: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    rollback_window: Seconds = Seconds(86400)
    ready_within: Seconds = Seconds(60)
    drain_within: Seconds = Seconds(30)
    lay_within: Seconds = Seconds(900)
    migrate_within: Seconds = Seconds(3600)
    test_within: Seconds = Seconds(60)
    environments: Path | None = None


class Standard(Table, frozen=True, kw_only=True):
    """A change that is approved beforehand: its kind, and the procedures that may carry it out.

    It approves itself when the last `runs` of the procedure were successful, its risk is below `risk_max`, and the
    error budgets of what it touches are known and not too low.
    """

    name: Name
    kind: ChangeKind
    procedures: tuple[Name, ...]
    risk_max: Ratio = Ratio(0.1)
    runs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10


class Freeze(Table, frozen=True, kw_only=True):
    """A time in which nothing is changed but what is exempt; without an offset it is in the platform's time zone."""

    name: Name
    start: dt.datetime
    end: dt.datetime
    reason: str
    exempt: tuple[ChangeCategory, ...] = (ChangeCategory.EMERGENCY,)


class ChangesEntry(Table, frozen=True, kw_only=True):
    """How changes are approved. `executives` are people of the roster, one of whom approves a major change too.

    `separate_executor`: who carries a requested change out is not its author. `budget_min`: with less of an error
    budget left, its service is frozen. `coverage` is a JSON report of coverage.py over the files of the repository.
    """

    required: bool = True
    standard: tuple[Standard, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    executives: tuple[Name, ...] = ()
    approvals: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    separate_executor: bool = True
    emergency_within: Seconds = Seconds(86400)
    validate_for: Seconds = Seconds(1800)
    budget_min: Ratio = Ratio(0.1)
    coverage: Path | None = None
