"""Restoring the database: into a folder, or in the place of the live one; and letting go of what was put aside.

In place: base backup, stop, log, proof, old data aside and new data in place, start, read again. Whatever fails up to
the start is rolled back: the old data stand where they stood and are served again. Once the restored data are served,
customers may have written to them, and nothing is undone any more, whatever the program that started them said. A run
that was killed is resumed at the act at which it was; each act looks at the disk for how far it had come
(adapters/backup/restores_place has the states).
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from nvcops.changes import carrying
from nvcops.core.backups import Entry, RestoreFigures, RestoreTarget
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict, worst
from nvcops.core.errors import DeadlineExceeded, NotFoundError, StepFailed, TargetError, UsageError
from nvcops.core.manifest import DatabaseEntry
from nvcops.core.procedures import procedure
from nvcops.core.restores import OldData, Purpose, Replayed, RestorePlan, Restores, Unpacked, Verification
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes
from nvcops.recovery import proof
from nvcops.recovery.forecast import Forecast, learn, restore_history
from nvcops.recovery.standing import backups_of, no_backups
from nvcops.recovery.under import replacing

# --- Facts ---


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The primary as it answers now. `trouble`: why nothing is known."""

    name: str
    system_identifier: str = ""
    timeline: int = 0
    takes_writes: bool = False
    trouble: str = ""


_STANDING = """
SELECT s.system_identifier::text AS system_identifier, c.timeline_id AS timeline,
       NOT pg_is_in_recovery() AS takes_writes
FROM pg_control_system() s, pg_control_checkpoint() c
"""


def restores_of(target: Target) -> Restores:
    """What restores; raises TargetError where there are no backups to restore from."""
    if target.restores is None:
        raise no_backups()
    return target.restores


def restore_plan(target: Target, run: str, backup: str, to: RestoreTarget, purpose: Purpose, into: str) -> RestorePlan:
    """Decide what the restore takes, and whether it can be."""
    where = Path(into) if into else None
    return restores_of(target).plan(run, backup, to, purpose=purpose, into=where)


def standing(target: Target) -> Standing:
    """Ask the primary which data it serves."""
    database = target.database
    if database is None:
        return Standing(name="", trouble="the platform has no database")
    try:
        rows = database.rows(_STANDING)
    except TargetError as error:
        return Standing(name=database.name, trouble=error.sentence)
    return msgspec.convert({"name": database.name, **rows[0]}, Standing)


def old_data(target: Target) -> list[OldData]:
    """Look for data that in-place restores put aside."""
    return restores_of(target).old_data()


# --- Rules ---

SERVED = Check("restore.served", "Restored data are served", "its log; `nvcops resume` goes on or rolls back")
STANDBY = Check("restore.standby", "Standby follows the restored data", "rebuild it: [control] rebuild")
ASIDE = Check(
    "restore.aside", "Data put aside", "nvcops run release-old-data --of RUN, once the restored data are good"
)
REFUSED = Check("restore.refused", "Not put in place", "restore an older backup, or into a folder and look")
DELIVERED = Check("restore.delivered", "Restored data", "")
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_UP_S = 120.0


def read_target(written: str, zone: str) -> RestoreTarget:
    """What `--to` means: nothing, an LSN, a time (the platform's where it names no zone), else a restore point's name.

    >>> read_target("0/3000060", "UTC").lsn, read_target("before the upgrade", "UTC").name
    ('0/3000060', 'before the upgrade')
    >>> read_target("2026-11-22 13:04", "America/New_York").time.isoformat()
    '2026-11-22T13:04:00-05:00'
    >>> read_target("2026-11-31", "UTC")
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: '2026-11-31' is no time: day is out of range for month
    >>> read_target("2026-11-01 01:30", "America/New_York")
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: 2026-11-01 01:30:00 is not one moment in America/New_York, where clocks are set then
    """
    if not written:
        return RestoreTarget()
    if _LSN.fullmatch(written):
        return RestoreTarget(lsn=written)
    if not _DATE.match(written):
        return RestoreTarget(name=written)
    try:
        time = dt.datetime.fromisoformat(written)
    except ValueError as error:
        raise UsageError(
            f"{written!r} is no time: {error}", hint="as in 2026-11-22T13:04:00Z, or without a zone the platform's"
        ) from None
    return RestoreTarget(time=time if time.tzinfo else _in_zone(time, zone))


