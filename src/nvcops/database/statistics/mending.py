"""What mends an estimate, tried on a copy: the smallest of what there is, and what plans and times become by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from nvcops.core.clones import Copy
from nvcops.core.errors import TargetError
from nvcops.core.progress import tell
from nvcops.core.units import Seconds
from nvcops.core.workload import IndexKey, Statement, quoted
from nvcops.database.statistics.estimates import MENDED, OFF, Spot, Suspect, off, outline, suspects, worst

# --- Facts ---

_EXPLAINED_S = 60.0
_TIMED_S = 60.0
_ROUNDS = 5
_SPOTS_MAX = 20
_ANALYSES = 3
_SUSPECTS_MAX = 5
_TARGETS = """
SELECT attname, coalesce(attstattarget, -1)::int AS target FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attname = ANY (%(columns)s)"""


class Cause(StrEnum):
    """Why an estimate is wrong, by what mends it."""

    OLD = "its statistics are too old"
    COARSE = "its statistics are too coarse for how unevenly the values are spread"
    TOGETHER = "the columns go together"
    OTHER = "nothing that was tried mends it"


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a table: analysed again; before that a target for its columns, or statistics over several.

    `former` are the targets as they were; -1 is the server's default.
    """

    schema: str
    table: str
    columns: tuple[str, ...] = ()
    target: int = 0
    kinds: str = ""
    former: dict[str, int] = {}

    @property
    def asks(self) -> bool:
        """Whether a second person has to approve it: it stays; to analyse again is what autovacuum does anyway."""
        return bool(self.target or self.kinds)

    @property
    def relation(self) -> str:
        """The table as SQL has it."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def title(self) -> str:
        """What it does, for a person.

        >>> Fix(schema="s", table="t", columns=("a",), target=1000).title
        'statistics target 1000 for s.t (a)'
        """
        listed = f"{self.schema}.{self.table} ({', '.join(self.columns)})"
        if self.kinds:
            return f"statistics ({self.kinds}) over {listed}"
        return f"statistics target {self.target} for {listed}" if self.target else f"analyse {self.schema}.{self.table}"

    @property
    def changes(self) -> tuple[tuple[str, str], ...]:
        """The statement that changes something, all columns or none, with the one that takes it back.

        >>> fix = Fix(schema="s", table="t", columns=("a", "b", "c"), target=1000, former={"a": 5000, "b": 100})
        >>> fix.changes[0][1]
        'ALTER TABLE "s"."t" ALTER COLUMN "b" SET STATISTICS 100, ALTER COLUMN "c" SET STATISTICS -1'
        """
        if self.kinds:
            name = f"{quoted(self.schema)}.{quoted(self.name)}"
            columns = ", ".join(quoted(column) for column in self.columns)
            make = f"CREATE STATISTICS {name} ({self.kinds}) ON {columns} FROM {self.relation}"
            return ((make, f"DROP STATISTICS IF EXISTS {name}"),)
        coarser = [column for column in self.columns if self.former.get(column, -1) < self.target]
        if not self.target or not coarser:
            return ()
        make, back = (
            ", ".join(f"ALTER COLUMN {quoted(column)} SET STATISTICS {targets[column]}" for column in coarser)
            for targets in (dict.fromkeys(coarser, self.target), {**dict.fromkeys(coarser, -1), **self.former})
        )
        return ((f"ALTER TABLE {self.relation} {make}", f"ALTER TABLE {self.relation} {back}"),)

    @property
    def analyze(self) -> str:
        """The statement by which it takes effect."""
        return f"ANALYZE {self.relation}"

    @property
    def name(self) -> str:
        """What the statistics are called: the same kind of the same columns has the same name, whoever comes again.

        Another kind has another one: to make it takes nothing away that was made before.
        """
        return IndexKey(self.schema, self.table, (*self.columns, self.kinds)).name


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A statement before and after, on the copy: outlines of its plans, and the seconds of a call at best."""

    statement: int
    plan_before: str
    plan_after: str
    before_s: float | None = None
    after_s: float | None = None


