"""What gates decide by themselves: SQL that only adds, lock and SBOM, licences, performance, advisories."""

from __future__ import annotations

import random
from typing import Any

import pytest

from nvcops.adapters.gates import migrations, sql
from nvcops.adapters.gates.advisories import affects
from nvcops.adapters.gates.asked import CannotTell
from nvcops.adapters.gates.licence import objection
from nvcops.adapters.gates.performance import compared
from nvcops.adapters.gates.sbom import compare
from nvcops.adapters.gates.tests import fits
from nvcops.adapters.releases.lock import Locked
from nvcops.core.gates import GateVerdict
from nvcops.core.releases import Component, Migration
from nvcops.core.units import Ratio

EXPAND = Migration(name="0008_expand_a.sql", sha256="")
CONTRACT = Migration(name="0008_contract_a.sql", sha256="", contract=True)


def rules(text: str, migration: Migration = EXPAND, *, lock_timeout: bool = False) -> list[str]:
    return [line.rule for line in sql.objections(migration, text, lock_timeout=lock_timeout)]


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE a",
        "drop /* x */ index concurrently a",
        "DROP VIEW a; SELECT 1",
        "DROP FUNCTION f(int)",
        "DROP TYPE t",
        "TRUNCATE a",
        "DELETE FROM a",
        "WITH gone AS (DELETE FROM a RETURNING 1) SELECT 1",
        "ALTER TABLE a DROP COLUMN b",
        "ALTER TABLE a DROP b",
        "ALTER TABLE IF EXISTS ONLY a DROP b",
        "ALTER TABLE a ADD COLUMN c int, DROP COLUMN b",
        "ALTER TABLE a ADD COLUMN c int, DROP b",
        "ALTER TABLE a DROP CONSTRAINT c",
        "ALTER TABLE a RENAME TO b",
        "ALTER TABLE a RENAME COLUMN b TO c",
        "ALTER TYPE t RENAME VALUE 'a' TO 'b'",
        "ALTER INDEX a RENAME TO b",
        "ALTER TABLE a ALTER COLUMN b TYPE bigint",
        "ALTER TABLE a ALTER b SET DATA TYPE text",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL",
        "ALTER TABLE a ALTER COLUMN b DROP DEFAULT",
        "ALTER TABLE a ADD COLUMN b int NOT NULL",
        "ALTER TABLE a ADD b int not null",
        "ALTER TABLE a ADD COLUMN c int, ADD COLUMN IF NOT EXISTS b int NOT NULL",
        "ALTER TABLE a ADD COLUMN b numeric(1, 2) NOT NULL",
        "ALTER TABLE a DETACH PARTITION b",
        "ALTER TABLE a DISABLE TRIGGER ALL",
        "ALTER TABLE a SET SCHEMA b",
        "DO $$ BEGIN DROP TABLE a; END $$",
        "DO $x$ DECLARE n int; BEGIN IF true THEN DELETE FROM a; END IF; END $x$",
        "DO $$ BEGIN EXECUTE 'DROP TABLE a'; END $$",
        "SELECT 1; -- nothing\nDROP TABLE a",
        "SELECT ';'; DROP TABLE a",
        "SELECT 'it''s;'; DROP TABLE a",
        'SELECT 1 AS "a;b"; DROP TABLE a',
        "SELECT E'\\';'; DROP TABLE a",
        "/* /* nested */ */ DROP TABLE a",
    ],
)
def test_what_removes_is_no_expansion(text: str) -> None:
    assert rules(text), sql.statements(text)
    assert not rules(text, CONTRACT)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE a (b int NOT NULL)",
        "CREATE INDEX CONCURRENTLY i ON a (b)",
        "ALTER TABLE a ADD COLUMN b int",
        "ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0",
        "ALTER TABLE a ADD COLUMN b bigint GENERATED ALWAYS AS IDENTITY NOT NULL",
        "ALTER TABLE a ADD CONSTRAINT c CHECK (b IS NOT NULL) NOT VALID",
        "ALTER TABLE a ALTER COLUMN b DROP NOT NULL",
        "ALTER TABLE a ALTER COLUMN b SET DEFAULT 1",
        "ALTER TYPE t ADD VALUE 'x'",
        "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM a; DROP TABLE b; END $$",
        "CREATE TRIGGER t BEFORE DELETE ON a EXECUTE FUNCTION f()",
        "GRANT DELETE, EXECUTE ON FUNCTION f() TO x",
        "REVOKE ALL ON a FROM PUBLIC",
        "COMMENT ON TABLE a IS 'DROP TABLE b; DELETE FROM c'",
        "-- DROP TABLE a\nSELECT 1",
        "/* DROP TABLE a; */ SELECT 1",
        "INSERT INTO a VALUES ('rename; drop')",
        "UPDATE a SET b = 1 WHERE b IS NULL",
    ],
)
def test_what_only_adds_is_one(text: str) -> None:
    assert not rules(text)


