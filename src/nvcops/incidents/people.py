"""Who can be named in an incident: the roster, and the contacts."""

from __future__ import annotations

from nvcops.core.errors import UsageError
from nvcops.core.manifest import Manifest


def names_of(manifest: Manifest) -> list[str]:
    """Everybody who can be told something."""
    return [person.name for person in manifest.people] + [contact.name for contact in manifest.contacts]


def somebody(manifest: Manifest, name: str) -> None:
    """Nothing where somebody is called that.

    Raises:
        UsageError: it is nobody; who there is.
    """
    known = names_of(manifest)
    if name not in known:
        raise UsageError(f"{name!r} is nobody in [[people]] or [[contacts]]", hint=f"there: {', '.join(known)}")
