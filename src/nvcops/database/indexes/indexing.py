"""Indexes are made and removed on the live server, concurrently; they are watched, and what hurts is taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Seconds
from nvcops.core.upkeep import Done, Order, Outcome
from nvcops.core.workload import IndexKey
from nvcops.database.indexes.removal import Superfluous, remaking
from nvcops.database.maintenance.db_maintenance import guard_of
from nvcops.database.maintenance.needs import upkeep_of
from nvcops.database.optimization import altering
from nvcops.database.optimization.altering import usual
from nvcops.database.optimization.regression import Watched, told, watched

QUERIES = queries.load("nvcops.database.indexes", "indexing.sql")
Touched = Mapping[int, Sequence[str]]  # by statement: columns that it names, tables that it writes to

# --- Facts ---


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An index of the live server: whether queries may use it, how often they have, its bytes."""

    schema: str
    name: str
    valid: bool
    scans: float
    bytes: float


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An index that comes or goes: its table, its first column, the statements that make it and remove it.

    `first` is empty of an expression.
    """

    schema: str
    name: str
    table: str
    first: str
    title: str
    create: str
    drop: str


@conduct(deadline="1 min", idempotent=True)
def standing(target: Target, wanted: list[Wanted]) -> list[Standing]:
    """Read back which of the indexes are there, and whether queries use them."""
    return _standing(target, wanted)


def _standing(target: Target, wanted: Sequence[Wanted]) -> list[Standing]:
    names = {"schemas": [one.schema for one in wanted], "names": [one.name for one in wanted]}
    return msgspec.convert(upkeep_of(target).rows(QUERIES["standing"], names), list[Standing])


@conduct(deadline="1 min", idempotent=True)
def leftovers(target: Target) -> list[str]:
    """Look for indexes of ours that were never finished."""
    return [row["quoted"] for row in upkeep_of(target).rows(QUERIES["leftovers"])]


# --- Rules ---

MADE = Check("indexes.made", "Index made", "scripts/optimize_indexes.py measures again")
REMOVED = Check("indexes.removed", "Index removed", "scripts/optimize_indexes.py --remove-unused measures again")
REVERTED = Check("indexes.reverted", "Taken back", "scripts/db_diagnostics.py; what else changed at that time?")
WATCH = Check("indexes.watched", "Statements since", "scripts/db_diagnostics.py")


def of_key(key: IndexKey) -> Wanted:
    """An index that was proven."""
    return Wanted(
        schema=key.schema,
        name=key.name,
        table=f"{key.schema}.{key.table}",
        first=key.columns[0],
        title=key.title,
        create=key.create(concurrently=True),
        drop=key.drop(concurrently=True),
    )


def of_superfluous(one: Superfluous) -> Wanted:
    """One that goes, and may have to come back."""
    return Wanted(
        schema=one.schema,
        name=one.plain,
        table=f"{one.table_schema}.{one.table}",
        first=one.first,
        title=one.name,
        create=remaking(one.definition),
        drop=f"DROP INDEX CONCURRENTLY IF EXISTS {one.quoted}",
    )


def concerns(one: Wanted, touched: Sequence[str] | None) -> bool:
    """Whether a change can matter to a statement: it names the index's first column, or writes to its table.

    >>> one = Wanted(schema="s", name="i", table="s.t", first="a", title="", create="", drop="")
    >>> [concerns(one, each) for each in (["s.t.a"], ["s.t.b"], ["s.t"], ["s.u.a"], [], None)]
    [True, False, True, False, False, True]
    """
    if touched is None:
        return True
    wanted = f"{one.table}.{one.first}"
    return any(each in (wanted, one.table) or (not one.first and each.startswith(wanted)) for each in touched)


def apart(before: Mapping[int, float], changed: Sequence[Wanted], touched: Touched) -> list[int]:
    """The statements to which no change can matter: what they got slower by is the machine's."""
    return sorted(one for one in before if not any(concerns(each, touched.get(one)) for each in changed))


def blamed(seen: Watched, changed: Sequence[Wanted], touched: Touched) -> list[Wanted]:
    """What is taken back: all where nobody could look; else what can matter to the statements that got slower.

    >>> from nvcops.database.optimization.regression import Slower
    >>> a, b = (Wanted(schema="s", name=n, table=f"s.{n}", first="c", title=n, create="", drop="") for n in "ab")
    >>> slow = Watched(seconds=9, slower=(Slower(7, 0.1, 0.2, 50),))
    >>> [[one.name for one in blamed(slow, [a, b], known)] for known in ({7: ["s.a.c"]}, {7: ["s.c"]}, {})]
    [['a'], [], ['a', 'b']]
    >>> len(blamed(Watched(seconds=9, blind="it does not answer"), [a, b], {}))
    2
    """
    if seen.blind:
        return list(changed)
    return [one for one in changed if any(concerns(one, touched.get(slow.id)) for slow in seen.slower)]