class Mended(msgspec.Struct, frozen=True, kw_only=True):
    """A spot about which the planner was wrong by `before` times, and by `after` with the fix; None: nothing mends it.

    No value of any row is in here.
    """

    spot: Spot
    cause: Cause
    before: float
    after: float
    fix: Fix | None = None
    proofs: tuple[Proof, ...] = ()


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on a copy: of how many statements, how many could not be run, and what is wrong."""

    statements: int = 0
    without: int = 0
    nodes: int = 0
    mended: tuple[Mended, ...] = ()
    trouble: str = ""


def examined(copy: Copy, statements: Sequence[Statement]) -> Examined:
    """Run the workload's statements once, find what was expected wrongly, and try what mends it."""
    found: dict[Spot, list[Suspect]] = {}
    concerned: dict[Spot, dict[int, Statement]] = {}
    without = nodes = 0
    for number, statement in enumerate(statements, 1):
        tell(0, 0, f"comparing plans with what came ({number} of {len(statements)})")
        try:
            plans = copy.explain(statement, analyze=True, settings={"statement_timeout": f"{_EXPLAINED_S:g}s"})
        except TargetError:
            without += 1
            continue
        for plan in plans:
            nodes += _nodes(plan)
            for suspect in suspects(plan):
                found.setdefault(suspect.spot, []).append(suspect)
                concerned.setdefault(suspect.spot, {})[statement.id] = statement
    confirmed = {spot: real for spot, each in found.items() if (real := _confirmed(copy, each))}
    spots = sorted(confirmed, key=lambda spot: -worst(confirmed[spot]))[:_SPOTS_MAX]
    trying = _Trying(copy, confirmed, {spot: list(concerned[spot].values()) for spot in spots})
    return Examined(
        statements=len(statements) - without, without=without, nodes=nodes, mended=tuple(trying.carry_out())
    )


def _nodes(plan: Mapping[str, object]) -> int:
    below = plan.get("Plans", ())
    return 1 + sum(_nodes(each) for each in below) if isinstance(below, list) else 1


def _confirmed(copy: Copy, found: Sequence[Suspect]) -> list[Suspect]:
    """Those that are off when nothing but their own condition is asked; a few of them, the worst first."""
    distinct = {suspect.asked: suspect for suspect in sorted(found, key=lambda each: off(each.estimated, each.actual))}
    checked = []
    for suspect in list(distinct.values())[: -_SUSPECTS_MAX - 1 : -1]:
        try:
            actual = float(copy.rows(suspect.counted)[0]["rows"])
            seen = msgspec.structs.replace(suspect, actual=actual, estimated=estimate(copy, suspect))
        except TargetError:
            continue  # not to be asked alone: then nothing could be shown to mend it
        checked += [seen] if off(seen.estimated, seen.actual) >= OFF else []
    return checked


def estimate(copy: Copy, suspect: Suspect) -> float:
    """How many rows the planner expects now."""
    answer = copy.rows(f"EXPLAIN (FORMAT JSON) {suspect.asked}")
    return float(answer[0]["QUERY PLAN"][0]["Plan"]["Plan Rows"])


_State = dict[int, tuple[str, float | None]]  # by statement: outlines of its plans, seconds of a call at best


