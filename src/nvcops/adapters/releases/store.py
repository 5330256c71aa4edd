"""The store: `DIGEST.tar.zst` is an artifact, `DIGEST.dsse.json` beside it what is signed about it.

The envelope is written last and removed first: a release is there when its envelope is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.releases.signing import opened
from nvcops.adapters.releases.statement import Statement, read_statement
from nvcops.core.errors import EvidenceError, ManifestError, NotFoundError, StateError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Builder
from nvcops.core.releases import Release

RELEASES_MAX = 1_000
DIGEST_PREFIX_MIN = 8
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
            except (EvidenceError, NotFoundError) as error:
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
        try:
            envelope = self._store.read(digest + _ENVELOPE)
            size = (self.folder / (digest + _ARTIFACT)).stat().st_size
        except NotFoundError as error:
            raise NotFoundError(f"there is no release {digest[:16]} in {self.folder}", hint=_HINT) from error
        except FileNotFoundError as error:
            raise EvidenceError(f"the artifact of {name} is missing", hint="build the release again") from error
        except OSError as error:
            raise StateError(f"{self.folder} cannot be read: {error.strerror}", hint="look at the disk") from error
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

    @property
    def _store(self) -> LocalStore:
        return LocalStore(self.folder)


def open_releases(manifest: Manifest) -> ReleaseStore:
    """The platform's store of releases; nothing is read yet.

    Raises:
        ManifestError: there is no [delivery].
    """
    if manifest.delivery is None:
        raise ManifestError("platform.toml has no [delivery]", hint="[delivery] store names where releases are kept")
    return ReleaseStore(manifest.delivery.store, manifest.delivery.builders)
