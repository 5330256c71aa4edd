"""The state now, in one screen: what is wrong, since when, and what changed."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict, worst
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run
from nvcops.core.summary import in_a_sentence
from nvcops.core.target import Change, Target
from nvcops.core.units import Seconds
from nvcops.database.servers import server_findings, servers
from nvcops.health import parts

_DAY = dt.timedelta(hours=24)
_CHANGES_MAX = 8
_READY = "ready"

# --- Facts ---


def changes(target: Target, start: dt.datetime, end: dt.datetime) -> list[Change]:
    """Read what changed: readiness, versions, restarts, as the watch saw it."""
    return target.metrics.changes(start, end)


# --- Rules ---

WELL = Check("status.well", "Well", "")
CHANGED = Check("status.changed", "Changed", "")
_GROUPS = {"service": "services", "proxy": "proxy", "database": "database", "cache": "cache", "disk": "disks"}


def status_findings(
    findings: Sequence[Finding], changes: Sequence[Change], now: dt.datetime, zone: str
) -> list[Finding]:
    """What is wrong line by line, what is well group by group, then the latest changes."""
    since = down_since(changes)
    lines = [_dated(finding, since, now, zone) for finding in findings if finding.verdict is not Verdict.OK]
    for prefix, title in _GROUPS.items():
        group = [finding for finding in findings if finding.check.startswith(f"{prefix}.")]
        if group and worst(finding.verdict for finding in group) is Verdict.OK:
            lines.append(WELL.finding(Verdict.OK, f"all {len(group)} checks", subject=title))
    told = [change for change in changes if change.before][-_CHANGES_MAX:]
    return lines + [changed_finding(change, zone) for change in reversed(told)]


def down_since(changes: Sequence[Change]) -> dict[str, dt.datetime]:
    """Since when each front door and instance is not ready, of those that the watch saw go."""
    since: dict[str, dt.datetime] = {}
    for change in changes:
        subject = change.instance or change.service
        if change.what == "ready" and change.after == _READY:
            since.pop(subject, None)
        elif change.what == "ready":
            since[subject] = change.time
    return since


def _dated(finding: Finding, since: dict[str, dt.datetime], now: dt.datetime, zone: str) -> Finding:
    began = since.get(finding.subject) if finding.check.startswith("service.") else None
    if began is None:
        return finding
    ago = Seconds(max((now - began).total_seconds(), 0.0))
    return msgspec.structs.replace(finding, observed=f"{finding.observed}; since {_at(began, zone)} ({ago})")


def changed_finding(change: Change, zone: str) -> Finding:
    """One change, in words.

    >>> at = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    >>> changed_finding(Change(at, "bank", "bank-1", "version", "1.0", "1.1"), "America/New_York").observed
    '08:00 version 1.0 → 1.1'
    >>> changed_finding(Change(at, "bank", "bank-1", "start", "a", "b"), "UTC").observed
    '12:00 restarted'
    """
    said = {
        "start": "restarted",
        "ready": "ready again" if change.after == _READY else f"not ready: {change.after}",
    }.get(change.what, f"{change.what} {change.before} → {change.after}")
    return CHANGED.finding(Verdict.OK, f"{_at(change.time, zone)} {said}", subject=change.instance or change.service)


def _at(moment: dt.datetime, zone: str) -> str:
    return f"{moment.astimezone(zoneinfo.ZoneInfo(zone)):%H:%M}"


# --- Procedures ---


@procedure("system-status", script="system_status.sh")
def system_status(run: Run, target: Target) -> None:
    """Show the state now in one screen: what is wrong, since when, and what changed in the last day."""
    manifest, limits = target.manifest, target.manifest.limits
    findings = parts.door_findings(run.read(parts.doors, target), limits)
    findings += parts.proxy_findings(run.read(parts.proxy_servers, target), manifest.proxy)
    findings += server_findings(run.read(servers, target), limits)
    findings += parts.cache_findings(run.read(parts.cache, target), limits)
    findings += parts.disk_findings(run.read(parts.disks, target), limits)
    seen = run.read(changes, target, run.started - _DAY, run.started)
    lines = status_findings(findings, seen, run.started, manifest.platform.time_zone)
    run.conclude(lines, summary=in_a_sentence(findings))
