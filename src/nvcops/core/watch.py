"""What is watched each second, and what a look saw. Pure; an adapter looks, a rule of `alerts` says what it means."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.units import Seconds

ProbeKind = Literal["http", "tcp", "sql", "tls", "process", "disk", "queue", "replication", "cache", "proxy", "payment"]

# The figures that looks read are kept beside the services' series, as gauges of this name of a service of that name,
# with the labels `probe` and `kind`. Disk: the share used. TLS: days until the certificate ends. Replication: seconds
# behind; of a slot, the bytes that it keeps. SQL and queue: what the query answers. Other kinds: what they like.
WATCHED = "nvcops"
PROBE_VALUE = "nvcops_probe_value"
PROBE_SUCCESS = "nvcops_probe_success"
PROBE_DURATION = "nvcops_probe_duration_seconds"
ROLE, PART = "role", "part"  # labels of a probe: what the part is there for, and its name in the manifest


def part_named(part: str) -> str:
    """A part's name as it can stand in a probe's.

    >>> part_named("log archive"), part_named("*.Example.com")
    ('log-archive', '-.example.com')
    """
    return re.sub(r"[^a-z0-9.-]+", "-", part.lower())


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is looked at each `interval`.

    After `failures` bad looks in a row it is down, after `recoveries` good ones up again. `options` are the kind's own;
    `labels` go into the alert with `probe`, `kind` and `service`.
    """

    name: str
    kind: ProbeKind
    service: str = ""
    interval: Seconds
    deadline: Seconds
    failures: int
    recoveries: int
    category: Category
    labels: Mapping[str, str] = {}
    options: Mapping[str, Any] = {}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look of a probe. `why` is empty when it was good; `value` is the figure that it read, where it reads one.

    `known` is False where it could not be looked at for a reason of our own (no descriptors, no privilege): unknown is
    not failed.
    """

    probe: str
    time: dt.datetime
    why: str
    seconds: float | None = None
    value: float | None = None
    known: bool = True


class Prober(Protocol):
    """Whoever looks."""

    def run(self, stop: Any, told: Callable[[Sequence[Look]], None]) -> None:
        """Look until `stop` is set; `told` is called with the looks that ended, soon after they did."""
