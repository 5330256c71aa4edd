"""What can happen to a repository: each kind does it, and says what an audit must find then: cause and subject."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from examine_world import Rest

from nvcops.adapters.backup import wal
from nvcops.adapters.backup.catalogue import encoded, key_of
from nvcops.adapters.backup.index import MANIFEST, index_key, read_index, sealed_index
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.pack import Sealing, seal, unseal
from nvcops.core.backups import Entry, Kind, Segment, lsn_bytes
from nvcops.core.target import Target

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


# --- hands ---


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


# --- the log ---


@kind()
def segment_missing(rest: Rest, chance: random.Random) -> Found:
    gone = victim(rest, chance)
    rest.repository.store.delete([gone.key])
    return {("missing", gone.name)}


@kind()
def several_segments_missing(rest: Rest, chance: random.Random) -> Found:
    there = segments(rest)
    at = chance.randrange(len(there) - 3)
    rest.repository.store.delete([file.key for file in there[at : at + 3]])
    return {("missing", there[at].name)}


@kind()
def first_segment_of_a_backup_missing(rest: Rest, chance: random.Random) -> Found:
    del chance
    first = entries(rest)[0].database
    assert first is not None
    gone = next(file for file in segments(rest) if file.name == first.first_segment)
    rest.repository.store.delete([gone.key])
    return {("missing", gone.name)}


@kind()
def what_was_being_received_missing(rest: Rest, chance: random.Random) -> Found:
    del chance
    (partial,) = (rest.folder / "spool").glob("*.partial")
    partial.unlink()
    return {("missing", partial.name.removesuffix(".partial"))}


@kind()
def segment_flipped(rest: Rest, chance: random.Random) -> Found:
    hurt = victim(rest, chance)
    flip(rest.folder / hurt.key, chance)
    return {("corrupt", hurt.name)}


@kind(deep=True)
def segment_flipped_unseen(rest: Rest, chance: random.Random) -> Found:
    hurt = victim(rest, chance)
    flip(rest.folder / hurt.key, chance, keep_time=True)
    return {("corrupt", hurt.name)}


@kind()
def segment_truncated(rest: Rest, chance: random.Random) -> Found:
    hurt = victim(rest, chance)
    cut(rest.folder / hurt.key, chance)
    return {("truncated", hurt.name)}


@kind()
def half_a_segment_resealed(rest: Rest, chance: random.Random) -> Found:
    hurt = victim(rest, chance)
    data = raw(rest, hurt)
    replace(rest, hurt, data[: chance.randrange(1, len(data) // 8192) * 8192])
    return {("truncated", hurt.name)}


@kind()
def segment_twice_with_different_bytes(rest: Rest, chance: random.Random) -> Found:
    hurt = victim(rest, chance)
    data = raw(rest, hurt)
    data[chance.randrange(len(data))] ^= 0x40
    put(rest, hurt.name, data)
    return {("duplicate-but-different", hurt.name)}


@kind()
def record_flipped_and_resealed(rest: Rest, chance: random.Random) -> Found:
    hurt, data = busy(rest, chance)
    for at in range(start := middle(data, chance), start + 64):  # alignment between records is nobody's
        data[at] ^= 1 << chance.randrange(8)
    replace(rest, hurt, data)
    return {("invalid-log-records", hurt.name)}


@kind()
def segment_with_anothers_bytes(rest: Rest, chance: random.Random) -> Found:
    there = segments(rest)
    at = chance.randrange(1, len(there))
    before = raw(rest, there[at - 1])
    replace(rest, there[at], before)
    goes_on = len(bytes(before).rstrip(b"\0")) > len(before) - 8192  # into the one that is gone now
    return {("invalid-log-records", there[at - 1 if goes_on else at].name)}


@kind()
def received_part_damaged(rest: Rest, chance: random.Random) -> Found:
    (partial,) = (rest.folder / "spool").glob("*.partial")
    status, data = partial.stat(), bytearray(partial.read_bytes())
    written = len(bytes(data).rstrip(b"\0"))
    assert written > 3 << 20, "there must be log behind the damage"
    start = chance.randrange(1 << 16, written - (2 << 20))
    data[start : start + 64] = bytes(byte ^ 0x55 for byte in data[start : start + 64])
    partial.write_bytes(data)
    os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
    return {("invalid-log-records", partial.name.removesuffix(".partial"))}


@kind()
def foreign_segment(rest: Rest, chance: random.Random) -> Found:
    stray = victim(rest, chance)
    put(rest, stray.name, raw(rest, stray), system="7398000000000000001")
    return {("wrong-system-identifier", stray.name)}


# --- timelines ---


def history(rest: Rest) -> Segment:
    return next(file for file in wal.stored_segments(rest.repository) if file.name == "00000002.history")


def retell(rest: Rest, edit: Callable[[str], str]) -> None:
    """Have another history in the place of the second timeline's, in the repository and in the spool."""
    told = edit(bytes(raw(rest, history(rest))).decode()).encode()
    replace(rest, history(rest), told)
    (rest.folder / "spool" / "00000002.history").unlink()


