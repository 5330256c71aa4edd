from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from nvclab.roster import public_key


def test_a_persons_key_is_made_once_and_fits_its_public_line(tmp_path: Path) -> None:
    line = public_key(tmp_path, "dana")
    assert public_key(tmp_path, "dana") == line
    assert line.startswith("ssh-ed25519 ")
    assert line.endswith(" dana")
    private = load_ssh_private_key((tmp_path / "dana").read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.public_key() == load_ssh_public_key(line.encode())
    assert stat.S_IMODE((tmp_path / "dana").stat().st_mode) == 0o600
    assert public_key(tmp_path, "omar") != line
