"""`nvcops backups`: what is on hold and what was removed, over a repository in a folder, without any server."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nvcops.adapters.backup.repository import open_repository
from nvcops.cli.backups import backups
from nvcops.core.backups import Entry, Kind
from nvcops.core.manifest import parse

PLATFORM = """
[platform]
name = "ship"
title = "Ship"
state = "state"
[evidence]
origin = "ship.example.com/log"
[database]
name = "ship"
user = "ship"
primary = { name = "db-1", host = "127.0.0.1", port = 1 }
[backups]
repository = "repository"
"""
NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    path = tmp_path / "platform.toml"
    path.write_text(PLATFORM, encoding="utf-8")
    return path


def enter(platform: Path, name: str, kind: Kind, *of: str) -> None:
    draft = Entry(number=0, id=name, kind=kind, platform="ship", began=NOW, ended=NOW, of=of)
    open_repository(parse(PLATFORM, platform)).catalogue.append(draft)


def listed(platform: Path) -> dict[str, Any]:
    ended = CliRunner().invoke(backups, ["--target", str(platform), "--json"], catch_exceptions=False)
    answer: dict[str, Any] = json.loads(ended.output)
    return answer


def test_a_hold_marks_what_it_is_of_until_its_own_id_is_released(platform: Path) -> None:
    for name in ("one-C", "two-C"):
        enter(platform, name, Kind.CONFIGURATION)
    enter(platform, "first-H", Kind.HOLD, "one-C")
    enter(platform, "second-H", Kind.HOLD, "one-C")
    enter(platform, "first-U", Kind.RELEASE, "first-H")
    assert listed(platform)["held"] == ["one-C"]
    enter(platform, "second-U", Kind.RELEASE, "second-H")
    assert listed(platform)["held"] == []


def test_what_was_removed_is_shown_only_on_request(platform: Path) -> None:
    for name in ("one-C", "two-C"):
        enter(platform, name, Kind.CONFIGURATION)
    enter(platform, "gone-X", Kind.REMOVAL, "one-C")
    seen = listed(platform)
    assert ([entry["id"] for entry in seen["entries"]], seen["removed"]) == (["two-C"], ["one-C"])
    ended = CliRunner().invoke(backups, ["--target", str(platform), "--all"], catch_exceptions=False)
    (marked,) = [line for line in ended.output.splitlines() if line.endswith("  removed")]
    assert "one-C" in marked
