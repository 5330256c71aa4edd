"""A builder that is killed leaves a release or none; what is unpacked is there whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
import sys
from pathlib import Path

from nvcops.adapters.releases.store import ReleaseStore
from release_world import World

DYING = Path(__file__).with_name("dying.py")


def died(what: str, lab: World) -> int:
    """How many system calls there were, before each of which one of them was killed."""
    (lab.folder / "public").write_text(lab.store.builders[0].key)
    done = subprocess.run(
        [sys.executable, DYING, what, lab.folder], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_builder_killed_before_any_of_its_calls_leaves_a_release_or_none(lab: World) -> None:
    points = died("build", lab)
    assert points > 10
    wholes = 0
    for number in range(points):
        lab.store = ReleaseStore(lab.folder / str(number) / "releases", lab.store.builders)
        releases, troubles = lab.store.survey()
        assert troubles == []
        for release in releases:
            wholes += 1
            assert lab.store.verify(release.digest) == release
        built = lab.build()  # the next one is not in its way
        assert [release.digest for release in lab.store.list()] == [built.digest]
        lab.store.sweep(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
        left = sorted(path.name for path in lab.store.folder.rglob("*") if path.is_file())
        assert left == sorted([lab.artifact(built.digest).name, lab.envelope(built.digest).name])
    assert 0 < wholes < points


def test_one_who_unpacks_and_is_killed_leaves_a_whole_folder_or_none(lab: World) -> None:
    built = lab.build()
    points = died("unpack", lab)
    assert points > 20
    wholes = 0
    for number in range(points):
        folder = lab.folder / str(number) / "unpacked"
        if folder.exists():
            wholes += 1
            assert contents(folder) == lab.store.inventory(built.digest).files | about(folder)
        lab.store.unpack(built.digest, folder)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["unpacked"]
    assert 0 < wholes < points


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def about(folder: Path) -> dict[str, str]:
    return {"release.json": hashlib.sha256((folder / "release.json").read_bytes()).hexdigest()}
