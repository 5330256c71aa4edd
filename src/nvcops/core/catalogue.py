"""What the entries of a catalogue say together: what is there, what is on hold, and what needs what."""

from __future__ import annotations

from collections.abc import Iterable

from nvcops.core.backups import Entry, Kind


def present(entries: Iterable[Entry]) -> list[Entry]:
    """The entries but those that a REMOVAL took away: what they name is there."""
    listed = list(entries)
    gone = removed(listed)
    return [entry for entry in listed if entry.id not in gone]


def removed(entries: Iterable[Entry]) -> set[str]:
    """The ids that a REMOVAL took away."""
    return {name for entry in entries if entry.kind is Kind.REMOVAL for name in entry.of}


def base_backups(entries: Iterable[Entry]) -> list[Entry]:
    """The backups of the database that are there, in the order of the entries."""
    return [entry for entry in present(entries) if entry.kind.of_database]


def holds(entries: Iterable[Entry]) -> list[Entry]:
    """The legal holds that nobody has released, oldest first: what a RELEASE is `of` is the HOLD's own id."""
    listed = list(entries)
    released = {hold for entry in listed if entry.kind is Kind.RELEASE for hold in entry.of}
    return [entry for entry in listed if entry.kind is Kind.HOLD and entry.id not in released]


def on_hold(entries: Iterable[Entry]) -> set[str]:
    """The ids that a legal hold keeps."""
    return {name for hold in holds(entries) for name in hold.of}


def needs(entry: Entry) -> tuple[str, ...]:
    """The ids of the entries without which this one cannot be restored."""
    names: tuple[str, ...] = ()
    if entry.database:
        names = (entry.database.parent,)
    elif entry.point:
        names = (entry.point.database, entry.point.application, entry.point.configuration)
    return tuple(name for name in names if name)