@pytest.mark.parametrize(
    ("text", "late"),
    [
        ("SET lock_timeout = '2s'; CREATE TABLE a ()", False),
        ("SET LOCAL lock_timeout TO '500ms'; CREATE TABLE a ()", False),
        ("BEGIN; SET lock_timeout = 2000; CREATE TABLE a ()", False),
        ("SET search_path = bank; set lock_timeout='1s'; CREATE TABLE a ()", False),
        ("CREATE TABLE a (); SET lock_timeout = '2s'", True),
        ("SET lock_timeout = 0; CREATE TABLE a ()", True),
        ("SET lock_timeout = '0'; CREATE TABLE a ()", True),
        ("SET lock_timeout TO DEFAULT; CREATE TABLE a ()", True),
        ("-- SET lock_timeout = '2s';\nCREATE TABLE a ()", True),
        ("SET statement_timeout = '2s'; CREATE TABLE a ()", True),
    ],
)
def test_a_migration_waits_for_no_lock_without_an_end(text: str, late: bool) -> None:
    assert rules(text, lock_timeout=True) == (["lock-timeout"] if late else [])


def test_a_file_without_a_statement_is_refused() -> None:
    assert [rules(text) for text in ("", "-- nothing", ";;", "/* open")] == [["empty"]] * 4


def test_what_was_released_stays_as_it_was_and_where_it_was() -> None:
    one, two, new = (Migration(name=f"000{n}_expand_x.sql", sha256=str(n)) for n in (1, 2, 3))
    changed = Migration(name=one.name, sha256="other")
    assert migrations.history((one, two), (one, two, new)) == []
    assert [line.rule for line in migrations.history((one, two), (changed, two))] == ["rewritten"]
    assert [line.rule for line in migrations.history((one, two), (two, new))] == ["withdrawn"]
    assert [line.rule for line in migrations.history((one, two), (one, new, two))] == ["order"]


def test_what_expands_does_not_wait_for_what_contracts() -> None:
    contract = Migration(name="0008_contract_a.sql", sha256="", contract=True)
    expand = Migration(name="0009_expand_b.sql", sha256="")
    assert [line.rule for line in migrations.order([contract, expand])] == ["expand-after-contract"]
    assert migrations.order([expand, contract]) == []


A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("lock", "component", "rule"),
    [
        (("x", "1", (A, B)), ("x", "1", (A, B)), ""),
        (("x", "1", (A, B)), ("x", "1", (B,)), ""),
        (("x", "1", (A,)), ("y", "1", (A,)), "missing unlocked"),
        (("x", "1", (A,)), ("x", "2", (A,)), "version"),
        (("x", "1", (A,)), ("x", "1", ()), "digest"),
        (("x", "1", (A,)), ("x", "1", (B,)), "digest"),
        (("x", "1", (A,)), ("x", "1", (A, B)), "digest"),
    ],
)
def test_lock_and_sbom_fit_or_not(lock: tuple[Any, ...], component: tuple[Any, ...], rule: str) -> None:
    name, version, digests = component
    components = {name: Component(name=name, version=version, sha256=digests)}
    assert " ".join(line.rule for line in compare({lock[0]: Locked(*lock)}, components)) == rule


@pytest.mark.parametrize(
    ("licences", "allowed"),
    [
        (("MIT",), True),
        (("mit",), True),
        (("MIT OR GPL-3.0-only",), True),
        (("MIT AND GPL-3.0-only",), False),
        (("MIT", "GPL-3.0-only"), False),
        (("(MIT OR GPL-3.0-only) AND Apache-2.0",), True),
        (("Apache-2.0 WITH LLVM-exception",), True),
        (("GPL-2.0-only WITH Classpath-exception-2.0",), False),
        (("BSD License",), False),
        (("LicenseRef-Proprietary",), False),
        (("NOASSERTION",), False),
        (("NONE",), False),
        ((" ",), False),
        (("MIT OR",), False),
        (("((MIT",), False),
        ((), False),
    ],
)
def test_a_licence_is_allowed_or_refused(licences: tuple[str, ...], allowed: bool) -> None:
    said = objection(Component(name="x", version="1", licences=licences), {"mit", "apache-2.0"}, {})
    assert (said is None) is allowed


