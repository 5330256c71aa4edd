"""Who signed for a release: DSSE envelopes with Ed25519, by OpenSSH keys."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nvcops.core.errors import EvidenceError, ManifestError, NotAllowed
from nvcops.core.manifest.delivery import Builder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from securesystemslib.signer import Key  # type: ignore[attr-defined] # it re-exports without saying so

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_KEY_BYTES_MAX = 16_384
_AGAIN = "build the release again, or copy it again from where it verifies"
_KEY_HINT = "a builder's key is an Ed25519 key file of OpenSSH without a passphrase: ssh-keygen -t ed25519 -N ''"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that may sign for releases, and the name that the manifest gives to it."""

    builder: str
    private: Ed25519PrivateKey

    def sign(self, payload: bytes) -> bytes:
        """The payload in its signed envelope, as the file that is kept."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined] # it re-exports without saying so

        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(self.private))
        return _written(envelope.to_dict())


def load_signing_key(path: Path, builders: Sequence[Builder]) -> SigningKey:
    """The key in a file, which must be one of the builders'.

    Raises:
        NotAllowed: it cannot be read or cannot sign, or its signature would not count here.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            private = serialization.load_ssh_private_key(file.read(_KEY_BYTES_MAX), None)
    except OSError as error:
        raise NotAllowed(f"the key {path} cannot be read: {error.strerror}", hint=_KEY_HINT) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: its word for a passphrase
        raise NotAllowed(f"{path} cannot sign: {error}", hint=_KEY_HINT) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise NotAllowed(f"{path} is no Ed25519 key", hint=_KEY_HINT)
    public = private.public_key()
    for builder in builders:
        if _public_key(builder) == public:
            return SigningKey(builder.name, private)
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    raise NotAllowed(
        f"the key {path} is no builder's: what it signs would not be deployed here",
        hint=f'[[delivery.builders]] key = "{public.public_bytes(*form).decode()}"',
    )


def _check_private(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise NotAllowed(
            f"others may read the key {path} (mode {stat.S_IMODE(mode):04o}), and so sign as its builder",
            hint=f"chmod 0600 '{path}'",
        )


def opened(envelope: bytes, builders: Sequence[Builder], name: str) -> tuple[bytes, str]:
    """The payload of an envelope, and the builder whose signature of it verifies; `name` is what errors call it.

    An envelope has one spelling: what was changed in a file, even where it means nothing, is refused.

    Raises:
        EvidenceError: it is none, or none of the builders signed it.
        ManifestError: a builder's key is none.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error

    keys = {key.keyid: (key, builder.name) for builder in reversed(builders) for key in (_verifying_key(builder),)}
    try:
        parsed = Envelope.from_dict(json.loads(envelope))
        unchanged = _written(parsed.to_dict()) == envelope and parsed.payload_type == PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Error) as error:
        raise EvidenceError(f"{name} is no signed envelope", hint=_AGAIN) from error
    if not unchanged:
        raise EvidenceError(f"{name} was changed after it was written, or is none of ours", hint=_AGAIN)
    if not keys:
        raise EvidenceError(f"nobody's signature of {name} counts", hint="[[delivery.builders]] names the builders")
    try:
        by = parsed.verify([key for key, _ in keys.values()], 1)
    except Error as error:
        raise EvidenceError(
            f"{name} is not signed by a builder, or was changed after it was signed",
            hint="[[delivery.builders]] names whose signature counts",
        ) from error
    return parsed.payload, keys[next(iter(by))][1]


def _verifying_key(builder: Builder) -> Key:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined] # it re-exports without saying so

    return SSlibKey.from_crypto(_public_key(builder))


def _public_key(builder: Builder) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    hint = "a line of a .pub file: ssh-ed25519 AAAA... name"
    try:
        public = load_ssh_public_key(builder.key.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ManifestError(f"the key of the builder {builder.name} is none: {error}", hint=hint) from error
    if not isinstance(public, Ed25519PublicKey):
        raise ManifestError(f"the key of the builder {builder.name} is no Ed25519 key", hint=hint)
    return public


def _written(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
