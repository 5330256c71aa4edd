"""What is looked at again while an incident lasts: the services' own figures, and what people had run."""

from __future__ import annotations

import datetime as dt

from nvcops.core.incidents import Incident
from nvcops.core.target import Target
from nvcops.incidents import impact, timeline
from nvcops.incidents.correlation import going_on, linked
from nvcops.incidents.opening import infer_again
from nvcops.incidents.severity import alert_source, signs_of
from nvcops.incidents.traces import records_of

# --- Procedures ---


def link_runs(target: Target, at: dt.datetime) -> int:
    """Enter what people had run since an incident was noticed into its timeline, each run once; how many there were."""
    records, linked_now = records_of(target), 0
    with records.reading() as reading:
        going = timeline.active(reading)
    runs = target.runs.between(min(one.detected for one in going), at) if going and target.runs else []
    asked = [run for run in runs if run.requested_by != "schedule" and run.ended and not run.dry_run]
    for one in going:
        for run in asked:
            if run.started is None or run.started < one.detected:
                continue
            verdict = run.verdict.name if run.verdict is not None else run.state.value
            said, data = (
                f"{run.procedure}: {verdict} {run.summary}".rstrip(),
                {"run": run.id, "procedure": run.procedure},
            )
            with records.changing() as desk:
                linked_now += timeline.enter(
                    desk,
                    one.number,
                    "run",
                    said[: timeline.TEXT_MAX],
                    manifest=target.manifest,
                    at=run.ended or at,
                    person=run.requested_by,
                    cause=run.id,
                    data=data,
                    evident=False,
                )
    return linked_now


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
            if incident.state not in timeline.ACTIVE or (alerts and not going_on(alerts)):
                continue  # its effect is over: what it was, it stays
            signs = [*signs_of(firing, manifest), *impact.signs_of_rates(rates, manifest)]
            looked_at = sources | {alert_source(alert.fingerprint) for alert in alerts}
            after = infer_again(desk, one.number, signs, looked_at, manifest=manifest, at=at)
            if after.severity is not incident.severity:
                changed.append(after)
    return changed


def look_again(target: Target, at: dt.datetime) -> list[Incident]:
    """Both, for whoever does it now and then; the incidents whose severity changed."""
    link_runs(target, at)
    return measure(target, at)