@kind()
def history_missing(rest: Rest, chance: random.Random) -> Found:
    del chance
    rest.repository.store.delete([history(rest).key])
    (rest.folder / "spool" / "00000002.history").unlink()
    return {("timeline-fork", "00000002.history")}


@kind()
def history_twice_and_different(rest: Rest, chance: random.Random) -> Found:
    del chance
    put(rest, "00000002.history", b"1\t0/4000000\tno recovery target specified\n")
    return {("duplicate-but-different", "00000002.history")}


@kind()
def history_that_left_before_the_backups(rest: Rest, chance: random.Random) -> Found:
    del chance
    retell(rest, lambda text: re.sub(r"\t\S+/\S+\t", "\t0/2000000\t", text, count=1))
    return {("timeline-fork", rest.ids[0]), ("timeline-fork", rest.ids[1]), ("timeline-fork", rest.ids[2])}


@kind()
def history_that_is_none(rest: Rest, chance: random.Random) -> Found:
    del chance
    retell(rest, lambda _: "this is no history\n")
    return {("corrupt", "00000002.history")}


@kind()
def segment_of_an_unknown_timeline(rest: Rest, chance: random.Random) -> Found:
    stray = segments(rest)[-1]
    timeline = chance.randrange(3, 99)
    put(rest, f"{timeline:08X}{stray.name[8:]}", raw(rest, stray))
    return {("timeline-fork", f"{timeline:08X}.history")}


# --- objects of backups ---


