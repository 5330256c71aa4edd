"""Settings, pools and tables: what is recommended was measured on a copy under the statements of the live database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.changes import carrying
from nvcops.core import queries
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.clones import Clones
from nvcops.core.errors import NvcopsError, TargetError
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.workload import Statement
from nvcops.database.copies import asked, clones_of, copied, discarded, untried, weightiest, with_arguments
from nvcops.database.optimization import altering
from nvcops.database.optimization.hints import Aged, Hint, plan_hints, removal
from nvcops.database.optimization.proposals import Churned, Kind, Proposal, Setting, Signs, described, proposals
from nvcops.database.optimization.trial import Sessions, Trial, enough, gain, pool_told, side_by_side, told, tried
from nvcops.database.optimization.unaccepted import clean, given_up
from nvcops.database.topics import Answers, many

ASKED = queries.load("nvcops.database.optimization", "db_optimization.sql")
_WEEK = dt.timedelta(days=7)
_SESSIONS_MAX = 32

# --- Facts ---


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """The signs of the live server, and tables from which old rows are removed; `trouble` says why nothing was read."""

    signs: Signs = Signs()
    aged: tuple[Aged, ...] = ()
    trouble: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured on the copy. `confirmed`: those that were worth it, once more, all together."""

    statements: int = 0
    without: int = 0
    trials: tuple[Trial, ...] = ()
    confirmed: Trial | None = None
    pool: tuple[Sessions, ...] = ()
    hints: tuple[Hint, ...] = ()
    trouble: str = ""


@conduct(deadline="1 min", idempotent=True)
def signs(target: Target) -> Looked:
    """Look for signs on the live server."""
    if target.database is None:
        return Looked(trouble="platform.toml names no [database]")
    try:
        return looked(target.database.read(ASKED))
    except TargetError as error:
        return Looked(trouble=error.sentence)


def looked(answers: Answers) -> Looked:
    """The rows as types; what was refused is no sign."""

    def one(name: str) -> dict[str, float]:
        rows = answers.get(name, [])
        return rows[0] if isinstance(rows, list) and rows else {}

    activity, sessions = one("activity"), one("connections")
    return Looked(
        signs=Signs(
            settings=many(answers, "settings", Setting),
            churned=many(answers, "churned", Churned),
            temp_bytes=activity.get("temp_bytes", 0.0),
            since_s=activity.get("since_s", 0.0),
            hit=activity.get("hit", 0.0),
            read=activity.get("read", 0.0),
            sessions=int(sessions.get("sessions", 0)),
            active=int(sessions.get("active", 0)),
            most=int(sessions.get("most", 0)),
        ),
        aged=many(answers, "aged", Aged),
    )


@conduct(deadline="4 h", idempotent=True)
def measured(target: Target, run: str, until: dt.datetime, found: list[Proposal], aged: list[Aged]) -> Measured:
    """Measure each proposal on the copy, under what the live database was asked in the last week."""
    clones = clones_of(target)
    heard = asked(target, until - _WEEK, until)
    if heard.workload is None:
        return Measured(trouble=heard.trouble)
    chosen = weightiest(heard.workload)
    try:
        untried(clones, run)
        with clones.opened(run) as copy:
            statements = with_arguments(clones, copy, chosen)
            hints = plan_hints(copy, statements)
            pool = side_by_side(copy, statements, _SESSIONS_MAX) if statements else []
        if not statements:
            return Measured(without=len(chosen), trouble="no statement could be given values of the copy's own")
        trials = tried(clones, run, found, statements)
        confirmed = _together(clones, run, trials, statements)
        with clones.opened(run) as copy:
            hints += [hint for one in aged if (hint := removal(copy, one))]
    except NvcopsError as error:
        return Measured(trouble=error.sentence)
    return Measured(
        statements=len(statements),
        without=len(chosen) - len(statements),
        trials=tuple(trials),
        confirmed=confirmed,
        pool=tuple(pool),
        hints=tuple(hints),
    )


def _together(clones: Clones, run: str, trials: Sequence[Trial], statements: Sequence[Statement]) -> Trial | None:
    """The settings that were worth it, all at once: gains do not add up by themselves."""
    chosen = [one.proposal for one in best(trials) if one.proposal.kind is not Kind.TABLE]
    if len(chosen) < 2:
        return None
    all_of_them = Proposal(
        kind=Kind.RESTART if any(one.kind is Kind.RESTART for one in chosen) else Kind.SESSION,
        subject=", ".join(one.subject for one in chosen),
        was="as now",
        to="as recommended",
        sign="each of them gained",
        settings={name: value for one in chosen for name, value in one.settings.items()},
    )
    return tried(clones, run, [all_of_them], statements)[0]


# --- Rules ---

READ = Check("optimization.workload", "Workload", "`nvcops serve` keeps what the database is asked")
GAIN = Check("optimization.gain", "Measured gain", "nvcops run db-optimization --apply")
NONE = Check("optimization.no_gain", "No gain", "")
TOGETHER = Check("optimization.together", "All of them together", "")
POOL = Check("optimization.pool", "Connections that are enough", "fewer in the services' pools: each costs the others")
HINT = Check("optimization.hint", "For who writes the service", "")
_POOL_MANY = 4