class _Trying:
    """Goes from spot to spot; what mended nothing is taken back before the next."""

    def __init__(
        self, copy: Copy, found: Mapping[Spot, list[Suspect]], concerned: Mapping[Spot, list[Statement]]
    ) -> None:
        self._copy, self._found, self._concerned = copy, found, concerned

    def carry_out(self) -> list[Mended]:
        """To analyse again is tried for all tables first, since it is the least."""
        before = {spot: worst(self._found[spot]) for spot in self._concerned}
        done: list[Mended] = []
        tables = sorted({(spot.schema, spot.table) for spot in self._concerned})
        for schema, table in tables:
            spots = [spot for spot in self._concerned if (spot.schema, spot.table) == (schema, table)]
            fix = Fix(schema=schema, table=table)
            concerned = list({each.id: each for spot in spots for each in self._concerned[spot]}.values())
            first = self._state(concerned)
            after = self._after_analyses(fix, spots)
            proofs = _proofs(first, self._state(concerned))
            done += [
                Mended(spot=spot, cause=Cause.OLD, before=before[spot], after=after[spot], fix=fix, proofs=proofs)
                for spot in spots
                if after[spot] < MENDED
            ]
        left = [spot for spot in self._concerned if spot not in {each.spot for each in done}]
        return done + [self._tried(spot, before[spot]) for spot in left]

    def _after_analyses(self, fix: Fix, spots: Sequence[Spot]) -> dict[Spot, float]:
        """The worst of several: each draws another sample, and luck is no cure."""
        after = dict.fromkeys(spots, 1.0)
        for _ in range(_ANALYSES):
            self._copy.execute(fix.analyze)
            after = {spot: max(known, self._now(spot)) for spot, known in after.items()}
        return after

    def _tried(self, spot: Spot, before: float) -> Mended:
        """The first of the attempts that mends it and makes nothing slower."""
        statements = self._concerned[spot]
        first, now = self._state(statements), self._now(spot)
        if now < MENDED:  # by what was done about another spot
            return Mended(spot=spot, cause=Cause.TOGETHER, before=before, after=now)
        for fix in attempts(spot, self._targets(spot)):
            tell(0, 0, f"trying {fix.title}")
            try:
                self._copy.execute(*(back for _, back in fix.changes), *(make for make, _ in fix.changes), fix.analyze)
            except TargetError:  # these columns have no such statistics
                self._take_back(fix)
                continue
            after = self._now(spot)
            if after < MENDED:
                cause = Cause.TOGETHER if fix.kinds else Cause.COARSE
                found = Mended(spot=spot, cause=cause, before=before, after=after, fix=fix)
                return self._proven(found, fix, statements, first)
            self._take_back(fix)
        return Mended(spot=spot, cause=Cause.OTHER, before=before, after=self._now(spot))

    def _proven(self, found: Mended, fix: Fix, statements: Sequence[Statement], first: _State) -> Mended:
        """Measure what the fix brings; where it seems to make something slower, both once more in turns."""
        proofs = _proofs(first, self._state(statements))
        if any(changed(proof) and slower(proof) for proof in proofs):
            self._take_back(fix)
            again = self._state(statements)
            self._copy.execute(*(make for make, _ in fix.changes), fix.analyze)
            proofs = _quicker(proofs, _proofs(again, self._state(statements)))
        proven = msgspec.structs.replace(found, proofs=proofs)
        if not worth(proven):
            self._take_back(fix)
        return proven

    def _take_back(self, fix: Fix) -> None:
        self._copy.execute(*(back for _, back in fix.changes), fix.analyze)

    def _now(self, spot: Spot) -> float:
        return max(off(estimate(self._copy, each), each.actual) for each in self._found[spot])

    def _targets(self, spot: Spot) -> dict[str, int]:
        table = f"{quoted(spot.schema)}.{quoted(spot.table)}"
        rows = self._copy.rows(_TARGETS, {"table": table, "columns": list(spot.columns)})
        return {row["attname"]: row["target"] for row in rows}

    def _state(self, statements: Sequence[Statement]) -> _State:
        """Each statement's plan and its time at best, of all its arguments together."""
        timings = {one.id: one for one in self._copy.timed(statements, rounds=_ROUNDS, deadline_s=_TIMED_S)}
        return {
            one.id: (
                " | ".join(dict.fromkeys(outline(plan) for plan in self._copy.explain(one))),
                _best(timings[one.id].seconds, max(1, len(one.arguments))),
            )
            for one in statements
        }


