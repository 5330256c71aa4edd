"""The example's [changes] is its documentation: it shows every key; and what contradicts itself is told."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from nvcops.core import manifest
from nvcops.core.errors import ManifestError
from nvcops.core.manifest.delivery import ChangesEntry, Freeze, Standard

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
PART = TEXT[TEXT.index("\n[changes]\n") : TEXT.index("\n# --- who is woken")]


@pytest.mark.parametrize("table", [ChangesEntry, Standard, Freeze], ids=lambda table: table.__name__)
def test_the_example_shows_every_key(table: type[msgspec.Struct]) -> None:
    for name in table.__struct_fields__:
        assert re.search(rf"(?m)^(# )?{name} = ", PART) or f"[[changes.{name}]]" in PART, name


def test_the_example_shows_the_defaults() -> None:
    read = manifest.parse(TEXT, EXAMPLE).changes
    assert msgspec.structs.replace(read, standard=(), freezes=(), executives=()) == ChangesEntry()
    made = Standard(name="caches", kind=read.standard[0].kind, procedures=("cache-flush",))
    assert read.standard == (made,)


@pytest.mark.parametrize(
    ("replace", "by", "says"),
    [
        ("end = 2026-01-05T06:00:00", "end = 2025-12-19T18:00:00", "year-end-2025 ends before it begins"),
        ("end = 2026-01-05T06:00:00", "end = 2026-01-05T06:00:00Z", "one moment has an offset"),
        ('executives = ["omar"]', 'executives = ["nobody"]', "'nobody' is nobody in [[people]]"),
        ('executives = ["omar"]', 'executives = ["dana"]', "'dana' is no approver"),
        ("approvals = 1", "approvals = 2", "2 approvals are asked for, and [[people]] has 1 approvers"),
        ('procedures = ["cache-flush"]', "procedures = []", "caches names no procedure"),
        ('risk_max = "10 %"', 'risk_max = "110 %"', "risk_max is 110 %"),
        ('budget_min = "10 %"', 'budget_min = "100 %"', "budget_min is 100 %"),
        ('validate_for = "30 min"', 'validate_for = "0 s"', "validate_for must be more than nothing"),
        ('# coverage = "/srv', 'coverage = "/srv', "no repository whose files it is about"),
        ('exempt = ["emergency"]', 'exempt = ["urgent"]', "urgent"),
        ("runs = 10", "runs = 0", "runs"),
    ],
)
def test_a_contradiction_is_told(replace: str, by: str, says: str) -> None:
    assert replace in PART
    with pytest.raises(ManifestError, match=re.escape(says)):
        manifest.parse(TEXT.replace(PART, PART.replace(replace, by, 1)), EXAMPLE)


def test_two_standards_for_one_procedure_are_told() -> None:
    again = '[[changes.standard]]\nname = "more"\nkind = "maintenance"\nprocedures = ["cache-flush"]\n\n'
    text = TEXT.replace("[[changes.freezes]]", again + "[[changes.freezes]]")
    with pytest.raises(ManifestError, match="maintenance by cache-flush is standard in caches already"):
        manifest.parse(text, EXAMPLE)