def best(trials: Sequence[Trial]) -> list[Trial]:
    """Those that are worth it; of two values for one thing the one that gains more."""
    worth = [(found, one) for one in trials if (found := gain(one)) and found.worth]
    firsts: dict[tuple[str, str], Trial] = {}
    for _, one in sorted(worth, key=lambda pair: -pair[0].share):
        option = one.proposal.to.partition("=")[0] if one.proposal.kind is Kind.TABLE else ""
        firsts.setdefault((one.proposal.relation or one.proposal.subject, option), one)
    return list(firsts.values())


def measured_findings(seen: Measured, signs_: Signs, found: Sequence[Proposal]) -> list[Finding]:
    """What is worth a change, with its gain; what was tried for nothing is told too."""
    if seen.trouble:
        return [READ.unknown(seen.trouble)]
    without = f"; {seen.without} have no values that fit" if seen.without else ""
    lines = [READ.finding(Verdict.OK, f"{seen.statements} statements, {len(found)} proposals tried{without}")]
    chosen = best(seen.trials)
    for one in seen.trials:
        proposal = one.proposal
        subject, observed = f"{proposal.subject} = {proposal.to}", f"{told(one)}; was {proposal.was}, {proposal.sign}"
        if one in chosen:
            lines.append(GAIN.finding(Verdict.WARNING, observed, subject=subject, limit="no gain is left"))
        else:
            lines.append(NONE.finding(Verdict.OK, observed, subject=subject))
    if seen.confirmed:
        lines.append(TOGETHER.finding(Verdict.OK, told(seen.confirmed), subject=seen.confirmed.proposal.subject))
    return [*lines, *pool_findings(seen.pool, signs_.sessions), *hint_findings(seen.hints)]


def pool_findings(pool: Sequence[Sessions], sessions: int) -> list[Finding]:
    """How many connections do almost as much as any number of them, beside how many there are."""
    least = enough(pool)
    if least is None:
        return []
    observed = f"{least} of the {sessions} there are now ({pool_told(pool)})"
    many_more = sessions > _POOL_MANY * least
    return [POOL.finding(Verdict.WARNING if many_more else Verdict.OK, observed, limit=f"< {_POOL_MANY} times as many")]


def hint_findings(hints: Sequence[Hint]) -> list[Finding]:
    """What only a developer can mend: it is told, and fails no run."""
    return [HINT.finding(Verdict.OK, f"{hint.seen}; {hint.instead}", subject=hint.about) for hint in hints]


# --- Procedures ---


@procedure(
    "db-optimization",
    script="db_optimization.py",
    when="Fri 10:00",
    lock="database",
    needs=["backups"],
    approval=True,
    maintenance=True,
    approval_if="apply",
    given_up=given_up,
)
def db_optimization(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, apply: bool = False, change: str = ""
) -> None:
    """Measure on a restored copy which settings, pools and tables gain something under the last week's statements.

    Memory, planner costs, parallel workers, compression of the log, autovacuum and fillfactor of tables: each is tried
    before and after in turns, and recommended only where it gained 3 % or more in every round and no statement got
    slower by a tenth. Nothing is recommended from a formula. Nothing of the live database is changed but with --apply,
    when a second person has seen the gains: then its statements are watched, and all is taken back when one of them got
    slower, or when the run is cancelled before that is known. What needs a restart is only told.

    Args:
        apply: change what gained something, watch it, and take it back when a statement gets slower
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    left = clean(run, target)
    before = run.read(signs, target)
    if before.trouble:
        run.conclude([*left, READ.unknown(before.trouble)])
        return
    found = proposals(before.signs)
    copy = run.step("restore a copy", copied, target, run.id)
    if copy is None:  # a rehearsal
        run.conclude([*left, READ.finding(Verdict.OK, f"would be tried: {'; '.join(described(found)) or 'nothing'}")])
        return
    seen = run.read(measured, target, run.id, run.started, found, list(before.aged))
    run.step("throw the copy away", discarded, target, run.id)
    lines = measured_findings(seen, before.signs, found)
    chosen = [one.proposal for one in best(seen.trials)]
    if apply and chosen:
        gains = "; ".join(f"{one.proposal.name}: {told(one)}" for one in best(seen.trials))
        title, given = f"Change on the live database: {gains}", carrying.number_of(change)
        number = carrying.carry(run, target, ChangeKind.SETTING, title, number=given, step="change")
        changed = altering.change(run, target, chosen)
        carrying.done(run, target, number, carrying.ended_by(changed))
        lines = [_settled(line) for line in lines] + changed
    run.conclude([*left, *lines], summary=_summary(seen, Seconds(copy.seconds)))


def _settled(line: Finding) -> Finding:
    """A gain that is being taken asks nobody any more."""
    if line.check != GAIN.name:
        return line
    return msgspec.structs.replace(line, verdict=Verdict.OK, next_step="")


def _summary(seen: Measured, restored: Seconds) -> str:
    if seen.trouble:
        return ""
    chosen = best(seen.trials)
    if not chosen:
        return f"Nothing that was tried gains anything (copy restored in {restored})."
    names = ", ".join(one.proposal.subject for one in chosen)
    return f"{len(chosen)} of {len(seen.trials)} proposals gain something: {names}."
