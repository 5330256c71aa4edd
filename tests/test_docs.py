"""What is written from the code is what the code says; the failure names the command that repairs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


def test_what_is_written_from_the_code_is_what_the_code_says() -> None:
    command = [sys.executable, "-m", "nvcops.cli.reference", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"run `make docs`; these differ:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
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
