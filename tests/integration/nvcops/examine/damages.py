"""What can happen to a repository: each kind does it, and says what an audit must find then: cause and subject."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import random
from pathlib import Path

import msgspec
from damages_log import segment_of_an_unknown_timeline
from examine_world import Rest
from hands import (
    Found,
    backup,
    cut,
    entries,
    entries_unverified,
    flip,
    hit,
    kind,
    object_of,
    rewrite,
    segments,
    with_children,
)

from nvcops.adapters.backup.catalogue import key_of
from nvcops.adapters.backup.index import MANIFEST, index_key, read_index, sealed_index
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.pack import Sealing, seal, unseal
from nvcops.core.backups import Entry, Kind, lsn_bytes
from nvcops.core.target import Target

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
