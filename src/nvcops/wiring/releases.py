"""Building a release: the source, its commit and the builder's key brought together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nvcops.adapters.git import checkout_of
from nvcops.adapters.releases.source import Sources
from nvcops.adapters.releases.statement import DIRTY
from nvcops.adapters.releases.store import open_releases
from nvcops.core.errors import ManifestError, TargetError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.releases import Release

__all__ = ["Sources", "build"]


def build(
    manifest: Manifest,
    version: str,
    sources: Sources,
    key: Path,
    *,
    revision: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Release, bool]:
    """Build a release of the platform's service into its store, and read it back; whether it is new there.

    `revision` None: the commit that is checked out where the source is, if it is a checkout.

    Raises:
        ManifestError: there is no [delivery].
        NotAllowed: the key is no builder's.
        UsageError: the source cannot be built; the sentence says why.
        StateError: a file cannot be read, or the store cannot be written.
    """
    from nvcops.adapters.releases.building import Build, Order
    from nvcops.adapters.releases.signing import load_signing_key

    store = open_releases(manifest)
    if manifest.delivery is None:
        raise ManifestError("platform.toml has no [delivery]")
    signing = load_signing_key(key, manifest.delivery.builders)
    if revision is None:
        revision = _commit_of(sources)
    order = Order(name=manifest.delivery.service, version=version, sources=sources, revision=revision)
    return Build(store, signing, tell=tell).run(order)


def _commit_of(sources: Sources) -> str:
    checkout = checkout_of(sources.root)
    if checkout is None:
        return ""
    parts = [*sources.packages, sources.lock, sources.migrations, sources.wheels]
    try:
        return checkout.head([(sources.root / part).absolute() for part in parts if part], DIRTY)
    except TargetError as error:
        raise UsageError(f"the source's commit is not known: {error.sentence}", hint="--revision names it") from error
