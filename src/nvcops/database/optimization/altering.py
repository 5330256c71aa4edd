"""Settings and tables' options are changed on the live server, watched, and taken back when a statement got slower."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import StepFailed, TargetError, UsageError
from nvcops.core.manifest import Manifest, UpkeepEntry
from nvcops.core.runs import Run, conduct
from nvcops.core.schedule import now
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Done, Order, Outcome, Pending
from nvcops.database.copies import asked
from nvcops.database.maintenance.db_maintenance import guard_of
from nvcops.database.optimization.proposals import Kind, Proposal, Setting, of
from nvcops.database.optimization.regression import Watched, means, told, watched

_DAY = dt.timedelta(days=1)
_READ_S = 10.0  # so long a server may take to read its configuration
_LOOK_S = 0.5
_ASKED = queries.load("nvcops.database.optimization", "altering.sql")

# --- Facts ---


class There(msgspec.Struct, frozen=True, kw_only=True):
    """What a server runs with: settings, and tables' options by the table's quoted name and the option's.

    `own` says of a setting for which roles or databases another value is set; `trouble` why nothing could be read.
    """

    server: str = ""
    settings: tuple[Setting, ...] = ()
    options: dict[str, str] = {}
    own: dict[str, str] = {}
    trouble: str = ""

    @property
    def values(self) -> dict[str, str]:
        """Both by name."""
        return {**{setting.name: setting.value for setting in self.settings}, **self.options}


@conduct(deadline="2 min", idempotent=True)
def usual(target: Target, until: dt.datetime) -> dict[int, float]:
    """Read how long a call of each statement took in the last day."""
    heard = asked(target, until - _DAY, until)
    return means(heard.workload) if heard.workload else {}


@conduct(deadline="1 min", idempotent=True)
def in_force(target: Target, chosen: list[Proposal], meant: bool | None = None) -> There:
    """Read the settings and the tables' options back, as the server runs with them.

    meant: wait a moment until it runs with all of them, or with none: it reads its configuration when it has time.
    """
    ends = time.monotonic() + _READ_S
    while True:
        there = _there(target, chosen)
        settled = not there.trouble and (meant is None or {as_meant(one, there.values) for one in chosen} <= {meant})
        if settled or time.monotonic() >= ends:
            return there
        time.sleep(_LOOK_S)


def _there(target: Target, chosen: Sequence[Proposal]) -> There:
    if target.database is None or target.upkeep is None:
        return There(trouble="platform.toml names no [database]")
    try:
        rows = target.database.rows(_ASKED["settings"], {"names": [name for one in chosen for name in one.settings]})
        tables = {"tables": [one.relation for one in chosen if one.relation]}
        options = target.database.rows(_ASKED["options"], tables)
        server = target.upkeep.name
    except TargetError as error:
        return There(trouble=error.sentence)
    return There(
        server=server,
        settings=tuple(msgspec.convert(rows, list[Setting])),
        options={f"{row['relation']} {row['option']}": row["value"] for row in options},
        own={row["name"]: row["own"] for row in rows if row["own"]},
    )


# --- Rules ---

CHANGED = Check("optimization.changed", "Changed", "nvcops run db-optimization measures again")
REVERTED = Check("optimization.reverted", "Taken back", "nvcops run db-diagnostics; what else changed at that time?")
WATCH = Check("optimization.watched", "Statements since", "`nvcops run db-diagnostics`")
BY_HAND = Check(
    "optimization.by_hand", "Needs a restart", "ALTER SYSTEM, and a restart in a window; then measure again"
)


def live(chosen: Sequence[Proposal]) -> list[Proposal]:
    """Those that can be changed, watched and taken back while the server runs."""
    return [one for one in chosen if one.kind is not Kind.RESTART]


def as_meant(one: Proposal, values: dict[str, str]) -> bool:
    """Whether the server runs with it.

    >>> one = Proposal(kind=Kind.SESSION, subject="jit", was="on", to="off", sign="", settings={"jit": "off"})
    >>> as_meant(one, {"jit": "off"}), as_meant(one, {"jit": "on"})
    (True, False)
    """
    if one.kind is Kind.TABLE:
        option, _, value = one.to.partition("=")
        return _same(values.get(f"{one.relation} {option}"), value)
    return all(_same(values.get(name), value) for name, value in one.settings.items())


def _same(there: str | None, meant: str) -> bool:
    """Whether two values are one, however the server writes it.

    >>> _same("1e+08", "100000000"), _same("on", "off"), _same(None, "0")
    (True, False, False)
    """
    try:
        return there is not None and (there == meant or float(there) == float(meant))
    except ValueError:
        return False


def as_measured(one: Proposal, there: There) -> bool:
    """Whether it stands as it did when it was measured: else taking it back would undo what somebody did since."""
    if one.kind is Kind.TABLE:
        return f"{one.relation} {one.to.partition('=')[0]}" not in there.options
    known = {setting.name: setting for setting in there.settings}
    return all(name in known and of(known[name], value, one.sign) == one for name, value in one.settings.items())


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal, what became of the change, and of taking it back where that was needed."""

    proposal: Proposal
    done: Done
    back: Done | None = None

    @property
    def name(self) -> str:
        """What was to be changed."""
        return self.proposal.name

    @property
    def made(self) -> bool:
        """Whether it was changed."""
        return self.done.outcome is Outcome.DONE


