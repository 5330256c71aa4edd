"""A platform in a folder with four people and their keys, and ways to call nvcops, and to run procedures, as them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops import wiring
from nvcops.adapters.identity_ssh import Signer, find_signer
from nvcops.cli.app import nvcops
from nvcops.core.changes import Change
from nvcops.core.manifest import Manifest

NAMES = ("dana", "omar", "ines", "carla")
TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
[evidence]
origin = "test.example.com/operations"
[changes]
executives = ["carla"]
{freezes}
"""
PERSON = """
[[people]]
name = "{name}"
full_name = "{name}"
roles = ["operator", "approver"]
ssh_keys = ["{key}"]
"""


def make_key(file: Path) -> str:
    """An Ed25519 key file; the answer is its public line."""
    key = Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*form))
    file.chmod(0o600)
    public = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key.public_key().public_bytes(*public).decode()


@dataclass
class House:
    """The platform's folder."""

    folder: Path

    @property
    def platform(self) -> Path:
        return self.folder / "platform.toml"

    @property
    def manifest(self) -> Manifest:
        return wiring.load(self.platform)

    def call(self, *arguments: str, by: str = "", key: str = "") -> Result:
        who = ["--as", by, "--key", str(self.folder / (key or by))] if by else []
        return CliRunner().invoke(
            nvcops, [*arguments, "--target", str(self.platform), *who], catch_exceptions=False, standalone_mode=False
        )

    def json(self, *arguments: str, **who: str) -> Any:
        return json.loads(self.call(*arguments, "--json", **who).output)

    def signer(self, name: str) -> Signer:
        return find_signer(self.manifest.people, name, self.folder / name, {}, self.folder)

    def change(self, number: int) -> Change | None:
        with wiring.open_records(self.manifest) as records, records.reading() as reading:
            return reading.get(Change, number)

    def fold_in(self) -> None:
        """Move the evidence that waits beside the records into the log, as `nvcops serve` does every few seconds."""
        with wiring.open_records(self.manifest) as records:
            records.drain(wiring.EvidenceLater(self.manifest))

    def verified(self, run: str) -> subprocess.CompletedProcess[str]:
        """The evidence of a run or change, exported, and what the verifier that lies beside it says."""
        bundle = self.folder / "bundle"
        self.call("evidence", "export", "--run", run, "--output", str(bundle))
        verifier = str(self.folder / "verify_evidence.py")
        return subprocess.run(
            [sys.executable, "-I", verifier, str(bundle)], capture_output=True, text=True, timeout=60, check=False
        )


def build(folder: Path, freezes: str = "") -> House:
    """Write the platform; a stranger has a key too."""
    make_key(folder / "stranger")
    people = "".join(PERSON.format(name=name, key=make_key(folder / name)) for name in NAMES)
    (folder / "platform.toml").write_text(TEXT.format(freezes=freezes) + people)
    return House(folder)
