"""Which tables need which maintenance, and in what order; asked with the eyes of the role that keeps the database."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from nvcops.core import queries
from nvcops.core.errors import NotFoundError, Refused, TargetError
from nvcops.core.manifest import DatabaseLimits
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Ratio
from nvcops.core.upkeep import Privilege, Upkeep
from nvcops.database.checks import indexes, vacuum, wraparound
from nvcops.database.checks.vacuum import Table
from nvcops.database.checks.wraparound import Holder
from nvcops.database.topics import Answers, many

SQL = queries.load("nvcops.database.maintenance", "needs.sql")
_LOCKS_EACH = 4  # a partition, and three indexes of it
_LOCKS_SHARE = 0.25

# --- Facts ---


class Aged(msgspec.Struct, frozen=True):
    """A table with rows that are not frozen, as a share of the age at which autovacuum must do it."""

    name: str
    share: float
    age: float


class Parent(msgspec.Struct, frozen=True):
    """A partitioned table; `changed`: a partition was analysed after it. `locks` are those that the server has."""

    name: str
    partitions: int
    locks: int
    analyzed_s: float | None
    changed: bool

    @property
    def is_too_many(self) -> bool:
        """Whether analysing it would take a large part of all locks.

        >>> [Parent("p", partitions, 6400, None, True).is_too_many for partitions in (400, 401)]
        [False, True]
        """
        return self.partitions * _LOCKS_EACH > _LOCKS_SHARE * self.locks


class Index(msgspec.Struct, frozen=True):
    """An index and its bytes."""

    name: str
    bytes: float


class Bloat(msgspec.Struct, frozen=True):
    """A b-tree: bytes that it has and that it needs; None where that is not known."""

    quoted: str
    bytes: float
    needed: float | None

    @property
    def wasted(self) -> float:
        """Bytes that hold nothing."""
        return 0.0 if self.needed is None else max(self.bytes - self.needed, 0.0)


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """How a table or an index is; see the query of that name."""

    name: str
    rows: float
    dead: float
    modified: float
    age: float
    bytes: float
    valid: bool
    partitioned: bool
    vacuums: int
    analyses: int


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `trouble` says why it was not. `table` is the one that was asked for, by its whole name."""

    trouble: str = ""
    table: str = ""
    tables: tuple[Table, ...] = ()
    aged: tuple[Aged, ...] = ()
    parents: tuple[Parent, ...] = ()
    holders: tuple[Holder, ...] = ()
    leftovers: tuple[str, ...] = ()
    privileges: tuple[Privilege, ...] = ()


class Indexes(msgspec.Struct, frozen=True, kw_only=True):
    """Indexes that cannot be used, that are mostly air, and (where one table is asked for) all of its own."""

    invalid: tuple[Index, ...] = ()
    bloat: tuple[Bloat, ...] = ()
    own: tuple[Index, ...] = ()


def upkeep_of(target: Target) -> Upkeep:
    """What keeps the database; raises TargetError where nothing does."""
    if target.upkeep is None:
        raise TargetError("nothing keeps the database", hint="set up [database.upkeep] in platform.toml")
    return target.upkeep


def condition(target: Target, table: str) -> Condition:
    """Tables by what is overdue, old snapshots, leftovers, and what the role may do."""
    try:
        upkeep = upkeep_of(target)
        asked = {
            "overdue": vacuum.ASKED["overdue"],
            "holders": wraparound.ASKED["holders"],
            **{name: SQL[name] for name in ("aged", "parents", "leftovers")},
        }
        answers: Answers = {name: upkeep.rows(sql) for name, sql in asked.items()}
        return Condition(
            table=_named(upkeep, table),
            tables=many(answers, "overdue", Table),
            aged=many(answers, "aged", Aged),
            parents=many(answers, "parents", Parent),
            holders=many(answers, "holders", Holder),
            leftovers=tuple(str(row["name"]) for row in upkeep.rows(SQL["leftovers"])),
            privileges=tuple(upkeep.privileges()),
        )
    except TargetError as error:
        return Condition(trouble=error.sentence)


def _named(upkeep: Upkeep, table: str) -> str:
    if not table:
        return ""
    try:
        rows = upkeep.rows(SQL["table"], {"name": table})
    except Refused:  # it is no name
        rows = []
    if not rows:
        hint = "with its schema, and in double quotes where it is not all lower case"
        raise NotFoundError(f"there is no table {table!r} in the database", hint=hint)
    return str(rows[0]["name"])


def index_condition(target: Target, table: str) -> Indexes:
    """Indexes that cannot be used, and those that are mostly air."""
    upkeep = upkeep_of(target)
    answers: Answers = {"invalid": upkeep.rows(SQL["invalid"]), "bloat": upkeep.rows(indexes.ASKED["bloat"])}
    if table:
        answers["own"] = upkeep.rows(SQL["indexes_of"], {"name": table})
    return Indexes(
        invalid=many(answers, "invalid", Index), bloat=many(answers, "bloat", Bloat), own=many(answers, "own", Index)
    )


