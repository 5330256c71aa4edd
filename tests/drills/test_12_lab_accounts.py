"""A lab under another account, on a small disk, in a folder that only root may enter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nvclab import running
from nvclab.parts.account import NOBODY, is_root

ORDINARY = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]


def reachable() -> bool:
    """Whether an ordinary user can run this checkout at all."""
    argv = [*ORDINARY, sys.executable, "-c", "import nvclab.cli"]
    return is_root() and subprocess.run(argv, capture_output=True, check=False, cwd="/").returncode == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """An ordinary user's folder."""
    folder = Path("/var/tmp") / f"nvc home {os.getpid()}"  # noqa: S108 - every account can reach it
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def ordinary(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [*ORDINARY, sys.executable, "-m", "nvclab", *arguments, "--dir", str(home / "a lab")]
    env = {**os.environ, "HOME": str(home)}
    return subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False, env=env, cwd=home)


@pytest.mark.drill
@pytest.mark.sample
@pytest.mark.skipif(not reachable(), reason="needs root, and a checkout that others may read")
def test_an_ordinary_user_has_a_lab_too(home: Path) -> None:
    up = ordinary(home, "up", "--detach", "--users", "3", "--no-delivery")
    assert up.returncode == 0, up.stderr
    try:
        found = json.loads(ordinary(home, "status", "--json").stdout)
        assert {part["state"] for part in found["parts"]} == {"ready"}
        assert all(psutil.Process(part["pid"]).uids().real == NOBODY for part in found["parts"])
        assert ordinary(home, "fault", "stop-standby").returncode == 0
        assert ordinary(home, "heal", "--all").returncode == 0
    finally:
        down = ordinary(home, "down")
    assert down.returncode == 0, down.stderr
    assert ordinary(home, "status").returncode == 3


@pytest.mark.drill
@pytest.mark.skipif(not reachable(), reason="needs root, and a checkout that others may read")
def test_a_folder_that_is_not_ours_is_refused(home: Path) -> None:
    home.chmod(0o500)
    refused = ordinary(home, "up", "--detach")
    assert refused.returncode == 3
    assert "No permission" in refused.stderr
    home.chmod(0o700)


@pytest.mark.drill
@pytest.mark.skipif(not is_root(), reason="only root mounts a small disk")
@pytest.mark.parametrize("size", ["4k", "60m"])
def test_a_full_disk_is_said_in_a_sentence_and_nothing_is_left(tmp_path: Path, size: str) -> None:
    """In a mount namespace of its own, which ends with the command."""
    script = (
        'mount -t tmpfs -o "size=$2" lab "$1" || exit 77; "$3" -m nvclab up --detach --users 0 --dir "$1"; code=$?; '
        '"$3" -m nvclab down --dir "$1"; exit $code'
    )
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), size, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode in (1, 77):
        pytest.skip(f"no mount namespaces here: {done.stderr}")
    assert done.returncode == 3
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.drill
@pytest.mark.skipif(not is_root(), reason="only root has such folders")
def test_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    with running.temporary(users=0, folder=closed / "lab") as lab:
        assert lab.part("standby")["state"] == "ready"
        assert psutil.Process(lab.part("primary")["pid"]).uids().real == NOBODY
