"""Files in a repository: what comes back is what went in, and nothing is stored twice."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from files_world import World, draft, tree, world

from nvcops.adapters.backup import files_pack
from nvcops.adapters.backup.files import fetch_files, keep, store_files
from nvcops.adapters.backup.files_index import Source, read_index
from nvcops.adapters.backup.pack import Damaged, WrongKey, seal
from nvcops.core.backups import Kind
from nvcops.core.errors import LockHeld, NotFoundError, StateError


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return world(tmp_path, encrypted=request.param)


def listed(folder: Path) -> list[Source]:
    return [Source(str(path.relative_to(folder)), path) for path in folder.rglob("*")]


def filled(ship: World) -> Path:
    ship.write("release/VERSION", "1.4.0\n")
    ship.write("release/bin/bank", os.urandom(3 << 20), 0o755)
    ship.write("release/lib/twin", b"the same")
    ship.write("release/lib/other twin", b"the same")
    ship.write("release/empty", b"")
    (ship.folder / "release/current").symlink_to("bin/bank")
    (ship.folder / "release/nothing in it").mkdir(mode=0o750)
    os.utime(ship.folder / "release/VERSION", ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    return ship.folder / "release"


def test_what_was_kept_comes_back(ship: World) -> None:
    release = filled(ship)
    kept = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release))
    into = ship.folder / "back"
    paths = fetch_files(ship.repository, "one-A", into)
    assert tree(into) == tree(release)
    assert len(paths) == kept.files == 6
    assert kept.bytes == sum(
        path.stat().st_size for path in release.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert kept.added_bytes == kept.bytes - len(b"the same"), "the twin is stored once"
    assert kept.entry.stored_bytes == sum(file.bytes for file in ship.repository.store.list("backups/"))


def test_nothing_that_is_unchanged_is_stored_again(ship: World) -> None:
    release = filled(ship)
    first = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry
    os.utime(release / "VERSION")
    second = keep(ship.repository, draft("two-A", Kind.APPLICATION), listed(release))
    assert (second.added_bytes, second.entry.revision, second.entry.objects) == (0, first.revision, first.objects)
    ship.write("release/VERSION", "1.5.0\n")
    third = keep(ship.repository, draft("three-A", Kind.APPLICATION), listed(release))
    assert third.added_bytes == len("1.5.0\n")
    assert third.entry.revision != first.revision
    assert {stored.key for stored in third.entry.objects} & {stored.key for stored in first.objects}
    for name, version in (("one-A", "1.4.0\n"), ("two-A", "1.4.0\n"), ("three-A", "1.5.0\n")):
        fetch_files(ship.repository, name, ship.folder / name)
        assert (ship.folder / name / "VERSION").read_text() == version


def test_permissions_alone_are_a_change(ship: World) -> None:
    release = filled(ship)
    first = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry
    (release / "bin/bank").chmod(0o700)
    second = keep(ship.repository, draft("two-A", Kind.APPLICATION), listed(release))
    assert (second.entry.revision == first.revision, second.added_bytes) == (False, 0)
    fetch_files(ship.repository, "two-A", ship.folder / "back")
    assert tree(ship.folder / "back") == tree(release)


def test_what_is_missing_in_the_repository_is_stored_again(ship: World) -> None:
    release = filled(ship)
    first = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry
    ship.repository.store.delete([first.objects[0].key])
    keep(ship.repository, draft("two-A", Kind.APPLICATION), listed(release))
    fetch_files(ship.repository, "two-A", ship.folder / "back")
    assert tree(ship.folder / "back") == tree(release)


def test_packs_of_which_little_is_used_are_left_behind(ship: World) -> None:
    release = filled(ship)
    first = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry
    (release / "bin/bank").unlink()
    keep(ship.repository, draft("two-A", Kind.APPLICATION), listed(release))
    third = keep(
        ship.repository, draft("three-A", Kind.APPLICATION), [*listed(release), Source("new", release / "VERSION")]
    )
    assert not {stored.key for stored in third.entry.objects} & {stored.key for stored in first.objects}


def test_the_same_id_is_answered(ship: World) -> None:
    release = filled(ship)
    first = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry
    ship.write("release/VERSION", "1.5.0\n")
    assert keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(release)).entry == first
    assert len(ship.repository.catalogue.entries()) == 1


def test_contents_that_fill_several_packs(ship: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_pack, "PACK_BYTES", 1 << 20)
    for number in range(7):
        ship.write(f"release/{number}", os.urandom(700_000))
    entry = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(ship.folder / "release")).entry
    assert len(entry.objects) == 5
    fetch_files(ship.repository, "one-A", ship.folder / "back")
    assert tree(ship.folder / "back") == tree(ship.folder / "release")


def test_what_cannot_be_read_is_said(ship: World) -> None:
    release = filled(ship)
    os.mkfifo(release / "pipe")
    sources = [*listed(release), Source("gone", release / "gone")]
    kept = keep(ship.repository, draft("one-A", Kind.APPLICATION), sources)
    assert [line.partition(": ")[0] for line in kept.unreadable] == [str(release / "gone"), str(release / "pipe")]
    assert kept.files == 6
    with pytest.raises(StateError, match="gone: No such file"):
        store_files(ship.repository, draft("two-A", Kind.APPLICATION), [("gone", release / "gone")])
    assert len(ship.repository.catalogue.entries()) == 1


def test_into_a_folder_that_is_not_empty(ship: World) -> None:
    keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(filled(ship)))
    with pytest.raises(StateError, match="is no empty folder"):
        fetch_files(ship.repository, "one-A", ship.folder / "release")
    with pytest.raises(StateError, match="cannot be used"):
        fetch_files(ship.repository, "one-A", ship.folder / "no/such/folder")


def test_an_id_that_is_not_there(ship: World) -> None:
    with pytest.raises(NotFoundError, match="'one-A'"):
        fetch_files(ship.repository, "one-A", ship.folder / "back")
    assert not (ship.folder / "back").exists()


def test_a_damaged_pack_leaves_nothing(ship: World) -> None:
    entry = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(filled(ship))).entry
    pack = ship.folder / "repository" / entry.objects[0].key
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises(Damaged):
        fetch_files(ship.repository, "one-A", ship.folder / "back")
    assert not (ship.folder / "back").exists()


def test_an_index_that_somebody_wrote_anew_is_refused(ship: World) -> None:
    """It is whole, and not what was entered: whoever may write the repository must not decide what is put back."""
    entry = keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(filled(ship))).entry
    index = read_index(ship.repository, "one-A")
    other = [msgspec.structs.replace(file, mode=0o4755) for file in index.files]
    forged = msgspec.json.encode(msgspec.structs.replace(index, files=tuple(other)))
    ship.repository.store.put(entry.objects[-1].key, seal([forged], ship.repository.sealing))
    with pytest.raises(Damaged, match="is not what was stored"):
        fetch_files(ship.repository, "one-A", ship.folder / "back")
    assert not (ship.folder / "back").exists()


def test_another_key(tmp_path: Path) -> None:
    ship = world(tmp_path, encrypted=True)
    keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(filled(ship)))
    other = world_with_new_key(ship)
    with pytest.raises(WrongKey):
        fetch_files(other.repository, "one-A", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    again = keep(other.repository, draft("two-A", Kind.APPLICATION), listed(tmp_path / "release"))
    assert again.added_bytes == again.bytes - len(b"the same"), "nothing is taken over that another key sealed"
    assert b"the same" not in b"".join(path.read_bytes() for path in (tmp_path / "repository/backups").rglob("*.pack"))


def world_with_new_key(ship: World) -> World:
    import base64

    key = ship.folder / "repository.secret"
    key.write_text(base64.b64encode(bytes(31) + b"!").decode())
    return World(ship.folder, ship.manifest)


def test_two_at_once(ship: World) -> None:
    filled(ship)
    with ship.repository.lock("files"), pytest.raises(LockHeld):
        keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(ship.folder / "release"))
    assert ship.repository.catalogue.entries() == []


def test_what_an_attempt_left_is_swept(ship: World) -> None:
    ship.repository.store.put("backups/dead-A/000001.pack", [b"half"])
    ship.repository.store.put("backups/running-F/000001.pack", [b"not ours"])
    keep(ship.repository, draft("one-A", Kind.APPLICATION), listed(filled(ship)))
    assert {key.split("/")[1] for key in ship.objects()} == {"one-A", "running-F"}
