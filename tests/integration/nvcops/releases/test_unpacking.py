"""What is unpacked is the release: from its first byte to its last permission, and nothing beside it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nvcops.core.errors import EvidenceError, NotFoundError, NvcopsError, StateError
from release_world import World, plain


def test_the_package_runs_from_where_it_was_unpacked(lab: World) -> None:
    digest = lab.build().digest
    folder = lab.folder / "host" / "releases" / digest
    lab.store.unpack(digest, folder)
    said = subprocess.run(
        [sys.executable, "-B", "-m", "shop"],
        env={"PYTHONPATH": str(folder / "app")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == "open\n"
    assert (folder / "requirements.txt").read_text() == (lab.source / "requirements.txt").read_text()
    lab.store.unpack(digest, folder)


def test_permissions_are_the_same_whatever_the_umask(lab: World) -> None:
    (lab.source / "shop" / "__main__.py").chmod(0o700)
    digest = lab.build().digest
    for mask in (0o000, 0o077):
        before = os.umask(mask)
        try:
            lab.store.unpack(digest, lab.folder / f"{mask}")
        finally:
            os.umask(before)
        modes = {
            path.relative_to(lab.folder / f"{mask}").as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in (lab.folder / f"{mask}").rglob("*")
        }
        assert modes.pop("app/shop/__main__.py") == 0o755
        assert {mode for name, mode in modes.items() if (lab.folder / f"{mask}" / name).is_file()} == {0o644}
        assert {mode for name, mode in modes.items() if (lab.folder / f"{mask}" / name).is_dir()} == {0o755}
        assert stat.S_IMODE((lab.folder / f"{mask}").stat().st_mode) == 0o755


def changed(folder: Path) -> None:
    (folder / "app" / "shop" / "__main__.py").write_text("print('mine')\n")


def gone(folder: Path) -> None:
    (folder / "app" / "shop" / "__main__.py").unlink()


def more(folder: Path) -> None:
    (folder / "app" / "sitecustomize.py").write_text("")


def linked(folder: Path) -> None:
    path = folder / "app" / "shop" / "__main__.py"
    path.rename(folder.parent / "main.py")
    path.symlink_to(folder.parent / "main.py")


def folder_linked(folder: Path) -> None:
    (folder / "app" / "more").symlink_to("/etc")


def about(folder: Path) -> None:
    (folder / "release.json").write_text("{}")


def a_link(folder: Path) -> None:
    folder.rename(folder.with_name("real"))
    folder.symlink_to("real")


def a_file(folder: Path) -> None:
    folder.rename(folder.with_name("real"))
    folder.write_text("")


@pytest.mark.parametrize("spoil", [changed, gone, more, linked, folder_linked, about, a_link, a_file])
def test_a_folder_that_is_not_the_release_any_more_is_said(lab: World, spoil: Callable[[Path], None]) -> None:
    digest = lab.build().digest
    folder = lab.folder / "host" / "unpacked"
    lab.store.unpack(digest, folder)
    spoil(folder)
    with pytest.raises(EvidenceError, match=r"is not the release any more|is no folder"):
        lab.store.unpack(digest, folder)


def test_what_python_caches_beside_it_is_fine(lab: World) -> None:
    digest = lab.build().digest
    folder = lab.folder / "unpacked"
    lab.store.unpack(digest, folder)
    (folder / "app" / "shop" / "__pycache__").mkdir()
    (folder / "app" / "shop" / "__pycache__" / "x.pyc").write_bytes(b"x")
    lab.store.unpack(digest, folder)


@pytest.mark.parametrize(
    "name", ["../escaped", "/escaped", "app/../../escaped", "app/x/../../../escaped"], ids=lambda name: name
)
def test_nothing_is_written_outside_though_a_builder_signed_it(lab: World, name: str) -> None:
    digest = lab.forge([plain(name, b"x")])
    with pytest.raises(EvidenceError, match="leads out of its folder"):
        lab.store.unpack(digest, lab.folder / "host" / "unpacked")
    assert not any(lab.folder.rglob("*escaped*"))
    assert not Path("/escaped").exists()
    assert list((lab.folder / "host").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_nothing_but_files_is_made_though_a_builder_signed_it(lab: World, kind: bytes) -> None:
    info, _ = plain("app/link", b"")
    info.type, info.linkname = kind, "/etc"
    digest = lab.forge([(info, b""), plain("app/link/x", b"x")])
    with pytest.raises(EvidenceError, match="is no plain file"):
        lab.store.unpack(digest, lab.folder / "host" / "unpacked")
    assert list((lab.folder / "host").iterdir()) == []


def test_names_that_only_longer_headers_hold_are_refused(lab: World) -> None:
    info, data = plain("app/" + "x" * 300, b"x")
    digest = lab.forge([(info, data)], tarfile.PAX_FORMAT)
    with pytest.raises(EvidenceError, match="is no plain file"):
        lab.store.verify(digest)


def test_many_who_unpack_at_once_agree(lab: World) -> None:
    digest = lab.build().digest
    folder = lab.folder / "host" / "unpacked"
    errors: list[NvcopsError] = []

    def unpack() -> None:
        try:
            lab.store.unpack(digest, folder)
        except NvcopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=unpack) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert [path.name for path in folder.parent.iterdir()] == ["unpacked"]
    lab.store.unpack(digest, folder)


def test_two_builders_at_once_make_one_release(lab: World) -> None:
    found: list[str] = []
    errors: list[NvcopsError] = []

    def build() -> None:
        try:
            found.append(lab.build().digest)
        except NvcopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=build) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert len(set(found)) == 1
    assert len(found) == 6
    assert [release.digest for release in lab.store.list()] == found[:1]
    assert list((lab.store.folder / ".partial").iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk on which no file can become larger."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_takes_no_more_leaves_no_release(lab: World) -> None:
    size = lab.build().size
    lab.store.remove(lab.store.find("1.0").digest)
    for limit in (0, 10, size - 1):
        with files_of_at_most(limit), pytest.raises(NvcopsError, match=r"cannot be written|is full"):
            lab.build()
        assert lab.store.survey() == ([], [])
        assert [path for path in lab.store.folder.rglob("*") if path.is_file()] == []
    assert lab.build().size == size


def test_a_disk_that_takes_no_statement_leaves_no_release(lab: World) -> None:
    (lab.source / "shop" / "migrations").rename(lab.source / "elsewhere")
    built = lab.build()
    statement = lab.envelope(built.digest).stat().st_size
    lab.store.remove(built.digest)
    assert statement > built.size, "else this shows nothing"
    with files_of_at_most(built.size), pytest.raises(NvcopsError, match=r"cannot be written|is full"):
        lab.build()
    assert lab.store.survey() == ([], [])
    assert [path for path in lab.store.folder.rglob("*") if path.is_file()] == []
    with pytest.raises(NotFoundError):
        lab.store.verify(built.digest)


def test_a_disk_that_takes_no_more_leaves_no_folder(lab: World) -> None:
    (lab.source / "shop" / "data.txt").write_text("x" * 100_000)
    digest = lab.build().digest
    folder = lab.folder / "host" / "unpacked"
    with files_of_at_most(50_000), pytest.raises(StateError, match="is full"):
        lab.store.unpack(digest, folder)
    assert list(folder.parent.iterdir()) == []


def test_a_place_where_no_folder_can_be_made_is_said(lab: World) -> None:
    digest = lab.build().digest
    (lab.folder / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        lab.store.unpack(digest, lab.folder / "file" / "unpacked")
