"""Building: one artifact and one signed statement from a source. The same source gives the same digest."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version

from nvcops.adapters.releases.archive import Packed, pack
from nvcops.adapters.releases.contents import ABOUT, LOCK, SBOM, WHEELS, Contents, checked_version
from nvcops.adapters.releases.sbom import Licences, installed_licences, write_sbom
from nvcops.adapters.releases.signing import SigningKey
from nvcops.adapters.releases.source import Source, Sources, gather
from nvcops.adapters.releases.statement import (
    BUILD_TYPE,
    DIRTY,
    PROVENANCE,
    STATEMENT,
    Asked,
    Builder,
    Definition,
    Described,
    Details,
    Made,
    Metadata,
    Provenance,
    Statement,
    source_of,
)
from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core import schedule
from nvcops.core.errors import EvidenceError, NotFoundError, UsageError
from nvcops.core.releases import Release

_REVISION = re.compile(rf"([0-9a-f]{{40}}|[0-9a-f]{{64}})({DIRTY})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built: `name` is the service's, `revision` the source's commit (empty: not known)."""

    name: str
    version: str
    sources: Sources
    revision: str = ""
    licences: Licences = installed_licences


@dataclass(frozen=True, slots=True)
class Build:
    """One build; `tell` is called with what it does, before it does it."""

    store: ReleaseStore
    key: SigningKey
    now: Callable[[], dt.datetime] = schedule.now
    tell: Callable[[str], None] = field(default=lambda _: None)

    def run(self, order: Order) -> tuple[Release, bool]:
        """The release, read back whole from the store, and whether it is new there.

        Raises:
            UsageError: the source, the version or the revision cannot be used.
            StateError: a file cannot be read, was changed meanwhile, or the store cannot be written.
        """
        started = self.now()
        checked_version(order.version)
        if order.revision and not _REVISION.fullmatch(order.revision):
            raise UsageError(
                f"{order.revision!r} is no commit", hint=f"40 or 64 hex digits, {DIRTY} behind them or not"
            )
        self.store.sweep(started)
        self.tell(f"reading {order.sources.root}")
        source = gather(order.sources)
        sbom = write_sbom(order.name, order.version, source.lock, source.packages, order.licences)
        contents = _contents(order, source, sbom)
        self.tell(f"packing {len(contents.files)} files")
        digest = _digest(_pieces(source, contents, sbom))
        if (there := self._there(digest)) is not None:
            return there, False
        self.tell(f"writing {digest[:16]}")

        def envelope(size: int) -> bytes:
            statement = _statement(order, contents, digest, size, self.key.builder, (started, self.now()))
            return self.key.sign(statement.encoded())

        self.store.keep(digest, _pieces(source, contents, sbom), envelope)
        self.tell(f"reading {digest[:16]} back")
        return self.store.verify(digest), True

    def _there(self, digest: str) -> Release | None:
        """The same release when it was built before; what is damaged is built again."""
        try:
            return self.store.verify(digest)
        except (NotFoundError, EvidenceError):
            return None


def _contents(order: Order, source: Source, sbom: bytes) -> Contents:
    files = {name: file.sha256 for name, file in source.files.items()}
    return Contents(
        name=order.name,
        version=order.version,
        lock=source.lock,
        components=len(source.packages),
        migrations=source.migrations,
        migrations_folder=source.migrations_folder,
        files=files | {SBOM: hashlib.sha256(sbom).hexdigest()},
    )


def _pieces(source: Source, contents: Contents, sbom: bytes) -> Iterator[bytes]:
    def files() -> Iterator[Packed]:
        yield Packed(ABOUT, contents.encoded())
        yield Packed(SBOM, sbom)
        for name, file in source.files.items():
            yield file.packed(name)

    return pack(files())


def _digest(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _statement(
    order: Order, contents: Contents, digest: str, size: int, builder: str, times: tuple[dt.datetime, dt.datetime]
) -> Statement:
    materials = {
        name: sha256 for name, sha256 in contents.files.items() if name == LOCK or name.startswith(f"{WHEELS}/")
    }
    about = hashlib.sha256(contents.encoded()).hexdigest()
    definition = Definition(
        build_type=BUILD_TYPE,
        external_parameters=_asked(order),
        internal_parameters=Made(size=size, components=contents.components, migrations=contents.migrations),
        resolved_dependencies=(*source_of(order.revision), *_described(materials)),
    )
    details = Details(
        builder=Builder(id=f"urn:nvcops:builder:{builder}", version={"nvcops": installed_version("nvcops")}),
        metadata=Metadata(started_on=times[0], finished_on=times[1]),
        byproducts=_described({ABOUT: about, SBOM: contents.files[SBOM]}),
    )
    return Statement(
        type_=STATEMENT,
        subject=(Described(name=f"{order.name}-{order.version}", digest={"sha256": digest}),),
        predicate_type=PROVENANCE,
        predicate=Provenance(build_definition=definition, run_details=details),
    )


def _asked(order: Order) -> Asked:
    return Asked(
        name=order.name,
        version=order.version,
        packages=order.sources.packages,
        lock=order.sources.lock,
        migrations=order.sources.migrations,
        wheels=order.sources.wheels,
    )


def _described(digests: dict[str, str]) -> tuple[Described, ...]:
    return tuple(Described(name=name, digest={"sha256": sha256}) for name, sha256 in digests.items())
