"""Whether everything could be brought back today: what a recovery needs is looked at, and nothing is done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core.backups import RestoreTarget
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError
from nvcops.core.manifest import ControlEntry, Person
from nvcops.core.procedures import procedure
from nvcops.core.restores import Purpose, RestorePlan
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.recovery import damage as facts
from nvcops.recovery import proof
from nvcops.recovery.damage import Backed, Damage, FilesLost
from nvcops.recovery.forecast import learn, restore_findings, restore_history
from nvcops.recovery.restore import restores_of

# --- Facts ---


class Possible(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a restore to the end of the log, or the trouble with making one."""

    plan: RestorePlan | None = None
    trouble: str = ""


@conduct(deadline="15 min", idempotent=True)
def possible(target: Target, run: str) -> Possible:
    """Plan a restore of the newest backup up to the end of the log, in the place of the live data."""
    try:
        plan = restores_of(target).plan(run, "newest", RestoreTarget(), purpose=Purpose.IN_PLACE, into=None)
        return Possible(plan=plan)
    except NvcopsError as error:
        return Possible(trouble=error.sentence)


# --- Rules ---

POINT = Check("rehearsal.point", "Platform point to restore from", "nvcops run database-backup makes one")
POSSIBLE = Check("rehearsal.restore", "Database could be restored to the end of its log", "nvcops run backup-audit")
PROGRAMS = Check("rehearsal.programs", "Parts could be started", "[control] names the programs")
PEOPLE = Check("rehearsal.people", "Somebody else could approve", "[[people]]: an approver, and one who asks")
_NEEDED = ("start", "stop", "running", "rebuild")


def point_finding(backed: Backed, lost: FilesLost) -> Finding:
    """There is a platform point, with a release and a configuration that can be read."""
    if backed.trouble:
        return POINT.unknown(backed.trouble)
    if backed.point is None:
        return POINT.finding(Verdict.CRITICAL, "there is none")
    if lost.trouble:
        return POINT.finding(Verdict.CRITICAL, lost.trouble, subject=backed.point.configuration)
    kept = {"release": backed.point.application, "configuration": backed.point.configuration}
    without = [what for what, entry in kept.items() if not entry]
    said = f"of {backed.point.time:%Y-%m-%d %H:%M} UTC" + (f", without a {' and a '.join(without)}" if without else "")
    return POINT.finding(Verdict.WARNING if without else Verdict.OK, said)


def program_findings(control: ControlEntry, seen: Damage) -> list[Finding]:
    """Every part can be asked whether it runs, and there are programs that start and stop it.

    >>> import datetime as dt
    >>> seen = Damage(seen=dt.datetime(2026, 11, 22, tzinfo=dt.UTC), parts=(facts.Part(name="db-1", role="primary"),))
    >>> [line.observed for line in program_findings(ControlEntry(start=("start", "{name}")), seen)]
    ['[control] does not name: stop, running, rebuild', 'nobody knows']
    """
    missing = [key for key in _NEEDED if not getattr(control, key)]
    told = f"[control] does not name: {', '.join(missing)}" if missing else "by [control]"
    lines = [PROGRAMS.finding(Verdict.CRITICAL if missing else Verdict.OK, told)]
    unknown = [part for part in seen.parts if part.running is None]
    return lines + [PROGRAMS.unknown(part.trouble or "nobody knows", subject=part.name) for part in unknown]


def people_finding(people: Sequence[Person]) -> Finding:
    """Whoever asks for a recovery needs somebody else who approves it.

    >>> dana = Person(name="dana", full_name="Dana", roles=("operator",), ssh_keys=("a",))
    >>> omar = Person(name="omar", full_name="Omar", roles=("operator", "approver"), ssh_keys=("b",))
    >>> people_finding([omar]).verdict.name, people_finding([dana]).verdict.name, people_finding([dana, omar]).observed
    ('CRITICAL', 'CRITICAL', 'dana, omar')
    """
    able = [person for person in people if person.ssh_keys and {"operator", "approver"} & set(person.roles)]
    approvers = [person for person in able if "approver" in person.roles]
    askers = [person for person in able if "operator" in person.roles]
    good = any(one.name != other.name for one in approvers for other in askers)
    said = ", ".join(person.name for person in able) or "nobody has a key"
    return PEOPLE.finding(Verdict.OK if good else Verdict.CRITICAL, said)


# --- Procedures ---


@procedure("disaster-recovery-test", when="Thu 14:00", needs=["backups", "database"])
def disaster_recovery_test(run: Run, target: Target) -> None:
    """Look whether the whole platform could be brought back today; nothing is touched.

    A platform point with its release and configuration, a plan that restores the database to the end of its log, the
    time that it would take, programs that start every part, and a second person who could approve.
    """
    manifest = target.manifest
    seen = run.read(facts.damage, target)
    backed = run.read(facts.backed, target)
    lost = run.read(facts.files_lost, target, backed.point)
    planned = run.read(possible, target, run.id)
    history = run.read(restore_history, target)
    findings = [point_finding(backed, lost), _planned(planned)]
    if planned.plan is not None:
        forecast = learn(history.figures, history.speed).forecast(planned.plan.bytes, planned.plan.wal_bytes)
        findings.append(proof.plan_finding(planned.plan, forecast))
    findings += restore_findings(history, manifest.limits, run.started)
    run.conclude([*findings, *program_findings(manifest.control, seen), people_finding(manifest.people)])


def _planned(planned: Possible) -> Finding:
    if planned.plan is None:
        return POSSIBLE.finding(Verdict.CRITICAL, planned.trouble)
    return POSSIBLE.finding(Verdict.OK, f"to the end of {planned.plan.last_segment}", subject=planned.plan.backup)
