"""The chain audit: every point in time since the oldest kept backup can be restored, or what is in the way of which."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nvcops.core.backups import Audit, Cause, Fault
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import StateError, TargetError, UsageError
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes
from nvcops.recovery.standing import CATALOGUE, backup_findings, backups_of, standing

# --- Facts ---


class ChainReading(msgspec.Struct, frozen=True):
    """What the audit found; None: nothing could be found out, and `trouble` says why."""

    audit: Audit | None = None
    trouble: str = ""


@conduct(deadline="12 h", idempotent=True)
def chain(target: Target, *, deep: bool) -> ChainReading:
    """Examine the repository's chain of backups and transaction log."""
    try:
        return ChainReading(backups_of(target).examine(deep=deep))
    except (TargetError, StateError) as error:
        return ChainReading(trouble=f"{error.sentence} ({error.hint})" if error.hint else error.sentence)


# --- Rules ---

FAULTS_MAX = 20
_NOTHING = 64 * "0"
ANEW = Check("recovery.anew", "Repository begun anew", "nvcops run database-backup --full, then backup-audit")
CHAIN = Check("recovery.chain", "Every point in time can be restored", "nvcops run backup-audit, when it can be read")
_AGAIN = "then take a full backup: nvcops run database-backup --full"
NEXT_STEPS = {
    Cause.MISSING: f"put it back from a copy of the repository, or off the server's pg_wal; else {_AGAIN}",
    Cause.CORRUPT: f"look at the repository's disk; put it back from a copy, {_AGAIN}",
    Cause.TRUNCATED: f"look at the repository's disk; put it back from a copy, {_AGAIN}",
    Cause.DIFFERENT: "find out who else writes into the repository; keep the one that the server's history explains",
    Cause.FORK: f"put the history of the timeline back, off the server's pg_wal; else {_AGAIN}",
    Cause.FOREIGN: "find out which cluster writes into this repository; give each a repository of its own",
    Cause.BROKEN_PARENT: f"restore from the full backup before it and the log; {_AGAIN}",
    Cause.EDITED: "put the entry back from a copy, and find out who changed it: the evidence says what it was; a"
    " repository that was begun anew on purpose: nvcops run backup-begin-anew",
    Cause.UNREADABLE: "look at the permissions and the disk of the repository",
    Cause.WRONG_KEY: "name the key file of that time in [backups] key_file",
    Cause.INVALID: f"compare it with the server's pg_wal and with a standby's; {_AGAIN}",
}


def chain_findings(reading: ChainReading, repository: str) -> list[Finding]:
    """A line for the whole chain, or for each fault; and the catalogue's head, for the evidence."""
    audit = reading.audit
    if audit is None:
        return [CHAIN.unknown(reading.trouble)]
    findings = list(_chain_lines(audit))
    if audit.head and not any(fault.cause is Cause.EDITED for fault in audit.faults):
        findings.append(CATALOGUE.finding(Verdict.OK, _head(audit.head), subject=repository))
    return findings


def _head(head: str) -> str:
    """The catalogue's head as it stands in the evidence, where the next audit reads it (adapters/backup).

    >>> _head("1 " + "ab" * 32)[:30], _head("")[:26]
    ('1 entry, the newest: 1 abababa', 'no entry, the newest: 0 00')
    """
    number, newest = (head.partition(" ")[0], head) if head else ("no", f"0 {_NOTHING}")
    return f"{number} {'entry' if number in ('1', 'no') else 'entries'}, the newest: {newest}"


def _chain_lines(audit: Audit) -> Iterator[Finding]:
    for fault in audit.faults[:FAULTS_MAX]:
        yield _fault_line(fault)
    if len(audit.faults) > FAULTS_MAX:
        yield CHAIN.finding(Verdict.CRITICAL, f"{len(audit.faults) - FAULTS_MAX} more faults")
    if audit.faults:
        return
    if not audit.backups:
        yield CHAIN.unknown("there is no backup yet")
    elif audit.oldest is None or audit.newest is None:
        yield CHAIN.unknown("no backup leads to the log that is there")
    else:
        yield CHAIN.finding(Verdict.OK, whole(audit))


