"""The severity of what goes on, inferred again from the services' own figures while it lasts."""

from __future__ import annotations

import datetime as dt

from nvcops.core.incidents import Incident
from nvcops.core.target import Target
from nvcops.incidents import impact, timeline
from nvcops.incidents.correlation import linked
from nvcops.incidents.opening import infer_again
from nvcops.incidents.severity import alert_source, signs_of
from nvcops.incidents.traces import records_of

# --- Procedures ---


def measure(target: Target, at: dt.datetime) -> list[Incident]:
    """Look at how customers are served now, and infer the severity of every incident again that its alerts still have.

    Answers those whose severity changed. A window that cannot be read, or holds too few requests, changes nothing.
    """
    manifest, records = target.manifest, records_of(target)
    with records.reading() as reading:
        going = timeline.active(reading)
    start = at - dt.timedelta(seconds=manifest.limits.recent_window)
    seen = {entry.name: impact.rates(target, entry, start, at) for entry in manifest.services} if going else {}
    changed = []
    for one in going:
        rates = [seen[entry.name] for entry in impact.services_of(one, manifest)]
        sources = impact.figure_sources(rates, manifest.limits.recent_requests_min)
        with records.changing() as desk:
            incident = timeline.the(desk, one.number)
            alerts = linked(desk, one.number)
            firing = [alert for alert in alerts if alert.ends is None]
            if incident.state not in timeline.ACTIVE or (alerts and not firing):
                continue  # its effect is over: what it was, it stays
            signs = [*signs_of(firing, manifest), *impact.signs_of_rates(rates, manifest)]
            looked_at = sources | {alert_source(alert.fingerprint) for alert in alerts}
            after = infer_again(desk, one.number, signs, looked_at, manifest=manifest, at=at)
            if after.severity is not incident.severity:
                changed.append(after)
    return changed
