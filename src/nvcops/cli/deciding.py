"""What people decide at the command line about incidents, alerts and rosters: signed, and written with what follows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops import wiring
from nvcops.adapters.runs.entries import said
from nvcops.cli.context import manifest_path, notify
from nvcops.cli.people import person_options, signer_of
from nvcops.core import schedule
from nvcops.core.errors import NotAllowed, NvcopsError, UsageError
from nvcops.core.evidence import utc
from nvcops.core.identity import Say, SignedStatement, Statement, check_signed
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading, Records
from nvcops.core.texts import legible

T = TypeVar("T")
C = TypeVar("C", bound=click.Command)


class Deciding(msgspec.Struct, frozen=True):
    """A person's decision on its way: the transaction that it is written in, who decides, and when.

    `key` is the fingerprint of the key by which they signed it.
    """

    desk: Desk
    manifest: Manifest
    person: str
    at: dt.datetime
    key: str

    @property
    def zone(self) -> ZoneInfo:
        """The platform's time zone."""
        return ZoneInfo(self.manifest.platform.time_zone)


@contextmanager
def deciding(
    target_path: Path | None,
    who: tuple[str | None, Path | None],
    about: str,
    act: str,
    note: str = "",
    *,
    kind: Say = Say.DECISION,
    content: str = "",
) -> Iterator[Deciding]:
    """A transaction in which a person, proven by their SSH key, decides something; their signature is evidence.

    `content` is a digest of what they decide about: what they signed fits nothing else.

    Raises:
        NotAllowed: the key, the roster or the role does not allow it.
    """
    manifest = wiring.load(manifest_path(target_path))
    spoken = speak(manifest, who, about, act, note, kind=kind, content=content)
    with recording(manifest, spoken) as by:
        yield by


class Spoken(msgspec.Struct, frozen=True):
    """What a person signed just now, and the fingerprint of their key."""

    signed: SignedStatement
    key: str
    at: dt.datetime


def speak(
    manifest: Manifest,
    who: tuple[str | None, Path | None],
    about: str,
    act: str,
    note: str = "",
    *,
    kind: Say = Say.DECISION,
    content: str = "",
) -> Spoken:
    """Have a person sign what they decide; raises as `deciding` does."""
    signer = signer_of(manifest, *who)
    at = schedule.now()
    statement = Statement(
        kind=kind,
        platform=manifest.platform.name,
        run=about,
        procedure=about.partition("/")[0],
        actor=signer.name,
        subject=act,
        time=utc(at),
        note=legible(note),
        content_hash=content,
    )
    signed = signer.sign(statement)
    if signed.statement != statement:
        raise NotAllowed(f"{signer.name!r} signed something else than was asked")
    return Spoken(signed, check_signed(manifest.people, signed, schedule.now()), at)


@contextmanager
def recording(manifest: Manifest, spoken: Spoken) -> Iterator[Deciding]:
    """A transaction with what was signed as evidence, which goes into the log afterwards."""
    with wiring.open_records(manifest) as records:
        with records.changing() as desk:
            desk.note(said(spoken.signed))
            yield Deciding(desk, manifest, spoken.signed.statement.actor, spoken.at, spoken.key)
        fold_in(manifest, records)


def fold_in(manifest: Manifest, records: Records) -> None:
    """Move the evidence of what was decided into the log; what cannot be moved now is moved later."""
    try:
        records.drain(wiring.EvidenceLater(manifest))
    except NvcopsError as error:  # what was decided is decided, and somebody waits for it
        notify(f"{error.sentence}: evidence waits beside the records and is folded in later")


@contextmanager
def looking(target_path: Path | None) -> Iterator[tuple[Reading, Manifest, ZoneInfo]]:
    """The records as they stand now."""
    manifest = wiring.load(manifest_path(target_path))
    with wiring.open_records(manifest) as records, records.reading() as reading:
        yield reading, manifest, ZoneInfo(manifest.platform.time_zone)


def signed(command: C) -> C:
    """Give a command the flags by which a person says who they are."""
    for option in person_options:
        option(command)
    return command


def moment(written: str | None, zone: ZoneInfo, at: dt.datetime) -> dt.datetime:
    """A moment as people write it: `2026-11-24 09:00` in the platform's zone, RFC 3339, or `+2 h` from now.

    >>> at = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> str(moment("+90 min", ZoneInfo("UTC"), at)), str(moment("2026-11-24 09:00", ZoneInfo("America/New_York"), at))
    ('2026-11-22 13:30:00+00:00', '2026-11-24 14:00:00+00:00')
    """
    from nvcops.core.units import Seconds

    if written is None:
        return at
    try:
        if written.startswith("+"):
            return at + dt.timedelta(seconds=Seconds.read(written[1:].strip()))
        given = dt.datetime.fromisoformat(written)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{written!r} is no moment", hint='write "2026-11-24 09:00", RFC 3339, or "+2 h"') from error
    return (given if given.tzinfo else given.replace(tzinfo=zone)).astimezone(dt.UTC)


def option_of(kind: type[Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that reads an option as a member of an enumeration."""

    def read(_context: click.Context, _parameter: click.Parameter, written: str | None) -> Any:
        return None if written is None else kind(written)

    return read