def changed_findings(
    changed: Sequence[Changed], first: There, there: There, seen: Watched | None, trouble: str
) -> list[Finding]:
    """What each change came to, as it was read back at the end."""
    lines = [_changed_finding(one, first, there) for one in changed]
    if trouble and seen is None:
        lines.append(WATCH.unknown(f"it was not waited for, and all was taken back: {trouble}"))
    return [*lines, *([watch_finding(seen)] if seen else [])]


def taken_back(one: Changed, there: There) -> bool:
    """Whether a change that was to be taken back is, as far as was read."""
    undone = one.back is not None and one.back.outcome is Outcome.DONE
    return undone and not there.trouble and not as_meant(one.proposal, there.values)


def _changed_finding(one: Changed, first: There, there: There) -> Finding:
    if not one.made and one.back is None:
        return CHANGED.finding(Verdict.WARNING, f"not changed: {one.done.why}", subject=one.name)
    if there.trouble:
        return CHANGED.unknown(f"it could not be read back: {there.trouble}", subject=one.name)
    was, in_it = one.proposal.was, as_meant(one.proposal, there.values)
    elsewhere = f"; {there.server} is primary now, it was {first.server}" if there.server != first.server else ""
    if one.back is not None:
        still = not taken_back(one, there)
        observed = f"{'still in force' if in_it else 'not taken back'}: {one.back.why}" if still else f"{was} again"
        return REVERTED.finding(Verdict.CRITICAL if still else Verdict.WARNING, observed + elsewhere, subject=one.name)
    if not in_it:
        return CHANGED.finding(Verdict.CRITICAL, f"the server does not run with it{elsewhere}", subject=one.name)
    own = [there.own[name] for name in one.proposal.settings if name in there.own]
    if own:
        observed = f"in force, was {was}; but not for {own[0]}, who have a value of their own"
        return CHANGED.finding(Verdict.WARNING, observed, subject=one.name)
    return CHANGED.finding(Verdict.OK, f"in force, was {was}{elsewhere}", subject=one.name)


def watch_finding(seen: Watched) -> Finding:
    """Whether anybody paid for it."""
    if seen.blind:
        return WATCH.unknown(f"nobody could look, so it was taken back: {seen.blind}")
    if seen.slower:
        return WATCH.finding(Verdict.WARNING, "; ".join(told(one) for one in seen.slower[:3]))
    return WATCH.finding(Verdict.OK, f"none of {seen.statements} got slower in {Seconds(round(seen.seconds))}")


# --- Procedures ---


def change(run: Run, target: Target, chosen: Sequence[Proposal]) -> list[Finding]:
    """Change what was approved, watch it, and take all of it back when it hurts or nobody can say."""
    entry = upkeep_of(target.manifest)
    by_hand = [
        BY_HAND.finding(Verdict.OK, f"was {one.was}; ALTER SYSTEM and a restart", subject=f"{one.subject} = {one.to}")
        for one in chosen
        if one.kind is Kind.RESTART
    ]
    wanted = live(chosen)
    if not wanted:
        return by_hand
    first = run.read(in_force, target, wanted)
    if first.trouble:
        return [CHANGED.unknown(f"nothing was changed: {first.trouble}"), *by_hand]
    usually = run.read(usual, target, run.started)
    changed, trouble = _made(run, target, wanted, first)
    made = [one.proposal for one in changed if one.made]
    seen: Watched | None = None
    if made and not trouble:
        seen = _watched(run, target, usually, float(entry.watch_after))
    if trouble or (seen and (seen.slower or seen.blind)):
        changed = _taken_back(run, target, changed, first.server)
        there = run.read(in_force, target, wanted, False)
    else:
        if made:
            run.step("accept what hurt nobody", settled, target, run.id, [one.name for one in made])
        there = run.read(in_force, target, wanted)
    if gone := [one.name for one in changed if one.back and taken_back(one, there)]:
        run.step("note that it is taken back", settled, target, run.id, gone)
    return [*changed_findings(changed, first, there, seen, trouble), *by_hand]