@kind()
def object_missing(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    object_of(rest, hurt, chance).unlink()
    return with_children(rest, "missing", hurt.id)


@kind()
def object_flipped(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    flip(object_of(rest, hurt, chance), chance)
    return with_children(rest, "corrupt", hurt.id)


@kind(deep=True)
def object_flipped_unseen(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    flip(object_of(rest, hurt, chance), chance, keep_time=True)
    return with_children(rest, "corrupt", hurt.id)


@kind()
def object_truncated(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    cut(object_of(rest, hurt, chance), chance)
    return with_children(rest, "truncated", hurt.id)


@kind()
def object_grown(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    with object_of(rest, hurt, chance).open("ab") as file:
        file.write(b"more")
    return with_children(rest, "corrupt", hurt.id)


@kind()
def object_too_many(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    (rest.folder / "backups" / hurt.id / "000099.pack").write_bytes(b"a stranger")
    return with_children(rest, "catalogue-edited", hurt.id)


@kind()
def index_flipped(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    flip(rest.folder / index_key(hurt.id), chance)
    return with_children(rest, "corrupt", hurt.id)


@kind()
def index_missing(rest: Rest, chance: random.Random) -> Found:
    hurt = backup(rest, chance)
    (rest.folder / index_key(hurt.id)).unlink()
    return with_children(rest, "missing", hurt.id)


@kind()
def manifest_edited_and_everything_resealed(rest: Rest, chance: random.Random) -> Found:
    """Its bytes are exchanged, its objects sealed anew, the catalogue chained anew, and our memory is gone."""
    hurt = backup(rest, chance)
    store, sealing = rest.repository.store, rest.repository.sealing
    index = read_index(store, sealing, hurt.id)
    number = next(n for n, file in enumerate(index.files) if file.path == MANIFEST)
    pack = next(pack for pack in index.packs if any(part.file == number for part in pack.ranges))
    with store.open(pack.key) as stored:
        data = bytearray(b"".join(unseal(stored, sealing)))
    at = data.index(b'"Size": ') + 8
    data[at] = ord("1") if data[at] != ord("1") else ord("2")
    store.put(pack.key, seal([bytes(data)], sealing))
    store.put(index_key(hurt.id), sealed_index(index, sealing))

    def resealed(entry: Entry) -> Entry:
        if entry.id != hurt.id:
            return entry
        objects = []
        for stored in entry.objects:
            there = store.read(stored.key)
            digest = hashlib.sha256(there).hexdigest()
            objects.append(msgspec.structs.replace(stored, bytes=len(there), sha256=digest))
        return msgspec.structs.replace(entry, objects=tuple(objects))

    rewrite(rest, resealed)
    rest.forget()
    return with_children(rest, "catalogue-edited", hurt.id)


# --- parents ---


@kind()
def parent_removed(rest: Rest, chance: random.Random) -> Found:
    del chance
    parent = entries(rest)[0]
    draft = Entry(number=0, id="x-D", kind=Kind.REMOVAL, platform="p", began=parent.began, ended=parent.ended)
    rest.repository.catalogue.append(msgspec.structs.replace(draft, of=(parent.id,)))
    rest.repository.store.delete([stored.key for stored in parent.objects])
    return {("broken-incremental-parent", rest.ids[1]), ("broken-incremental-parent", rest.ids[2])}


@kind()
def parent_that_ended_later(rest: Rest, chance: random.Random) -> Found:
    """The incremental names another full as its parent, in a catalogue chained anew; our memory is gone."""
    del chance

    def moved(entry: Entry) -> Entry:
        if entry.id != rest.ids[1] or entry.database is None:
            return entry
        first = hit(entries_unverified(rest), rest.ids[0]).database
        assert first is not None
        earlier = f"0/{lsn_bytes(first.stop_lsn) - 16:X}"
        return msgspec.structs.replace(entry, database=msgspec.structs.replace(entry.database, start_lsn=earlier))

    rewrite(rest, moved)
    rest.forget()
    return {
        ("catalogue-edited", rest.ids[1]),  # its backup_manifest still says where it began
        ("broken-incremental-parent", rest.ids[1]),
        ("broken-incremental-parent", rest.ids[2]),
    }


@kind()
def another_parent_named(rest: Rest, chance: random.Random) -> Found:
    """The second incremental is said to build upon the full one; our memory is gone."""
    del chance

    def renamed(entry: Entry) -> Entry:
        if entry.id != rest.ids[2] or entry.database is None:
            return entry
        return msgspec.structs.replace(entry, database=msgspec.structs.replace(entry.database, parent=rest.ids[0]))

    rewrite(rest, renamed)
    rest.forget()
    return {("broken-incremental-parent", rest.ids[2])}


# --- the catalogue ---


def entry_file(rest: Rest, number: int) -> Path:
    return rest.folder / key_of(number)


def edited(rest: Rest, number: int) -> Found:
    name = rest.ids[number - 1]
    children = {found for found in with_children(rest, "", name) if found[0]}
    return {("catalogue-edited", key_of(number)), *children}


@kind()
def entry_edited(rest: Rest, chance: random.Random) -> Found:
    number = chance.randrange(1, len(rest.ids) + 1)
    path = entry_file(rest, number)
    path.write_bytes(path.read_bytes().replace(b'"platform": "test-bank"', b'"platform": "test-bunk"'))
    return edited(rest, number)


@kind()
def entry_edited_on_a_fresh_machine(rest: Rest, chance: random.Random) -> Found:
    number = chance.randrange(1, len(rest.ids))  # of the newest only memory and evidence know what it was
    path = entry_file(rest, number)
    path.write_bytes(path.read_bytes().replace(b'"platform": "test-bank"', b'"platform": "test-bunk"'))
    rest.forget()
    return edited(rest, number)


@kind()
def entry_that_is_none(rest: Rest, chance: random.Random) -> Found:
    number = chance.randrange(1, len(rest.ids) + 1)
    children = edited(rest, number)
    entry_file(rest, number).write_bytes(b"{")
    return children


@kind()
def entry_missing(rest: Rest, chance: random.Random) -> Found:
    number = chance.randrange(1, len(rest.ids))
    children = edited(rest, number)
    entry_file(rest, number).unlink()
    return children


@kind()
def head_rolled_back(rest: Rest, chance: random.Random) -> Found:
    last = len(rest.ids)
    count = chance.randrange(1, 3)
    for number in range(last - count + 1, last + 1):
        entry_file(rest, number).unlink()
    return {("catalogue-edited", key_of(last - count + 1))}


@kind()
def whole_catalogue_rewritten(rest: Rest, chance: random.Random) -> Found:
    number = chance.randrange(1, len(rest.ids) + 1)
    rewrite(rest, lambda entry: msgspec.structs.replace(entry, actor="mallory") if entry.number == number else entry)
    found: Found = set()
    for changed in range(number, len(rest.ids) + 1):
        found |= edited(rest, changed)
    return found


@kind()
def stranger_in_the_catalogue(rest: Rest, chance: random.Random) -> Found:
    name = f"catalogue/{chance.randrange(10**6):06d}.txt"
    (rest.folder / name).write_bytes(b"hello")
    return {("catalogue-edited", name)}


@kind()
def backup_of_another_cluster(rest: Rest, chance: random.Random) -> Found:
    del chance
    model = entries(rest)[-1]
    assert model.database is not None
    other = msgspec.structs.replace(model.database, system_identifier="7398000000000000001", parent="")
    foreign = msgspec.structs.replace(model, id="20261122T200000Z-F", kind=Kind.FULL, database=other, objects=())
    rest.repository.catalogue.append(foreign)
    return {("wrong-system-identifier", foreign.id)}


def several(rest: Rest, chance: random.Random) -> Found:
    """Damages of three sorts, none of which hides another."""
    wanted = segment_of_an_unknown_timeline(rest, chance)
    there = segments(rest)
    first, second = chance.sample(range(1, len(there) - 2), 2)
    rest.repository.store.delete([there[first].key])
    flip(rest.folder / there[second].key, chance)
    hurt = entries(rest)[-1]
    cut(object_of(rest, hurt, chance), chance)
    return wanted | {("missing", there[first].name), ("corrupt", there[second].name), ("truncated", hurt.id)}


# --- keys: the repository is whole, and we cannot read it ---


def with_sealing(rest: Rest, sealing: Sealing) -> Target:
    repository = dataclasses.replace(rest.repository, sealing=sealing)
    return dataclasses.replace(rest.target, backups=NativeBackups(repository))


def another_key() -> Sealing:
    return Sealing(base64.b64decode(base64.b64encode(os.urandom(32))))
