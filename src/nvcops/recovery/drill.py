"""The restore drill: the newest backup, and a random point in time, restored beside the live system and proven."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence

import msgspec

from nvcops.core.backups import Entry, RestoreFigures, RestoreTarget, Segment
from nvcops.core.catalogue import present
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import StepFailed, UsageError
from nvcops.core.manifest import Limits
from nvcops.core.procedures import procedure
from nvcops.core.restores import LiveSnapshot, Purpose
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.recovery import proof
from nvcops.recovery.forecast import Forecast, Model, learn, restore_history
from nvcops.recovery.restore import (
    discard,
    read_target,
    record,
    replay,
    restore_id,
    restore_plan,
    restores_of,
    tidy,
    unpack,
    verify,
)
from nvcops.recovery.standing import backups_of

# --- Facts ---


class KeptRange(msgspec.Struct, frozen=True):
    """Between which moments a restore is possible."""

    oldest: dt.datetime
    newest: dt.datetime


def kept_range(target: Target) -> KeptRange:
    """Look between which moments a restore is possible."""
    backups = backups_of(target)
    return range_of(backups.catalogue(), backups.segments())


# --- Rules ---


def range_of(entries: Sequence[Entry], segments: Sequence[Segment]) -> KeptRange:
    """From the end of the oldest full backup to when the log was last written to.

    Raises:
        UsageError: there is no backup, or no log after it.
    """
    ends = [entry.database.stop_time for entry in present(entries) if entry.database and not entry.database.parent]
    written = [segment.modified for segment in segments]
    if not ends or not written or max(written) < min(ends):
        raise UsageError(
            "nothing can be restored yet: there is no backup with a log", hint="`nvcops run database-backup` takes one"
        )
    return KeptRange(min(ends), max(written))


def random_point(kept: KeptRange, seed: str) -> dt.datetime:
    """A moment of the kept range; the same for the same run, however often it is resumed.

    >>> day = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    >>> kept = KeptRange(day, day + dt.timedelta(hours=6))
    >>> kept.oldest <= random_point(kept, "run") <= kept.newest, random_point(kept, "run") == random_point(kept, "run")
    (True, True)
    """
    return kept.oldest + (kept.newest - kept.oldest) * random.Random(seed).random()  # noqa: S311 - no secret


def loss_finding(live: LiveSnapshot, limits: Limits, *, synchronous: bool) -> Finding:
    """How much acknowledged work a death of the primary at that moment would have cost: none where commits wait."""
    if live.covered_s is None:
        return proof.LOSS.finding(Verdict.CRITICAL, "the repository did not get the log at all")
    observed = f"{Seconds(live.covered_s)} of acknowledged work"
    if synchronous:
        return proof.LOSS.finding(Verdict.WARNING if live.covered_s else Verdict.OK, observed, limit="0 s")
    return proof.LOSS.at_most(Seconds(live.covered_s), limits.archive_lag, observed=observed)


# --- Procedures ---


@conduct(deadline="4 h", idempotent=True)
def snapshot(target: Target, run: str) -> LiveSnapshot:
    """Read the live books at one LSN."""
    return restores_of(target).snapshot(run)


@procedure("test-backup-restore", script="test_backup_restore.sh", when="Thu 10:00", lock="restore", needs=["backups"])
def restore_drill(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, to: str = ""
) -> None:
    """Restore the newest backup and a random point in time beside the live system, and prove both.

    At quiet priority. The copy of the newest backup is compared with a standby, row for row, at one LSN. Pages,
    indexes, constraints, invariants and the acknowledgements of customers are looked at in both copies; what it took
    and what it would have cost goes into the catalogue; nothing of the copies is left.

    Args:
        to: the point in time of the second copy, instead of a random one
    """
    done = run.step("tidy up after runs that were killed", tidy, target, run.id)
    history = run.read(restore_history, target)
    model = learn(history.figures, history.speed, drill=True)
    findings = [proof.TIDIED.finding(Verdict.OK, sentence) for sentence in done or []]
    live, lines = _live(run, target)
    newest = RestoreTarget(lsn=live.lsn) if live else RestoreTarget()
    findings += lines + _drilled(run, target, newest, model, live)
    zone = target.manifest.platform.time_zone
    point = read_target(to, zone) if to else RestoreTarget(time=random_point(run.read(kept_range, target), run.id))
    findings += _drilled(run, target, point, model, None)
    run.conclude(findings)


def _live(run: Run, target: Target) -> tuple[LiveSnapshot | None, list[Finding]]:
    """The live books; where they cannot be read the drill goes on without comparing."""
    try:
        live = run.step("read the books of the live data at one LSN", snapshot, target, run.id)
    except StepFailed as error:
        return None, [proof.SAME.unknown(error.sentence)]
    if not live:
        return None, []
    backups = target.manifest.backups
    synchronous = backups is not None and backups.synchronous
    return live, [loss_finding(live, target.manifest.limits, synchronous=synchronous)]


def _drilled(run: Run, target: Target, to: RestoreTarget, model: Model, live: LiveSnapshot | None) -> list[Finding]:
    """One copy, from nothing to nothing: what it proves, and its figures for the catalogue."""
    second = to.time is not None
    plan = run.read(restore_plan, target, run.id + (".part2" if second else ""), "newest", to, Purpose.DRILL, "")
    forecast = model.forecast(plan.bytes, plan.wal_bytes)
    figures, lines = None, [proof.plan_finding(plan, forecast)]
    try:
        unpacked = run.step(f"unpack {' + '.join(plan.chain)} and verify every file", unpack, target, plan)
        replayed = run.step(f"replay the log up to {proof.target_text(plan)}", replay, target, plan)
        before = live.clock if live else None
        seen = run.step("look at every page, constraint, invariant and acknowledgement", verify, target, plan, before)
    except StepFailed as error:
        lines.append(proof.REACHED.finding(Verdict.CRITICAL, f"it cannot be restored: {error.sentence}"))
        figures = proof.failed_figures(plan, forecast)
    else:
        if unpacked and replayed and seen:  # a dry run has none of them
            lines += [proof.reached_finding(plan, replayed), *proof.verification_findings(seen)]
            lines += [proof.same_finding(live, seen.books)] if live else []
            good = proof.proven(seen, target.manifest.recovery)
            good = good and all(line.verdict is not Verdict.CRITICAL for line in lines)
            figures = proof.figures_of(plan, unpacked, replayed, seen, forecast, good=good)
            figures = msgspec.structs.replace(figures, rpo_s=live.covered_s) if live else figures
            lines += _time_findings(figures, forecast, target.manifest.limits)
    run.step("remove the copy", discard, target, plan)
    if figures:
        number = restore_id(run.started, "R2" if second else "R")
        run.step("enter the restore into the catalogue", record, target, figures, number, run.started, run.id)
    subject = f"to {proof.target_text(plan)}"
    return [line if line.subject else msgspec.structs.replace(line, subject=subject) for line in lines]


def _time_findings(figures: RestoreFigures, forecast: Forecast, limits: Limits) -> list[Finding]:
    """How long it took, in its parts, and by how much the forecast missed."""
    parts = (
        f"{Seconds(figures.seconds)}: {Seconds(figures.fetch_s)} to unpack, {Seconds(figures.replay_s)} to replay, "
        f"{Seconds(figures.verify_s)} to look at everything"
    )
    taken = proof.TIME.at_most(Seconds(figures.seconds), limits.recovery_time, observed=parts)
    return [taken, proof.forecast_finding(forecast, figures.seconds)]