def measures(target: Target, names: list[str]) -> dict[str, Measure]:
    """Rows dead and alive, ages and bytes of what is to be kept."""
    rows = upkeep_of(target).rows(SQL["measured"], {"names": names})
    return {measure.name: measure for measure in msgspec.convert(rows, list[Measure])}


# --- Rules ---

_SHARE = 0.5  # of autovacuum's numbers: what it would come for by day is done in the quiet hours
_FREEZE_SHARE = 0.5
_TASKS_MAX = 50


class Kind(StrEnum):
    """What is done."""

    FREEZE = "freeze"
    VACUUM = "vacuum"
    ANALYZE = "analyze"
    REINDEX = "reindex"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One order: what for, of which table or index (its whole name), and why."""

    kind: Kind
    name: str
    sql: str
    why: str
    analyzes: bool = False

    @property
    def title(self) -> str:
        """What it does, for a person."""
        return f"{self.kind} {self.name} ({self.why})"


class Skipped(msgspec.Struct, frozen=True):
    """What would have been done, and why it was not."""

    name: str
    why: str


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, worst first, and what is left out."""

    tasks: tuple[Task, ...]
    skipped: tuple[Skipped, ...] = ()


def plan(seen: Condition, kinds: Sequence[Kind]) -> Plan:
    """What the tables need of these kinds.

    >>> busy = Table(name="a.busy", rows=1e5, dead=9e4, vacuum_at=20050, modified=9e4, analyze_at=10050)
    >>> calm = Table(name="a.calm", rows=1e5, dead=900, vacuum_at=20050, modified=900, analyze_at=10050)
    >>> [task.sql for task in plan(Condition(tables=(calm, busy)), [Kind.VACUUM, Kind.ANALYZE]).tasks]
    ['VACUUM (TRUNCATE false, ANALYZE) a.busy']
    >>> [task.sql for task in plan(Condition(table="a.calm", tables=(calm, busy)), [Kind.VACUUM]).tasks]
    ['VACUUM (TRUNCATE false) a.calm']
    """
    if seen.table:
        return Plan(tuple(_of_one(seen.table, kinds)))
    frozen = [_frozen(table) for table in seen.aged if Kind.FREEZE in kinds and table.share >= _FREEZE_SHARE]
    done = {task.name for task in frozen}
    tables = [table for table in seen.tables if table.name not in done and not table.running and _ours(table.name)]
    vacuumed = [table for table in tables if Kind.VACUUM in kinds and vacuum_share(table) >= _SHARE]
    vain = {table.name: who for table in vacuumed if (who := in_vain(table, seen.holders))}
    stale = {table.name for table in tables if Kind.ANALYZE in kinds and analyze_share(table) >= _SHARE}
    tasks = [*frozen]
    for table in sorted(vacuumed, key=vacuum_share, reverse=True):
        if table.name not in vain and table.name not in {task.name for task in tasks}:
            tasks.append(_vacuumed(table, analyze=table.name in stale))
    done = {task.name for task in tasks}
    by_share = sorted(tables, key=analyze_share, reverse=True)
    tasks += [_analyzed(table) for table in by_share if table.name in stale - done and not table.toast]
    parents = [parent for parent in seen.parents if Kind.ANALYZE in kinds and (parent.changed or not parent.analyzed_s)]
    tasks += [_analyzed_parent(parent) for parent in parents if parent.partitions and not parent.is_too_many]
    skipped = [Skipped(name, f"vacuumed since, and what is left is still seen by {who}") for name, who in vain.items()]
    skipped += [
        Skipped(parent.name, f"{parent.partitions:,} partitions would be locked at once")
        for parent in parents
        if parent.is_too_many
    ]
    skipped += [Skipped(task.name, f"the worst {_TASKS_MAX} come first") for task in tasks[_TASKS_MAX:]]
    return Plan(tuple(tasks[:_TASKS_MAX]), tuple(skipped))


def _ours(name: str) -> bool:
    """The server's own tables are left to autovacuum, which may."""
    return not name.startswith(("pg_catalog.", "information_schema."))


def vacuum_share(table: Table) -> float:
    """How much of what autovacuum comes for has gathered: 1 is when it comes.

    >>> vacuum_share(Table(name="t", dead=50, vacuum_at=100, inserted=75, insert_at=100))
    0.75
    """
    inserted = table.inserted / max(table.insert_at, 1) if table.insert_at is not None else 0.0
    return max(table.dead / max(table.vacuum_at, 1), inserted)


def analyze_share(table: Table) -> float:
    """The same of changes since it was analysed; 0 where that never happens.

    >>> analyze_share(Table(name="t", modified=50, analyze_at=100)), analyze_share(Table(name="t", analyze_at=None))
    (0.5, 0.0)
    """
    return table.modified / max(table.analyze_at, 1) if table.analyze_at is not None else 0.0


