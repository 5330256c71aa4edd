"""MTTD, MTTA, MTTM and MTTR, month by month: how quickly incidents are detected, acknowledged, mitigated, resolved."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.incidents import Incident, Severity
from nvcops.core.records import Reading
from nvcops.core.units import Seconds

_INCIDENTS_MAX = 10_000

# --- Facts ---


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the incidents that were detected in a month of the platform's zone: means in seconds.

    A figure is None where no incident of the month came so far. Detection is counted from the first sign of the fault,
    everything else from detection. `drills` are counted apart.
    """

    month: str
    drills: bool
    incidents: int
    severities: dict[str, int]
    mttd_s: float | None = None
    mtta_s: float | None = None
    mttm_s: float | None = None
    mttr_s: float | None = None
    open: int = 0

    @property
    def text(self) -> str:
        """The month in a sentence."""
        names = (("MTTD", self.mttd_s), ("MTTA", self.mtta_s), ("MTTM", self.mttm_s), ("MTTR", self.mttr_s))
        means = ", ".join(f"{name} {Seconds(value)}" for name, value in names if value is not None)
        kinds = ", ".join(f"{count} {severity}" for severity, count in self.severities.items())
        what = "drills" if self.drills else "incidents"
        return f"{self.incidents} {what}" + (f" ({kinds}): {means}" if self.incidents else "")


def since(reading: Reading, start: dt.datetime) -> list[Incident]:
    """The incidents that were detected from a moment on, the oldest first."""
    return reading.find(Incident, detected__gte=start, order="detected", limit=_INCIDENTS_MAX)


# --- Rules ---


def mean(values: Iterable[float]) -> float | None:
    """The average; None of nothing.

    >>> mean([1.0, 3.0]), mean([])
    (2.0, None)
    """
    found = list(values)
    return sum(found) / len(found) if found else None


def monthly(incidents: Iterable[Incident], zone: ZoneInfo) -> list[Month]:
    """The figures by month, the oldest first; drills after the real ones of a month."""
    groups: dict[tuple[str, bool], list[Incident]] = defaultdict(list)
    for one in incidents:
        groups[f"{one.detected.astimezone(zone):%Y-%m}", one.source == "drill"].append(one)
    return [_month(month, drills, found) for (month, drills), found in sorted(groups.items())]


def _month(month: str, drills: bool, found: list[Incident]) -> Month:
    def times(name: str) -> float | None:
        moments = [(getattr(one, name), one.detected) for one in found]
        return mean((moment - detected).total_seconds() for moment, detected in moments if moment)

    return Month(
        month=month,
        drills=drills,
        incidents=len(found),
        severities={str(level): count for level in Severity if (count := sum(one.severity is level for one in found))},
        mttd_s=mean(max((one.detected - one.began).total_seconds(), 0.0) for one in found if one.source != "person"),
        mtta_s=times("acknowledged"),
        mttm_s=times("mitigated"),
        mttr_s=times("resolved"),
        open=sum(one.resolved is None for one in found),
    )