def made_finding(one: Wanted, done: Done | None, there: Standing | None, *, back: bool) -> Finding:
    """Whether an index that was made stands there, or is gone again where it was taken back."""
    if back:
        return _back_finding(one, "is removed again", wrong=there is not None)
    if done is None or done.outcome is not Outcome.DONE:
        left = "; an invalid one is left" if there else ""
        verdict = Verdict.CRITICAL if there else Verdict.WARNING
        return MADE.finding(verdict, f"not made: {done.why if done else 'not begun'}{left}", subject=one.title)
    if there is None or not there.valid:
        return MADE.finding(Verdict.CRITICAL, "it was made, and queries cannot use it", subject=one.title)
    observed = f"{Bytes(there.bytes)} in {Seconds(round(done.seconds, 1))}, used {Count(there.scans)} times since"
    return MADE.finding(Verdict.OK, observed, subject=one.title)


def removed_finding(one: Wanted, done: Done | None, there: Standing | None, *, back: bool) -> Finding:
    """Whether an index that was removed is gone, or stands there again where it was taken back."""
    if back:
        return _back_finding(one, "stands there again", wrong=there is None or not there.valid)
    if there is None:
        return REMOVED.finding(Verdict.OK, f"gone; to make it again: {one.create}", subject=one.title)
    why = done.why if done and done.why else "it is still there"
    verdict = Verdict.WARNING if there.valid else Verdict.CRITICAL
    return REMOVED.finding(verdict, f"not removed: {why}" + ("" if there.valid else "; now invalid"), subject=one.title)


def _back_finding(one: Wanted, what: str, *, wrong: bool) -> Finding:
    verdict = Verdict.CRITICAL if wrong else Verdict.WARNING
    return REVERTED.finding(verdict, f"not taken back: {one.drop}" if wrong else f"it {what}", subject=one.title)


def watch_finding(seen: Watched) -> Finding:
    """Whether anybody paid for it."""
    if seen.blind:
        return WATCH.unknown(f"nobody could look, so all was taken back: {seen.blind}")
    if seen.slower:
        return WATCH.finding(Verdict.WARNING, "; ".join(told(one) for one in seen.slower[:3]))
    if not seen.statements:
        return WATCH.unknown(f"no statement that can be compared was asked in {Seconds(round(seen.seconds))}")
    return WATCH.finding(Verdict.OK, f"none of {seen.statements} got slower in {Seconds(round(seen.seconds))}")


# --- Procedures ---


def applied(
    run: Run, target: Target, keys: Sequence[IndexKey], superfluous: Sequence[Superfluous], touched: Touched
) -> list[Finding]:
    """Make and remove what was approved, watch it, and take back what hurts; then read what stands there."""
    entry = altering.upkeep_of(target.manifest)
    making, removing = [of_key(key) for key in keys], [of_superfluous(one) for one in superfluous]
    for quoted in run.read(leftovers, target):
        run.step(
            f"remove {quoted}, which was never finished", remove, target, f"DROP INDEX CONCURRENTLY IF EXISTS {quoted}"
        )
    before = run.read(usual, target, run.started)
    done = {one.name: run.step(f"make {one.title}", make, target, one) for one in making}
    done |= {one.name: run.step(f"remove {one.title}", remove, target, one.drop) for one in removing}
    control = apart(before, [*making, *removing], touched)
    seen = run.read(watched, target, before, float(entry.watch_after), control)
    back = blamed(seen, [*making, *removing], touched)
    for one in back:
        if one in making:
            run.step(f"remove {one.title} again", remove, target, one.drop)
        else:
            run.step(f"make {one.title} again", make, target, one)
    there = {(one.schema, one.name): one for one in run.read(standing, target, [*making, *removing])}
    lines = [made_finding(one, done[one.name], there.get((one.schema, one.name)), back=one in back) for one in making]
    lines += [
        removed_finding(one, done[one.name], there.get((one.schema, one.name)), back=one in back) for one in removing
    ]
    return [*lines, watch_finding(seen)]


@conduct(deadline="5 h", idempotent=True)
def make(target: Target, one: Wanted) -> Done:
    """Make an index concurrently; one that is there and valid stays as it is."""
    if any(seen.valid for seen in _standing(target, [one])):
        return Done(outcome=Outcome.DONE, why="it was there")
    return _carried_out(target, Order(title=f"make {one.title}", sql=one.create, undo=(one.drop,)))


@conduct(deadline="1 h", idempotent=True)
def remove(target: Target, drop: str) -> Done:
    """Remove an index concurrently."""
    return _carried_out(target, Order(title=drop, sql=drop))


def _carried_out(target: Target, order: Order) -> Done:
    """Carry an order out; a server that is lost in it must not keep what was made before from being watched."""
    try:
        return upkeep_of(target).carry_out(order, guard_of(altering.upkeep_of(target.manifest)))
    except TargetError as error:
        return Done(outcome=Outcome.REFUSED, why=f"whether it was done is not known: {error.sentence}")
