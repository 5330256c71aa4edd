"""The platform's files: its release, its configuration and its logs, backed up; the configuration put back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from nvcops.changes import carrying
from nvcops.core import schedule
from nvcops.core.backups import Entry, Kind
from nvcops.core.catalogue import present
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.files import Differences, FileChange, FilesKept, PlatformFiles
from nvcops.core.manifest import BackupsEntry
from nvcops.core.probes import json_object
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Question, Target
from nvcops.core.units import Bytes
from nvcops.recovery.backup import backup_id
from nvcops.recovery.standing import backups_of, no_backups

# --- Facts ---


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A backup of files that is in the catalogue."""

    id: str
    taken: dt.datetime
    revision: str
    version: str = ""


def running_version(target: Target) -> str:
    """The version that the services say they run; empty where they say none, or several."""
    asked = [
        Question(service.name, service.version, instance)
        for service in target.manifest.services
        if service.version
        for instance in ([entry.name for entry in service.instances] or [""])
    ]
    answers = [json_object(answer).get("version") for answer in target.services.ask(asked)]
    said = {str(version) for version in answers if version}
    return said.pop() if len(said) == 1 else ""


@conduct(deadline="5 min", idempotent=True)
def versions(target: Target, kind: Kind) -> list[Version]:
    """The backups of that kind that are in the catalogue, oldest first."""
    return [
        Version(id=entry.id, taken=entry.began, revision=entry.revision, version=entry.version)
        for entry in present(backups_of(target).catalogue())
        if entry.kind is kind
    ]


@conduct(deadline="15 min", idempotent=True)
def differences(target: Target, backup: str) -> Differences:
    """What putting that configuration back would change."""
    return _files(target).differences(backup)


def _files(target: Target) -> PlatformFiles:
    if target.files is None:
        raise no_backups()
    return target.files


# --- Rules ---

APPLICATION = Check("recovery.application_backup", "Application backup", "[backups] application names the release")
CONFIGURATION = Check(
    "recovery.configuration_backup", "Configuration backup", "[backups] configuration names files and folders"
)
LOGS = Check("recovery.log_backup", "Log backup", "[[services]] log and [database] log name the logs")
UNREADABLE = Check("recovery.unreadable", "Not backed up", "make it readable for whoever runs nvcops")
SECRETS = Check("recovery.secrets", "Secrets", "[backups] key_file: what is encrypted may hold secrets")
RESTORED = Check("recovery.configuration", "Configuration", "begin the run again; then compare with --dry-run")
DIFFERENCE = Check("recovery.configuration_difference", "Difference", "")
_LISTED_MAX = 20
_LINES_MAX = 200
_ENDS = {"create": "is missing", "change": "is another", "permissions": "has other permissions", "remove": "is new"}


def as_of(date: str, zone: ZoneInfo) -> dt.datetime:
    """The moment that a person means: a day is meant with all of its hours.

    >>> new_york = ZoneInfo("America/New_York")
    >>> as_of("2026-11-20", new_york).isoformat(), as_of("2026-11-20 14:30", new_york).isoformat()
    ('2026-11-21T04:59:59.999999+00:00', '2026-11-20T19:30:00+00:00')
    >>> as_of("yesterday", new_york)
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: 'yesterday' is no date
    """
    try:
        if len(date) == len("2026-11-20"):
            day = dt.date.fromisoformat(date)
            return dt.datetime.combine(day, dt.time.max, zone).astimezone(dt.UTC)
        moment = dt.datetime.fromisoformat(date)
    except (ValueError, OverflowError):
        raise UsageError(f"{date!r} is no date", hint='write it like 2026-11-20 or "2026-11-20 14:30"') from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(dt.UTC)


def newest_as_of(versions: Sequence[Version], moment: dt.datetime, zone: ZoneInfo) -> Version:
    """The newest that was taken by then.

    >>> day = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    >>> one = Version(id="one-C", taken=day, revision="")
    >>> newest_as_of([one], day, ZoneInfo("UTC")).id
    'one-C'
    >>> newest_as_of([one], day - dt.timedelta(seconds=1), ZoneInfo("UTC"))
    Traceback (most recent call last):
    nvcops.core.errors.NotFoundError: there is no configuration as of 2026-11-19 23:59 UTC
    """
    taken = [version for version in versions if version.taken <= moment]
    if taken:
        return taken[-1]
    asked = f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    if not versions:
        raise NotFoundError("no configuration was backed up yet", hint="nvcops run configuration-backup")
    first, last = (version.taken.astimezone(zone) for version in (versions[0], versions[-1]))
    kept = f"kept are {first:%Y-%m-%d %H:%M %Z} to {last:%Y-%m-%d %H:%M %Z}"
    raise NotFoundError(f"there is no configuration as of {asked}", hint=kept)


