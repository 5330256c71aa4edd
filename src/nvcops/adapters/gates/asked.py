"""What a gate's process is asked, and what all kinds share to answer it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nvcops.core.checks import Verdict
from nvcops.core.releases import Migration
from nvcops.core.units import Seconds

T = TypeVar("T")
SEEDED = "seeded_fault"  # stands in what a control plants, and must stand in what its gate objects to
FILE_MAX = 64 << 20
FILES_MAX = 100_000


class CannotTell(Exception):
    """The gate could not run, or what it was told cannot be read: it says UNKNOWN, with this sentence."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """The newest run of a procedure that came to a verdict; `ended` None: there is none."""

    procedure: str
    ended: dt.datetime | None = None
    verdict: Verdict | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question to a gate: about an unpacked release, of which `work` is beside it, and the manifest's words for it.

    `python` runs the release (empty: there is no environment for it); `previous` is the unpacked release before (empty:
    there was none) and `applied` its migrations. `seeded`: judge a planted fault instead; `brought`: it stands in
    `release` already, since the manifest names a folder with it.
    """

    kind: str
    work: str
    now: dt.datetime
    program: tuple[str, ...] = ()
    report: str = ""
    options: dict[str, str] = {}
    digest: str = ""
    release: str = ""
    python: str = ""
    previous: str = ""
    previous_python: str = ""
    applied: tuple[Migration, ...] = ()
    migrations: tuple[Migration, ...] = ()
    revision: str = ""
    checkout: str = ""
    ran: tuple[Ran, ...] = ()
    seeded: bool = False
    brought: bool = False

    @property
    def folder(self) -> Path:
        """The release's folder."""
        if not self.release:
            raise CannotTell("there is no release to look at")
        return Path(self.release)

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        """An option that counts."""
        text = self.options.get(name, str(default)).strip()
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise CannotTell(f"the option {name} is {text!r}: a whole number, {least} at least")
        return int(text)

    def seconds(self, name: str, default: str) -> Seconds:
        """An option that is a time."""
        text = self.options.get(name, default)
        try:
            return Seconds.read(text)
        except ValueError as error:
            raise CannotTell(f"the option {name} is {text!r}: a time like {default!r}") from error

    def words(self, name: str, default: str = "") -> list[str]:
        """An option that is a list, with ; between."""
        return [word.strip() for word in self.options.get(name, default).split(";") if word.strip()]

    def pairs(self, name: str) -> dict[str, str]:
        """An option of the form a=b; c=d."""
        found = [word.partition("=") for word in self.words(name)]
        if wrong := [word for word, sign, value in found if not (word.strip() and sign and value.strip())]:
            raise CannotTell(f"the option {name} says {wrong[0]!r}: write NAME=VALUE; NAME=VALUE")
        return {word.strip(): value.strip() for word, _, value in found}


def read_bytes(path: Path) -> bytes:
    """A file of the release, or a report.

    Raises:
        CannotTell: it is not there, cannot be read, or is larger than 64 MiB.
    """
    try:
        if path.stat().st_size > FILE_MAX:
            raise CannotTell(f"{path.name} is larger than {FILE_MAX >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise CannotTell(f"{path.name} cannot be read: {error.strerror or error}") from error


def read_json(data: bytes, name: str) -> Any:
    """A JSON document; what is none, or nests too deep, tells nothing."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CannotTell(f"{name} is no JSON: {str(error)[:100]}") from error


def read_said(data: bytes, kind: type[T], name: str) -> T:
    """What a tool said, as JSON of a known form; a part that is missing or of another kind makes it unreadable."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CannotTell(f"what {name} said cannot be read: {str(error)[:100]}") from error


def files_below(folder: Path, pattern: str = "*") -> Iterator[Path]:
    """The files below a folder in order; links are not followed."""
    if not folder.is_dir():
        raise CannotTell(f"there is no folder {folder.name}")
    found = sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())
    if len(found) > FILES_MAX:
        raise CannotTell(f"there are more than {FILES_MAX:,} files in {folder.name}")
    yield from found