def whole(audit: Audit) -> str:
    """What can be restored, in words.

    >>> import datetime as dt
    >>> day = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
    >>> whole(Audit(backups=2, segments=9, examined_bytes=5 << 20, oldest=day, newest=day.replace(hour=17)))
    'any point from 2026-11-22 16:00:00 to 17:00:00 UTC (2 backups, 9 segments, 5 MiB read back)'
    """
    assert audit.oldest is not None  # noqa: S101 - who asks has looked
    assert audit.newest is not None  # noqa: S101 - the same
    days = "%Y-%m-%d " if audit.oldest.date() != audit.newest.date() else ""
    span = f"from {audit.oldest:%Y-%m-%d %H:%M:%S} to {audit.newest:{days}%H:%M:%S} UTC"
    read = f"{Bytes(audit.examined_bytes)} read back"
    return f"any point {span} ({audit.backups} backups, {audit.segments} segments, {read})"


def _fault_line(fault: Fault) -> Finding:
    said = f"{fault.cause}: {fault.sentence}" + (f"; lost: {fault.lost}" if fault.lost else "")
    line = CHAIN.finding(Verdict.CRITICAL, said, subject=fault.subject)
    return msgspec.structs.replace(line, next_step=NEXT_STEPS[fault.cause])


# --- Procedures ---


@procedure("backup-audit", when="every 15 min", needs=["backups"])
def backup_audit(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, deep: bool = False
) -> None:
    """Look for everything that would keep a point in time from being restored.

    Everything that is new is read back, down to each record of the transaction log; of the rest, sizes and times are
    compared with what they were when it was read back.

    Args:
        deep: read everything back
    """
    run.conclude(_findings(run, target, deep=deep))


@procedure("backup-verification", when="daily 18:30", needs=["backups"])
def backup_verification(run: Run, target: Target) -> None:
    """Read back every backup and the whole transaction log, and check that the log's backup keeps up and has room."""
    audited = _findings(run, target, deep=True)
    said = {finding.check for finding in audited}
    stands = backup_findings(run.read(standing, target, run.started), target.manifest.limits, run.started)
    run.conclude([*(finding for finding in stands if finding.check not in said), *audited])


def _findings(run: Run, target: Target, *, deep: bool) -> list[Finding]:
    backups = target.manifest.backups
    return chain_findings(run.read(chain, target, deep=deep), str(backups.repository) if backups else "")


@procedure("backup-begin-anew", lock="backup", approval=True, needs=["backups"])
def backup_begin_anew(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, reason: str = ""
) -> None:
    """Take the repository as it is for a new one, where the former one was lost or given up; somebody else approves.

    What audits saw in the former one is no longer missed: until this an emptied repository counts as one that somebody
    tampered with. The evidence keeps who said so, why, and how it stood. Nothing of what is damaged gets better by it.

    Args:
        reason: why, in words that will be understood in years
    """
    if not reason.strip():
        raise UsageError("why is it begun anew?", hint='--reason "TEXT"')
    stands = _chain_said(run.read(chain, target, deep=False))
    run.approve("begin-anew", f"Take the repository for a new one ({stands}): {reason.strip()}")
    head = run.step("forget what audits saw in the former repository", begin_anew, target)
    if head is None:  # a rehearsal
        run.conclude([ANEW.finding(Verdict.OK, f"would be begun anew: {stands}")])
        return
    repository = str(target.manifest.backups.repository) if target.manifest.backups else ""
    told = ANEW.finding(Verdict.OK, f"before: {stands}; {reason.strip()}")
    run.conclude([told, CATALOGUE.finding(Verdict.OK, _head(head), subject=repository)])


@conduct(deadline="5 min", idempotent=True)
def begin_anew(target: Target) -> str:
    """Forget what audits saw; the catalogue's head as it is now."""
    return backups_of(target).begin_anew()


def _chain_said(reading: ChainReading) -> str:
    """How it stands, for whoever approves."""
    if reading.audit is None:
        return reading.trouble
    faults = reading.audit.faults
    return f"{len(faults)} faults, the first: {faults[0].sentence}" if faults else "the audit finds no fault in it"
