"""Which alerts are one incident: those of the same service soon after one another, and those that began together."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.core.alerts import Alert, Notice
from nvcops.core.incidents import Incident, IncidentAlert
from nvcops.core.records import Desk, Reading
from nvcops.core.slo import BURN, BURN_WINDOWS
from nvcops.core.units import Seconds
from nvcops.incidents import timeline
from nvcops.incidents.announced import DRILL, of_a_drill

SAME_SERVICE = Seconds(1800)
SAME_TIME = Seconds(300)
LINKED_MAX = 2_000
_FOUND_MAX = 10_000
_FINGERPRINTS_MAX = 5_000  # asked for in one question
_SLOW = {f"{window.factor:g}" for window in BURN_WINDOWS[1:]}  # of the label `burn`

# --- Facts ---


class Open(msgspec.Struct, frozen=True):
    """An incident that is not over, and when its last alert began to fire."""

    incident: Incident
    last: dt.datetime


class Belonging(msgspec.Struct, frozen=True):
    """The incident to which alerts belong, and why they do; no reason where they already did."""

    incident: Incident
    why: str = ""


def link_key(number: int, alert: Alert) -> str:
    """The key of an alert in an incident: its firing is part of it."""
    return f"{number}/{alert.fingerprint}/{alert.starts.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def linked(reading: Reading, number: int) -> list[IncidentAlert]:
    """The alerts of an incident, the first first."""
    return reading.find(IncidentAlert, incident=number, order="starts", limit=LINKED_MAX)


def already(reading: Reading, alerts: Sequence[Alert]) -> Incident | None:
    """The newest incident that has one of these firings."""
    owners = _owners(reading, alerts)
    numbers = [owners[key] for alert in alerts if (key := (alert.fingerprint, alert.starts)) in owners]
    return reading.get(Incident, max(numbers)) if numbers else None


def going_on(alerts: Iterable[IncidentAlert]) -> list[IncidentAlert]:
    """What of an incident's alerts tells that it goes on: all that fire, but for the slower burn rates.

    Those fire for as long as their window remembers, which is half an hour to six hours after it is over; where nothing
    else was ever seen, they are what there is.
    """
    there = list(alerts)
    firing = [alert for alert in there if alert.ends is None]
    if all(map(_remembers, there)):
        return firing
    return [alert for alert in firing if not _remembers(alert)]


def _remembers(alert: IncidentAlert) -> bool:
    return alert.labels.get(BURN) in _SLOW


def open_ones(reading: Reading) -> list[Open]:
    """What is going on."""
    incidents = timeline.active(reading)
    rows = reading.find(IncidentAlert, incident__in=[incident.number for incident in incidents], limit=_FOUND_MAX)
    last: dict[int, dt.datetime] = {}
    for row in rows:
        last[row.incident] = max(row.starts, last.get(row.incident, row.starts))
    return [Open(incident, last.get(incident.number, incident.began)) for incident in incidents]


# --- Rules ---


def services_of(alerts: Sequence[Alert]) -> tuple[str, ...]:
    """The services that alerts name."""
    return tuple(sorted({alert.labels["service"] for alert in alerts if alert.labels.get("service")}))


def joins(alerts: Sequence[Alert], ongoing: Sequence[Open], *, drill: bool) -> Belonging | None:
    """The incident that alerts join: of the same service within SAME_SERVICE, else begun within SAME_TIME of it.

    Of several the newest. Two services that fail at one moment most often fail for one reason: a person who knows
    better opens another by hand. What a drill brings about and what is real are never one incident.
    """
    services, began = set(services_of(alerts)), min(alert.starts for alert in alerts)
    newest = sorted(ongoing, key=lambda one: -one.incident.number)
    fitting = [one for one in newest if _fits(one.incident, alerts, drill=drill)]
    for one in fitting:
        shared = services & set(one.incident.services)
        if shared and abs((began - one.last).total_seconds()) <= SAME_SERVICE:
            return Belonging(one.incident, f"the same service: {', '.join(sorted(shared))}")
    for one in fitting:
        apart = Seconds(min(abs((began - moment).total_seconds()) for moment in (one.incident.began, one.last)))
        if apart <= SAME_TIME:
            return Belonging(one.incident, f"it began within {apart} of it")
    return None


def _fits(incident: Incident, alerts: Sequence[Alert], *, drill: bool) -> bool:
    """A drill's incident takes, when the drill is over, only what looks back at it: the slower burn rates."""
    drills = incident.source == DRILL
    return drills is drill or (drills and all(alert.labels.get(BURN) in _SLOW for alert in alerts))


