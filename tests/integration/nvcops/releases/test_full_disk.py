"""A disk that is really full: a small one of our own, in a namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from release_world import World

FILLING = Path(__file__).with_name("filling.py")
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
MOUNTED = 'mount -t tmpfs -o "$1,mode=0700" small "$2" || exit 77; shift 2; exec "$@"'


@pytest.mark.parametrize("limit", ["size=128k", "nr_inodes=10"])
def test_what_does_not_fit_is_not_there_and_what_fitted_is(lab: World, limit: str) -> None:
    (lab.folder / "public").write_text(lab.store.builders[0].key)
    lab.store.folder.mkdir()
    argv = [*NAMESPACE, "sh", "-c", MOUNTED, "sh", limit, lab.store.folder, sys.executable, FILLING, lab.folder]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no disk of our own can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["refused"] == f"the disk of {lab.store.folder} is full"
    assert len(said["built"]) > 1
    assert sorted(said["listed"]) == sorted(said["built"])
    assert said["troubles"] == []
    whole = {f"{digest}{suffix}" for digest in said["built"] for suffix in (".tar.zst", ".dsse.json")}
    assert set(said["files"]) == whole
    assert said["after"] == "2.0"
