"""What pg_waldump says about a stretch of log: until where its records follow one another, and what stops them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import msgspec

from nvcops.adapters.backup.tools import Tools
from nvcops.core.backups import lsn_bytes, lsn_text
from nvcops.core.errors import StateError

_BETWEEN = re.compile(r"^WAL statistics between ([0-9A-F]+/[0-9A-F]+) and ([0-9A-F]+/[0-9A-F]+):", re.MULTILINE)
_TOLD = re.compile(r"^pg_waldump: error: (?:error in WAL record at [0-9A-F]+/[0-9A-F]+: )?(.*)$", re.MULTILINE)
_COMMIT = re.compile(r"desc: COMMIT(?:_PREPARED)? .*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) UTC")
_DEADLINE_S = 600.0
_NOT_OF_THE_LOG = ("could not find file", "could not open", "could not read", "could not access", "out of memory")


class Walk(msgspec.Struct, frozen=True):
    """How far the records of a stretch follow one another: the position after the last good one.

    `trouble` is what stopped them before the stretch's end; empty: nothing did.
    """

    reached: int
    trouble: str = ""


def walk(tools: Tools, folder: Path, timeline: int, start: int, end: int) -> Walk:
    """Check every record from the first that begins at `start` or after it until `end`, or until there is none.

    A record that goes on beyond `end` is not checked: it begins at `reached`.

    Raises:
        StateError: pg_waldump could not do its work: nothing is known.
    """
    where = ["-p", str(folder), "-t", str(timeline), "-s", lsn_text(start), "-e", lsn_text(end)]
    done = tools.run("pg_waldump", *where, "-z", deadline_s=_DEADLINE_S, quiet=True)
    match = _BETWEEN.search(done.output)
    reached = lsn_bytes(match[2]) if match else start
    if done.code == 0 and match:
        return Walk(reached)
    told = _TOLD.search(done.error)
    if told is None or told[1].startswith(_NOT_OF_THE_LOG):
        raise StateError(
            f"pg_waldump ended with {done.code}: {done.said}", hint="is the disk full, or a program broken?"
        )
    return Walk(reached, told[1].strip())


def last_commit(tools: Tools, folder: Path, timeline: int, start: int, end: int) -> dt.datetime | None:
    """The time of the last commit in a stretch that was found whole; None: nothing was committed in it.

    The stretch should be short: all its commits are listed in memory.
    """
    where = ["-p", str(folder), "-t", str(timeline), "-s", lsn_text(start), "-e", lsn_text(end)]
    utc = {"TZ": "UTC"}
    done = tools.run("pg_waldump", *where, "-r", "Transaction", deadline_s=_DEADLINE_S, quiet=True, environment=utc)
    times = _COMMIT.findall(done.output)
    return dt.datetime.fromisoformat(times[-1]).replace(tzinfo=dt.UTC) if times else None
