"""The catalogue looked at entry by entry, so that one bad entry does not hide the others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from nvcops.adapters.backup.catalogue import key_of
from nvcops.adapters.backup.examine_line import runs
from nvcops.adapters.backup.examine_loss import Damage
from nvcops.core.backups import Cause, Entry

_NAME = re.compile(r"catalogue/([0-9]{8})\.json")


class Remembered(msgspec.Struct, frozen=True):
    """What an earlier audit saw of an entry: the SHA-256 of its bytes, and its id."""

    sha256: str
    id: str


class Chain(msgspec.Struct, frozen=True):
    """The entries that could be read, in order; the SHA-256 of each one's bytes by number; what is wrong."""

    entries: tuple[Entry, ...]
    digests: Mapping[int, str]
    damages: tuple[Damage, ...]

    @property
    def head(self) -> str:
        """Number and SHA-256 of the newest entry; empty where there is none."""
        number = max(self.digests, default=0)
        return f"{number} {self.digests[number]}" if number else ""


def number_of(key: str) -> int | None:
    """The number of an entry by its key; None: it is no entry's.

    >>> number_of("catalogue/00000007.json"), number_of("catalogue/x")
    (7, None)
    """
    match = _NAME.fullmatch(key)
    return int(match[1]) if match else None


def read_chain(stored: Sequence[tuple[str, bytes]], remembered: Mapping[int, Remembered]) -> Chain:
    """Read what lies in the catalogue (key and bytes), and compare it with what was there before."""
    files = {number: data for key, data in stored if (number := number_of(key)) is not None}
    strangers = [key for key, _ in stored if number_of(key) is None]
    entries: dict[int, Entry] = {}
    wrong: dict[int, str] = {}
    for number, data in sorted(files.items()):
        try:
            entries[number] = msgspec.json.decode(data, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wrong[number] = f"it is no entry: {error}"
    digests = {number: hashlib.sha256(data).hexdigest() for number, data in sorted(files.items())}
    for number, entry in entries.items():
        if entry.number != number:
            wrong[number] = f"it says that it is number {entry.number}"
        elif number in remembered and remembered[number].sha256 != digests[number]:
            wrong[number] = "it is not what it was at an earlier audit"
    for number, why in _unchained(entries, digests, remembered):
        wrong.setdefault(number, why)
    damages = [Damage(cause=Cause.EDITED, subject=key, sentence="it is no entry of the catalogue") for key in strangers]
    damages += _missing(files, remembered)
    damages += [_edited(number, why, entries.get(number), remembered.get(number)) for number, why in wrong.items()]
    return Chain(tuple(entries.values()), digests, tuple(damages))


def _unchained(
    entries: Mapping[int, Entry], digests: Mapping[int, str], remembered: Mapping[int, Remembered]
) -> Iterator[tuple[int, str]]:
    """Where an entry does not name the one before it: which of the two is not what it was."""
    for number, entry in entries.items():
        before = digests.get(number - 1, "" if number == 1 else None)
        if before is None or entry.previous == before:
            continue
        if number == 1 or _is_known(number - 1, entries, digests, remembered):
            yield number, "it is not chained to the entry before it"
        else:
            yield number - 1, "it is not what the entry after it was chained to"


def _is_known(
    number: int, entries: Mapping[int, Entry], digests: Mapping[int, str], remembered: Mapping[int, Remembered]
) -> bool:
    """Whether an entry is what it was for certain, or the one after it is what was changed."""
    if number in remembered:
        return remembered[number].sha256 == digests[number]
    after = entries.get(number + 2)
    return after is not None and after.previous != digests.get(number + 1)


def _missing(files: Mapping[int, bytes], remembered: Mapping[int, Remembered]) -> Iterator[Damage]:
    """Entries that others follow, or that an earlier audit saw."""
    top = max(files, default=0)
    known = max(remembered, default=0)
    ranges: list[tuple[int, int, str]] = []
    ascending = [0, *sorted(files)]
    for before, after in pairwise(ascending):
        if after > before + 1:
            ranges.append((before + 1, after - 1, "it is missing"))
    ranges += [
        (first, last, f"it is gone: an earlier audit saw the catalogue end with entry {known}")
        for first, last in runs(number for number in sorted(remembered) if number > top)
    ]
    for first, last, why in ranges:
        ids = [remembered[number].id for number in range(first, min(last, known) + 1) if number in remembered]
        more = f", with {last - first} more up to {key_of(last)}" if last > first else ""
        yield Damage(
            cause=Cause.EDITED,
            subject=key_of(first),
            sentence=f"{why}{more}",
            backups=tuple(ids),
            note=f"what it entered: {', '.join(ids[:5])}" if ids else "what it entered, nobody knows any more",
        )


def _edited(number: int, why: str, entry: Entry | None, known: Remembered | None) -> Damage:
    id = entry.id if entry else known.id if known else ""  # noqa: A001 - the catalogue's own word
    of = f" (the entry of {id})" if id else ""
    is_base = entry is not None and entry.kind.of_database
    return Damage(
        cause=Cause.EDITED,
        subject=key_of(number),
        sentence=f"{why}{of}",
        backups=(id,) if id else (),
        note="" if is_base else f"what it entered: {id or 'nobody knows any more'}",
    )
