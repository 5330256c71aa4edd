"""What somebody says of an alert, whoever it is and however they say it."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.alerts import fingerprint

NVCOPS, PROBES, RULES = "nvcops", "probes", "rules"
OURS = frozenset({NVCOPS, PROBES, RULES})  # sources of our own: there are as many as the manifest has parts
ORIGIN = "nvcops_origin"  # an annotation of what we send: the log's origin of each platform that passed it on


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as it was said.

    `starts` and `ends` are None where the source does not say. `over`: it says that the alert ended, if not when.
    `identity` is what the alert is known by where that is not its labels, as PagerDuty's `dedup_key`. `lasts`: it fires
    until its source says that it is over; otherwise it counts as over when it is not said again in time.
    `acknowledged_by` is who acknowledged it over there, and then nothing else is said.
    """

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts: dt.datetime | None = None
    ends: dt.datetime | None = None
    over: bool = False
    url: str = ""
    source: str
    identity: dict[str, str] = {}
    lasts: bool = True
    acknowledged_by: str = ""

    @property
    def fingerprint(self) -> str:
        """The alert that is meant."""
        return fingerprint(self.identity or self.labels)

    def origins(self) -> list[str]:
        """The platforms whose nvcops passed it on.

        >>> Said(labels={}, annotations={ORIGIN: "a.example b.example"}, source="webhook").origins()
        ['a.example', 'b.example']
        """
        return self.annotations.get(ORIGIN, "").split()