def kept_findings(check: Check, kept: FilesKept | None, there: Sequence[Version], before: str) -> list[Finding]:
    """What a backup of files came to: it is in the catalogue, whole, and what it is without is said."""
    if kept is None:
        newest = f"the newest is {there[-1].id}" if there else "there is none"
        return [check.unknown(f"nothing was backed up; {newest}")]
    if kept.id and kept.id not in {version.id for version in there}:
        return [check.finding(Verdict.CRITICAL, "it is not in the catalogue", subject=kept.id)]
    told = f"{kept.files} files, {Bytes(kept.bytes)}, {Bytes(kept.added_bytes)} of it new"
    if not kept.id:
        told = "nothing new"
    elif kept.revision == before:
        told += "; unchanged"
    if kept.version:
        told = f"version {kept.version}: {told}"
    empty = kept.id and not kept.files and check is not LOGS
    line = check.finding(Verdict.CRITICAL if empty else Verdict.OK, told, subject=kept.id)
    return [line, *_left_out_findings(check, kept)]


def _left_out_findings(check: Check, kept: FilesKept) -> list[Finding]:
    lines = [_unreadable(line) for line in kept.unreadable[:_LISTED_MAX]]
    if (more := len(kept.unreadable) - _LISTED_MAX) > 0:
        lines.append(UNREADABLE.finding(Verdict.WARNING, f"and {more} more"))
    if check is CONFIGURATION and kept.encrypted:
        lines.append(SECRETS.finding(Verdict.OK, "kept, encrypted"))
    elif check is CONFIGURATION and kept.left_out:
        named = ", ".join(f"/{name}" for name in kept.left_out[:_LISTED_MAX])
        more_names = f" and {len(kept.left_out) - _LISTED_MAX} more" if len(kept.left_out) > _LISTED_MAX else ""
        lines.append(SECRETS.finding(Verdict.OK, f"left out, as nothing is encrypted: {named}{more_names}"))
    return lines


def _unreadable(line: str) -> Finding:
    path, _, why = line.partition(": ")
    return UNREADABLE.finding(Verdict.WARNING, why, subject=path)


def difference_findings(found: Differences) -> list[Finding]:
    """The difference, line by line; of secrets only that there is one."""
    lines: list[Finding] = []
    for change in found.changes:
        what = f"{change.what}{', a secret' if change.secret else ''}"
        lines.append(DIFFERENCE.finding(Verdict.OK, what, subject=change.path))
        lines += [DIFFERENCE.finding(Verdict.OK, line, subject=change.path) for line in change.lines]
    if len(lines) > _LINES_MAX:
        more = DIFFERENCE.finding(Verdict.OK, f"and {len(lines) - _LINES_MAX} more lines")
        return [*lines[:_LINES_MAX], more]
    return lines


def restored_findings(backup: str, files: int, left: Sequence[FileChange], *, begun: bool) -> list[Finding]:
    """Whether everything is as the backup has it: every digest, link and permission."""
    if not left:
        return [RESTORED.finding(Verdict.OK, f"as in the backup: {files} files, every digest equal", subject=backup)]
    if not begun:
        return [
            RESTORED.finding(Verdict.WARNING, f"{len(left)} of its paths differ, nothing was changed", subject=backup)
        ]
    some = left[:_LISTED_MAX]
    return [RESTORED.finding(Verdict.CRITICAL, _ENDS[change.what], subject=change.path) for change in some]


def in_short(changes: Sequence[FileChange]) -> str:
    """A difference for a line.

    >>> changed = FileChange(path="/etc/a", what="change", lines=("-1", "+2", "+3"))
    >>> in_short([changed, FileChange(path="/b", what="remove")])
    'change /etc/a (+2 -1), remove /b'
    """
    told = []
    for change in changes[:5]:
        more, fewer = (sum(line.startswith(sign) for line in change.lines) for sign in "+-")
        told.append(f"{change.what} {change.path}" + (f" (+{more} -{fewer})" if change.lines else ""))
    return ", ".join(told) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")


# --- Procedures ---


@procedure("application-backup", when="daily 18:00", lock="files", needs=["backups"])
def application_backup(run: Run, target: Target) -> None:
    """Back up the release that is running: every file of it, and its version.

    The files are those below [backups] application; the version is that of the folder's VERSION file, else the one that
    the services say. A file that is unchanged is not stored again.
    """
    if _entry(target).application is None:
        run.conclude([APPLICATION.unknown("no release is named")])
        return
    version = run.read(running_version, target)
    before = run.read(versions, target, Kind.APPLICATION)
    kept = run.step("back up the release", keep_application, target, backup_id(run.started, "A"), version)
    run.conclude(_concluded(run, target, APPLICATION, kept, before))


@procedure("configuration-backup", when="Sun 03:00", lock="files", needs=["backups"])
def configuration_backup(run: Run, target: Target) -> None:
    """Back up every file and folder of the configuration, with permissions, owners and links.

    The files are those of [backups] configuration. Secrets (names like configuration_secrets) are kept where the
    repository is encrypted, and left out otherwise. What is unchanged is entered again without being stored again, so
    that the configuration as of any date is known.
    """
    if not _entry(target).configuration:
        run.conclude([CONFIGURATION.unknown("no configuration is named")])
        return
    before = run.read(versions, target, Kind.CONFIGURATION)
    kept = run.step("back up the configuration", keep_configuration, target, backup_id(run.started, "C"))
    run.conclude(_concluded(run, target, CONFIGURATION, kept, before))


