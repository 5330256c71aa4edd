"""The journal of acknowledgements, as its lines say what customers were told: when, about which key, with which end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import msgspec

from nvcops.adapters.http import reason
from nvcops.core.clients import Told
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.manifest import Acknowledgements

_LINE_BYTES_MAX = 1 << 20


@contextmanager
def opened(entry: Acknowledgements) -> Iterator[IO[bytes]]:
    """The journal, at its beginning.

    Raises:
        Unreachable: it cannot be read.
    """
    try:
        with entry.journal.open("rb") as journal:
            yield journal
    except OSError as error:
        raise Unreachable(
            f"the journal of acknowledgements {entry.journal} cannot be read: {reason(error)}",
            hint="[recovery.acknowledgements] journal",
        ) from error


def lines_from_here(entry: Acknowledgements, journal: IO[bytes]) -> Iterator[Told]:
    """What the journal says from where it stands; raises as `next_line` does."""
    while line := next_line(entry, journal):
        yield line


def next_line(entry: Acknowledgements, journal: IO[bytes]) -> Told | None:
    """The line that begins where the journal stands; None at its end: a torn last line was told nobody.

    Raises:
        Refused: it is no acknowledgement.
    """
    begin = journal.tell()
    line = journal.readline(_LINE_BYTES_MAX)
    if not line.endswith(b"\n") and len(line) < _LINE_BYTES_MAX:
        return None
    try:
        fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        outcome = str(fields[entry.outcome])
        return Told(
            time=_moment(fields[entry.time]),
            key=str(fields[entry.key]),
            settled=outcome in entry.settled,
            unknown=outcome in entry.unknown,
        )
    except (msgspec.DecodeError, KeyError, ValueError, TypeError, OverflowError) as error:
        missing = isinstance(error, KeyError)
        raise Refused(
            f"the line at byte {begin} of {entry.journal} is no acknowledgement: "
            f"{f'it has no field {error}' if missing else error}",
            hint="JSON with the fields that [recovery.acknowledgements] names",
        ) from None


def _moment(written: object) -> dt.datetime:
    """A time as ISO 8601 with its zone, or as seconds since 1970."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        return dt.datetime.fromtimestamp(written, dt.UTC)
    read = dt.datetime.fromisoformat(str(written))
    if read.tzinfo is None:
        raise ValueError(f"{written} has no time zone")
    return read
