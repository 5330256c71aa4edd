"""What a release is: one immutable artifact by its digest, what stands in it, and who signed for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """A schema migration of a release: its file's name, its digest, and whether it removes what others may need."""

    name: str
    sha256: str
    contract: bool = False


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release; `digest` is the artifact's SHA-256 in hex, by which alone it is deployed.

    `revision` is the source's commit, `lock` the SHA-256 of its locked requirements: releases with one lock share one
    environment. `migrations` are all that it knows, in order. `builder` is the name that the manifest gives to the key
    by which the statement is signed.
    """

    digest: str
    name: str
    version: str
    size: int
    built: dt.datetime
    builder: str
    revision: str = ""
    lock: str = ""
    migrations: tuple[Migration, ...] = ()
    components: int = 0


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A package that a release is made of; `sha256` of all files that may be installed for it."""

    name: str
    version: str
    licences: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a release: `files` are the SHA-256 of all in its artifact by their paths.

    `migrations_folder` is where the migrations' files stand among them.
    """

    release: Release
    files: Mapping[str, str]
    components: tuple[Component, ...]
    migrations_folder: str = ""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """That a release passed a stage of the pipeline and may go on; `id` is `stage/digest`."""

    id: str
    stage: str
    digest: str
    time: dt.datetime
    by: str
    run: str
    gates: tuple[str, ...] = ()


class Releases(Protocol):
    """The store of releases: content-addressed, verified whenever one is opened.

    Raises:
        NotFoundError: there is no such release.
        EvidenceError: artifact, statement or signature do not fit one another; the sentence says which.
    """

    def list(self) -> Sequence[Release]:
        """All whose statement verifies, the newest first; at most 1,000."""

    def find(self, wanted: str) -> Release:
        """By version, or by digest (its first 8 characters do); of several builds of one version the newest.

        Raises UsageError where the first characters fit several.
        """

    def verify(self, digest: str) -> Release:
        """Read all of the artifact, its SBOM and its statement again: the release, if everything fits."""

    def inventory(self, digest: str) -> Inventory:
        """What stands in it, after `verify`."""

    def artifact(self, digest: str) -> Path:
        """The archive's path, after `verify`."""

    def unpack(self, digest: str, folder: Path) -> None:
        """Verify, and unpack into a folder that is there whole or not at all; fine when it is there already."""

    def remove(self, digest: str) -> int:
        """Remove it; the bytes that it freed, 0 when it was not there. Whether it is in use is not asked here."""
