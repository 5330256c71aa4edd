"""The proof on a copy: indexes are really built, the workload runs with and without them, and who gains nothing goes.

On the copy an index is hidden by marking it invalid in the catalogue: it is kept up to date as before, but no plan uses
it. So both sides are measured in turn within seconds, on the same pages, and noise hits both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from nvcops.core import queries
from nvcops.core.clones import Copy, Timing
from nvcops.core.errors import TargetError
from nvcops.core.workload import Statement
from nvcops.database.indexes.candidates import Relation, indexes_in, relations_in, written_in

QUERIES = queries.load("nvcops.database.indexes", "proof.sql")
Name = tuple[str, str]  # schema and name of an index

# --- Facts ---


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A statement with the indexes hidden and shown: seconds of a call, measured in turn. `stopped`: at least that."""

    id: int
    hidden_s: tuple[float, ...] = ()
    shown_s: tuple[float, ...] = ()
    hidden_stopped: bool = False
    shown_stopped: bool = False
    trouble: str = ""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A statement's plan: which of the indexes on trial it uses, and the tables that it writes to.

    `opaque`: its plan names no table, so what its functions do is not seen.
    """

    id: int
    indexes: frozenset[Name] = frozenset()
    writes: frozenset[Relation] = frozenset()
    opaque: bool = False


@dataclass
class Trial:
    """Indexes of a copy on trial: shown or hidden, while statements are planned and measured."""

    copy: Copy
    deadline_s: float = 30.0
    _tables: dict[Name, Relation] = field(default_factory=dict)

    def take(self, indexes: Mapping[Name, Relation]) -> None:
        """Put indexes that are there on trial, with their tables."""
        self._tables.update(indexes)

    def forget(self, index: Name) -> None:
        """An index that is gone."""
        self._tables.pop(index, None)

    def show(self, shown: Collection[Name]) -> None:
        """Let the planner see these of the indexes on trial, and hide the others."""
        if self._tables:
            ours = ", ".join(f"({_literal(schema)}, {_literal(name)})" for schema, name in sorted(self._tables))
            seen = ", ".join(f"({_literal(schema)}, {_literal(name)})" for schema, name in sorted(shown))
            wanted = f"(n.nspname, c.relname) IN ({seen})" if seen else "false"
            self.copy.execute(QUERIES["show"].replace("{shown}", wanted).replace("{on_trial}", ours))

    def used(self, statements: Sequence[Statement], shown: Collection[Name]) -> dict[int, Used]:
        """The plans of statements while these are shown; one that cannot be planned is left out."""
        self.show(shown)
        names = {name: (schema, name) for schema, name in shown}
        found = {}
        for statement in statements:
            try:
                plans = self.copy.explain(statement)
            except TargetError:
                continue
            indexes = frozenset(names[name] for name in indexes_in(plans) if name in names)
            opaque = not relations_in(plans)
            found[statement.id] = Used(id=statement.id, indexes=indexes, writes=written_in(plans), opaque=opaque)
        return found

    def compared(
        self, statements: Sequence[Statement], hidden: Collection[Name], shown: Collection[Name], rounds: int
    ) -> dict[int, Compared]:
        """Statements measured while one choice is shown (`hidden` for short) and while the other one is, in turn."""
        found = {statement.id: Compared(id=statement.id) for statement in statements}
        for number in range(rounds if statements else 0):
            for side in (False, True) if number % 2 == 0 else (True, False):
                self.show(shown if side else hidden)
                for timing in self.copy.timed(statements, rounds=1, deadline_s=self.deadline_s):
                    found[timing.id] = _added(found[timing.id], timing, shown=side)
        return found

    def slower(
        self, statements: Sequence[Statement], hidden: Collection[Name], shown: Collection[Name], rounds: int
    ) -> dict[int, Compared]:
        """The statements that are slower with the second choice, and are so when measured twice as often again."""
        first = self.compared(statements, hidden, shown, rounds)
        return self.confirmed(statements, first, hidden, shown, 2 * rounds)

    def confirmed(
        self,
        statements: Sequence[Statement],
        first: Mapping[int, Compared],
        hidden: Collection[Name],
        shown: Collection[Name],
        rounds: int,
    ) -> dict[int, Compared]:
        """Of the statements that may be slower, those that are when they are measured again; all rounds count."""
        suspects = [statement for statement in statements if may_be_slower(first[statement.id])]
        again = self.compared(suspects, hidden, shown, rounds)
        both = {one.id: together(first[one.id], again[one.id]) for one in suspects}
        return {number: seen for number, seen in both.items() if is_slower(seen)}

    def there(self, indexes: Collection[Name]) -> set[Name]:
        """Those of the indexes that are on the copy, and valid."""
        asked = sorted(indexes)
        names = {"schemas": [schema for schema, _ in asked], "names": [name for _, name in asked]}
        return {(row["schema"], row["name"]) for row in self.copy.rows(QUERIES["built"], names) if row["valid"]}

    def release(self, index: Name) -> None:
        """An index that is not on trial any more, and is seen as before."""
        self.show({index})
        self.forget(index)

    def concerned(self, used: Mapping[int, Used], shown: Collection[Name]) -> set[int]:
        """The statements that these indexes can make quicker or slower."""
        tables = {self._tables[name] for name in shown}
        return {one.id for one in used.values() if one.opaque or one.indexes & set(shown) or one.writes & tables}

    def culprits(self, used: Used, shown: Collection[Name]) -> frozenset[Name]:
        """The indexes that can have slowed a statement: those of its plan, else those that it must keep up to date."""
        kept = frozenset(name for name in shown if used.opaque or self._tables[name] in used.writes)
        return (used.indexes & set(shown)) or kept


def _added(before: Compared, timing: Timing, *, shown: bool) -> Compared:
    """With one more round on one side."""
    mean = (statistics.fmean(timing.seconds),) if timing.seconds else ()
    trouble = before.trouble or timing.trouble
    if shown:
        stopped = before.shown_stopped or timing.stopped
        return msgspec.structs.replace(before, shown_s=before.shown_s + mean, shown_stopped=stopped, trouble=trouble)
    stopped = before.hidden_stopped or timing.stopped
    return msgspec.structs.replace(before, hidden_s=before.hidden_s + mean, hidden_stopped=stopped, trouble=trouble)


def begin(copy: Copy) -> Trial:
    """A trial on a copy that is as the backup was: what one that was killed has made and hidden is put right."""
    if not copy.rows(QUERIES["remembered"])[0]["begun"]:
        copy.execute("CREATE SCHEMA IF NOT EXISTS nvcops_trial", QUERIES["remember"])
    copy.execute(QUERIES["show_found"], *(row["drop"] for row in copy.rows(QUERIES["made_since"])))
    return Trial(copy)


def build(copy: Copy, sql: str, name: Name, drop: str) -> tuple[int, float]:
    """Build an index anew; its bytes, and the seconds that it took.

    Raises:
        TargetError: it cannot be built.
    """
    copy.execute(drop)
    began = time.monotonic()
    copy.execute(sql)
    took = time.monotonic() - began
    rows = copy.rows(QUERIES["built"], {"schemas": [name[0]], "names": [name[1]]})
    return int(rows[0]["bytes"]), took


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# --- Rules ---

SLOWED = 1.10  # slower than that by an index, and the index goes
SUSPECT = 1.05
QUICKER = 0.95
NOISE_S = 0.0001  # a difference below is nobody's


def is_slower(compared: Compared) -> bool:
    """Whether the indexes slow a statement by more than a tenth, beyond noise: its best and its usual time both say so.

    >>> is_slower(Compared(id=1, hidden_s=(0.010, 0.011, 0.030), shown_s=(0.012, 0.014, 0.013)))
    True
    >>> is_slower(Compared(id=1, hidden_s=(0.010, 0.011, 0.030), shown_s=(0.010, 0.040, 0.040)))
    False
    >>> is_slower(Compared(id=1, hidden_s=(5.0,), shown_s=(30.0,), shown_stopped=True))
    True
    """
    return _differs(compared.hidden_s, compared.shown_s, SLOWED)


def may_be_slower(compared: Compared) -> bool:
    """Whether it is worth to be measured again."""
    if not compared.hidden_s or not compared.shown_s:
        return False
    return min(compared.shown_s) > SUSPECT * min(compared.hidden_s) or statistics.median(
        compared.shown_s
    ) > SUSPECT * statistics.median(compared.hidden_s)


def together(first: Compared, again: Compared) -> Compared:
    """Two measurements as one."""
    return msgspec.structs.replace(
        first, hidden_s=first.hidden_s + again.hidden_s, shown_s=first.shown_s + again.shown_s
    )


def is_quicker(compared: Compared) -> bool:
    """Whether the indexes make a statement quicker, beyond noise.

    >>> is_quicker(Compared(id=1, hidden_s=(0.020, 0.021), shown_s=(0.012, 0.013)))
    True
    """
    return _differs(compared.shown_s, compared.hidden_s, 1 / QUICKER)


def _differs(less: Sequence[float], more: Sequence[float], factor: float) -> bool:
    if not less or not more:
        return False
    pairs = ((min(less), min(more)), (statistics.median(less), statistics.median(more)))
    return all(high > low * factor and high - low > NOISE_S for low, high in pairs)


def saved_s(compared: Compared) -> float:
    """Seconds that one call saves; below zero it costs them.

    >>> round(saved_s(Compared(id=1, hidden_s=(0.3, 0.4, 0.5), shown_s=(0.1, 0.1))), 6)
    0.3
    """
    if not compared.hidden_s or not compared.shown_s:
        return 0.0
    return statistics.median(compared.hidden_s) - statistics.median(compared.shown_s)


def gains(
    used: Mapping[int, Used], compared: Mapping[int, Compared], calls: Mapping[int, float], shown: Iterable[Name]
) -> dict[Name, float]:
    """Seconds that each index saves over all calls; what several bring together is shared between them."""
    found = dict.fromkeys(shown, 0.0)
    for one in used.values():
        helping = one.indexes & found.keys()
        seen = compared.get(one.id)
        if seen and is_quicker(seen):
            for name in helping:
                found[name] += saved_s(seen) * calls[one.id] / len(helping)
    return found
