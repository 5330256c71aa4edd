"""What is used to damage a repository at rest, and the register of the kinds of damage."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from examine_world import Rest

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.catalogue import encoded, key_of
from nvcops.adapters.backup.pack import seal
from nvcops.core.backups import Entry, Segment

Found = set[tuple[str, str]]
KINDS: dict[str, Callable[[Rest, random.Random], Found]] = {}
DEEP: set[str] = set()  # what only reading everything back can find: neither size nor time of writing changed
MORE = {"history_twice_and_different", "backup_of_another_cluster", "history_missing"}  # they show in other ways too
ALSO = {"broken-incremental-parent"}  # what builds upon a damaged backup is named as well


def kind(*, deep: bool = False) -> Callable[[Callable[[Rest, random.Random], Found]], Any]:
    def enter(act: Callable[[Rest, random.Random], Found]) -> Any:
        KINDS[act.__name__] = act
        DEEP.update({act.__name__} if deep else ())
        return act

    return enter


def entries(rest: Rest) -> list[Entry]:
    return rest.repository.catalogue.entries()


def segments(rest: Rest) -> list[Segment]:
    """Whole segments that the oldest backup leads to, but for the last: until the switch on the first timeline."""
    first = entries_unverified(rest)[0].database
    assert first is not None
    stored = [file for file in wal.stored_segments(rest.repository) if len(file.name) == 24 and not file.partial]
    return [file for file in stored if file.name >= first.first_segment][:-1]


def victim(rest: Rest, chance: random.Random) -> Segment:
    return chance.choice(segments(rest))


def flip(path: Path, chance: random.Random, *, keep_time: bool = False) -> None:
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def raw(rest: Rest, segment: Segment) -> bytearray:
    return bytearray(b"".join(wal.raw(rest.repository, segment)))


def put(rest: Rest, name: str, data: bytes, system: str = "") -> None:
    """Store bytes as a file of the log that is in order by its name and seal."""
    system = system or segments(rest)[0].system_identifier
    key = wal.wal_key(system, name, hashlib.sha256(data).hexdigest())
    rest.repository.store.put(key, seal([bytes(data)], rest.repository.sealing))


def replace(rest: Rest, segment: Segment, data: bytes) -> None:
    rest.repository.store.delete([segment.key])
    put(rest, segment.name, data)


def middle(data: bytes, chance: random.Random) -> int:
    """Somewhere among the records, away from the segment's ends: what is behind a switch of segments is not read."""
    written = len(bytes(data).rstrip(b"\0"))
    return chance.randrange(1 << 16, written - (1 << 16))


def busy(rest: Rest, chance: random.Random) -> tuple[Segment, bytearray]:
    """A segment with enough records in it to be hurt, and its bytes."""
    full = [(segment, data) for segment in segments(rest) if len((data := raw(rest, segment)).rstrip(b"\0")) > 1 << 20]
    return chance.choice(full)


def backup(rest: Rest, chance: random.Random) -> Entry:
    return chance.choice(entries(rest))


def object_of(rest: Rest, entry: Entry, chance: random.Random) -> Path:
    packs = [stored.key for stored in entry.objects if stored.key.endswith(".pack")]
    return rest.folder / chance.choice(packs)


def with_children(rest: Rest, cause: str, name: str) -> Found:
    """A backup's fault, and those of all that build upon it."""
    found, broken = {(cause, name)}, {name}
    for entry in entries_unverified(rest):
        if entry.database and entry.database.parent in broken:
            broken.add(entry.id)
            found.add(("broken-incremental-parent", entry.id))
    return found


def entries_unverified(rest: Rest) -> list[Entry]:
    files = sorted((rest.folder / "catalogue").iterdir())
    return [msgspec.json.decode(path.read_bytes(), type=Entry) for path in files]


def rewrite(rest: Rest, edit: Callable[[Entry], Entry]) -> None:
    """Edit entries, and chain the whole catalogue anew, so that nothing in it shows it."""
    previous = ""
    for entry in entries_unverified(rest):
        data = encoded(msgspec.structs.replace(edit(entry), previous=previous))
        (rest.folder / key_of(entry.number)).write_bytes(data)
        previous = hashlib.sha256(data).hexdigest()


def hit(entries_: Iterable[Entry], name: str) -> Entry:
    return next(entry for entry in entries_ if entry.id == name)
