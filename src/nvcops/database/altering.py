"""Settings and tables' options are changed on the live server, watched, and taken back when a statement got slower."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import UsageError
from nvcops.core.manifest import Manifest, UpkeepEntry
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.upkeep import Done, Order, Outcome
from nvcops.database.copies import asked
from nvcops.database.maintenance import guard_of
from nvcops.database.proposals import Kind, Proposal
from nvcops.database.regression import Watched, means, told, watched

_DAY = dt.timedelta(days=1)
_READ_SETTINGS = "SELECT name, setting AS value FROM pg_settings WHERE name = ANY(%(names)s)"
_READ_OPTIONS = """
SELECT n.nspname || '.' || c.relname || ' ' || o.option_name AS name, o.option_value AS value
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_options_to_table(c.reloptions) o
WHERE n.nspname || '.' || c.relname = ANY(%(names)s)"""

# --- Facts ---


@conduct(deadline="2 min", idempotent=True)
def usual(target: Target, now: dt.datetime) -> dict[int, float]:
    """Read how long a call of each statement took in the last day."""
    heard = asked(target, now - _DAY, now)
    return means(heard.workload) if heard.workload else {}


@conduct(deadline="1 min", idempotent=True)
def in_force(target: Target, chosen: list[Proposal]) -> dict[str, str]:
    """Read the settings and the tables' options back, as the server runs with them."""
    if target.database is None:
        return {}
    names = {"names": [one.subject for one in chosen]}
    rows = [*target.database.rows(_READ_SETTINGS, names), *target.database.rows(_READ_OPTIONS, names)]
    return {row["name"]: row["value"] for row in rows}


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
        return values.get(f"{one.subject} {option}") == value
    return all(values.get(name) == value for name, value in one.settings.items())


def changed_findings(
    chosen: Sequence[Proposal], done: Sequence[Done], values: dict[str, str], seen: Watched | None
) -> list[Finding]:
    """What each change came to, as it was read back after the watch."""
    kept = seen is not None and not seen.slower and not seen.blind
    lines = []
    for one, outcome in zip(chosen, done, strict=False):
        name, there = f"{one.subject} = {one.to}", as_meant(one, values)
        if outcome.outcome is not Outcome.DONE:
            lines.append(CHANGED.finding(Verdict.WARNING, f"not changed: {outcome.why}", subject=name))
        elif kept:
            verdict = Verdict.OK if there else Verdict.CRITICAL
            told_ = f"in force, was {one.was}" if there else "the server does not run with it"
            lines.append(CHANGED.finding(verdict, told_, subject=name))
        else:
            verdict = Verdict.CRITICAL if there else Verdict.WARNING
            told_ = "still in force" if there else f"{one.was} again"
            lines.append(REVERTED.finding(verdict, told_, subject=name))
    return [*lines, *([watch_finding(seen)] if seen else [])]


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
    before = run.read(usual, target, run.started)
    done = [run.step(f"set {one.subject} = {one.to}", alter, target, one, back=False) for one in wanted]
    run.step("have the server read them", reload, target)
    seen = run.read(watched, target, before, float(entry.watch_after))
    if seen.slower or seen.blind:
        for one in wanted:
            run.step(f"take {one.subject} = {one.to} back", alter, target, one, back=True)
        run.step("have the server read what was before", reload, target)
    values = run.read(in_force, target, list(wanted))
    return [*changed_findings(wanted, [one for one in done if one], values, seen), *by_hand]


@conduct(deadline="30 min", idempotent=True, attempts=2)
def alter(target: Target, one: Proposal, *, back: bool) -> Done:
    """Change one thing, or take it back."""
    statements = one.undo if back else one.apply
    what = "take back" if back else "set"
    done = Done(outcome=Outcome.DONE)
    for sql in statements:
        done = _carried_out(target, Order(title=f"{what} {one.subject}", sql=sql))
        if done.outcome is not Outcome.DONE:
            break
    return done


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
