"""The tests' platform: its manifest with a roster whose keys lie beside it, and the door to its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from workshop import Workshop

from nvcops.adapters.evidence.log import open_log
from nvcops.adapters.identity_ssh import Signer, find_signer
from nvcops.adapters.runs.door import Runs
from nvcops.core.evidence import Entry
from nvcops.core.manifest import Manifest, parse

PEOPLE = {"dana": "operator", "omar": "approver", "olga": "operator", "igor": "auditor"}


def write_platform(folder: Path, more: str = "") -> None:
    """Write platform.toml and the keys of its people."""
    lines = [
        '[platform]\nname = "tanks"\ntitle = "Tanks"\ntime_zone = "America/New_York"\nstate = "state"',
        '[[services]]\nname = "tank"\nurl = "http://127.0.0.1:1"',
        '[evidence]\norigin = "tanks.example.com/log"',
        more,
    ]
    for name, role in PEOPLE.items():
        public = make_key(folder / name)
        lines.append(f'[[people]]\nname = "{name}"\nfull_name = "{name}"\nroles = ["{role}"]\nssh_keys = ["{public}"]')
    (folder / "platform.toml").write_text("\n".join(lines))


def make_key(path: Path) -> str:
    """An Ed25519 key file as ssh-keygen writes it; the answer is its public line."""
    key = Ed25519PrivateKey.generate()
    encoding, private = serialization.Encoding, serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(encoding.PEM, private, serialization.NoEncryption()))
    path.chmod(0o600)
    return key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def read_manifest(folder: Path) -> Manifest:
    path = folder / "platform.toml"
    return parse(path.read_text(), path)


def open_runs(
    manifest: Manifest, folder: Path, *, kind: str = "cli", notify: Callable[[str], None] = lambda _: None
) -> Runs:
    state, origin = manifest.platform.state, manifest.evidence.origin
    # The workshop stands for the platform's sockets: its procedures ask for nothing else.
    return Runs(manifest, lambda: Workshop(folder), lambda: open_log(state, origin=origin), notify=notify, kind=kind)  # type: ignore[arg-type,return-value]


def signer(manifest: Manifest, folder: Path, name: str) -> Signer:
    return find_signer(manifest.people, name, folder / name, {}, folder)


def evidence(folder: Path) -> list[Entry]:
    manifest = read_manifest(folder)
    with open_log(manifest.platform.state, origin=manifest.evidence.origin) as log:
        return [entry for _, entry in log.entries()]
