from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nvcops.core import manifest
from nvcops.core.errors import ManifestError

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "platforms" / "nvc-bank" / "platform.toml"
MISTAKES = json.loads((Path(__file__).parent / "manifest_mistakes.json").read_text(encoding="utf-8"))


def test_the_example_is_valid_and_its_paths_are_relative_to_it() -> None:
    read = manifest.parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    assert read.platform.name == "nvc-bank"
    relative = manifest.parse(EXAMPLE.read_text(encoding="utf-8").replace('"/var/lib/nvcops/', '"state/'), EXAMPLE)
    assert relative.platform.state == EXAMPLE.parent / "state" / "nvc-bank"


def test_what_the_example_leaves_out_is_valid_too() -> None:
    """So that a line which somebody uncomments is taken."""
    text = EXAMPLE.read_text(encoding="utf-8")
    left_out = re.compile(r'(?m)^# (?=\[|(?:[a-z_]+ = ["\[{0-9a-z])|    \{|\]$)')
    read = manifest.parse(left_out.sub("", text).replace('"/var/backups/nvc-bank"', '"s3://bucket/nvc-bank"'), EXAMPLE)
    assert read.cluster is not None
    assert [member.name for member in read.cluster.members] == ["db-1", "db-2"]
    assert read.control.fence
    assert read.backups is not None
    assert read.backups.endpoint
    assert read.exceptions


def test_the_example_shows_the_defaults() -> None:
    """So that "all have these defaults; write only what differs" stays true."""
    read = manifest.parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    assert read.limits == manifest.Limits()
    assert read.objectives == manifest.Objectives()


@pytest.mark.parametrize("case", MISTAKES, ids=[case["mistake"] for case in MISTAKES])
def test_a_mistake_is_named_with_its_line(case: dict[str, str]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert case["replace"] in text
    place = text.index(case["replace"])
    with pytest.raises(ManifestError) as caught:
        manifest.parse(text.replace(case["replace"], case["by"], 1), EXAMPLE)
    said = str(caught.value)
    assert case["says"] in said
    assert case.get("hint", "") in caught.value.hint
    assert "hunter2" not in said + caught.value.hint
    assert caught.value.hint
    line = re.search(r"platform\.toml:(\d+):|at line (\d+)", said)
    assert line, said
    first = text[:place].count("\n") + 1
    # a missing key is told at its table, a broken TOML header where the reader noticed
    assert first - 4 <= int(line[1] or line[2]) <= first + case["replace"].count("\n") + 1


def test_an_accepted_exception_needs_a_known_owner() -> None:
    text = EXAMPLE.read_text(encoding="utf-8") + (
        '\n[[exceptions]]\ncheck = "recovery.backups"\nreason = "r"\nowner = "nobody"\nuntil = 2026-12-31\n'
    )
    with pytest.raises(ManifestError, match=r"'nobody' is nobody in \[\[people\]\]"):
        manifest.parse(text, EXAMPLE)


def test_something_must_be_watched() -> None:
    with pytest.raises(ManifestError, match="nothing is watched"):
        manifest.parse('[platform]\nname = "x"\ntitle = "X"\nstate = "s"\n[evidence]\norigin = "o"\n', EXAMPLE)


def test_a_secret_in_the_manifest_is_an_unknown_key() -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("password_file", "password", 1)
    with pytest.raises(ManifestError, match="unknown key 'password'") as caught:
        manifest.parse(text, EXAMPLE)
    assert "database-password" not in str(caught.value)