def _in_zone(time: dt.datetime, zone: str) -> dt.datetime:
    """A time by the platform's clocks; what they show twice in an autumn night, or never in spring, is refused."""
    first, second = (time.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        both = f"{first.isoformat()} or {second.isoformat()}"
        raise UsageError(f"{time} is not one moment in {zone}, where clocks are set then", hint=f"write {both}")
    return first


def purpose_of(into: str, *, in_place: bool) -> Purpose:
    """Where to: exactly one of the two.

    >>> purpose_of("", in_place=True).name, purpose_of("copy", in_place=False).name
    ('IN_PLACE', 'FOLDER')
    """
    if bool(into) == in_place:
        raise UsageError("say where to restore to: --into FOLDER, or --in-place", hint="one of the two")
    return Purpose.IN_PLACE if in_place else Purpose.FOLDER


def served_finding(seen: Standing, plan: RestorePlan, replayed: Replayed | None) -> Finding:
    """The primary serves the restored data: their system, a timeline that began with the restore."""
    if seen.trouble:
        return SERVED.finding(Verdict.CRITICAL, seen.trouble, subject=seen.name)
    newest = replayed.timeline if replayed else 0
    said = f"timeline {seen.timeline}, {'takes writes' if seen.takes_writes else 'only reads'}"
    good = seen.system_identifier == plan.system_identifier and seen.timeline >= newest and seen.takes_writes
    return SERVED.finding(Verdict.OK if good else Verdict.CRITICAL, said, subject=seen.name)


def aside_findings(kept: list[OldData]) -> list[Finding]:
    """What is kept aside until somebody lets go of it."""
    return [ASIDE.finding(Verdict.OK, f"{old.folder}, {Bytes(old.bytes)}", subject=old.run) for old in kept]


def restore_id(began: dt.datetime, suffix: str = "R") -> str:
    """The id of a restore in the catalogue.

    >>> restore_id(dt.datetime(2026, 11, 22, 16, 5, tzinfo=dt.UTC))
    '20261122T160500Z-R'
    """
    return f"{began.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{suffix}"


# --- Procedures ---


@conduct(deadline="5 min", idempotent=True)
def tidy(target: Target, run: str) -> list[str]:
    """Undo what killed runs left."""
    return restores_of(target).tidy(run)


@conduct(deadline="24 h", idempotent=True)
def unpack(target: Target, plan: RestorePlan) -> Unpacked:
    """Write and verify the base backup."""
    return restores_of(target).unpack(plan)


@conduct(deadline="24 h", idempotent=True)
def replay(target: Target, plan: RestorePlan) -> Replayed:
    """Replay the log."""
    return restores_of(target).replay(plan)


@conduct(deadline="24 h", idempotent=True)
def verify(target: Target, plan: RestorePlan, acknowledged_before: dt.datetime | None = None) -> Verification:
    """Look at everything in the copy."""
    return restores_of(target).verify(plan, acknowledged_before=acknowledged_before)


@conduct(deadline="1 h", idempotent=True)
def deliver(target: Target, plan: RestorePlan) -> None:
    """Move the restored data to their place."""
    restores_of(target).deliver(plan)


@conduct(deadline="1 h", idempotent=True)
def discard(target: Target, plan: RestorePlan) -> bool:
    """Leave nothing of the restore."""
    return restores_of(target).discard(plan)


@conduct(deadline="1 h", idempotent=True)
def forget(target: Target, plan: RestorePlan) -> None:
    """Remove the folder of work."""
    restores_of(target).forget(plan)


@conduct(deadline="5 min", idempotent=True)
def stop(target: Target, name: str) -> None:
    """Stop a server."""
    target.control.stop(name)


@conduct(deadline="10 min", idempotent=True)
def start(target: Target, name: str) -> None:
    """Start a server."""
    target.control.start(name)


@conduct(deadline="24 h", idempotent=True)
def rebuild(target: Target, name: str) -> None:
    """Make a standby anew."""
    target.control.rebuild(name)


@conduct(deadline="5 min", idempotent=True, attempts=60)
def answers(target: Target) -> Standing:
    """Wait until the primary answers."""
    seen = standing(target)
    if seen.trouble:
        raise DeadlineExceeded(seen.trouble)
    return seen


@conduct(deadline="2 min", idempotent=True)
def record(target: Target, figures: RestoreFigures, id: str, began: dt.datetime, actor: str) -> Entry:  # noqa: A002
    """Enter the restore's figures into the catalogue."""
    times = began, max(began, target.host.now())
    return backups_of(target).record(proof.entry_of(figures, id, target.manifest.platform.name, times, actor))


@conduct(deadline="1 h", idempotent=True)
def release(target: Target, run: str) -> None:
    """Remove old data for good."""
    restores_of(target).release(run)


@procedure(
    "restore-database",
    script="restore_database.sh",
    lock="restore",
    approval=True,
    approval_unless="into",
    needs=["backups"],
)
def restore_database(  # noqa: D417 - its Args are the script's flags
    run: Run,
    target: Target,
    *,
    backup_id: str = "newest",
    to: str = "",
    into: str = "",
    in_place: bool = False,
    change: str = "",
) -> None:
    """Restore the database from a backup, to any point in time since, and prove that it is whole.

    Every file and page is verified, every constraint and invariant looked at again, and the acknowledgements that
    customers have are looked for. In place it needs a second person, and the old data are kept aside.

    Args:
        backup_id: which backup; "newest" is the newest before the point in time
        to: the point: a time, an LSN, or a restore point's name; without it the end of the transaction log
        into: the folder for the restored data, empty or not there yet
        in_place: replace the live data, after a second person approved it
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    purpose = purpose_of(into, in_place=in_place)
    wish = read_target(to, target.manifest.platform.time_zone)
    plan = run.read(restore_plan, target, run.id, backup_id, wish, purpose, into)
    history = run.read(restore_history, target)
    forecast = learn(history.figures, history.speed).forecast(plan.bytes, plan.wal_bytes)
    title = f"Replace the live data: {proof.plan_sentence(plan, forecast)}"
    number = replacing(run, target, title, "restore-in-place", change).number if in_place else 0
    run.step("tidy up after runs that were killed", tidy, target, run.id)
    try:
        findings = _restored(run, target, plan, forecast)
    except StepFailed:
        _rolled_back(run, target, plan)
        carrying.done(run, target, number, carrying.Ended.ROLLED_BACK)
        raise
    carrying.done(run, target, number, carrying.ended_by(findings))
    where = f" in {plan.into_path}" if worst(f.verdict for f in findings) is not Verdict.CRITICAL else ""
    summary = f"Restored{where}: {proof.plan_sentence(plan, forecast)}."
    run.conclude([proof.plan_finding(plan, forecast), *findings], summary=summary)


def _restored(run: Run, target: Target, plan: RestorePlan, forecast: Forecast) -> list[Finding]:
    """The acts of a restore, in order, and what was read afterwards."""
    database = target.manifest.database
    in_place = plan.purpose is Purpose.IN_PLACE
    unpacked = run.step(f"unpack {' + '.join(plan.chain)} and verify every file", unpack, target, plan)
    if in_place and database:
        for name in _servers(database):
            run.step(f"stop {name}", stop, target, name)
    replayed = run.step(f"replay the log up to {proof.target_text(plan)}", replay, target, plan)
    seen = run.step("look at every page, constraint, invariant and acknowledgement", verify, target, plan)
    findings: list[Finding] = []
    if unpacked and replayed and seen:  # a dry run has none of them
        good = proof.proven(seen, target.manifest.recovery)
        figures = proof.figures_of(plan, unpacked, replayed, seen, forecast, good=good)
        findings = [proof.reached_finding(plan, replayed), *proof.verification_findings(seen)]
        findings.append(proof.forecast_finding(forecast, figures.seconds))
        number = restore_id(run.started)
        run.step("enter the restore into the catalogue", record, target, figures, number, run.started, run.id)
        if in_place and not proof.sound(seen):
            _rolled_back(run, target, plan)
            return [*findings, REFUSED.finding(Verdict.CRITICAL, "the copy is not sound; the old data stand as before")]
    run.step(f"put the restored data into {plan.into_path}", deliver, target, plan)
    if not in_place:
        run.step("remove the folder of work", forget, target, plan)
        return findings
    return findings + _served_again(run, target, plan, replayed)


def _served_again(run: Run, target: Target, plan: RestorePlan, replayed: Replayed | None) -> list[Finding]:
    """Start on the restored data; once they are served, nothing is undone any more, and the standbys follow."""
    database = target.manifest.database
    if database is None:
        return []
    primary, findings = database.primary.name, []
    try:
        run.step(f"start {primary} on the restored data", start, target, primary)
    except StepFailed as error:
        if not run.read(standing, target).takes_writes:
            raise
        findings.append(SERVED.finding(Verdict.WARNING, f"it was started, but: {error.sentence}", subject=primary))
    for title, act, arguments in (
        ("remove the folder of work: from here on nothing is undone", forget, (target, plan)),
        (f"wait until {primary} answers", answers, (target,)),
    ):
        try:
            run.step(title, act, *arguments)
        except StepFailed as error:
            findings.append(SERVED.finding(Verdict.WARNING, error.sentence, subject=primary))
    for standby in database.standbys:
        try:
            run.step(f"rebuild {standby.name} from the restored data", rebuild, target, standby.name)
        except StepFailed as error:
            findings.append(STANDBY.finding(Verdict.CRITICAL, error.sentence, subject=standby.name))
    findings.append(served_finding(run.read(standing, target), plan, replayed))
    return findings + aside_findings(run.read(old_data, target))


def _rolled_back(run: Run, target: Target, plan: RestorePlan) -> None:
    """Leave nothing; in place, serve the old data again."""
    database = target.manifest.database
    if plan.purpose is not Purpose.IN_PLACE or database is None:
        run.step("leave nothing of the restore", discard, target, plan)
        return
    run.step(f"stop {database.primary.name}, whatever it runs on", stop, target, database.primary.name)
    if run.step("put the old data back, and leave nothing of the restore", discard, target, plan):
        for name in reversed(_servers(database)):
            run.step(f"start {name} on the old data", start, target, name)


def _servers(database: DatabaseEntry) -> list[str]:
    """Every server, standbys first: none takes over while the primary is down."""
    return [*(standby.name for standby in database.standbys), database.primary.name]


@procedure("release-old-data", lock="restore", approval=True, needs=["backups"])
def release_old_data(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, of: str = ""
) -> None:
    """Remove for good the data that an in-place restore put aside, after a second person approved it.

    Args:
        of: the run that put them aside; without it all of them
    """
    kept = [old for old in run.read(old_data, target) if of in ("", old.run)]
    if of and not kept:
        raise NotFoundError(f"{of} put no data aside that are still there", hint="nvcops show has the run")
    title, step = "Remove for good: " + ", ".join(f"{o.folder} ({Bytes(o.bytes)})" for o in kept), "release-old-data"
    number = carrying.carry(run, target, ChangeKind.MAINTENANCE, title, step=step) if kept else 0
    for old in kept:
        run.step(f"remove {old.folder}", release, target, old.run)
    left = aside_findings(run.read(old_data, target))
    carrying.done(run, target, number, carrying.ended_by(left))
    run.conclude(left or [ASIDE.finding(Verdict.OK, "nothing is kept aside")])
