"""Bad states of the folder: one clear sentence, nothing half-done, and never a second key."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.core.errors import StateError, UsageError
from nvcops.core.evidence import Entry

MakeEntry = Callable[..., Entry]
ORIGIN = "bank.example/operations"


@pytest.fixture
def folder(log: EvidenceLog, entry: MakeEntry) -> Path:
    """The folder of a log with one entry."""
    log.append([entry(0)])
    log.close()
    return log.folder


def opened(folder: Path, **options: str) -> None:
    open_log(folder.parent, **({"origin": ORIGIN} | options)).close()


def test_a_missing_key_is_never_made_again(folder: Path) -> None:
    (folder / "log.key").unlink()
    with pytest.raises(StateError, match=r"signing key .* is missing") as refused:
        opened(folder)
    assert "none is made" in refused.value.hint
    assert not (folder / "log.key").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_file_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "log.key").write_bytes(content)
    with pytest.raises(StateError, match="is not an unencrypted Ed25519 key"):
        opened(folder)
    assert (folder / "log.key").read_bytes() == content


def test_the_key_of_another_log_is_refused(folder: Path, tmp_path: Path) -> None:
    opened(tmp_path / "second" / "evidence")
    (folder / "log.key").write_bytes((tmp_path / "second" / "evidence" / "log.key").read_bytes())
    with pytest.raises(StateError, match="not the one of the log"):
        opened(folder)


def test_another_origin_is_refused(folder: Path) -> None:
    with pytest.raises(StateError, match=r"is called 'bank.example/operations', not 'other.example'"):
        opened(folder, origin="other.example")
    with pytest.raises(UsageError, match="cannot be a log's origin"):
        opened(folder, origin="two words")


def test_a_newer_format_is_refused(folder: Path) -> None:
    with sqlite3.connect(folder / "log.sqlite") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StateError, match="has format 2; this nvcops knows up to 1"):
        opened(folder)


def test_another_programs_file_is_refused(folder: Path) -> None:
    for pragma in ("application_id = 7", "user_version = 0"):
        with sqlite3.connect(folder / "log.sqlite") as db:
            db.execute(f"PRAGMA {pragma}")
        db.close()
        with pytest.raises(StateError, match="another program's file"):
            opened(folder)


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_called_so(folder: Path, content: bytes) -> None:
    for name in ("log.sqlite-wal", "log.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "log.sqlite").write_bytes(content)
    with pytest.raises(StateError, match=r"log.sqlite (is damaged|cannot be used)"):
        opened(folder)
    assert (folder / "log.sqlite").read_bytes() == content


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        opened(tmp_path / "state" / "evidence")


def test_a_read_only_folder_is_called_so() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        child = run(
            """
            if os.geteuid() == 0:
                os.setegid(65534); os.seteuid(65534)  # root may write everywhere
            try:
                open_log(Path(sys.argv[1]), origin="o")
            except StateError as error:
                print(error.sentence)
            """,
            name,
        )
        assert "cannot be used: Permission denied" in child.stdout, child.stderr
        assert list(Path(name).iterdir()) == []
        Path(name).chmod(0o700)


FULL_DISK = """
    log = open_log(Path(sys.argv[1]), origin="o")
    big = "x" * 20_000
    def entry(number):
        return Entry(id=f"e{number}", time="2026-01-05T13:00:00Z", kind="step.finished", body={"text": big})
    for number in range(10):
        assert log.append([entry(number)]) == [number]
    used = max(path.stat().st_size for path in Path(sys.argv[1]).rglob("*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
    for number in range(10, 60):
        try:
            print(number, *log.append([entry(number)]))
        except StateError as error:
            print(number, "refused", error.sentence)
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The log's file cannot grow any more; then the spool's cannot either."""
    child = run(FULL_DISK, str(tmp_path), "30000")
    answers = [line.split(maxsplit=2) for line in child.stdout.splitlines()]
    assert len(answers) == 50, child.stderr
    outcomes = {answer[1] for answer in answers}
    assert {"-1", "refused"} <= outcomes
    assert all("neither in the log nor in" in answer[2] for answer in answers if answer[1] == "refused")
    acknowledged = {f"e{number}" for number in range(10)} | {f"e{a[0]}" for a in answers if a[1] != "refused"}
    with open_log(tmp_path, origin="o") as log:
        log.fold()
        assert {entry.id for _, entry in log.entries()} == acknowledged
        assert log.audit().problems == ()


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a child, which may spoil its own process."""
    header = """
        import os, resource, sys
        from pathlib import Path
        from nvcops.adapters.evidence.log import open_log
        from nvcops.core.errors import StateError
        from nvcops.core.evidence import Entry
    """
    program = textwrap.dedent(header) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_two_first_uses_at_once_make_one_log(tmp_path: Path) -> None:
    """Several processes open a log that is not there yet: one key, one name."""
    code = "import sys; from pathlib import Path; from nvcops.adapters.evidence.log import open_log;"
    code += "print(open_log(Path(sys.argv[1]), origin='o').vkey)"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {child.communicate(timeout=60)[0] for child in children}
    assert len(keys) == 1
    assert [child.returncode for child in children] == [0] * 4
    assert not list((tmp_path / "evidence").glob(".log.key*"))
