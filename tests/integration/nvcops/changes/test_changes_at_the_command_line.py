"""A change as people decide it at the command line, over real records and real keys, to evidence verified offline."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops import wiring
from nvcops.cli.app import nvcops
from nvcops.core.errors import NotAllowed, UsageError

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
FREEZE = """
[[changes.freezes]]
name = "always"
start = 2020-01-01T00:00:00
end = 2120-01-01T00:00:00
reason = "the books are closed"
"""
ASK = ("changes", "request", "a new index", "--kind", "index", "--reason", "slow", "--rollback", "drop it", "--json")


@dataclass
class House:
    """A platform's folder, and a way to call nvcops as somebody."""

    folder: Path

    @property
    def platform(self) -> Path:
        return self.folder / "platform.toml"

    def call(self, *arguments: str, by: str = "", key: str = "") -> Result:
        who = ["--as", by, "--key", str(self.folder / (key or by))] if by else []
        return CliRunner().invoke(
            nvcops, [*arguments, "--target", str(self.platform), *who], catch_exceptions=False, standalone_mode=False
        )

    def json(self, *arguments: str, **who: str) -> Any:
        return json.loads(self.call(*arguments, "--json", **who).output)

    def verified(self, run: str) -> subprocess.CompletedProcess[str]:
        """The evidence of a run or change, exported, and what the verifier that lies beside it says."""
        bundle = self.folder / "bundle"
        self.call("evidence", "export", "--run", run, "--output", str(bundle))
        verifier = str(self.folder / "verify_evidence.py")
        return subprocess.run(
            [sys.executable, "-I", verifier, str(bundle)], capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., House]:
    lines = {}
    for name in (*NAMES, "stranger"):
        key = Ed25519PrivateKey.generate()
        file = tmp_path / name
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
        )
        file.chmod(0o600)
        lines[name] = (
            key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        )

    def build(freezes: str = "") -> House:
        people = "".join(PERSON.format(name=name, key=lines[name]) for name in NAMES)
        (tmp_path / "platform.toml").write_text(TEXT.format(freezes=freezes) + people)
        return House(tmp_path)

    return build


def test_requested_approved_and_verified_offline(built: Callable[..., House]) -> None:
    house = built()
    asked = json.loads(house.call(*ASK, by="dana").output)
    assert (asked["number"], asked["state"], asked["author"]) == (1, "requested", "dana")
    assert "not enough data" in asked["risk_why"]
    with pytest.raises(NotAllowed, match="'dana' requested C-1 and cannot approve it"):
        house.call("changes", "approve", "C-1", by="dana")
    with pytest.raises(NotAllowed, match="is not in the roster"):
        house.call("changes", "approve", "C-1", by="omar", key="stranger")
    done = house.json("changes", "approve", "C-1", "--note", "seen", by="omar")
    assert done["state"] == "approved"
    assert [one["person"] for one in done["approved_by"]] == ["omar"]
    with pytest.raises(UsageError, match="C-1 is approved, so it cannot be approved"):
        house.call("changes", "approve", "C-1", by="ines")
    shown = house.call("changes", "show", "C-1").output
    assert "approved by omar" in shown
    assert "SHA256:" in shown
    assert "C-1" in house.call("changes", "list").output
    said = house.verified("change/1")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 approvals by somebody else than asked" in said.stdout


def test_a_refusal_is_evidence(built: Callable[..., House]) -> None:
    house = built()
    house.call(*ASK, by="dana")
    with pytest.raises(NotAllowed):
        house.call("changes", "approve", "1", by="dana")
    with wiring.open_evidence(wiring.load(house.platform)) as log:
        found = [(entry.kind, entry.actor) for _, entry in log.entries()]
    assert found == [("request", "dana"), ("change.requested", "dana"), ("refusal", "dana")]


def test_major_takes_an_executive_too(built: Callable[..., House]) -> None:
    house = built()
    house.call(*ASK, "--category", "major", by="dana")
    assert house.json("changes", "approve", "1", by="omar")["state"] == "requested"
    assert "waits for an executive" in house.call("changes", "show", "1").output
    assert house.json("changes", "approve", "1", by="carla")["state"] == "approved"


def test_the_glass_is_broken_by_two_keys(built: Callable[..., House]) -> None:
    house = built(FREEZE)
    house.call(*ASK, by="dana")
    house.call("changes", "approve", "1", by="omar")
    assert house.call("changes", "freeze").return_value == 1
    assert "the freeze always holds" in house.call("changes", "freeze").output
    house.call("changes", "break-glass", "1", "--note", "payments stand still", by="ines")
    with pytest.raises(NotAllowed, match="broke the glass for C-1 already"):
        house.call("changes", "break-glass", "1", "--note", "again", by="ines")
    house.call("changes", "break-glass", "1", "--note", "I agree", by="carla")
    with pytest.raises(UsageError, match="may pass the freeze already"):
        house.call("changes", "break-glass", "1", "--note", "too", by="dana")
    said = house.verified("change/1")
    assert said.returncode == 0, said.stdout


def test_what_is_shown_of_nothing(built: Callable[..., House]) -> None:
    house = built()
    assert "no change is open" in house.call("changes", "list").output
    assert "no data" in house.call("changes", "dora").output
    assert "not enough data: of 0 closed changes 0 failed" in house.call("changes", "risk").output
    assert "nothing is planned" in house.call("changes", "calendar").output
    assert house.call("changes", "freeze").return_value == 0
    figures = {one["name"]: one["value"] for one in house.json("changes", "dora")["figures"]}
    assert set(figures.values()) == {None}
    assert len(figures) == 4
