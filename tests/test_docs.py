"""What is written from the code is what the code says; the failure names the command that repairs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvcops.cli import reference

ROOT = Path(__file__).parent.parent
WRITTEN = [*reference.scripts(), *reference.documents()]


@pytest.mark.parametrize(("path", "text"), WRITTEN, ids=[path.name for path, _ in WRITTEN])
def test_written_from_the_code(path: Path, text: str) -> None:
    assert path.exists(), "run `make docs`"
    assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_no_script_without_a_procedure() -> None:
    written = {path.name for path, _ in reference.scripts()}
    assert {path.name for path in (ROOT / "scripts").iterdir()} == written


@pytest.mark.parametrize("path", [path for path, _ in reference.scripts()], ids=lambda path: path.name)
def test_a_script_works_from_any_folder(path: Path, tmp_path: Path) -> None:
    link = tmp_path / path.name
    link.symlink_to(path)
    command = [sys.executable, str(link)] if path.suffix == ".py" else [str(link)]
    done = subprocess.run(
        [*command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    for flag in ("--json", "--dry-run", "--target"):
        assert flag in done.stdout


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_and_files_named_in_the_prose_exist(page: str) -> None:
    import re

    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(
        r"`((?:src|docs|scripts|tests|platforms|benchmarks)/[\w./-]+)`", text
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