def test_what_a_person_knows_of_a_licence_counts_instead() -> None:
    component = Component(name="The_Thing", version="1", licences=("BSD License",))
    assert objection(component, {"bsd-3-clause"}, {"the-thing": "BSD-3-Clause"}) is None
    assert objection(component, {"mit"}, {"the-thing": "BSD-3-Clause"}) is not None


def pairs(ratio: float, noise: float, seed: int, count: int = 8) -> list[tuple[dict[str, float], dict[str, float]]]:
    draw = random.Random(seed)
    return [
        ({"p99_s": 0.01 * draw.uniform(1, 1 + noise)}, {"p99_s": 0.01 * ratio * draw.uniform(1, 1 + noise)})
        for _ in range(count)
    ]


def test_performance_is_judged_by_what_is_certain() -> None:
    worse = Ratio(0.10)
    assert compared(pairs(1.0, 0.02, 1), worse).verdict is GateVerdict.PASS
    assert compared(pairs(1.5, 0.02, 1), worse).verdict is GateVerdict.REFUSED
    assert compared(pairs(1.1, 0.3, 1), worse).verdict is GateVerdict.UNKNOWN


def test_noise_seldom_makes_a_slow_release_pass() -> None:
    """At the bound itself, where half of the pairs are on either side, at most one in twenty passes."""
    said = [compared(pairs(1.1, 0.2, seed), Ratio(0.10)).verdict for seed in range(2_000)]
    assert said.count(GateVerdict.PASS) <= 0.05 * 2_000 * 1.3
    assert said.count(GateVerdict.REFUSED) <= 0.05 * 2_000 * 1.3
    assert said.count(GateVerdict.UNKNOWN) > 1_500


def test_one_figure_that_is_worse_refuses_and_all_must_pass() -> None:
    good = [({"a_s": 1.0, "b_per_s": 10.0}, {"a_s": 1.0, "b_per_s": 10.0})] * 8
    bad = [({"a_s": 1.0, "b_per_s": 10.0}, {"a_s": 1.0, "b_per_s": 5.0})] * 8
    assert compared(good, Ratio(0.1)).verdict is GateVerdict.PASS
    report = compared(bad, Ratio(0.1))
    assert (report.verdict, [line.rule for line in report.lines]) == (GateVerdict.REFUSED, ["b_per_s"])


@pytest.mark.parametrize(
    ("events", "inside"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["0.1", "1.9", "2.0rc1"]),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], ["1.0", "1.5"]),
        ([{"introduced": "0"}], ["0.1", "99"]),
        ([{"introduced": "3"}, {"fixed": "4"}, {"introduced": "1"}, {"fixed": "2"}], ["1.5", "3.5"]),
        ([], []),
    ],
)
def test_an_advisory_is_about_the_versions_of_its_ranges(events: list[dict[str, str]], inside: list[str]) -> None:
    affected = {
        "package": {"name": "The.Thing", "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    advisory = {"id": "X-1", "affected": [affected]}
    tried = ["0.1", "1.0", "1.5", "1.9", "2.0rc1", "2.0", "2.5", "3.5", "4", "99"]
    found = [version for version in tried if affects(advisory, "the-thing", version)]
    assert set(inside) <= set(found)
    assert not [version for version in ("4", "2.5") if version in found and events and "fixed" in str(events)]
    assert not affects(advisory, "other", "1.5")


def test_tests_run_with_what_the_release_runs_with() -> None:
    lock = {"alpha": Locked("alpha", "1.0", (A,)), "beta": Locked("beta", "2.0", (A,), 'sys_platform == "win32"')}
    fits(lock, {"alpha": "1.0", "pytest": "9.0"})
    for there, says in (
        ({"alpha": "1.1"}, "alpha 1.1"),
        ({}, "without alpha"),
        ({"alpha": "1.0", "beta": "1"}, "beta 1"),
    ):
        with pytest.raises(CannotTell, match=says):
            fits(lock, there)
