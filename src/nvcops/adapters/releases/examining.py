"""Whether an artifact, what it says of itself and what was signed about it fit one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from nvcops.adapters.releases.archive import Packed, reading
from nvcops.adapters.releases.contents import ABOUT, LOCK, SBOM, Contents, read_contents
from nvcops.adapters.releases.sbom import read_sbom
from nvcops.adapters.releases.statement import Statement
from nvcops.core.errors import EvidenceError
from nvcops.core.releases import Component

_HINT = "build the release again"


@dataclass(frozen=True, slots=True)
class Examined:
    """What stands in an artifact that fits."""

    contents: Contents
    components: tuple[Component, ...]


def examine(artifact: BinaryIO, statement: Statement, keep: Callable[[Packed], None] = lambda _: None) -> Examined:
    """Read all of an artifact; each file is given to `keep` when it was found to be the one that is listed.

    What was kept counts only when this returns: its last act is to compare the digest of all bytes.

    Raises:
        EvidenceError: something does not fit; the sentence says what.
    """
    with reading(artifact, statement.digest) as files:
        first = next(files, Packed("", b""))
        contents = _about(first, statement)
        keep(first)
        components: tuple[Component, ...] = ()
        missing = set(contents.files)
        for file in files:
            if contents.files.get(file.path) != file.sha256:
                raise EvidenceError(f"{file.path} in the artifact is not the file that {ABOUT} lists", hint=_HINT)
            missing.discard(file.path)
            if file.path == SBOM:
                components = read_sbom(file.data)
            keep(file)
        if missing:
            raise EvidenceError(f"the artifact lacks {min(missing)}", hint=_HINT)
        if len(components) != contents.components:
            raise EvidenceError(f"{SBOM} in the artifact lists another number of components than {ABOUT}", hint=_HINT)
    return Examined(contents, components)


def _about(file: Packed, statement: Statement) -> Contents:
    """The first file of the artifact, which is the one that was signed."""
    if file.path != ABOUT or file.sha256 != statement.byproduct(ABOUT):
        raise EvidenceError(f"the artifact does not begin with the {ABOUT} that was signed", hint=_HINT)
    contents = read_contents(file.data)
    asked = statement.predicate.build_definition.external_parameters
    made = statement.predicate.build_definition.internal_parameters
    pairs = {
        "name": (contents.name, asked.name),
        "version": (contents.version, asked.version),
        "migrations": (contents.migrations, made.migrations),
        "number of components": (contents.components, made.components),
        "lock": (contents.lock, statement.lock),
        LOCK: (contents.files.get(LOCK), statement.lock),
        SBOM: (contents.files.get(SBOM), statement.byproduct(SBOM)),
    }
    if different := [name for name, (said, signed) in pairs.items() if said != signed]:
        raise EvidenceError(f"{ABOUT} in the artifact and the statement differ: {', '.join(different)}", hint=_HINT)
    listed = {f"{contents.migrations_folder}/{one.name}": one.sha256 for one in contents.migrations}
    if wrong := [path for path, digest in listed.items() if contents.files.get(path) != digest]:
        raise EvidenceError(f"the migration {wrong[0]} is not the file that {ABOUT} lists", hint=_HINT)
    return contents
