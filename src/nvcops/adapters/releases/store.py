"""The store: `DIGEST.tar.zst` is an artifact, `DIGEST.dsse.json` beside it what is signed about it.

The envelope is written last and removed first: a release is there when its envelope is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.evidence.files import unusable
from nvcops.adapters.releases.examining import examine
from nvcops.adapters.releases.signing import opened
from nvcops.adapters.releases.statement import Statement, read_statement
from nvcops.adapters.releases.unpacking import compare, unpack_into
from nvcops.core.errors import EvidenceError, ManifestError, NotFoundError, NvcopsError, StateError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Builder
from nvcops.core.releases import Inventory, Release

RELEASES_MAX = 1_000
DIGEST_PREFIX_MIN = 8
_ORPHAN_AFTER = dt.timedelta(hours=1)
_ENVELOPE = ".dsse.json"
_ARTIFACT = ".tar.zst"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(rf"[0-9a-f]{{{DIGEST_PREFIX_MIN},64}}")
_HINT = "`nvcops release list` shows what is there"


@dataclass(frozen=True, slots=True)
class ReleaseStore:
    """See core.releases.Releases."""

    folder: Path
    builders: tuple[Builder, ...]

    def list(self) -> Sequence[Release]:
        """All whose statement verifies, the newest first; at most 1,000."""
        return self.survey()[0]

    def survey(self) -> tuple[Sequence[Release], Sequence[str]]:
        """The list, and a sentence for each that is left out of it."""
        releases, troubles = [], []
        for digest in self._digests():
            try:
                releases.append(self._signed(digest)[1])
            except NotFoundError:
                continue  # it was removed since
            except (EvidenceError, StateError) as error:  # StateError: one that may not be read
                troubles.append(error.sentence)
        releases.sort(key=lambda release: (release.built, release.digest), reverse=True)
        return releases[:RELEASES_MAX], troubles

    def find(self, wanted: str) -> Release:
        """By version, or by digest (its first 8 characters do); of several builds of one version the newest."""
        releases, troubles = self.survey()
        versions = [release for release in releases if release.version == wanted][:1]
        digests = [release for release in releases if _PREFIX.fullmatch(wanted) and release.digest.startswith(wanted)]
        fitting = {release.digest: release for release in (*versions, *digests)}
        if len(fitting) > 1:
            found = ", ".join(f"{release.version} ({release.digest[:16]})" for release in fitting.values())
            raise UsageError(f"{wanted!r} fits several releases: {found}", hint="give more characters of the digest")
        if not fitting:
            passed_over = f"; passed over: {'; '.join(troubles[:3])}" if troubles else ""
            raise NotFoundError(f"there is no release {wanted!r} in {self.folder}{passed_over}", hint=_HINT)
        return next(iter(fitting.values()))

    def verify(self, digest: str) -> Release:
        """Read all of the artifact, its SBOM and its statement again: the release, if everything fits."""
        return self.inventory(digest).release

    def inventory(self, digest: str) -> Inventory:
        """What stands in it, after `verify`."""
        statement, release = self._signed(digest)
        with self._artifact(digest) as artifact:
            examined = examine(artifact, statement)
        contents = examined.contents
        return Inventory(
            release=release,
            files=contents.files,
            components=examined.components,
            migrations_folder=contents.migrations_folder,
        )

    def artifact(self, digest: str) -> Path:
        """The archive's path, after `verify`."""
        self.verify(digest)
        return self._path(digest)

    def unpack(self, digest: str, folder: Path) -> None:
        """Verify, and unpack into a folder that is there whole or not at all; fine when it is there already."""
        statement, _ = self._signed(digest)
        with self._artifact(digest) as artifact:
            if folder.exists() or folder.is_symlink():
                compare(folder, examine(artifact, statement).contents)
            else:
                unpack_into(folder, lambda keep: examine(artifact, statement, keep).contents)

    def provenance(self, digest: str) -> Statement:
        """What is signed about it; the artifact is not read."""
        return self._signed(digest)[0]

    def keep(self, digest: str, artifact: Iterable[bytes], envelope: Callable[[int], bytes]) -> None:
        """Write an artifact, then what is signed about it, given its size. What fails leaves nothing.

        Raises:
            StateError: the bytes are not those of the digest, or the disk is full.
        """
        size = self._store.put(digest + _ARTIFACT, _checked(artifact, digest))
        try:
            self._store.put(digest + _ENVELOPE, [envelope(size)])
        except NvcopsError:
            if not (self.folder / (digest + _ENVELOPE)).exists():  # of another builder, who was quicker
                self._store.delete([digest + _ARTIFACT])
            raise

    def remove(self, digest: str) -> int:
        """Remove a release; the bytes that it freed, 0 when there was none. Whether it is in use asks nobody here."""
        freed = sum(path.stat().st_size for path in self._both(digest) if path.exists())
        for path in self._both(digest):  # the envelope first: from then on there is no such release
            self._store.delete([path.name])
        return freed

    def sweep(self, now: dt.datetime) -> int:
        """Remove what killed builders left: half written files, artifacts an hour old without statement; how many."""
        whole = set(self._digests())
        left = [
            file.key
            for file in (self._store.list("") if self.folder.is_dir() else ())
            if file.key.endswith(_ARTIFACT)
            and file.key.removesuffix(_ARTIFACT) not in whole
            and file.modified < now - _ORPHAN_AFTER
        ]
        self._store.delete(left)
        return len(left) + self._store.sweep()

    def _digests(self) -> Iterator[str]:
        if not self.folder.is_dir():
            return
        for file in self._store.list(""):
            digest = file.key.removesuffix(_ENVELOPE)
            if digest != file.key and _DIGEST.fullmatch(digest):
                yield digest

    def _signed(self, digest: str) -> tuple[Statement, Release]:
        """The statement about an artifact that lies beside it, and the release by its word."""
        name = f"{digest[:16]}{_ENVELOPE}"
        envelope_path, artifact_path = self._both(digest)
        try:
            envelope = self._store.read(envelope_path.name)
            size = artifact_path.stat().st_size
        except NotFoundError as error:
            raise NotFoundError(f"there is no release {digest[:16]} in {self.folder}", hint=_HINT) from error
        except FileNotFoundError as error:
            raise EvidenceError(f"the artifact of {name} is missing", hint="build the release again") from error
        except OSError as error:
            raise unusable(artifact_path, error) from error
        payload, builder = opened(envelope, self.builders, name)
        statement = read_statement(payload, name)
        release = statement.release(builder)
        if release.digest != digest:
            raise EvidenceError(f"{name} is about another artifact: {release.digest[:16]}", hint="copy it again")
        if release.size != size:
            raise EvidenceError(
                f"the artifact {digest[:16]} has {size:,} bytes, and {release.size:,} were signed",
                hint="copy it again, or build the release again",
            )
        return statement, release

    @contextmanager
    def _artifact(self, digest: str) -> Iterator[BinaryIO]:
        try:
            with self._store.open(digest + _ARTIFACT) as stream:
                yield stream
        except NotFoundError as error:
            raise EvidenceError(f"the artifact {digest[:16]} is missing", hint="build the release again") from error

    def _path(self, digest: str) -> Path:
        return self.folder / (digest + _ARTIFACT)

    def _both(self, digest: str) -> tuple[Path, Path]:
        if not _DIGEST.fullmatch(digest):
            raise UsageError(f"{digest!r} is no digest", hint=_HINT)
        return self.folder / (digest + _ENVELOPE), self._path(digest)

    @property
    def _store(self) -> LocalStore:
        return LocalStore(self.folder)


def _checked(chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    """The same bytes; at their end, before they get their name, whether they are those of the digest."""
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
        yield chunk
    if found.hexdigest() != digest:
        raise StateError("two packings of one source differ", hint="look at the machine's memory and disk")


def open_releases(manifest: Manifest) -> ReleaseStore:
    """The platform's store of releases; nothing is read yet.

    Raises:
        ManifestError: there is no [delivery].
    """
    if manifest.delivery is None:
        raise ManifestError("platform.toml has no [delivery]", hint="[delivery] store names where releases are kept")
    return ReleaseStore(manifest.delivery.store, manifest.delivery.builders)
