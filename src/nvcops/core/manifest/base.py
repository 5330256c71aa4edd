"""What the manifest's tables are made of: patterns of names and addresses, a table, a limit with two bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import msgspec

from nvcops.core.units import Bytes, Count, Ratio, Seconds

T = TypeVar("T", Seconds, Ratio, Count, Bytes)
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]{0,62}$")]
Url = Annotated[str, msgspec.Meta(pattern="^https?://[^\\s/]+[^\\s]*$")]
CacheUrl = Annotated[str, msgspec.Meta(pattern="^(valkey|redis)://[^\\s]+$")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
HttpPath = Annotated[str, msgspec.Meta(pattern="^/[!-~]*$")]
HostAndPort = Annotated[str, msgspec.Meta(pattern="^[^\\s:]+:[0-9]{1,5}$")]


class Repository(str):
    """Where backups are kept: a folder, or `s3://bucket/prefix`."""

    __slots__ = ()
    _BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?")

    @classmethod
    def read(cls, written: object, folder: Path) -> Repository:
        """Check what a person wrote; a folder that is not absolute lies below `folder`."""
        if not isinstance(written, str) or not written:
            raise ValueError(f"{written!r} is no repository: name a folder, or s3://bucket/prefix")
        if "://" not in written:
            return cls(folder / Path(written).expanduser())
        if not cls._BUCKET.fullmatch(written):
            raise ValueError(f"{written!r} is no bucket: write s3://bucket/prefix")
        return cls(written.rstrip("/"))

    @property
    def folder(self) -> Path | None:
        """The folder; None where it is a bucket."""
        return None if self.startswith("s3://") else Path(self)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the manifest: a key it does not know is a mistake."""


class Bound(Table, Generic[T], frozen=True, kw_only=True):
    """Where a reading becomes a WARNING and where it becomes CRITICAL."""

    warning: T
    critical: T
