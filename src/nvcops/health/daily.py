"""The daily health check, and the morning that it is part of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.procedures import find, procedure
from nvcops.core.runs import Run, Signed
from nvcops.core.target import Target
from nvcops.database.servers import server_findings, servers
from nvcops.health import kpi, parts
from nvcops.recovery.morning import recovery, recovery_findings

# --- Rules ---

PART = Check("morning.part", "Part of the morning", "read its lines above, the worst first")
REVIEW = Check("morning.review", "Security alerts reviewed", "")
MORNING = ("daily-health-check", "db-performance-check", "security-events-summary")


def morning_findings(verdicts: Mapping[str, Verdict], review: Signed) -> list[Finding]:
    """One line for each part of the morning, and who reviewed the security alerts."""
    lines = [PART.finding(verdict, verdict.name, subject=name) for name, verdict in verdicts.items()]
    said = f"by {review.person}: {review.note}" if review.person else "nobody was asked"
    return [*lines, REVIEW.finding(Verdict.OK if review.person else Verdict.UNKNOWN, said)]


def read_aloud(title: str, findings: list[Finding]) -> str:
    """The morning in three sentences.

    >>> bad = PART.finding(Verdict.CRITICAL, "CRITICAL", subject="daily-health-check")
    >>> read_aloud("NVC", [bad, REVIEW.finding(Verdict.OK, "by dana: nothing new")])
    'The morning at NVC: daily-health-check is CRITICAL. Security alerts reviewed by dana: nothing new.'
    """
    parts = [finding for finding in findings if finding.check == PART.name]
    wrong = [f"{part.subject} is {part.verdict.name}" for part in parts if part.verdict is not Verdict.OK]
    first = ", ".join(wrong) if wrong else "everything that was looked at is as it should be"
    reviews = [f" {finding.title} {finding.observed}." for finding in findings if finding.check == REVIEW.name]
    return f"The morning at {title}: {first}.{''.join(reviews)}"


# --- Procedures ---


@procedure("daily-health-check", script="daily_health_check.sh")
def daily_health_check(run: Run, target: Target) -> None:
    """Check every part of the platform, and the figures of the last day against their objectives.

    Services and their instances, proxy, database and standbys, cache, certificates, disks, backups; availability,
    response, errors and outcomes over the objectives' window, and now. What does not answer is CRITICAL, what could
    therefore not be read is UNKNOWN.
    """
    manifest, now = target.manifest, run.started
    limits = manifest.limits
    findings = parts.door_findings(run.read(parts.doors, target), limits)
    findings += parts.proxy_findings(run.read(parts.proxy_servers, target), manifest.proxy)
    findings += server_findings(run.read(servers, target), limits)
    findings += parts.cache_findings(run.read(parts.cache, target), limits)
    findings += parts.certificate_findings(run.read(parts.certificates, target), now, limits)
    findings += parts.disk_findings(run.read(parts.disks, target), limits)
    day = run.read(kpi.figures, target, now - dt.timedelta(seconds=manifest.objectives.window), now)
    recent = run.read(kpi.figures, target, now - dt.timedelta(seconds=limits.recent_window), now)
    findings += kpi.kpi_findings(day, recent, manifest, now)
    answering = run.read(kpi.answering, target, now - dt.timedelta(seconds=limits.recent_window), now)
    findings += kpi.answering_findings(answering, manifest.objectives)
    repository = str(manifest.backups.repository) if manifest.backups else ""
    findings += recovery_findings(run.read(recovery, target, now), repository, limits, now)
    run.conclude(findings)


@procedure("morning-health-check", when="daily 08:00")
def morning_health_check(run: Run, target: Target) -> None:
    """Run the morning of the runbook: health, database, security; then a person says that the alerts were reviewed."""
    verdicts = {name: run.include(find(name)) for name in MORNING}
    review = run.attest("security-alerts-reviewed", "Security alerts of the last 24 hours reviewed")
    findings = morning_findings(verdicts, review)
    run.conclude(findings, summary=read_aloud(target.manifest.platform.title, findings))
