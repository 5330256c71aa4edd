"""What optimize-indexes says of what it found, and of what became of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nvcops.core.checks import Verdict
from nvcops.core.errors import Unreachable, UsageError
from nvcops.core.manifest import EvidenceEntry, Manifest, Platform
from nvcops.core.manifest.database import DatabaseLimits, UpkeepEntry
from nvcops.core.upkeep import Done, Outcome
from nvcops.core.workload import IndexKey
from nvcops.database.checks.indexes import Counting, Redundant, Seen, Unused, Uses
from nvcops.database.indexes import indexing
from nvcops.database.indexes.advice import Advice
from nvcops.database.indexes.indexing import Standing, made_finding, of_key, of_superfluous, removed_finding
from nvcops.database.indexes.optimize_indexes import Found, advice_findings, asking, budget_of, removal_findings
from nvcops.database.indexes.proving import Built, Rejected
from nvcops.database.indexes.removal import Removal, Superfluous, chosen
from nvcops.database.optimization.regression import Watched

KEY = IndexKey("bank", "entry", ("account",))
BUILT = Built(index=KEY, bytes=1 << 20, seconds=2.0, saved_s=30.0)
GONE = Superfluous(
    schema="bank",
    plain="entry_idle",
    quoted="bank.entry_idle",
    table_schema="bank",
    table="entry",
    first="idle",
    definition="CREATE INDEX entry_idle ON bank.entry USING btree (idle)",
    bytes=8192,
    why="nobody used it",
)
DONE = Done(outcome=Outcome.DONE, seconds=3.0)


def standing(name: str, *, valid: bool = True) -> Standing:
    return Standing(schema="bank", name=name, valid=valid, scans=7, bytes=8192)


def test_a_proven_index_is_missing_and_a_rejected_one_is_told() -> None:
    rejected = Rejected(index=IndexKey("bank", "entry", ("day",)), why="no plan uses it")
    lines = advice_findings(Advice(statements=2, cost=100, cost_found=50, kept=(BUILT,), rejected=(rejected,)))
    assert [(line.check, line.verdict) for line in lines] == [
        ("indexes.searched", Verdict.OK),
        ("indexes.missing", Verdict.WARNING),
        ("indexes.rejected", Verdict.OK),
    ]
    assert lines[1].subject == "bank.entry (account)"
    assert "saves 30 s" in lines[1].observed


def test_nothing_found_is_nothing_missing() -> None:
    lines = advice_findings(Advice(statements=2)) + removal_findings(Removal())
    assert {line.verdict for line in lines} == {Verdict.OK}
    assert removal_findings(Removal(trouble="it does not answer"))[0].verdict is Verdict.UNKNOWN


def test_a_second_person_is_told_all_that_happens() -> None:
    seen = Found(advice=Advice(statements=1, kept=(BUILT,)), removal=Removal(superfluous=(GONE,)))
    assert asking(seen) == "make bank.entry (account) (1 MiB); remove bank.entry_idle (nobody used it)"


def test_a_budget_that_is_no_size_is_refused() -> None:
    nothing = Manifest(platform=Platform(name="a", title="A", state=Path("state")), evidence=EvidenceEntry(origin="a"))
    assert budget_of("500 MiB", nothing) == 500 << 20
    assert budget_of("", nothing) == 1 << 30
    with pytest.raises(UsageError, match="--budget"):
        budget_of("500", nothing)


@pytest.mark.parametrize(
    ("done", "there", "back", "check", "verdict"),
    [
        (DONE, standing(KEY.name), False, "indexes.made", Verdict.OK),
        (DONE, None, False, "indexes.made", Verdict.CRITICAL),
        (DONE, standing(KEY.name, valid=False), False, "indexes.made", Verdict.CRITICAL),
        (Done(outcome=Outcome.STOPPED, why="p99"), None, False, "indexes.made", Verdict.WARNING),
        (DONE, None, True, "indexes.reverted", Verdict.WARNING),
        (DONE, standing(KEY.name), True, "indexes.reverted", Verdict.CRITICAL),
    ],
)
def test_what_was_made_is_judged_by_what_stands_there(
    done: Done, there: Standing | None, back: bool, check: str, verdict: Verdict
) -> None:
    line = made_finding(of_key(KEY), done, there, back=back)
    assert (line.check, line.verdict) == (check, verdict)


@pytest.mark.parametrize(
    ("there", "back", "check", "verdict"),
    [
        (None, False, "indexes.removed", Verdict.OK),
        (standing("entry_idle"), False, "indexes.removed", Verdict.WARNING),
        (standing("entry_idle", valid=False), False, "indexes.removed", Verdict.CRITICAL),
        (standing("entry_idle"), True, "indexes.reverted", Verdict.WARNING),
        (None, True, "indexes.reverted", Verdict.CRITICAL),
    ],
)
def test_what_was_removed_is_gone_and_can_come_back(
    there: Standing | None, back: bool, check: str, verdict: Verdict
) -> None:
    line = removed_finding(of_superfluous(GONE), DONE, there, back=back)
    assert (line.check, line.verdict) == (check, verdict)
    if verdict is Verdict.OK:
        assert "CREATE INDEX CONCURRENTLY entry_idle" in line.observed


def of(*names: str, trouble: str = "") -> Uses:
    unused = tuple(Unused(name, name, 1e6) for name in names)
    return Uses(unused=unused, counting=Counting(40 * 86400.0), trouble=trouble)


def test_never_an_index_and_also_the_one_that_makes_it_superfluous() -> None:
    same = (Redundant("s.b", "s.b", "s.a", True, 1e6), Redundant("s.c", "s.c", "s.b", True, 1e6))
    found, _ = chosen(Seen(redundant=same, uses={"": of("s.a", "s.d")}), DatabaseLimits())
    assert found.keys() == {"s.b", "s.d"}


def test_an_index_that_a_standby_uses_stays() -> None:
    found, _ = chosen(Seen(uses={"": of("s.a", "s.d"), "db-2": of("s.d")}), DatabaseLimits())
    assert found.keys() == {"s.d"}
    found, spared = chosen(Seen(uses={"": of("s.a"), "db-2": of(trouble="silent")}), DatabaseLimits())
    assert (found, len(spared)) == ({}, 1)


def test_a_server_that_is_lost_keeps_no_index_from_being_watched() -> None:
    class Lost:
        def carry_out(self, *_: object) -> Done:
            raise Unreachable("db-1 does not answer")

    manifest = SimpleNamespace(database=SimpleNamespace(upkeep=UpkeepEntry()))
    target = SimpleNamespace(manifest=manifest, upkeep=Lost())
    done = indexing.remove(target, "DROP INDEX CONCURRENTLY IF EXISTS x")  # type: ignore[arg-type]
    assert (done.outcome, done.why) == (Outcome.REFUSED, "whether it was done is not known: db-1 does not answer")


def test_when_nothing_was_asked_meanwhile_nothing_is_claimed() -> None:
    assert indexing.watch_finding(Watched(seconds=600)).verdict is Verdict.UNKNOWN
    assert indexing.watch_finding(Watched(seconds=600, statements=3)).verdict is Verdict.OK
