"""SBOM: every distribution of the lock is in it, in its version and with a digest that the lock knows, and no other."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked
from nvcops.adapters.gates.made import components_of, lock_of, seeded_folder
from nvcops.adapters.releases.contents import SBOM
from nvcops.adapters.releases.lock import Locked
from nvcops.core.gates import GateLine, GateReport, judged
from nvcops.core.releases import Component


def judge(asked: Asked) -> GateReport:
    """Compare lock and SBOM."""
    lock = lock_of(asked.folder)
    return judged(compare(lock, components_of(asked.folder)), len(lock), "distributions")


def compare(lock: Mapping[str, Locked], components: Mapping[str, Component]) -> list[GateLine]:
    """What does not fit."""
    lines = []
    for name, locked in lock.items():
        component = components.get(name)
        if component is None:
            lines.append(_line("missing", f"{name} {locked.version} of the lock is not in the SBOM"))
        elif component.version != locked.version:
            lines.append(_line("version", f"{name} is {locked.version}, and {component.version} in the SBOM"))
        elif not component.sha256:
            lines.append(_line("digest", f"{name} {locked.version} has no digest in the SBOM"))
        elif not set(component.sha256) <= set(locked.sha256):
            lines.append(_line("digest", f"{name} {locked.version} has a digest that the lock does not know"))
    return lines + [
        _line("unlocked", f"{name} is in the SBOM and not in the lock")
        for name in sorted(components.keys() - lock.keys())
    ]


def seed(asked: Asked) -> Asked:
    """A release of two distributions; the SBOM forgot one."""
    folder = seeded_folder(asked, ("good", SEEDED), {"good": "MIT"})
    return msgspec.structs.replace(asked, release=str(folder))


def _line(rule: str, text: str) -> GateLine:
    return GateLine(rule=rule, text=text, file=SBOM)
