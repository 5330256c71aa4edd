"""What stands in an artifact, by its own word: `release.json`."""

from __future__ import annotations

import re

import msgspec
import rfc8785

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.releases import Migration

ABOUT = "release.json"
LOCK = "requirements.txt"
SBOM = "sbom.cdx.json"
APP = "app"
MIGRATIONS = "migrations"
WHEELS = "wheels"
FORMAT = 1
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}")


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`release.json`: `files` are the SHA-256 of all others by their paths, `lock` that of the requirements."""

    name: str
    version: str
    lock: str
    components: int
    migrations: tuple[Migration, ...]
    migrations_folder: str
    files: dict[str, str]
    format: int = FORMAT

    def encoded(self) -> bytes:
        """As it stands in the artifact: the same contents are the same bytes."""
        document: bytes = rfc8785.dumps(msgspec.to_builtins(self))
        return document + b"\n"


def read_contents(data: bytes) -> Contents:
    """What a `release.json` says.

    Raises:
        EvidenceError: it is none that this version reads.
    """
    try:
        contents = msgspec.json.decode(data, type=Contents)
    except msgspec.DecodeError as error:
        raise EvidenceError(
            f"{ABOUT} in the artifact cannot be read: {error}", hint="build the release again"
        ) from error
    if contents.format != FORMAT:
        raise EvidenceError(
            f"{ABOUT} has format {contents.format}, and this nvcops reads {FORMAT}", hint="update nvcops"
        )
    return contents


def checked_version(version: str) -> str:
    """A version that can stand in file names, in /version and in a shell.

    >>> checked_version("2026.11.23+g1a2b3c4")
    '2026.11.23+g1a2b3c4'
    >>> checked_version("../1.0")
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: '../1.0' is no version
    """
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"{version!r} is no version", hint="at most 64 of letters, digits and ._+!-, a letter or digit first"
        )
    return version
