"""The offline verifier refuses an approval by who asked or carried out: by key, under one name and under two."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.core.evidence import Entry
from nvcops.core.evidence.bundle import Part, seal, verify_bundle
from nvcops.core.evidence.checkpoint import open_checkpoint, sign_checkpoint, verifier_key
from nvcops.core.evidence.entry import encode
from nvcops.core.evidence.signed import statement_bytes
from nvcops.core.evidence.tiles import TiledTree, grow
from nvcops.core.evidence.verify_evidence import leaf_hash

ORIGIN = "bank.example/operations"
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = verifier_key(ORIGIN, LOG)
NOON = "2026-11-24T17:00:00Z"
HANDS = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(("dana", "omar", "ines"), 1)
}


def line_of(name: str) -> str:
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return HANDS[name].public_key().public_bytes(*form).decode()


ROSTER = {name: [line_of(name)] for name in HANDS}


def packed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sshsig(message: bytes, hand: Ed25519PrivateKey) -> str:
    """PROTOCOL.sshsig."""
    raw = hand.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    signed = b"SSHSIG" + packed(b"nvcops", b"", b"sha512", hashlib.sha512(message).digest())
    signature = packed(b"ssh-ed25519", hand.sign(signed))
    blob = b"SSHSIG\0\0\0\1" + packed(packed(b"ssh-ed25519", raw), b"nvcops", b"", b"sha512", signature)
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----"


def said(kind: str, actor: str, run: str, by: str = "", number: int = 0) -> Entry:
    fields = {"kind": kind, "platform": "p", "run": run, "procedure": "change", "actor": actor, "subject": "s"}
    statement = fields | {"time": NOON, "note": f"{number}", "content_hash": ""}
    signature = sshsig(statement_bytes(statement), HANDS[by or actor])
    body = {"statement": statement, "signature": signature}
    return Entry(id=f"{run}/{kind}/{actor}/{by}/{number}", time=NOON, body=body, **fields)


def executing(run: str, by_run: str) -> Entry:
    body: dict[str, Any] = {"run_id": by_run}
    return Entry(id=f"{run}/executing", time=NOON, kind="change.executing", run=run, actor="ines", body=body)


def failing(*entries: Entry, roster: dict[str, list[str]] | None = None) -> dict[str, str]:
    lines = [encode(entry) for entry in entries]
    leaves = [leaf_hash(line) for line in lines]
    tiles = grow(lambda _level, _number: b"", 0, leaves)
    tree = TiledTree(lambda level, number: tiles[level, number])
    note = sign_checkpoint(ORIGIN, len(lines), tree.range_hash(0, len(lines)), LOG, time=1)
    part = Part(0, lines, [open_checkpoint(note, VKEY)])
    data = seal(part, tree, ORIGIN, LOG, roster=roster or ROSTER, disclosed=())
    return {one.check: one.sentence for one in verify_bundle(data, VKEY) if not one.holds}


ASKED = said("request", "dana", "change/1")


def test_three_people_pass() -> None:
    others = [said("approval", "omar", "change/1"), said("request", "ines", "r1"), executing("change/1", "r1")]
    assert failing(ASKED, *others) == {}


def test_an_approval_whose_request_is_elsewhere_is_counted_and_not_refused() -> None:
    assert failing(said("approval", "omar", "change/1")) == {}


@pytest.mark.parametrize("run", ["change/1", "restore@1"])
def test_who_asked_does_not_approve(run: str) -> None:
    assert "asked for it, by key" in failing(said("request", "dana", run), said("approval", "dana", run))["duties"]


def test_two_names_with_one_key_are_one_person() -> None:
    roster = ROSTER | {"twin": [line_of("dana")]}
    assert (
        "'twin' asked for it, by key"
        in failing(ASKED, said("approval", "twin", "change/1", "dana"), roster=roster)["duties"]
    )


def test_one_name_with_two_keys_is_one_person() -> None:
    roster = ROSTER | {"dana": [line_of("dana"), line_of("ines")]}
    assert "duties" in failing(ASKED, said("approval", "dana", "change/1", "ines"), roster=roster)


def test_two_approvals_of_a_change_are_two_peoples() -> None:
    first = said("approval", "omar", "change/1")
    assert (
        "said this approval before" in failing(ASKED, first, said("approval", "omar", "change/1", number=2))["duties"]
    )
    asked = said("request", "dana", "r1")  # a run may ask one approver twice
    assert failing(asked, said("approval", "omar", "r1"), said("approval", "omar", "r1", number=2)) == {}


def test_the_glass_is_broken_by_two_keys() -> None:
    roster = ROSTER | {"twin": [line_of("omar")]}
    once = said("break-glass", "omar", "change/1")
    assert failing(ASKED, once, said("break-glass", "dana", "change/1")) == {}
    assert "duties" in failing(ASKED, once, said("break-glass", "twin", "change/1", "omar"), roster=roster)


def test_who_approved_does_not_carry_out() -> None:
    done = [said("approval", "omar", "change/1"), said("request", "omar", "r1"), executing("change/1", "r1")]
    assert "who carried change/1 out approved it" in failing(ASKED, *done)["duties"]