def belongs(reading: Reading, notice: Notice) -> Belonging | None:
    """The incident of a notice: the one that has its alerts, else the one that they join; None: a new one."""
    there = already(reading, [*notice.firing, *notice.resolved])
    if there is not None:
        return Belonging(there)
    if not notice.firing:
        return None
    return joins(notice.firing, open_ones(reading), drill=of_a_drill(reading, notice.firing, notice.at))


def parts(reading: Reading, notice: Notice) -> list[Notice]:
    """A notice in parts, each of one incident at most: what is new stands with what goes on, never with what is over.

    A group's notice also holds what an incident that was resolved in spite of it left firing, and the ends of several.
    """
    owners = _owners(reading, [*notice.firing, *notice.resolved])
    states = {one.number: one for one in reading.find(Incident, number__in=sorted(set(owners.values())))}
    home = {
        drill: max(
            (n for n, one in states.items() if one.state in timeline.ACTIVE and (one.source == DRILL) is drill),
            default=0,
        )
        for drill in (False, True)
    }

    def owner(alert: Alert) -> tuple[int, bool]:
        drill = alert.labels.get(DRILL) == "true"
        number = owners.get((alert.fingerprint, alert.starts)) or home[drill]
        return number, drill and not number

    found: dict[tuple[int, bool], tuple[list[Alert], list[Alert]]] = defaultdict(lambda: ([], []))
    for place, alerts in enumerate((notice.firing, notice.resolved)):
        for alert in alerts:
            found[owner(alert)][place].append(alert)
    return [
        msgspec.structs.replace(notice, firing=tuple(firing), resolved=tuple(over))
        for _, (firing, over) in sorted(found.items(), key=lambda item: (item[0][0] == 0, item[0]))
    ]


def _owners(reading: Reading, alerts: Sequence[Alert]) -> dict[tuple[str, dt.datetime], int]:
    """The newest incident that has a firing, by its fingerprint and its beginning."""
    prints = sorted({alert.fingerprint for alert in alerts})[:_FINGERPRINTS_MAX]
    owners: dict[tuple[str, dt.datetime], int] = {}
    for row in reading.find(IncidentAlert, fingerprint__in=prints, order="-incident", limit=_FOUND_MAX):
        owners.setdefault((row.fingerprint, row.starts), row.incident)
    return owners


# --- Procedures ---


class Linked(msgspec.Struct, frozen=True):
    """What linking a notice's alerts changed."""

    began: tuple[IncidentAlert, ...]
    ended: tuple[IncidentAlert, ...]
    alerts: tuple[IncidentAlert, ...]

    @property
    def firing(self) -> list[IncidentAlert]:
        """What fires of the whole incident."""
        return [alert for alert in self.alerts if alert.ends is None]


def link(desk: Desk, number: int, notice: Notice) -> Linked:
    """Enter a notice's alerts into an incident, each firing once; at most LINKED_MAX of them."""
    before = {row.key: row for row in linked(desk, number)}
    rows, unended = dict(before), defaultdict(list)
    for row in before.values():
        if row.ends is None:
            unended[row.fingerprint].append(row)
    for alert in notice.firing:
        row = row_of(number, alert)
        for old in unended[row.fingerprint]:
            if old.key != row.key:  # its end was never told: it fires anew
                rows[old.key] = msgspec.structs.replace(old, ends=alert.starts)
        if row.key in before or len(rows) < LINKED_MAX:
            rows[row.key] = row
    for alert in notice.resolved:
        key = link_key(number, alert)
        if key in rows and rows[key].ends is None:
            rows[key] = msgspec.structs.replace(rows[key], ends=alert.ends or alert.expires or notice.at)
    desk.put(*(row for key, row in rows.items() if row != before.get(key)))
    return Linked(
        tuple(row for key, row in rows.items() if key not in before and row.ends is None),
        tuple(row for key, row in rows.items() if key in before and row.ends and before[key].ends is None),
        tuple(sorted(rows.values(), key=lambda row: (row.starts, row.key))),
    )


def row_of(number: int, alert: Alert) -> IncidentAlert:
    """An alert as a part of an incident."""
    return IncidentAlert(
        key=link_key(number, alert),
        incident=number,
        fingerprint=alert.fingerprint,
        name=alert.name,
        category=alert.category,
        labels=alert.labels,
        summary=alert.summary,
        value=_number(alert.annotations.get("value", "")),
        starts=alert.starts,
    )


def _number(written: str) -> float | None:
    """A figure in an annotation; None of anything else.

    >>> _number("0.25"), _number("25 %"), _number("nan")
    (0.25, None, None)
    """
    try:
        value = float(written)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
