"""The log's signing key: made at the log's first use, for its owner only, and never made again."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.adapters.evidence import files
from nvcops.core.errors import StateError


def load_key(path: Path, *, may_create: bool) -> Ed25519PrivateKey:
    """The key in a file (PEM, PKCS #8), made if the log has none yet.

    Raises:
        StateError: the log has entries or a name, and its key is gone; or the file is no Ed25519 key.
    """
    if may_create and not path.exists():
        files.private_folder(path.parent)
        files.write_new(path, _pem(Ed25519PrivateKey.generate()))
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise StateError(
            f"the log's signing key {path} is missing",
            hint="put it back from its copy; a new key would look like a forged log, so none is made",
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StateError(
            f"{path} is not an unencrypted Ed25519 key: {error}", hint="put it back from its copy"
        ) from None
    except OSError as error:
        raise files.unusable(path, error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StateError(f"{path} is not an Ed25519 key", hint="put it back from its copy")
    return key


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
