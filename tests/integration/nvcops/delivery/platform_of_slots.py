"""A platform with slots, none of which answers."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST = """
[platform]
name = "test"
title = "Test"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:9"
version = "/version"
deadline = "200 ms"
instances = [{ name = "bank-1", url = "http://127.0.0.1:9" }, { name = "bank-2", url = "http://127.0.0.1:9" }]
[control]
start = ["true", "{name}"]
stop = ["true", "{name}"]
running = ["sh", "-c", "exit 3", "{name}"]
[proxy]
socket = "no.sock"
backends = ["bank"]
[delivery]
service = "bank"
store = "store"
root = "root"
backend = "bank"
spare = [{ name = "bank-3", url = "http://127.0.0.1:9" }, { name = "bank-4", url = "http://127.0.0.1:9" }]
builders = [{ name = "ci", key = "DANA" }]
[[people]]
name = "dana"
full_name = "Dana"
roles = ["operator"]
ssh_keys = ["DANA"]
[evidence]
origin = "test"
"""


def key_pair(path: Path) -> str:
    """A private key in a file; its public line."""
    key = Ed25519PrivateKey.generate()
    openssh = serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, openssh, serialization.NoEncryption())
    path.write_bytes(private)
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()
