"""What a release says that it is made of: its lock and its SBOM; and such files with a seeded fault in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from nvcops.adapters.gates.asked import Asked, CannotTell, read_bytes
from nvcops.adapters.releases.contents import LOCK, SBOM
from nvcops.adapters.releases.lock import Locked, read_lock
from nvcops.adapters.releases.sbom import read_sbom
from nvcops.core.releases import Component

DIGEST = "0" * 64


def lock_of(folder: Path) -> dict[str, Locked]:
    """All packages of a release's lock, by canonical name.

    Raises:
        UsageError: it is no lock.
    """
    try:
        text = read_bytes(folder / LOCK).decode()
    except UnicodeDecodeError as error:
        raise CannotTell(f"{LOCK} is not UTF-8") from error
    return {package.name: package for package in read_lock(text, LOCK)}


def components_of(folder: Path) -> dict[str, Component]:
    """All components of its SBOM, by canonical name.

    Raises:
        EvidenceError: it is no SBOM.
    """
    return {canonicalize_name(one.name): one for one in read_sbom(read_bytes(folder / SBOM))}


def seeded_folder(asked: Asked, packages: Sequence[str] = (), licences: Mapping[str, str] | None = None) -> Path:
    """A folder for a control: with a lock of packages, and with an SBOM of those that have a licence."""
    folder = Path(asked.work) / "seeded"
    folder.mkdir(parents=True, exist_ok=True)
    pins = "".join(f"{name}=={version_of(name)} --hash=sha256:{DIGEST}\n" for name in packages)
    (folder / LOCK).write_text(pins, encoding="utf-8")
    components = [_component(name, licence) for name, licence in (licences or {}).items()]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    (folder / SBOM).write_text(json.dumps(document), encoding="utf-8")
    return folder


def version_of(name: str) -> str:
    """The version in which a control's packages stand in its lock."""
    return {"jinja2": "2.4.1"}.get(name, "1.0")


def _component(name: str, licence: str) -> dict[str, Any]:
    version = version_of(name)
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "hashes": [{"alg": "SHA-256", "content": DIGEST}],
        "licenses": [{"license": {"name": licence}}],
    }
