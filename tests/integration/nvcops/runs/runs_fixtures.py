"""Fixtures of the tests and drills of runs: a platform in a folder, its runs, and processes that work on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platform_file
import pytest
import workshop  # noqa: F401 - enters its procedures into the runbook

from nvcops.adapters.runs.door import Runs
from nvcops.core import procedures

HERE = Path(__file__).parent

Driver = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    platform_file.write_platform(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def only_the_tanks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runbook has what stands in workshop.py, whatever else this process has imported."""
    tanks = {entry.name: entry for entry in procedures.runbook() if entry.name.startswith("tanks-")}
    monkeypatch.setattr(procedures, "_REGISTRY", tanks)


@pytest.fixture
def runs(folder: Path) -> Iterator[Runs]:
    with platform_file.open_runs(platform_file.read_manifest(folder), folder) as opened:
        yield opened


@pytest.fixture
def start_driver(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a process that works on runs; what still lives at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "driver.py"), str(folder), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environ)
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate(timeout=30)


@pytest.fixture
def drive(start_driver: Callable[..., subprocess.Popen[str]]) -> Driver:
    """Run such a process to its end; its answer, {} when it was killed."""

    def run(*arguments: str, **environ: str) -> dict[str, Any]:
        answer = start_driver(*arguments, **environ).communicate(timeout=120)[0].splitlines()
        found: dict[str, Any] = json.loads(answer[-1]) if answer and answer[-1] != "ready" else {}
        return found

    return run