@procedure("log-backup", when="every 1 h", lock="files", needs=["backups"])
def log_backup(run: Run, target: Target) -> None:
    """Back up what is new in the logs since the last time, rotated files included.

    The logs are those that the manifest names. Renamed, copied or packed, a log is known again by what it holds.
    """
    if not target.logs.sources:
        run.conclude([LOGS.unknown("no logs are named")])
        return
    before = run.read(versions, target, Kind.LOGS)
    kept = run.step("back up what is new in the logs", keep_logs, target, backup_id(run.started, "L"))
    run.conclude(_concluded(run, target, LOGS, kept, before))


@procedure(
    "restore-config", script="restore_config.sh", lock="files", approval=True, approval_unless="into", needs=["backups"]
)
def restore_config(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, date: str = "", into: str = "", change: str = ""
) -> None:
    """Put the configuration back as it was on a date, all of it or nothing; the difference is shown first.

    A second person approves what changes live files; --dry-run shows the difference and changes nothing. What was there
    before is kept in the state folder.

    Args:
        date: as of when, like 2026-11-20 or "2026-11-20 14:30": the newest backup of the configuration by then
        into: write it into this folder instead, which is empty or new; live files stay as they are
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    zone = ZoneInfo(target.manifest.platform.time_zone)
    if not date:
        raise UsageError("as of when?", hint='--date 2026-11-20, or --date "2026-11-20 14:30"')
    chosen = newest_as_of(run.read(versions, target, Kind.CONFIGURATION), as_of(date, zone), zone)
    when = f"{chosen.taken.astimezone(zone):%Y-%m-%d %H:%M %Z}"
    if into:
        count = run.step(f"write the configuration of {when} into {into}", deliver, target, chosen.id, into, run.id)
        told = f"{count} files of {when} in {into}" if count is not None else f"nothing was written into {into}"
        verdict = Verdict.OK if count is not None else Verdict.UNKNOWN
        run.conclude([RESTORED.finding(verdict, told, subject=chosen.id)])
        return
    found = run.read(differences, target, chosen.id)
    begun, number = None, 0
    if found.changes:
        asked = f"Configuration as of {when}: {in_short(found.changes)}"
        given = carrying.number_of(change)
        number = carrying.carry(run, target, ChangeKind.SETTING, asked, number=given, step="restore-config")
        title = f"put {len(found.changes)} paths back as of {when}"
        begun = run.step(title, put_back, target, chosen.id, found.live, run.id)
    after = run.read(differences, target, chosen.id)
    restored = restored_findings(chosen.id, after.files, after.changes, begun=begun is not None)
    carrying.done(run, target, number, carrying.ended_by(restored))
    run.conclude([*restored, *difference_findings(found)])


def _concluded(
    run: Run, target: Target, check: Check, kept: FilesKept | None, before: Sequence[Version]
) -> list[Finding]:
    kind = {APPLICATION: Kind.APPLICATION, CONFIGURATION: Kind.CONFIGURATION, LOGS: Kind.LOGS}[check]
    there = run.read(versions, target, kind)
    return kept_findings(check, kept, there, before[-1].revision if before else "")


def _entry(target: Target) -> BackupsEntry:
    if target.manifest.backups is None:
        raise no_backups()
    return target.manifest.backups


def _draft(target: Target, backup: str, kind: Kind, version: str = "") -> Entry:
    now = schedule.now()
    platform = target.manifest.platform.name
    return Entry(number=0, id=backup, kind=kind, platform=platform, began=now, ended=now, version=version)


@conduct(deadline="4 h", idempotent=True)
def keep_application(target: Target, backup: str, version: str) -> FilesKept:
    """Back up the release."""
    return _files(target).keep_application(_draft(target, backup, Kind.APPLICATION, version))


@conduct(deadline="1 h", idempotent=True)
def keep_configuration(target: Target, backup: str) -> FilesKept:
    """Back up the configuration."""
    return _files(target).keep_configuration(_draft(target, backup, Kind.CONFIGURATION))


@conduct(deadline="1 h", idempotent=True)
def keep_logs(target: Target, backup: str) -> FilesKept:
    """Back up what is new in the logs."""
    return _files(target).keep_logs(_draft(target, backup, Kind.LOGS))


@conduct(deadline="1 h", idempotent=True)
def put_back(target: Target, backup: str, live: str, run: str) -> str:
    """Put the configuration back; the backup's id."""
    _files(target).put_back(backup, live, run)
    return backup


@conduct(deadline="1 h", idempotent=True)
def deliver(target: Target, backup: str, into: str, run: str) -> int:
    """Write a backup of the configuration into a folder."""
    return _files(target).deliver(backup, Path(into).absolute(), run)
