"""Our own files: a full disk, a folder that cannot be written, no home. A sentence, and nothing half-done."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from nvclab.parts.account import dying_with_parent, give, is_root

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Quiet


def with_files_at_most(quiet: Quiet, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where no file can grow beyond so many bytes: what a full disk looks like to a program."""
    return subprocess.run(
        [*quiet.nvcops.command, *arguments],
        cwd=quiet.nvcops.folder,
        env=quiet.nvcops.environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("size", [0, 4096, 40_000])
def test_a_disk_that_is_full_from_the_beginning(quiet: Quiet, size: int) -> None:
    ended = with_files_at_most(quiet, size, "run", "daily-health-check")
    text = ended.stdout + ended.stderr
    assert "Traceback" not in text, text
    assert ended.returncode in (2, 3), text  # the platform is down: CRITICAL where there was room to say so
    if ended.returncode == 3:
        assert "nvcops: " in ended.stderr
        assert "hint: " in ended.stderr
    again = quiet.nvcops("run", "daily-health-check")
    assert again.returncode == 2, again.stdout + again.stderr


@pytest.mark.parametrize("size", [0, 40_000])
def test_a_disk_that_becomes_full(quiet: Quiet, size: int) -> None:
    assert quiet.nvcops("run", "daily-health-check").returncode == 2
    ended = with_files_at_most(quiet, size, "run", "daily-health-check")
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
    assert ended.returncode in (2, 3)
    quiet.audit()
    assert quiet.nvcops("run", "daily-health-check").returncode == 2


def test_init_on_a_full_disk_leaves_nothing(quiet: Quiet, silent_shop: str) -> None:
    quiet.manifest.unlink()
    ended = with_files_at_most(quiet, 0, "init", "--service", silent_shop)
    assert ended.returncode == 3, ended.stderr
    assert "cannot be written: file too large" in ended.stderr
    assert not list(quiet.nvcops.folder.glob(".*")), "a temporary file was left"
    assert not quiet.manifest.exists()


@pytest.mark.parametrize("kind", ["a file", "under a file", "a broken link"])
def test_a_state_folder_that_is_none(quiet: Quiet, kind: str) -> None:
    """Operations go on where nothing can be kept: the verdict stands, the evidence waits, and both are said."""
    other = quiet.nvcops.folder / "other"
    if kind == "a broken link":
        other.symlink_to("/nowhere/at/all")
    else:
        other.write_text("mine", encoding="utf-8")
    quiet.write(('"state"', '"other/state"' if kind == "under a file" else '"other"'))
    run = goes_on_without_records(quiet)
    shows_nothing(quiet, run)
    assert kind == "a broken link" or other.read_text(encoding="utf-8") == "mine"
    other.unlink()
    comes_in_later(quiet, run)


def goes_on_without_records(quiet: Quiet) -> str:
    """A run whose records cannot be kept; its id."""
    ended = quiet.nvcops("run", "daily-health-check", "--json")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "evidence waits in" in ended.stderr
    assert "without a journal" in ended.stderr
    return json.loads(ended.stdout)["id"]


def shows_nothing(quiet: Quiet, run: str) -> None:
    """What needs the records says why there are none."""
    ended = quiet.nvcops("show", run)
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert "cannot be opened" in ended.stderr
    assert "hint: " in ended.stderr


def comes_in_later(quiet: Quiet, run: str) -> None:
    """What waited elsewhere is in the log as soon as there is one."""
    assert quiet.nvcops("run", "daily-health-check").returncode == 2
    exported = quiet.nvcops("evidence", "export", "--run", run, "--output", "bundle")
    assert exported.returncode == 0, exported.stderr
    assert run.encode() in (quiet.nvcops.folder / "bundle").read_bytes()
    assert quiet.nvcops("evidence", "verify", "bundle").returncode == 0


@pytest.fixture
def read_only(quiet: Quiet) -> Iterator[Quiet]:
    """A home and a folder that nobody may write: root runs it as another, who may read everything."""
    folder = quiet.nvcops.folder
    quiet.nvcops.prefix = tuple(dying_with_parent(as_database_owner=True)) if is_root() else ()
    modes = {path: path.stat().st_mode for path in (folder, quiet.nvcops.home)}
    for path in modes:
        path.chmod(0o555)
    give(folder / "tmp")
    yield quiet
    for path, mode in modes.items():
        path.chmod(mode)
    quiet.nvcops.prefix = ()


def test_a_read_only_home_and_folder(read_only: Quiet) -> None:
    run = goes_on_without_records(read_only)
    shows_nothing(read_only, run)
    assert not read_only.state.exists()


def test_init_into_a_read_only_folder(read_only: Quiet, silent_shop: str, refused: Callable[..., str]) -> None:
    said = refused(read_only.nvcops("init", "--service", silent_shop, "--output", "new.toml"))
    assert "new.toml cannot be written: permission denied" in said
    assert not list(read_only.nvcops.folder.glob("*new*"))


def test_what_only_reads_works_in_a_read_only_home(read_only: Quiet) -> None:
    ended = read_only.nvcops("list")
    assert ended.returncode == 0, ended.stderr
    assert "daily-health-check" in ended.stdout


@pytest.mark.parametrize("home", [None, "", "/nowhere"])
def test_without_a_home(quiet: Quiet, home: str | None) -> None:
    environment = {name: value for name, value in quiet.nvcops.environment.items() if name != "HOME"}
    if home is not None:
        environment["HOME"] = home
    ended = subprocess.run(
        [*quiet.nvcops.command, "run", "daily-health-check"],
        cwd=quiet.nvcops.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_init_writes_over_no_device_and_no_folder(
    quiet: Quiet, refused: Callable[..., str], silent_shop: str, kind: str
) -> None:
    place = quiet.nvcops.folder / "place"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        (place / "platform.toml").mkdir(parents=True)
    said = refused(quiet.nvcops("init", "--service", silent_shop, "--force", "--output", place))
    assert "is no ordinary file" in said
    assert not place.is_file()