def _made(run: Run, target: Target, wanted: Sequence[Proposal], first: There) -> tuple[list[Changed], str]:
    """Change what stands as it was measured; and why all of it must be taken back at once, if it must."""
    changed: list[Changed] = []
    for one in wanted:
        if not as_measured(one, first):
            done = Done(outcome=Outcome.REFUSED, why="somebody has changed it since it was measured")
            changed.append(Changed(proposal=one, done=done))
            continue
        done, lost = _stepped(run, f"set {one.name}", target, one, first.server, back=False)
        changed.append(Changed(proposal=one, done=done))
        if lost:  # nobody knows whether it was done
            return [*changed[:-1], Changed(proposal=one, done=done, back=done)], done.why
    made = [one.proposal for one in changed if one.made]
    if not made:
        return changed, ""
    if why := _read_anew(run, target, "have the server read them"):
        return changed, why
    there = run.read(in_force, target, made, True)
    without = [one for one in made if not as_meant(one, there.values)]
    return changed, there.trouble or (f"the server does not run with {without[0].subject}" if without else "")


def _taken_back(run: Run, target: Target, changed: Sequence[Changed], server: str) -> list[Changed]:
    """Take back what was changed, or may have been."""
    after = []
    for one in changed:
        if one.made or one.back:
            title = f"take {one.name} back"
            back, _ = _stepped(run, title, target, one.proposal, server, back=True)
            after.append(msgspec.structs.replace(one, back=back))
        else:
            after.append(one)
    _read_anew(run, target, "have the server read what was before")  # whether it did is read back
    return after


def _stepped(run: Run, title: str, target: Target, one: Proposal, server: str, *, back: bool) -> tuple[Done, bool]:
    """A step, and whether nobody knows what came of it: it is no reason to leave the others as they are."""
    try:
        return run.step(title, alter, target, one, server, "" if back else run.id), False
    except StepFailed as error:
        return Done(outcome=Outcome.REFUSED, why=error.sentence), True


def _read_anew(run: Run, target: Target, title: str) -> str:
    """Have the server read its configuration; why it did not."""
    try:
        done = run.step(title, reload, target)
    except StepFailed as error:
        return error.sentence
    return "" if done.outcome is Outcome.DONE else f"its configuration was not read: {done.why}"


def _watched(run: Run, target: Target, usually: dict[int, float], seconds: float) -> Watched:
    try:
        seen = run.read(watched, target, usually, seconds)
    except TargetError as error:
        return Watched(seconds=0, blind=error.sentence)
    if seen.statements or seen.blind:
        return seen
    return msgspec.structs.replace(seen, blind="no statement was called often enough to be compared")


@conduct(deadline="30 min", idempotent=True, attempts=2)
def alter(target: Target, one: Proposal, server: str, run: str) -> Done:
    """Change one thing on that server for a run, or (no run) take it back.

    A setting does not move to another server with the data. What is changed is noted before, so that it is taken back
    when its run ends before anybody has accepted it.
    """
    back = not run
    statements = one.undo if back else one.apply
    what = "take back" if back else "set"
    if one.kind is not Kind.TABLE and target.upkeep is not None and target.upkeep.name != server:
        there = f"; `{'; '.join(statements)}` on {server}" if back else ""
        return Done(outcome=Outcome.REFUSED, why=f"{server} is primary no more{there}")
    done = Done(outcome=Outcome.DONE)
    if run and target.upkeep is not None:
        target.upkeep.note(noted(one, server, run))
    for sql in statements:
        done = _carried_out(target, Order(title=f"{what} {one.subject}", sql=sql))
        if done.outcome is not Outcome.DONE:
            break
    if run and target.upkeep is not None and done.outcome is not Outcome.DONE:
        target.upkeep.settle(run, [one.name])  # the server did not do it: nothing is in force
    return done


def noted(one: Proposal, server: str, run: str) -> Pending:
    """What is noted of a change until somebody has accepted it."""
    return Pending(run=run, subject=one.name, server=server, since=now(), change=msgspec.json.encode(one).decode())


@conduct(deadline="1 min", idempotent=True, attempts=3)
def settled(target: Target, run: str, subjects: list[str]) -> bool:
    """Forget that nobody had accepted it."""
    if target.upkeep is not None:
        target.upkeep.settle(run, subjects)
    return True


@conduct(deadline="2 min", idempotent=True, attempts=3)
def reload(target: Target) -> Done:
    """Have the server read its configuration."""
    return _carried_out(target, Order(title="reload the configuration", sql="SELECT pg_reload_conf()"))


def _carried_out(target: Target, order: Order) -> Done:
    if target.upkeep is None:
        raise UsageError("nothing may change the database", hint="[database.upkeep] in platform.toml")
    done = target.upkeep.carry_out(order, guard_of(upkeep_of(target.manifest)))
    return msgspec.structs.replace(done, why=done.why[:500])


def upkeep_of(manifest: Manifest) -> UpkeepEntry:
    """Who may change the database.

    Raises:
        UsageError: nobody.
    """
    entry = manifest.database.upkeep if manifest.database else None
    if entry is None:
        raise UsageError("nothing may change the database", hint="[database.upkeep] in platform.toml")
    return entry
