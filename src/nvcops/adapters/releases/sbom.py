"""What a release is made of: a CycloneDX document from its lock. The same lock, the same bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import rfc8785

from nvcops.adapters.releases.lock import Locked
from nvcops.core.errors import EvidenceError
from nvcops.core.releases import Component

_NAMESPACE = uuid.UUID("6f1d7c4e-9a0b-5b8a-8b0e-2d5f3c1a7e94")
_LICENCE_LENGTH_MAX = 100
_SPDX = {  # classifiers that name just one licence of the SPDX list; "BSD License" could be three
    "Apache Software License": "Apache-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
_UNSAID = ("", "UNKNOWN")
Licences = Callable[[str, str], tuple[str, ...]]


def write_sbom(name: str, version: str, lock: str, packages: Sequence[Locked], licences: Licences) -> bytes:
    """The document about a service's version and the packages of its lock, whose SHA-256 is `lock`.

    It has no time and no random number: when it was built stands in the statement. A package's hashes are those of
    all files that may be installed for it.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as Described
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, f"{name} {version} {lock}"))
    service = Described(name=name, version=version, type=ComponentType.APPLICATION, bom_ref=f"{name}@{version}")
    bom.metadata.component = service
    described = [_described(package, licences(package.name, package.version)) for package in packages]
    bom.components.update(described)
    bom.register_dependency(service, described)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"].pop("timestamp")
    encoded: bytes = rfc8785.dumps(document)
    return encoded + b"\n"


def read_sbom(data: bytes) -> tuple[Component, ...]:
    """The components of a document of ours, by their names.

    Raises:
        EvidenceError: it is none.
    """
    try:
        document = json.loads(data)
        if document["bomFormat"] != "CycloneDX":
            raise EvidenceError("the list of components is no CycloneDX document", hint="build the release again")
        return tuple(sorted((_read(one) for one in document.get("components", [])), key=lambda one: one.name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EvidenceError(
            f"the list of components cannot be read: {error}", hint="build the release again"
        ) from error


def installed_licences(name: str, version: str) -> tuple[str, ...]:
    """The licences of a package by the word of this environment, where just that version of it is installed."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ()
    if found["Version"] != version:
        return ()
    if "License-Expression" in found:
        words = [found["License-Expression"]]
    else:
        classifiers = found.get_all("Classifier") or []
        words = sorted({line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")})
    if not words and "License" in found:
        words = [found["License"]]  # some put the whole text there: it names nothing
    return tuple(_SPDX.get(word, word) for word in words if word not in _UNSAID and len(word) <= _LICENCE_LENGTH_MAX)


def _described(package: Locked, licences: Sequence[str]) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component as Described
    from packageurl import PackageURL

    made = LicenseFactory()
    return Described(
        name=package.name,
        version=package.version,
        bom_ref=f"{package.name}=={package.version}",
        purl=PackageURL("pypi", name=package.name, version=package.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.sha256],
        licenses=[made.make_from_string(licence) for licence in licences],
    )


def _read(one: dict[str, Any]) -> Component:
    licences = []
    for choice in one.get("licenses", []):
        licence = choice.get("license", {})
        licences.append(choice.get("expression") or licence.get("id") or licence["name"])
    digests = tuple(entry["content"] for entry in one.get("hashes", []))
    return Component(name=one["name"], version=one["version"], licences=tuple(licences), sha256=digests)