_OLD_S = 60.0
_OLD_TRANSACTIONS = 10_000


def in_vain(table: Table, holders: Sequence[Holder]) -> str:
    """Who sees what a vacuum would remove: it was vacuumed since that snapshot was taken, and its dead rows are there.

    >>> report = Holder("session", "report", 812, "psql", 5e4, 600)
    >>> table = Table(name="t", dead=9e4, vacuumed_s=300)
    >>> in_vain(table, [report])
    'pid 812 (report, psql) for 10 min'
    >>> in_vain(table, []), in_vain(Table(name="t", dead=9e4, vacuumed_s=900), [report])
    ('', '')
    """
    if not table.dead or table.vacuumed_s is None:
        return ""
    for holder in old(holders):
        if holder.since_s is None or holder.since_s > table.vacuumed_s:
            return holder.who
    return ""


def old(holders: Sequence[Holder]) -> list[Holder]:
    """Those who hold a snapshot for so long that a vacuum notices; a slot or a standby says no time, but an age."""
    return [
        holder
        for holder in holders
        if (holder.since_s is not None and holder.since_s >= _OLD_S)
        or (holder.since_s is None and holder.age >= _OLD_TRANSACTIONS)
    ]


def reindexing(seen: Indexes, limits: DatabaseLimits) -> Plan:
    """Indexes to be built anew: what cannot be used first, then what wastes most.

    >>> wasteful = Bloat(quoted="a.x", bytes=100 * 2**20, needed=10 * 2**20)
    >>> [task.title for task in reindexing(Indexes(bloat=(wasteful,)), DatabaseLimits()).tasks]
    ['reindex a.x (90 MiB of 100 MiB are air)']
    """
    tasks = [_rebuilt(index.name, "no query may use it") for index in seen.invalid]
    wasteful = [
        bloat
        for bloat in seen.bloat
        if bloat.wasted >= limits.index_bloat_min and bloat.wasted >= limits.index_bloat.warning * bloat.bytes
    ]
    tasks += [
        _rebuilt(bloat.quoted, f"{Bytes(bloat.wasted)} of {Bytes(bloat.bytes)} are air")
        for bloat in sorted(wasteful, key=lambda one: one.wasted, reverse=True)
    ]
    named = {task.name for task in tasks}
    tasks += [_rebuilt(index.name, "asked for") for index in seen.own if index.name not in named]
    if seen.own:
        own = {index.name for index in seen.own}
        tasks = [task for task in tasks if task.name in own]
    skipped = [Skipped(task.name, f"the worst {_TASKS_MAX} come first") for task in tasks[_TASKS_MAX:]]
    return Plan(tuple(tasks[:_TASKS_MAX]), tuple(skipped))


def _of_one(name: str, kinds: Sequence[Kind]) -> list[Task]:
    """What is asked for is done, whether it is due or not."""
    analyze = Kind.ANALYZE in kinds
    if Kind.FREEZE in kinds:
        return [_task(Kind.FREEZE, name, "asked for", analyzes=analyze)]
    if Kind.VACUUM in kinds:
        return [_task(Kind.VACUUM, name, "asked for", analyzes=analyze)]
    return [_task(Kind.ANALYZE, name, "asked for", analyzes=True)] if analyze else []


def _frozen(table: Aged) -> Task:
    return _task(Kind.FREEZE, table.name, f"{Ratio(table.share)} of the age at which autovacuum must")


def _vacuumed(table: Table, *, analyze: bool) -> Task:
    of_dead = table.dead / max(table.vacuum_at, 1) >= vacuum_share(table)
    rows = f"{Count(table.dead)} dead rows" if of_dead else f"{Count(table.inserted)} rows inserted"
    return _task(Kind.VACUUM, table.name, rows, analyzes=analyze)


def _analyzed(table: Table) -> Task:
    return _task(Kind.ANALYZE, table.name, f"{Count(table.modified)} rows changed", analyzes=True)


def _analyzed_parent(parent: Parent) -> Task:
    why = "it never was" if parent.analyzed_s is None else "its partitions changed"
    return _task(Kind.ANALYZE, parent.name, why, analyzes=True)


def _rebuilt(name: str, why: str) -> Task:
    return Task(kind=Kind.REINDEX, name=name, sql=f"REINDEX INDEX CONCURRENTLY {name}", why=why)


def _task(kind: Kind, name: str, why: str, *, analyzes: bool = False) -> Task:
    """Never truncating: that asks for a lock that stops readers too, and on a standby cancels them."""
    options = ["FREEZE"] if kind is Kind.FREEZE else []
    options += ["TRUNCATE false", *(["ANALYZE"] if analyzes else [])]
    sql = f"ANALYZE {name}" if kind is Kind.ANALYZE else f"VACUUM ({', '.join(options)}) {name}"
    return Task(kind=kind, name=name, sql=sql, why=why, analyzes=analyzes)
