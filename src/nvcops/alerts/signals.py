"""What looks mean: so many bad ones in a row are an alert, so many good ones its end; unknown is neither."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nvcops.alerts.said import PROBES, Said
from nvcops.core.alerts import ALERTNAME, PROBE_DOWN, Alert, Category, fingerprint
from nvcops.core.incidents import SIGNAL, Signal
from nvcops.core.manifest import Manifest
from nvcops.core.watch import Look, Probe

DOWN, BLIND = PROBE_DOWN, "ProbeUnknown"
SOURCE = PROBES
SAID_AGAIN = dt.timedelta(seconds=60)  # lest what the records could not take is lost
BLIND_AFTER = dt.timedelta(minutes=5)
_BLIND_LOOKS = 10  # of a probe that looks seldom, as many as these
_RUNBOOKS: Mapping[str, str] = {
    "http": "system-status",
    "tcp": "system-status",
    "process": "system-status",
    "payment": "system-status",
    "proxy": "system-status",
    "cache": "system-status",
    "queue": "system-status",
    "tls": "daily-health-check",
    "disk": "daily-health-check",
    "sql": "db-performance-check",
    "replication": "daily-health-check",
}
_DONE: Mapping[str, str] = {
    "tls": "presents no certificate that holds",
    "process": "does not run",
    "disk": "is too full",
    "queue": "is too long",
    "replication": "is too far behind",
    "payment": "does not settle",
}

# --- Rules ---


class Streak(msgspec.Struct, frozen=True, kw_only=True):
    """How a probe stands. `down` None: not known yet. `first` is the first look of the streak that goes on.

    `since` is when it went down (its first bad look), `why` what was last wrong. `blind` is when it was first not known
    and `blind_why` for what reason; `said` is when anything was last said.
    """

    down: bool | None = None
    good: bool = True
    count: int = 0
    first: dt.datetime | None = None
    since: dt.datetime | None = None
    blind: dt.datetime | None = None
    blind_told: bool = False
    said: dt.datetime | None = None
    why: str = ""
    blind_why: str = ""


def after(streak: Streak, look: Look, failures: int, recoveries: int) -> Streak:
    """How a probe stands after a look.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> state = Streak()
    >>> for second, why in enumerate(["", "refused", "refused", "", "", ""]):
    ...     state = after(state, Look(probe="p", time=noon + dt.timedelta(seconds=second), why=why), 2, 3)
    ...     print(second, state.down)
    0 None
    1 None
    2 True
    3 True
    4 True
    5 False
    """
    if not look.known:
        return msgspec.structs.replace(streak, blind=streak.blind or look.time, blind_why=look.why)
    good = not look.why
    goes_on = streak.count > 0 and streak.good is good
    count, first = (streak.count + 1, streak.first) if goes_on else (1, look.time)
    needed = recoveries if good else failures
    down, since = streak.down, streak.since
    if count >= needed and down is not (not good):
        down, since = not good, first
    return Streak(
        down=down,
        good=good,
        count=min(count, max(failures, recoveries)),
        first=first,
        since=since,
        blind_told=streak.blind_told,
        said=streak.said,
        why=look.why or streak.why,
    )


def blind_after(probe: Probe) -> dt.timedelta:
    """How long a probe may not be able to look before somebody is told."""
    return max(BLIND_AFTER, _BLIND_LOOKS * dt.timedelta(seconds=probe.interval))


def labels_of(probe: Probe, name: str, category: Category) -> dict[str, str]:
    """The labels of a probe's alert."""
    service = {"service": probe.service} if probe.service else {}
    own = {"probe": probe.name, "kind": probe.kind, "runbook": _RUNBOOKS[probe.kind], **service}
    return {**probe.labels, **own, ALERTNAME: name, "category": category.value}


def sentence(probe: Probe, why: str) -> str:
    """What is wrong, as a person reads it first."""
    done = _DONE.get(probe.kind, "does not answer as it should")
    return f"{probe.name} {done}: {why}" if why else f"{probe.name} {done}"


def _down(probe: Probe, streak: Streak) -> Said:
    since = streak.since
    labels = labels_of(probe, DOWN, probe.category)
    if not streak.down:
        return Said(labels=labels, over=True, ends=since, source=SOURCE)
    words = {
        "summary": sentence(probe, streak.why),
        "description": f"It failed since {since:%H:%M:%S %Z}; looked at each {probe.interval}, "
        f"down after {probe.failures} in a row.",
        "runbook": _RUNBOOKS[probe.kind],
    }
    return Said(labels=labels, annotations=words, starts=since, source=SOURCE)


def _blind_labels(probe: Probe) -> dict[str, str]:
    category = Category.HIGH if probe.category is Category.CRITICAL else probe.category
    return labels_of(probe, BLIND, category) | {SIGNAL: Signal.FEATURE.value}  # not known is not broken


def _blind(probe: Probe, streak: Streak) -> Said:
    labels = _blind_labels(probe)
    if streak.blind is None:
        return Said(labels=labels, over=True, source=SOURCE)
    words = {
        "summary": f"nothing is known of {probe.name}: {streak.blind_why or 'nobody says why'}",
        "description": f"It could not be looked at since {streak.blind:%H:%M:%S %Z}; it may be down.",
    }
    return Said(labels=labels, annotations=words, starts=streak.blind, source=SOURCE)


# --- The watchman ---


class Watchman:
    """Hears the looks of probes, and says what they mean: once when it changes, and again each SAID_AGAIN.

    Of a probe that he has not seen long enough he says nothing: what the records know of it stands.
    """

    def __init__(self, probes: Iterable[Probe], manifest: Manifest) -> None:
        """Know the probes of a platform; one that it does not watch any more says nothing."""
        self._probes = {probe.name: probe for probe in probes} if manifest.watch.enabled else {}
        self._streaks: dict[str, Streak] = {}

    def ends(self, firing: Iterable[Alert]) -> list[Said]:
        """The ends of alerts in the records whose probe is not watched any more: nobody else will say them."""
        meant = {
            fingerprint(labels)
            for probe in self._probes.values()
            for labels in (labels_of(probe, DOWN, probe.category), _blind_labels(probe))
        }
        return [
            Said(labels=alert.labels, over=True, source=SOURCE)
            for alert in firing
            if alert.source == SOURCE and alert.fingerprint not in meant
        ]

    def hear(self, looks: Sequence[Look]) -> list[Said]:
        """What looks mean, in their order; looks of unknown probes mean nothing."""
        said: list[Said] = []
        for look in looks:
            probe = self._probes.get(look.probe)
            if probe is not None:
                said += self._heard(probe, look)
        return said

    def _heard(self, probe: Probe, look: Look) -> list[Said]:
        before = self._streaks.get(probe.name, Streak())
        now = after(before, look, probe.failures, probe.recoveries)
        said = []
        again = now.said is not None and look.time - now.said >= SAID_AGAIN
        if now.down is not None and (now.down is not before.down or again):
            said.append(_down(probe, now))
        if self._told_blind(probe, before, now, look.time, again=again):
            said.append(_blind(probe, now))
            now = msgspec.structs.replace(now, blind_told=now.blind is not None)
        self._streaks[probe.name] = msgspec.structs.replace(now, said=look.time) if said or now.said is None else now
        return said

    def _told_blind(self, probe: Probe, before: Streak, now: Streak, at: dt.datetime, *, again: bool) -> bool:
        """Whether to say that nothing is known of a probe, or that something is again."""
        if now.blind is None:
            return before.blind_told or before.said is None or again
        return at - now.blind >= blind_after(probe) and (not before.blind_told or again)
