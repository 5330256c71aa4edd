"""What can happen to the transaction log and its timelines, and what an audit must find then."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable

from examine_world import Rest
from hands import (
    Found,
    busy,
    cut,
    entries,
    flip,
    kind,
    middle,
    put,
    raw,
    replace,
    segments,
    victim,
)

from nvcops.adapters.backup import wal
from nvcops.core.backups import Segment

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
