"""What is signed: an in-toto Statement v1 about the artifact, with SLSA provenance v1 of how it came to be.

In-toto and SLSA define the outer words; ours are in `externalParameters` (what the builder was asked) and
`internalParameters` (what came of it), so that a list of releases needs no artifact to be opened.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec
import rfc8785

from nvcops.adapters.releases.contents import ABOUT, LOCK, SBOM, checked_version
from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.releases import Migration, Release

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:nvcops:release:v1"
DIRTY = "-dirty"
_SOURCE = "source"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Camel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True): ...


class Described(_Camel, frozen=True, kw_only=True):
    """A ResourceDescriptor: something by its digests."""

    name: str
    digest: dict[str, str]
    annotations: dict[str, Any] = {}


class Asked(_Camel, frozen=True, kw_only=True):
    """What the builder was asked to build; paths are relative to the source."""

    name: str
    version: str
    packages: tuple[str, ...]
    lock: str
    migrations: str = ""
    wheels: str = ""


class Made(_Camel, frozen=True, kw_only=True):
    """What came of it; `size` in bytes."""

    size: int
    components: int
    migrations: tuple[Migration, ...] = ()


class Definition(_Camel, frozen=True, kw_only=True):
    """SLSA's buildDefinition."""

    build_type: str
    external_parameters: Asked
    internal_parameters: Made
    resolved_dependencies: tuple[Described, ...]


class Builder(_Camel, frozen=True, kw_only=True):
    """SLSA's builder."""

    id: str
    version: dict[str, str]


class Metadata(_Camel, frozen=True, kw_only=True):
    """SLSA's metadata."""

    started_on: dt.datetime
    finished_on: dt.datetime


class Details(_Camel, frozen=True, kw_only=True):
    """SLSA's runDetails."""

    builder: Builder
    metadata: Metadata
    byproducts: tuple[Described, ...]


class Provenance(_Camel, frozen=True, kw_only=True):
    """SLSA's provenance, version 1."""

    build_definition: Definition
    run_details: Details


class Statement(_Camel, frozen=True, kw_only=True):
    """An in-toto Statement, version 1, about one artifact."""

    type_: str = msgspec.field(name="_type")
    subject: tuple[Described]
    predicate_type: str
    predicate: Provenance

    def encoded(self) -> bytes:
        """As it is signed."""
        payload: bytes = rfc8785.dumps(msgspec.to_builtins(self))
        return payload

    @property
    def digest(self) -> str:
        """The artifact's SHA-256."""
        return self.subject[0].digest.get("sha256", "")

    def byproduct(self, name: str) -> str:
        """The SHA-256 of a file in the artifact; empty: it names none."""
        return _named(self.predicate.run_details.byproducts, name).get("sha256", "")

    @property
    def lock(self) -> str:
        """The SHA-256 of the locked requirements."""
        return _named(self.predicate.build_definition.resolved_dependencies, LOCK).get("sha256", "")

    @property
    def revision(self) -> str:
        """The source's commit, `-dirty` behind it when it had changes; empty: not known."""
        for described in self.predicate.build_definition.resolved_dependencies:
            if described.name == _SOURCE:
                changed = DIRTY if described.annotations.get("dirty") else ""
                return described.digest.get("gitCommit", "") + changed
        return ""

    def release(self, builder: str) -> Release:
        """The release that it is about, signed by the builder of that name."""
        asked = self.predicate.build_definition.external_parameters
        made = self.predicate.build_definition.internal_parameters
        return Release(
            digest=self.digest,
            name=asked.name,
            version=asked.version,
            size=made.size,
            built=self.predicate.run_details.metadata.finished_on.astimezone(dt.UTC),
            builder=builder,
            revision=self.revision,
            lock=self.lock,
            migrations=made.migrations,
            components=made.components,
        )


def source_of(revision: str) -> tuple[Described, ...]:
    """The source as a material; none where its revision is not known."""
    if not revision:
        return ()
    commit = revision.removesuffix(DIRTY)
    annotations = {"dirty": True} if commit != revision else {}
    return (Described(name=_SOURCE, digest={"gitCommit": commit}, annotations=annotations),)


def read_statement(payload: bytes, name: str) -> Statement:
    """A statement of ours; `name` is what errors call it.

    Raises:
        EvidenceError: it is another's, or says too little.
    """
    hint = "build the release again"
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except msgspec.DecodeError as error:
        raise EvidenceError(f"the statement in {name} is none about a release: {error}", hint=hint) from error
    kinds = (statement.type_, statement.predicate_type, statement.predicate.build_definition.build_type)
    if kinds != (STATEMENT, PROVENANCE, BUILD_TYPE):
        raise EvidenceError(f"the statement in {name} is of another kind: {', '.join(kinds)}", hint=hint)
    digests = (statement.digest, statement.lock, statement.byproduct(ABOUT), statement.byproduct(SBOM))
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        raise EvidenceError(f"the statement in {name} does not name all digests", hint=hint)
    try:
        checked_version(statement.predicate.build_definition.external_parameters.version)
    except UsageError as error:
        raise EvidenceError(f"the statement in {name}: {error.sentence}", hint=hint) from error
    if statement.predicate.run_details.metadata.finished_on.tzinfo is None:
        raise EvidenceError(f"the statement in {name} has a time without its zone", hint=hint)
    return statement


def _named(described: tuple[Described, ...], name: str) -> dict[str, str]:
    return next((one.digest for one in described if one.name == name), {})
