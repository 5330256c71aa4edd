"""Bad input: one clear sentence, a hint, 3, and nothing half-done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nvclab.parts.process import free_ports


def nvclab(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nvclab", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("nvclab: ")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--colour"],
        ["up", "--users", "many"],
        ["up", "--users", "-1"],
        ["up", "--http-port", "99999"],
        ["explode"],
        ["heal"],
        ["heal", "stop-standby", "--all"],
        ["heal", "everything"],
        ["fault", "stop-everything"],
        ["fault", "fill-disk", "percent=lots"],
        ["logs", "nobody"],
        ["pager", "explode"],
        ["pager", "slow", "--seconds", "-1"],
    ],
)
def test_wrong_usage_ends_with_3_and_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    where = ["--dir", str(tmp_path / "lab")] if arguments[0] != "explode" else []
    assert said(nvclab(*arguments, *where))
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("arguments", [["status"], ["fault", "stop-standby"], ["heal", "--all"], ["pager", "hang"]])
def test_no_lab_runs(tmp_path: Path, arguments: list[str]) -> None:
    assert "No lab runs in" in said(nvclab(*arguments, "--dir", str(tmp_path / "lab")))
    assert not (tmp_path / "lab").exists()


def test_down_where_nothing_runs_is_fine(tmp_path: Path) -> None:
    assert nvclab("down", "--dir", str(tmp_path / "lab")).returncode == 0
    assert not (tmp_path / "lab").exists()


def test_no_pages_where_no_lab_ever_ran(tmp_path: Path) -> None:
    done = nvclab("pages", "--dir", str(tmp_path / "lab"))
    assert (done.returncode, done.stdout) == (0, "")
    assert nvclab("pages", "--json", "--dir", str(tmp_path / "lab")).stdout.strip() == "[]"


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.socket() as other:
        port = free_ports(1)[0]
        other.bind(("127.0.0.1", port))
        other.listen()
        for way in ([], ["--detach"]):
            done = nvclab("up", "--dir", str(tmp_path / "lab"), "--http-port", str(port), *way)
            assert f"Port {port} is taken" in said(done)
    assert not (tmp_path / "lab" / "data").exists()


def test_a_missing_part(tmp_path: Path) -> None:
    done = nvclab("up", "--detach", "--dir", str(tmp_path / "lab"), env={"NVC_PG_BIN": "/nowhere"})
    assert "NVC_PG_BIN is /nowhere" in said(done)
    assert not list((tmp_path / "lab" / "data").iterdir())


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not a folder" in said(nvclab("up", "--dir", str(tmp_path / "file" / "lab")))
    assert "is a file" in said(nvclab("up", "--dir", str(tmp_path / "file")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert "No permission" in said(nvclab("up", "--dir", str(tmp_path / "lab")))
    tmp_path.chmod(0o755)


def test_help_and_the_list_of_faults_need_no_lab() -> None:
    assert "data centre in a box" in nvclab("--help").stdout
    listed = nvclab("fault", "--list")
    assert listed.returncode == 0
    assert "seen by:" in listed.stdout
