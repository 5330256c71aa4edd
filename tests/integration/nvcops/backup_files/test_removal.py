"""Removing from a repository: what nobody needs goes, what anybody needs stays, and bad input changes nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from files_world import World, acted, draft, edited, world

from nvcops.adapters.backup.files import fetch_files, keep
from nvcops.adapters.backup.files_index import Source
from nvcops.adapters.backup.removal import remove
from nvcops.adapters.backup.wal import stored_segments, wal_key
from nvcops.core.backups import DatabaseBackup, Entry, Kind, LogKept, PlatformPoint, Stored
from nvcops.core.catalogue import present
from nvcops.core.checks import Verdict
from nvcops.core.errors import LockHeld, NotFoundError, NvcopsError, StateError, UsageError
from nvcops.core.schedule import now

SYSTEM = "7001"


@pytest.fixture
def ship(tmp_path: Path) -> World:
    """Two fulls, an incremental on the first, a platform point, two configurations that share a file, and a log."""
    made = world(tmp_path)
    for number in range(1, 8):
        name = f"00000001000000000000000{number}"
        made.repository.store.put(wal_key(SYSTEM, name, "ab" * 32), [b"log"])
    made.repository.store.put(wal_key(SYSTEM, "00000002.history", "ab" * 32), [b"history"])
    based(made, "one-F", 1)
    based(made, "one-I", 3, parent="one-F")
    made.write("etc/bank.toml", "workers = 4\n")
    kept(made, "one-C")
    point = PlatformPoint(lsn="0/3000100", time=now(), database="one-I", configuration="one-C")
    made.repository.catalogue.append(edited(draft("one-P", Kind.POINT), point=point))
    based(made, "two-F", 5)
    made.write("etc/conf.d/new", "new\n")
    kept(made, "two-C")
    return made


def based(ship: World, name: str, segment: int, parent: str = "") -> None:
    base = DatabaseBackup(
        system_identifier=SYSTEM,
        major=17,
        timeline=1,
        start_lsn=f"0/{segment}000028",
        stop_lsn=f"0/{segment}000100",
        stop_time=now(),
        parent=parent,
    )
    key = f"backups/{name}/index"
    size = ship.repository.store.put(key, [b"a backup"])
    kind = Kind.INCREMENTAL if parent else Kind.FULL
    stored = (Stored(key=key, bytes=size, sha256="", raw_bytes=size),)
    ship.repository.catalogue.append(edited(draft(name, kind), database=base, objects=stored))


def kept(ship: World, name: str) -> None:
    files = [path for path in (ship.folder / "etc").rglob("*") if path.is_file()]
    keep(ship.repository, draft(name, Kind.CONFIGURATION), [Source(path.name, path) for path in files])


def removed(ship: World, *names: str, first: str = "", removal: str = "gone-X") -> Entry:
    log = [LogKept(system_identifier=SYSTEM, timeline=1, first=first)] if first else []
    return remove(ship.repository, names, log, draft=draft(removal, Kind.REMOVAL))


def state(ship: World) -> list[str]:
    return ship.objects("")


def log(ship: World) -> list[str]:
    return [segment.name for segment in stored_segments(ship.repository)]


def test_backups_and_the_log_that_only_they_need(ship: World) -> None:
    entry = removed(ship, "one-F", "one-I", "one-P", first="000000010000000000000005")
    assert entry.of == ("one-F", "one-I", "one-P")
    assert [each.id for each in present(ship.repository.catalogue.entries())] == ["one-C", "two-F", "two-C", "gone-X"]
    assert not [key for key in ship.objects() if "one-F" in key or "one-I" in key]
    assert log(ship) == [f"00000001000000000000000{n}" for n in (5, 6, 7)] + ["00000002.history"]


def test_what_is_shared_stays(ship: World) -> None:
    removed(ship, "one-P", "one-C")
    assert "backups/one-C/000001.pack" in ship.objects()
    assert "backups/one-C/index" not in ship.objects()
    assert len(fetch_files(ship.repository, "two-C", ship.folder / "there")) == 2
    removed(ship, "two-C", removal="again-X")
    assert not [key for key in ship.objects() if "-C/" in key]


@pytest.mark.parametrize(
    ("names", "first", "says"),
    [
        (["one-F"], "", "one-I needs one-F"),
        (["one-I", "one-F"], "", "one-P needs one-I"),
        (["one-C"], "", "one-P needs one-C"),
        ([], "000000010000000000000002", "one-F needs the transaction log from 000000010000000000000001"),
        (["one-F", "one-I", "one-P"], "000000010000000000000006", "two-F needs the transaction log from"),
        (["nobody"], "", "there is no 'nobody'"),
        (["gone-X"], "", "there is no 'gone-X'"),
    ],
)
def test_what_is_needed_is_not_removed(ship: World, names: list[str], first: str, says: str) -> None:
    before = state(ship)
    with pytest.raises(NvcopsError, match=says) as caught:
        removed(ship, *names, first=first)
    assert caught.value.hint
    assert state(ship) == before


def test_what_is_on_hold_is_not_removed_until_it_is_released(ship: World) -> None:
    run = acted("backup-hold", ship, backup_id="one-C", reason="lawsuit 4711")
    assert run.verdict is Verdict.OK
    before = state(ship)
    with pytest.raises(StateError, match="one-C is on hold: lawsuit 4711"):
        removed(ship, "one-P", "one-C")
    assert state(ship) == before
    rehearsed = acted("backup-release", ship, dry_run=True, backup_id="one-C", reason="settled")
    assert rehearsed.findings[0].observed == "still on hold: lawsuit 4711"
    run = acted("backup-release", ship, backup_id="one-C", reason="settled")
    assert run.approved == [f"release-hold: End of the hold {before_id(ship)} on one-C (lawsuit 4711): settled"]
    entry = ship.repository.catalogue.entries()[-1]
    assert (entry.kind, entry.actor, entry.note) == (Kind.RELEASE, "omar", "settled")
    removed(ship, "one-P", "one-C")


def before_id(ship: World) -> str:
    return next(entry.id for entry in ship.repository.catalogue.entries() if entry.kind is Kind.HOLD)


@pytest.mark.parametrize(
    ("procedure", "options", "error"),
    [
        ("backup-hold", {}, UsageError),
        ("backup-hold", {"backup_id": "one-C"}, UsageError),
        ("backup-hold", {"backup_id": "one-C", "reason": " "}, UsageError),
        ("backup-hold", {"backup_id": "nobody", "reason": "why not"}, NotFoundError),
        ("backup-release", {"backup_id": "one-C"}, UsageError),
        ("backup-release", {"backup_id": "one-C", "reason": "why not"}, NotFoundError),
    ],
)
def test_bad_input(ship: World, procedure: str, options: dict[str, str], error: type[NvcopsError]) -> None:
    before = state(ship)
    with pytest.raises(error) as caught:
        acted(procedure, ship, **options)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (3, True)
    assert state(ship) == before


def test_a_backup_that_was_removed_cannot_be_held(ship: World) -> None:
    removed(ship, "one-P", "one-C")
    with pytest.raises(NotFoundError, match="one-C was removed at"):
        acted("backup-hold", ship, backup_id="one-C", reason="too late")


def test_two_holds_in_one_second(ship: World) -> None:
    moment = dt.datetime(2026, 11, 22, 16, 5, tzinfo=dt.UTC)
    acted("backup-hold", ship, backup_id="one-C", reason="lawsuit", started=moment)
    with pytest.raises(StateError, match="in the same second"):
        acted("backup-hold", ship, backup_id="two-C", reason="another", started=moment)


def test_the_same_removal_twice_is_one(ship: World) -> None:
    first = removed(ship, "one-P", "one-C")
    assert removed(ship, "one-P", "one-C") == first


def test_what_an_earlier_removal_did_not_come_to(ship: World) -> None:
    ship.repository.catalogue.append(edited(draft("dead-X", Kind.REMOVAL), of=("one-F", "one-I", "one-P")))
    entries = len(ship.repository.catalogue.entries())
    assert "backups/one-F/index" in ship.objects()
    removed(ship)
    assert "backups/one-F/index" not in ship.objects()
    assert len(ship.repository.catalogue.entries()) == entries, "nothing new was removed, so nothing is entered"


@pytest.mark.parametrize("lock", ["backup", "files"])
def test_two_at_once(ship: World, lock: str) -> None:
    before = state(ship)
    with ship.repository.lock(lock), pytest.raises(LockHeld):
        removed(ship, "one-P", "one-C")
    assert state(ship) == before
