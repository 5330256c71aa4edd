"""Indexes that can go: the same again, or used by nobody on any server; and the proof that no statement misses them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.errors import TargetError
from nvcops.core.manifest.database import DatabaseLimits
from nvcops.core.progress import tell
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.core.workload import Statement
from nvcops.database.checks.indexes import ASKED, OF_STANDBYS, Redundant, Seen, parsed
from nvcops.database.indexes.proof import Name, Trial
from nvcops.database.topics import Answers

QUERIES = queries.load("nvcops.database.indexes", "removal.sql")
_LOOKED = ("redundant", "unused", "counted_since")

# --- Facts ---


class Superfluous(msgspec.Struct, frozen=True, kw_only=True):
    """An index that may go, why, and the statement that makes it again.

    `first` is its first column, empty of an expression.
    """

    schema: str
    plain: str
    quoted: str
    table_schema: str
    table: str
    first: str
    definition: str
    bytes: float
    why: str

    @property
    def name(self) -> str:
        """With its schema, for a person."""
        return f"{self.schema}.{self.plain}"

    @property
    def key(self) -> Name:
        """Schema and name."""
        return self.schema, self.plain


class Spared(msgspec.Struct, frozen=True):
    """An index that stays, and why."""

    name: str
    why: str


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What may go and what stays; `trouble` says why nobody knows."""

    superfluous: tuple[Superfluous, ...] = ()
    spared: tuple[Spared, ...] = ()
    trouble: str = ""


class _Described(msgspec.Struct, frozen=True):
    name: str
    schema: str
    plain: str
    quoted: str
    table_schema: str
    table: str
    first: str
    definition: str
    bytes: float
    foreign: bool


def superfluous(target: Target) -> Removal:
    """What the live servers say of their indexes.

    Raises:
        TargetError: the primary does not answer.
    """
    if target.database is None or target.manifest.database is None:
        return Removal(trouble="platform.toml names no [database]")
    database = target.database
    answers = database.read({name: ASKED[name] for name in _LOOKED})
    seen = parsed(answers, {standby.name: _of_standby(target, standby.name) for standby in target.standbys})
    found, spared = chosen(seen, target.manifest.database.limits)
    rows = database.rows(QUERIES["described"], {"names": sorted(found)}) if found else []
    described = {row["name"]: msgspec.convert(row, _Described) for row in rows}
    going = []
    for name, why in sorted(found.items()):
        if name not in described:
            spared.append(Spared(name, "a constraint needs it"))
        elif name in target.manifest.database.required_indexes:
            spared.append(Spared(name, "platform.toml requires it"))
        elif described[name].foreign and not why.startswith(_SAME):
            spared.append(Spared(name, "whoever deletes what a foreign key points at needs it"))
        else:
            going.append(msgspec.convert(msgspec.structs.asdict(described[name]) | {"why": why}, Superfluous))
    return Removal(superfluous=tuple(going), spared=tuple(spared))


def _of_standby(target: Target, name: str) -> Answers:
    standby = next(one for one in target.standbys if one.name == name)
    try:
        return standby.read(OF_STANDBYS)
    except TargetError as error:
        return dict.fromkeys(OF_STANDBYS, error)


def proven(trial: Trial, statements: Sequence[Statement], asked: Removal, rounds: int) -> Removal:
    """Of those that may go, the ones that no statement misses on the copy; they stay hidden there."""
    there = trial.there({one.key for one in asked.superfluous})
    spared = list(asked.spared)
    spared += [Spared(one.name, "it is not on the copy") for one in asked.superfluous if one.key not in there]
    trial.take({one.key: (one.table_schema, one.table) for one in asked.superfluous if one.key in there})
    going = {one.key: one for one in asked.superfluous if one.key in there}
    used = trial.used(statements, going)
    while going:
        concerned = [one for one in statements if one.id in used and (used[one.id].indexes & going.keys())]
        tell(0, 0, f"measuring {len(concerned)} statements without {len(going)} indexes")
        slow = trial.slower(concerned, going, (), rounds)
        missed = {key: one for one in slow for key in used[one].indexes & going.keys()}
        if not missed:
            break
        spared += [Spared(going[key].name, f"statement {one} is slower without it") for key, one in missed.items()]
        for key in missed:
            del going[key]
            trial.release(key)
    trial.show(())
    return Removal(superfluous=tuple(going.values()), spared=tuple(spared))


# --- Rules ---

_SAME = "the same as"
_BEGINS = "begins with its columns"


def chosen(seen: Seen, limits: DatabaseLimits) -> tuple[dict[str, str], list[Spared]]:
    """The indexes that may go, each with the reason: never one and also the one that makes it superfluous."""
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    for one in seen.redundant:
        if one.name not in found and one.other not in found:
            found[one.name] = _reason(one)
            others[one.name] = one.other
    unused, spared = _unused(seen, limits)
    needed = set(others.values())
    found |= {name: why for name, why in unused.items() if name not in found and name not in needed}
    return found, spared


def _reason(one: Redundant) -> str:
    return f"{_SAME} {one.other}" if one.same else f"{one.other} {_BEGINS}"


def _unused(seen: Seen, limits: DatabaseLimits) -> tuple[dict[str, str], list[Spared]]:
    """What nobody used on any server, once all have counted long enough."""
    uses = list(seen.uses.values())
    primary = seen.uses.get("")
    if primary is None or not primary.unused:
        return {}, []
    counted = Seconds(min(each.counting.seconds for each in uses))
    if any(each.trouble for each in uses) or primary.counting.standbys > len(uses) - 1:
        return {}, [Spared(one.name, "not every server could be asked whether it uses it") for one in primary.unused]
    if counted < limits.unused_index_after:
        why = f"unused, but counted for {counted} only: {limits.unused_index_after} are asked"
        return {}, [Spared(one.name, why) for one in primary.unused]
    everywhere = _everywhere([{one.name for one in each.unused} for each in uses])
    return {name: f"nobody used it in {counted} on {len(uses)} servers" for name in everywhere}, []


def _everywhere(names: Sequence[Collection[str]]) -> set[str]:
    return set(names[0]).intersection(*names[1:])


def remaking(definition: str) -> str:
    """The statement that makes an index again without stopping its table's writes.

    >>> remaking("CREATE INDEX a ON t USING btree (b)")
    'CREATE INDEX CONCURRENTLY a ON t USING btree (b)'
    """
    return definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)
