"""Taking alerts in: many at once, each in its order, none of our own, and not more than fit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.alerts.fields import printable
from nvcops.alerts.grouping import group_in, there
from nvcops.alerts.merging import merge
from nvcops.alerts.routing import Routing
from nvcops.alerts.said import OURS, Said
from nvcops.core.alerts import ALERTNAME, Alert
from nvcops.core.errors import UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk
from nvcops.core.units import Count

_CALM = 0.9  # of firing_max: below it, the flood is over
FLOOD = {ALERTNAME: "TooManyAlerts", "category": "critical", "kind": "alerts"}


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what was said: how many began to fire, ended, said nothing new, and were refused as too many."""

    begun: int = 0
    ended: int = 0
    known: int = 0
    refused: int = 0


def resolve_after(manifest: Manifest, routing: Routing) -> dt.timedelta:
    """After which time an alert that is not said again counts as over."""
    return routing.resolve_after or dt.timedelta(seconds=manifest.alerts.resolve_after)


def refuse_own(said: Sequence[Said], manifest: Manifest) -> None:
    """Nothing, where none of it was sent by this platform's nvcops.

    Raises:
        UsageError: a webhook leads back to us.
    """
    own = next((one for one in said if manifest.evidence.origin in one.origins()), None)
    if own is not None:
        name = own.labels.get(ALERTNAME, own.fingerprint)
        raise UsageError(
            f"the alert {name[:60]!r} is our own notification, which came back to us",
            hint="a receiver's webhook leads here: point it elsewhere, or drop what has the annotation nvcops_origin",
        )


def enter(desk: Desk, said: Sequence[Said], at: dt.datetime, *, manifest: Manifest, routing: Routing) -> Taken:
    """Merge what was said into what is known, and group what fires.

    More than [alerts] firing_max are refused, which is an alert itself; what is known already is taken all the same,
    and so is what we say ourselves: a flood shall not hide that the bank is down.
    """
    refuse_own(said, manifest)
    said = [_readable(one) for one in said]
    patience = resolve_after(manifest, routing)
    alerts = there(desk, Alert, (one.fingerprint for one in said))
    counted = desk.count(Alert, ends__isnull=True)
    room = manifest.alerts.firing_max - counted
    changed: dict[str, Alert] = {}
    tally = dict.fromkeys(Taken.__struct_fields__, 0)
    for one in said:
        before = alerts.get(one.fingerprint)
        after = merge(before, one, at, patience)
        was, fires = before is not None and before.ends is None, after is not None and after.ends is None
        kind = _kind(before is not None and before.firing(at), after)
        if kind == "begun" and not was and room <= 0 and one.source not in OURS:
            tally["refused"] += 1
            continue
        tally[kind] += 1
        if after is not None:
            room += was - fires
            alerts[after.fingerprint] = changed[after.fingerprint] = after
    flood = _flood(desk, tally["refused"], at, manifest, calm=room > manifest.alerts.firing_max * (1 - _CALM))
    if flood is not None:
        changed[flood.fingerprint] = flood
    desk.put(*changed.values())
    group_in(desk, [alert for alert in changed.values() if alert.ends is None], at, routing)
    return Taken(**tally)


def _readable(one: Said) -> Said:
    """With words that every store takes: what probes and rules cite was written by whoever they asked."""
    words = {name: printable(text) for name, text in one.annotations.items()}
    return one if words == one.annotations else msgspec.structs.replace(one, annotations=words)


def _kind(fired: bool, after: Alert | None) -> str:
    """What changed: it began, ended, or is known."""
    fires = after is not None and after.ends is None
    if fires and not fired:
        return "begun"
    return "ended" if fired and after is not None and not fires else "known"


def _flood(desk: Desk, refused: int, at: dt.datetime, manifest: Manifest, *, calm: bool) -> Alert | None:
    """The alert that there are too many: it begins with the first that is refused, and ends when there is room."""
    most = Count(manifest.alerts.firing_max)
    said = Said(
        labels=FLOOD,
        annotations={
            "summary": f"new alerts refused, because more than {most} fire: {Count(refused)}",
            "description": "Somebody floods the intake, or firing_max is too low. What is known is still taken.",
        },
        source="nvcops",
    )
    known = desk.get(Alert, said.fingerprint)
    if refused:
        return merge(known, said, at, dt.timedelta(0))
    if calm and known is not None and known.ends is None:
        return merge(known, msgspec.structs.replace(said, over=True, annotations={}), at, dt.timedelta(0))
    return None
