"""Who is there to be called: the emergency contacts, vendors and regulators of the manifest, and who asks them."""

from __future__ import annotations

import msgspec

from nvcops.core.manifest import Manifest

KINDS = ("management", "vendor", "regulator", "stakeholder")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the list. `kinds` are the channels on which a message goes there, best first; no address of those.

    `asked_by` are the policies that ask them, `informed_of` the severities of incidents that they are told of.
    """

    name: str
    title: str
    kind: str
    phone: str = ""
    email: str = ""
    covers: str = ""
    kinds: tuple[str, ...] = ()
    asked_by: tuple[str, ...] = ()
    informed_of: tuple[str, ...] = ()


def listing(manifest: Manifest, kind: str = "") -> list[Listed]:
    """Everybody outside of the roster: management, vendors, regulators, stakeholders; or one kind of them."""
    found = []
    for entry in sorted(manifest.contacts, key=lambda entry: KINDS.index(entry.kind)):
        if kind in ("", entry.kind):
            listed = Listed(
                name=entry.name,
                title=entry.title,
                kind=entry.kind,
                phone=entry.phone,
                email=entry.email,
                covers=entry.covers,
                kinds=tuple(contact.kind for contact in entry.contacts),
                asked_by=tuple(
                    policy.name
                    for policy in manifest.oncall.policies
                    if any(step.contact == entry.name for step in policy.steps)
                ),
                informed_of=tuple(
                    sorted(
                        severity.value
                        for informed in manifest.incidents.informed
                        if entry.name in informed.contacts
                        for severity in informed.severities
                    )
                ),
            )
            found.append(listed)
    return found
