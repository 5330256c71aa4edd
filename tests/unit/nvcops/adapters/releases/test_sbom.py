"""What a release is made of, as others read it."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from nvcops.adapters.releases.lock import read_lock
from nvcops.adapters.releases.sbom import installed_licences, read_sbom, write_sbom
from nvcops.core.errors import EvidenceError
from nvcops.core.releases import Component
from release_world import LOCKED

PACKAGES = read_lock(LOCKED, "requirements.txt")
LICENCES = {"alpha": ("MIT",), "beta-two": ("Apache-2.0 OR MIT",)}


def written(version: str = "1.0") -> bytes:
    return write_sbom("shop", version, "f" * 64, PACKAGES, lambda name, _: LICENCES[name])


def test_it_names_each_package_with_version_licence_and_digests() -> None:
    assert read_sbom(written()) == (
        Component(name="alpha", version="1.2.3", licences=("MIT",), sha256=("a" * 64, "b" * 64)),
        Component(name="beta-two", version="4.5", licences=("Apache-2.0 OR MIT",), sha256=("c" * 64,)),
    )


def test_it_is_a_document_by_the_schema_of_cyclonedx() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written().decode()) is None
    document = json.loads(written())
    assert document["metadata"]["component"]["name"] == "shop"
    assert document["components"][0]["purl"] == "pkg:pypi/alpha@1.2.3"
    assert {"ref": "shop@1.0", "dependsOn": ["alpha==1.2.3", "beta-two==4.5"]} in document["dependencies"]


def test_the_same_lock_is_the_same_bytes() -> None:
    assert written() == written()
    assert written("1.1") != written()


def test_the_environment_says_licences_of_just_the_version_that_it_has() -> None:
    version = importlib.metadata.version("msgspec")
    assert installed_licences("msgspec", version) == ("BSD-3-Clause",)
    assert installed_licences("msgspec", "0.0.1") == ()
    assert installed_licences("there-is-no-such-package", "1") == ()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"bomFormat":"SPDX"}', b'{"bomFormat":"CycloneDX","components":[{}]}', b"[" * 100_000],
)
def test_what_is_no_such_document_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="list of components"):
        read_sbom(data)
