"""Commits of a real checkout, read by the real program."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from pathlib import Path

import pytest

from nvcops.adapters.git import GitCheckout
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def git(folder: Path, *arguments: str, at: dt.datetime = NOON) -> None:
    moment = at.isoformat()
    person = {"GIT_AUTHOR_NAME": "Ö. Castellanos", "GIT_AUTHOR_EMAIL": "o@example.com"}
    person |= {"GIT_COMMITTER_NAME": "o", "GIT_COMMITTER_EMAIL": "o@example.com"}
    subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        timeout=60,
        env=os.environ | person | {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment, "HOME": str(folder)},
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    return tmp_path


def commit(folder: Path, subject: str, at: dt.datetime) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", "--message", subject, at=at)


def test_commits_of_an_hour_the_newest_first(checkout: Path) -> None:
    for minute, subject in (
        (-61, "too old"),
        (-60, "first"),
        (-5, 'say "no"; rm -rf / | `x` \x1b[31m'),
        (1, "too new"),
    ):
        commit(checkout, subject, NOON + dt.timedelta(minutes=minute))
    found = GitCheckout(checkout).between(NOON - HOUR, NOON)
    newest, first = found
    assert first.subject == "first"
    assert newest.subject.startswith('say "no"; rm -rf /')
    assert newest.author == "Ö. Castellanos"
    assert newest.time == NOON - dt.timedelta(minutes=5)
    assert len(newest.id) == 12


def test_no_more_than_a_hundred(checkout: Path) -> None:
    for number in range(105):
        commit(checkout, f"c{number}", NOON - dt.timedelta(seconds=200 - number))
    assert len(GitCheckout(checkout).between(NOON - HOUR, NOON)) == 100


def test_a_checkout_without_commits_has_none(checkout: Path) -> None:
    assert GitCheckout(checkout).between(NOON - HOUR, NOON) == []


def test_what_is_no_checkout_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a git repository") as refused:
        GitCheckout(tmp_path).between(NOON - HOUR, NOON)
    assert "repository names" in refused.value.hint
    with pytest.raises(TargetError):
        GitCheckout(tmp_path / "nowhere").between(NOON - HOUR, NOON)


def test_a_checkout_runs_nothing_of_its_own(checkout: Path) -> None:
    """A repository's own configuration may name programs: none of them is run."""
    mark = checkout / "ran"
    program = checkout / "program"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    commit(checkout, "first", NOON - dt.timedelta(minutes=5))
    for key in ("core.fsmonitor", "core.pager", "pager.log", "gpg.program", "diff.external", "core.sshCommand"):
        git(checkout, "config", key, str(program))
    git(checkout, "config", "log.showSignature", "true")
    assert len(GitCheckout(checkout).between(NOON - HOUR, NOON)) == 1
    assert not mark.exists()


def test_a_deadline_is_kept(checkout: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="did not end within"):
        GitCheckout(checkout, deadline_s=0.0).between(NOON - HOUR, NOON)


def test_a_subject_of_control_characters_is_one_commit(checkout: Path) -> None:
    commit(checkout, "one\x1etwo\x1fthree\x1e\x1f", NOON - HOUR)
    commit(checkout, "the last", NOON - HOUR / 2)
    found = GitCheckout(checkout).between(NOON - HOUR, NOON)
    assert [one.subject for one in found] == ["the last", "one\x1etwo\x1fthree\x1e\x1f"]


def wrote(folder: Path, name: str, text: str, at: dt.datetime, subject: str = "x") -> str:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", subject, at=at)
    head = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=60
    )
    return head.stdout.strip()


def test_what_a_revision_brings_over_another(checkout: Path) -> None:
    old = wrote(checkout, "a b.py", "1\n2\n", NOON - 400 * 24 * HOUR)
    wrote(checkout, "a b.py", "1\n", NOON - 30 * 24 * HOUR)
    new = wrote(checkout, "ü.py", "1\n2\n3\n", NOON - HOUR)
    (checkout / "coverage.json").write_text(
        '{"meta": {}, "files": {"ü.py": {"summary": {"num_statements": 10, "covered_lines": 7, "x": 1}}}}'
    )
    found = GitCheckout(checkout, coverage=checkout / "coverage.json").brought(old, new, ["Ö. Castellanos"], NOON)
    assert [commit.time for commit in found.commits] == [NOON - HOUR, NOON - 30 * 24 * HOUR]
    by_path = {one.path: one for one in found.files}
    assert set(by_path) == {"a b.py", "ü.py"}
    assert (by_path["a b.py"].lines, by_path["a b.py"].commits, by_path["a b.py"].by_author) == (1, 1, True)
    assert (by_path["ü.py"].lines, by_path["ü.py"].statements, by_path["ü.py"].covered) == (3, 10, 7)
    stranger = GitCheckout(checkout).brought(old, new, ["dana"], NOON)
    assert not any(one.by_author or one.statements for one in stranger.files)
    by_address = GitCheckout(checkout).brought(old, new, ["o"], NOON)
    assert all(one.by_author for one in by_address.files)


def test_the_first_revision_brings_all_of_itself(checkout: Path) -> None:
    first = wrote(checkout, "a.py", "1\n2\n", NOON - HOUR)
    found = GitCheckout(checkout).brought("", first, ["dana"], NOON)
    assert [(one.path, one.lines) for one in found.files] == [("a.py", 2)]
    assert len(found.commits) == 1
    second = wrote(checkout, "b.py", "1\n", NOON - HOUR)
    assert [one.path for one in GitCheckout(checkout).brought("", second, [], NOON).files] == ["b.py"]


@pytest.mark.parametrize("revision", ["main", "--output=x", "0" * 40, "HEAD~1", "abc"])
def test_what_is_no_revision_is_refused(checkout: Path, revision: str) -> None:
    known = wrote(checkout, "a.py", "1\n", NOON - HOUR)
    for old, new in ((known, revision), (revision, known)):
        with pytest.raises(Refused):
            GitCheckout(checkout).brought(old, new, [], NOON)
    assert not (checkout / "x").exists()


def test_a_report_of_coverage_that_is_none_is_a_sentence(checkout: Path) -> None:
    known = wrote(checkout, "a.py", "1\n", NOON - HOUR)
    for text in ("", "{}", '{"files": []}', '{"files": {"a": {"summary": {"num_statements": "x"}}}}'):
        (checkout / "coverage.json").write_text(text)
        with pytest.raises(TargetError, match="report of coverage"):
            GitCheckout(checkout, coverage=checkout / "coverage.json").brought("", known, [], NOON)
