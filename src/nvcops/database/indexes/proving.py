"""Chosen indexes are put to the proof on a copy, until those that are left all help, hurt nobody and fit the budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from nvcops.core.errors import TargetError
from nvcops.core.progress import tell
from nvcops.core.units import Bytes, Seconds
from nvcops.core.workload import IndexKey, Statement
from nvcops.database.indexes.proof import Compared, Name, Trial, Used, build, gains, together

ROUNDS = 3
_TURNS_MAX = 30

# --- Facts ---


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """An index that was really built on the copy: bytes, seconds of its making, seconds that it saves the workload."""

    index: IndexKey
    bytes: int
    seconds: float
    saved_s: float = 0.0


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One that did not stand the proof, and why."""

    index: IndexKey
    why: str
    bytes: int = 0


@dataclass
class Prover:
    """Builds and measures on one copy. What it once built and kept is not built again."""

    trial: Trial
    statements: Sequence[Statement]
    budget: int
    rounds: int = ROUNDS
    built: dict[IndexKey, Built] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    measured: dict[int, Compared] = field(default_factory=dict)

    def prove(self, keys: Collection[IndexKey]) -> list[Built]:
        """Those of the indexes that stand the proof, with what each saves."""
        shown = self._all_built(sorted(keys))
        used = self.trial.used(self.statements, shown)
        saved: dict[Name, float] = {}
        for _ in range(_TURNS_MAX):
            wanted = self.trial.concerned(used, shown)
            measured = [statement for statement in self.statements if statement.id in wanted]
            tell(0, 0, f"measuring {len(measured)} statements with and without {len(shown)} indexes")
            compared = self.trial.compared(measured, (), set(shown), self.rounds)
            saved = gains(used, compared, {statement.id: statement.calls for statement in measured}, shown)
            out = self._hurting(measured, used, compared, shown, saved)
            if not out and (idle := {name for name in shown if saved[name] <= 0}):
                compared = self._again(measured, used, compared, shown, idle)
                saved = gains(used, compared, {statement.id: statement.calls for statement in measured}, shown)
                out = {name: useless(name, used, compared) for name in idle if saved[name] <= 0}
            out = out or too_large({name: key.bytes for name, key in shown.items()}, saved, self.budget)
            if not out:
                self.measured = compared
                break
            for name, why in out.items():
                self._reject(shown.pop(name), why)
            used = self.trial.used(self.statements, shown)
        return [msgspec.structs.replace(one, saved_s=saved[name]) for name, one in shown.items()]

    def _all_built(self, keys: Sequence[IndexKey]) -> dict[Name, Built]:
        """Each index built, unless it cannot be or no plan uses it; those that are not asked for any more are gone."""
        for key in self.built.keys() - set(keys):
            self._remove(key)
        for number, key in enumerate(keys, 1):
            if key not in self.built:
                tell(0, 0, f"building {key.title} ({number} of {len(keys)})")
                self._build(key)
        shown = {_name(key): self.built[key] for key in keys if key in self.built}
        plans = self.trial.used(self.statements, shown)
        wanted = frozenset(name for one in plans.values() for name in one.indexes)
        for name in [name for name in shown if name not in wanted]:
            self._reject(shown.pop(name), "no plan uses it")
        return shown

    def _build(self, key: IndexKey) -> None:
        try:
            create, drop = key.create(concurrently=False), key.drop(concurrently=False)
            size, seconds = build(self.trial.copy, create, _name(key), drop)
        except TargetError as error:
            self.rejected.append(Rejected(index=key, why=f"it cannot be built: {error.sentence}"))
            return
        self.built[key] = Built(index=key, bytes=size, seconds=seconds)
        self.trial.take({_name(key): (key.schema, key.table)})

    def _hurting(
        self,
        measured: Sequence[Statement],
        used: Mapping[int, Used],
        compared: Mapping[int, Compared],
        shown: Mapping[Name, Built],
        saved: Mapping[Name, float],
    ) -> dict[Name, str]:
        """Of each statement that is slower, and so again when measured twice as often, the least useful index."""
        slow = self.trial.confirmed(measured, compared, (), set(shown), 2 * self.rounds)
        out: dict[Name, str] = {}
        for number, seen in slow.items():
            suspects = sorted(self.trial.culprits(used[number], shown), key=lambda name: (saved[name], name))
            if not out.keys() & set(suspects):
                why = f"it slows statement {number} from {_best(seen.hidden_s)} to {_best(seen.shown_s)}"
                out.update(dict.fromkeys(suspects[:1], why))
        return out

    def _again(
        self,
        measured: Sequence[Statement],
        used: Mapping[int, Used],
        compared: Mapping[int, Compared],
        shown: Mapping[Name, Built],
        idle: Collection[Name],
    ) -> dict[int, Compared]:
        """Measure those once more, twice as often, that were to gain by indexes which seem to bring nothing."""
        wanted = [statement for statement in measured if used[statement.id].indexes & set(idle)]
        again = self.trial.compared(wanted, (), set(shown), 2 * self.rounds)
        return {**compared, **{number: together(compared[number], seen) for number, seen in again.items()}}

    def _reject(self, built: Built, why: str) -> None:
        """It goes from the copy too: room, and what writes pay, are others' then."""
        self.rejected.append(Rejected(index=built.index, why=why, bytes=built.bytes))
        self._remove(built.index)

    def _remove(self, key: IndexKey) -> None:
        self.trial.forget(_name(key))
        del self.built[key]
        self.trial.copy.execute(key.drop(concurrently=False))


# --- Rules ---


def useless(name: Name, used: Mapping[int, Used], compared: Mapping[int, Compared]) -> str:
    """Why an index brings nothing, with what was measured of the statements that use it.

    >>> seen = Compared(id=7, hidden_s=(0.01, 0.012), shown_s=(0.01, 0.013))
    >>> useless(("s", "i"), {7: Used(id=7, indexes=frozenset({("s", "i")}))}, {7: seen})
    'no statement gains by it: 7 takes 10 ms with, 10 ms without'
    """
    measured = [
        f"{one.id} takes {_best(seen.shown_s)} with, {_best(seen.hidden_s)} without"
        for one in used.values()
        if name in one.indexes and (seen := compared.get(one.id)) and seen.hidden_s and seen.shown_s
    ]
    return f"no statement gains by it{': ' if measured else ''}{'; '.join(measured[:3])}"


def too_large(sizes: Mapping[Name, int], saved: Mapping[Name, float], budget: int) -> dict[Name, str]:
    """The indexes that save least per byte, until the others fit.

    >>> sizes = {("a", "x"): 60, ("a", "y"): 50, ("a", "z"): 10}
    >>> saved = {("a", "x"): 6.0, ("a", "y"): 9.0, ("a", "z"): 1}
    >>> too_large(sizes, saved, 120), list(too_large(sizes, saved, 110))
    ({}, [('a', 'x')])
    """
    out: dict[Name, str] = {}
    held = sum(sizes.values())
    for name in sorted(sizes, key=lambda name: (saved[name] / max(sizes[name], 1), name)):
        if held <= budget:
            break
        held -= sizes[name]
        out[name] = f"the budget is used up: it takes {Bytes(sizes[name])}, and saves less for that than others"
    return out


def _name(key: IndexKey) -> Name:
    return key.schema, key.name


def _best(seconds: Sequence[float]) -> Seconds:
    return Seconds(min(seconds))
