"""Recovery of everything: the database's data gone, the cache gone, a host gone; and whether that would succeed today.

What can be started is started. Else the database is restored to the end of its log, proven, and put in place; customers
are served before the standbys are made anew. A run that was killed is resumed at the act at which it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import msgspec

from nvcops.changes import carrying
from nvcops.core.backups import RestoreTarget
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import DeadlineExceeded, StepFailed, TargetError
from nvcops.core.manifest import Limits
from nvcops.core.procedures import procedure
from nvcops.core.restores import Purpose, RestorePlan, Verification
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Count, Seconds
from nvcops.recovery import damage as facts
from nvcops.recovery import files, proof, restore
from nvcops.recovery.backup import database_backup
from nvcops.recovery.damage import Backed, Damage, FilesLost, Service
from nvcops.recovery.forecast import Forecast, RestoreHistory, learn, restore_history
from nvcops.recovery.under import replacing

_START_S = 30.0
P = ParamSpec("P")
T = TypeVar("T")

# --- Rules ---

PART = Check("disaster.part", "Part", "`nvcops show` says what its start came to; start it by hand")
DATABASE = Check("disaster.database", "Database takes writes", "look at the primary's log")
DOOR = Check(
    "disaster.service", "Service is ready for its customers", "scripts/daily_health_check.sh says what is wrong"
)
PROOF = Check(
    "disaster.proof", "Restored data hold what they should", "the copy was not put in place: restore another backup"
)
LOST = Check("disaster.lost", "Acknowledged work that was lost (RPO)", "post it again from the customers' journal")
TIME = Check("disaster.time", "From the loss until customers were served (RTO)", "the longest step is where to begin")
RECEIVER = Check("disaster.log", "Transaction log is received again", "`nvcops serve` receives it: look at its log")
FRESH = Check("disaster.backup", "Fresh full backup of the new timeline", "nvcops run database-backup --full")
FILES = Check(
    "disaster.files", "Release and configuration", "scripts/restore_config.sh shows the difference, and puts it back"
)
STEP = Check("disaster.step", "Step", "")


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the recovery: from when to when, and what did not come about (empty: it did)."""

    began: dt.datetime
    ended: dt.datetime
    trouble: str = ""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery came to: what was lost, what was done in which order, and how things are afterwards."""

    before: Damage
    after: Damage
    plan: RestorePlan | None = None
    proof: Verification | None = None
    steps: tuple[tuple[str, Took], ...] = ()
    service: Service = Service()
    backed: Backed = Backed()
    files: FilesLost = FilesLost()
    approved: str = ""

    @property
    def lost_at(self) -> dt.datetime:
        """Since when customers were not served: their last acknowledged write, else when the loss was seen."""
        return self.before.acknowledged or self.before.seen

    @property
    def served_at(self) -> dt.datetime | None:
        """When they were served again; None: they are not."""
        return None if self.after.doors else self.service.again or self.after.seen


def lost_in_words(before: Damage) -> str:
    """What is lost, in a sentence.

    >>> seen = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
    >>> cache = facts.Part(name="cache", role="cache", running=False)
    >>> lost_in_words(Damage(seen=seen, parts=(cache,), database="gone"))
    'the database does not answer (gone); cache does not run'
    >>> lost_in_words(Damage(seen=seen, parts=()))
    'nothing is lost'
    """
    said = [f"the database does not answer ({before.database})"] if before.database else []
    said += [f"{part.name} {'does not run' if part.running is False else part.trouble}" for part in before.down]
    said += list(before.doors)
    return "; ".join(said) or "nothing is lost"


def plan_in_words(
    before: Damage, plan: RestorePlan | None, forecast: Forecast | None, backed: Backed, gone: FilesLost
) -> str:
    """What the second person approves: what is lost, what is restored from what, and how long that will take."""
    said = [lost_in_words(before)]
    if plan is not None and forecast is not None:
        said.append(f"restore {proof.plan_sentence(plan, forecast)} into {plan.into_path}")
        if before.standbys:
            said.append(f"{', '.join(before.standbys)} still answers: to promote it may be quicker, and is another way")
    if backed.point is not None:
        said.append(f"the newest platform point is of {backed.point.time:%Y-%m-%d %H:%M} UTC")
    if gone.release:
        said.append(f"lay the release {gone.release} into {gone.folder}")
    if gone.missing:
        others = f", and undo the changes of {', '.join(gone.changed)}" if gone.changed else ""
        said.append(f"put the configuration {gone.configuration} back: {', '.join(gone.missing)} is gone{others}")
    return "; ".join([*said, "then start what does not run"])


def findings(story: Story, limits: Limits) -> list[Finding]:
    """The report: every part, what was lost and for how long, what each step took."""
    return [
        *(_part(story.before, part) for part in story.after.parts),
        DATABASE.finding(_bad(story.after.database), story.after.database or "it takes writes"),
        DOOR.finding(_bad(story.after.doors), "; ".join(story.after.doors) or "ready"),
        *(proof.verification_findings(story.proof) if story.proof else []),
        *_served(story, limits),
        *_backups(story),
        *_files(story.files),
        *(_step(title, took) for title, took in story.steps),
    ]


def _bad(trouble: object) -> Verdict:
    return Verdict.CRITICAL if trouble else Verdict.OK


def _part(before: Damage, part: facts.Part) -> Finding:
    was = next((old.running for old in before.parts if old.name == part.name), None)
    said = "it ran all along" if was else "it runs again"
    if part.running is None:
        return PART.unknown(part.trouble, subject=part.name)
    return PART.finding(_bad(not part.running), said if part.running else "it does not run", subject=part.name)


def _served(story: Story, limits: Limits) -> list[Finding]:
    return [_lost(story.service), _time(story, limits)]


def _lost(service: Service) -> Finding:
    if service.customers_trouble and not service.acknowledged:
        return LOST.unknown(service.customers_trouble)
    said = f"{Count(service.missing)} of {Count(service.acknowledged)} acknowledged in the day before are missing"
    return LOST.finding(_bad(service.missing), said, limit="0")


def _time(story: Story, limits: Limits) -> Finding:
    if story.served_at is None:
        since = f"not since {story.lost_at:%Y-%m-%d %H:%M:%S} UTC"
        return TIME.finding(Verdict.CRITICAL, since, limit=f"< {limits.recovery_time.critical}")
    took = Seconds(max((story.served_at - story.lost_at).total_seconds(), 0.0))
    since = f"{took}, since {story.lost_at:%Y-%m-%d %H:%M:%S} UTC"
    return TIME.at_most(took, limits.recovery_time, observed=since)


def _backups(story: Story) -> list[Finding]:
    receiver = story.service.receiver_trouble
    lines = [RECEIVER.finding(_bad(receiver), receiver or "it is received")]
    if story.plan is not None:
        fresh = story.backed.timeline > max(story.plan.timelines, default=0)
        said = story.backed.trouble or f"{story.backed.newest} is of timeline {story.backed.timeline}"
        lines.append(FRESH.finding(_bad(not fresh), said))
    return lines


def _files(left: FilesLost) -> list[Finding]:
    """What is still not as in the platform point. What somebody changed since is left as it is, and said."""
    if left.trouble:
        return [FILES.unknown(left.trouble, subject=left.configuration)]
    if left.release or left.missing:
        gone = ", ".join([*([left.folder] if left.release else []), *left.missing])
        return [FILES.finding(Verdict.CRITICAL, f"{gone} is gone", subject=left.configuration)]
    if left.changed:
        said = f"{', '.join(left.changed)} changed since the platform point"
        return [FILES.finding(Verdict.WARNING, said, subject=left.configuration)]
    return [FILES.finding(Verdict.OK, "as in the platform point")] if left.configuration else []


def _step(title: str, took: Took) -> Finding:
    seconds = Seconds((took.ended - took.began).total_seconds())
    said = f"{seconds} from {took.began:%H:%M:%S} UTC"
    verdict = Verdict.WARNING if took.trouble else Verdict.OK
    return STEP.finding(verdict, f"{said}: {took.trouble}" if took.trouble else said, subject=title)


def summary(story: Story) -> str:
    """The report in three sentences."""
    what = f"Lost was: {lost_in_words(story.before)}."
    who = f" {story.approved} approved the recovery." if story.approved else ""
    if story.served_at is None:
        return f"{what}{who} Customers are not served."
    minutes = (story.served_at - story.lost_at).total_seconds() / 60
    return (
        f"{what}{who} Customers were served again after {minutes:.1f} minutes, "
        f"with {story.service.missing} of {story.service.acknowledged} acknowledged writes missing."
    )


# --- Procedures ---


class _Going:
    """Carries out steps and keeps what each took: the report's minutes."""

    def __init__(self, run: Run, target: Target, began: dt.datetime) -> None:
        self._run, self._target, self._at = run, target, began
        self.took: list[tuple[str, Took]] = []

    def must(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A step without which it cannot go on."""
        done = self._run.step(title, act, *args, **kwargs)
        self._note(title, "")
        return done

    def may(self, title: str, act: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """A step that may fail: the rest is done all the same, and the report says so."""
        try:
            return self.must(title, act, *args, **kwargs)
        except StepFailed as error:
            self._note(title, error.sentence)
            return None

    def _note(self, title: str, trouble: str) -> None:
        ended = self._run.read(moment, self._target)
        self.took.append((title, Took(began=self._at, ended=ended, trouble=trouble)))
        self._at = ended


def moment(target: Target) -> dt.datetime:
    """Read the clock."""
    return target.host.now()


@conduct(deadline="10 min", idempotent=True)
def try_to_start(target: Target, name: str) -> str:
    """Start the primary on the data that are there; why it does not take writes, empty: it does."""
    try:
        target.control.start(name)
    except TargetError as error:
        return error.sentence
    return facts.wait_for_database(target, _START_S)


@conduct(deadline="5 min", idempotent=True)
def ready(target: Target) -> None:
    """Wait until customers find the services ready."""
    if trouble := facts.wait_for_doors(target):
        raise DeadlineExceeded(trouble)


@procedure("disaster-recovery", lock="restore", approval=True, needs=["backups", "database"])
def disaster_recovery(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, backup_id: str = "newest"
) -> None:
    """Bring the whole platform back: data gone, cache gone, a host gone; nothing that was acknowledged is lost.

    Looks at what is there, tries to start the primary on its data, and where that fails restores the newest backup to
    the end of the log, after a second person approved the plan. Every page, invariant and acknowledgement is looked at
    before the restored data are put in place. Then cache, instances and proxy are started, a fresh full backup is
    taken, and the standbys are made anew. The report says what was lost, for how long, and what each step took.

    Args:
        backup_id: which backup to restore
    """
    before = run.read(facts.damage, target)
    if before.whole:
        run.conclude(findings(Story(before=before, after=before), target.manifest.limits), summary="Nothing is lost.")
        return
    going = _Going(run, target, before.seen)
    lost = bool(before.database) and bool(_tried(going, target))
    plan = (
        run.read(restore.restore_plan, target, run.id, backup_id, RestoreTarget(), Purpose.IN_PLACE, "")
        if lost
        else None
    )
    backed = run.read(facts.backed, target)
    forecast = _forecast(run.read(restore_history, target), plan) if plan else None
    gone = run.read(facts.files_lost, target, backed.point)
    change = replacing(run, target, plan_in_words(before, plan, forecast, backed, gone), "recover")
    _bring_files(going, target, gone, run.id)
    proven: Verification | None = None
    if plan is not None and forecast is not None:
        proven = _restored(run, going, target, plan, forecast)
        if proven is not None and not proof.sound(proven):
            carrying.done(run, target, change.number, carrying.Ended.FAILED, "the backup is not sound")
            story = Story(before=before, after=before, plan=plan, proof=proven, steps=tuple(going.took))
            summed_up = (
                f"{plan.backup} is not sound: it was not put in place. What was stopped for it is stopped still."
            )
            run.conclude(findings(story, target.manifest.limits), summary=summed_up)
            return
    _serve(going, target, before)
    back = run.read(moment, target)
    seen = run.read(facts.service, target, before.acknowledged or before.seen, back)
    if plan is not None:
        run.include(database_backup, full=True)
    _make_standbys(going, target, before, all_of_them=plan is not None)
    story = Story(
        before=before,
        after=run.read(facts.damage, target),
        plan=plan,
        proof=proven,
        steps=tuple(going.took),
        service=seen,
        backed=run.read(facts.backed, target),
        files=run.read(facts.files_lost, target, backed.point),
        approved=change.approved,
    )
    lines = findings(story, target.manifest.limits)
    carrying.done(run, target, change.number, carrying.ended_by(lines))
    run.conclude(lines, summary=summary(story))


def _tried(going: _Going, target: Target) -> str:
    """Why the primary cannot be started on the data that are there."""
    database = target.manifest.database
    if database is None:
        return ""
    said = going.must(
        f"start {database.primary.name} on the data that are there", try_to_start, target, database.primary.name
    )
    return said if said is not None else "a dry run starts nothing"


def _forecast(history: RestoreHistory, plan: RestorePlan) -> Forecast:
    return learn(history.figures, history.speed).forecast(plan.bytes, plan.wal_bytes)


def _restored(run: Run, going: _Going, target: Target, plan: RestorePlan, forecast: Forecast) -> Verification | None:
    """Restore the database and put it in place, if it is sound; what it proved. None: a dry run."""
    database = target.manifest.database
    if database is None:
        return None
    going.must("tidy up after runs that were killed", restore.tidy, target, run.id)
    names = [each.name for service in target.manifest.services for each in service.instances]
    for name in [*names, *(standby.name for standby in database.standbys), database.primary.name]:
        going.may(f"stop what runs of {name}", restore.stop, target, name)
    try:
        unpacked = going.must(f"unpack {' + '.join(plan.chain)} and verify every file", restore.unpack, target, plan)
        replayed = going.must("replay the log to its end", restore.replay, target, plan)
        looked = "look at every page, constraint, invariant and acknowledgement"
        seen = going.must(looked, restore.verify, target, plan)
        if seen and not proof.sound(seen):
            going.must("leave nothing of the restore", restore.discard, target, plan)
            return seen
        going.must(f"put the restored data into {plan.into_path}", restore.deliver, target, plan)
    except StepFailed:
        run.step("leave nothing of the restore", restore.discard, target, plan)
        raise
    going.may(f"start {database.primary.name}", restore.start, target, database.primary.name)
    going.may("remove the folder of work: from here on nothing is undone", restore.forget, target, plan)
    going.may(f"wait until {database.primary.name} answers", restore.answers, target)
    if unpacked and replayed and seen:
        good = proof.proven(seen, target.manifest.recovery)
        figures = proof.figures_of(plan, unpacked, replayed, seen, forecast, good=good)
        number = restore.restore_id(run.started)
        going.may("enter the restore into the catalogue", restore.record, target, figures, number, run.started, run.id)
    return seen


def _bring_files(going: _Going, target: Target, lost: FilesLost, run: str) -> None:
    """Lay the release where it is gone, and the configuration where a part of it is; parts are started on them."""
    if lost.release:
        going.may(f"lay the release into {lost.folder}", files.deliver, target, lost.release, lost.folder, run)
    if lost.missing:
        title = f"put the configuration {lost.configuration} back"
        going.may(title, files.put_back, target, lost.configuration, lost.live, run)


def _serve(going: _Going, target: Target, before: Damage) -> None:
    """Start cache, instances and proxy in this order; what runs stays as it is."""
    for name in before.names("cache", "instance", "proxy"):
        going.may(f"start {name}", restore.start, target, name)
    going.may("wait until customers find the service ready", ready, target)


def _make_standbys(going: _Going, target: Target, before: Damage, *, all_of_them: bool) -> None:
    """A standby of data that were restored is made anew; else only one that is down is started."""
    for part in before.parts:
        if part.role != "standby":
            continue
        if all_of_them:
            going.may(f"make {part.name} anew from the primary", restore.rebuild, target, part.name)
        elif not part.running:
            going.may(f"start {part.name}", restore.start, target, part.name)