def _best(seconds: Sequence[float], sets: int) -> float | None:
    """The quickest round of all sets, a call: whatever else the machine does can only make it longer."""
    rounds = [sum(seconds[at : at + sets]) for at in range(0, len(seconds), sets)]
    return min(rounds) / sets if rounds else None


def _quicker(one: Sequence[Proof], other: Sequence[Proof]) -> tuple[Proof, ...]:
    """Of two measurements the shorter times; the plans are those of the second."""
    return tuple(
        msgspec.structs.replace(
            second,
            before_s=min(filter(None, (first.before_s, second.before_s)), default=None),
            after_s=min(filter(None, (first.after_s, second.after_s)), default=None),
        )
        for first, second in zip(one, other, strict=True)
    )


def _proofs(before: _State, after: _State) -> tuple[Proof, ...]:
    return tuple(
        Proof(
            statement=one,
            plan_before=before[one][0],
            plan_after=after[one][0],
            before_s=before[one][1],
            after_s=after[one][1],
        )
        for one in before
    )


# --- Rules ---

_KINDS_MAX = 8
_FINE, _FINEST = 1000, 10000
_SLOWER = 1.1
_SLOWER_S = 200e-6  # less is a breath of the machine


def attempts(spot: Spot, targets: Mapping[str, int]) -> list[Fix]:
    """What may mend it, the smallest first.

    >>> [fix.kinds or fix.target for fix in attempts(Spot("s", "t", ("a", "b")), {})]
    ['dependencies', 'mcv', 1000, 10000]
    >>> [fix.kinds or fix.target for fix in attempts(Spot("s", "t", ("a", "b"), grouped=True), {})]
    ['ndistinct', 1000, 10000]
    >>> [fix.target for fix in attempts(Spot("s", "t", ("a",)), {"a": 1000})]
    [10000]
    """
    several = 1 < len(spot.columns) <= _KINDS_MAX
    kinds = (("ndistinct",) if spot.grouped else ("dependencies", "mcv")) if several else ()
    now = min((targets.get(column, -1) for column in spot.columns), default=-1)
    common = Fix(schema=spot.schema, table=spot.table, columns=spot.columns, former=dict(targets))
    return [
        *(msgspec.structs.replace(common, kinds=kind) for kind in kinds),
        *(msgspec.structs.replace(common, target=target) for target in (_FINE, _FINEST) if target > now),
    ]


def changed(proof: Proof) -> bool:
    """Whether a statement is done in another way."""
    return proof.plan_before != proof.plan_after


def slower(proof: Proof) -> bool:
    """Whether a statement got slower by more than a tenth.

    >>> [slower(Proof(statement=1, plan_before="", plan_after="", before_s=1, after_s=s)) for s in (1.09, 1.2, 0.1)]
    [False, True, False]
    """
    if proof.before_s is None or proof.after_s is None:
        return False
    return proof.after_s > _SLOWER * proof.before_s and proof.after_s - proof.before_s > _SLOWER_S


def worth(found: Mended) -> bool:
    """Whether the fix is to be made: it is what autovacuum does anyway, or it changes a plan for the better."""
    if found.fix is None or not found.fix.asks:
        return found.fix is not None
    better = [proof for proof in found.proofs if changed(proof)]
    return bool(better) and not any(slower(proof) for proof in better)


def proof_told(proofs: Sequence[Proof]) -> str:
    """The statement that gains most of a changed plan, in a sentence."""
    gained = [proof for proof in proofs if changed(proof)]
    if not gained:
        return "no plan changes"
    best = max(gained, key=lambda proof: (proof.before_s or 0.0) - (proof.after_s or 0.0))
    plans = f"query {best.statement}: {_short(best.plan_before)} -> {_short(best.plan_after)}"
    if best.before_s is None or best.after_s is None:
        return plans
    return f"{plans}, {Seconds(best.before_s)} -> {Seconds(best.after_s)}"


def _short(plan: str) -> str:
    return plan if len(plan) <= _PLAN_MAX else plan[: _PLAN_MAX - 3] + "..."


_PLAN_MAX = 160
