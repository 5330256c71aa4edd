"""The people of the lab's roster: each has an SSH key, made here, so that approvals and attestations can be signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nvclab.layout import write_private

if TYPE_CHECKING:
    from pathlib import Path


def public_key(folder: Path, person: str) -> str:
    """One line for the roster: the person's public key. Makes `folder`/`person` and `person`.pub where missing."""
    private, public = folder / person, folder / f"{person}.pub"
    if not (private.exists() and public.exists()):
        key = Ed25519PrivateKey.generate()
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
        write_private(public, f"{line} {person}\n")
        write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii"))
    return public.read_text(encoding="ascii").strip()
