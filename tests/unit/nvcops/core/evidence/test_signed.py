"""Approvals and attestations: signatures that ssh-keygen made verify here, and nothing else does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence import (
    Entry,
    signed_entry,
    statement_bytes,
    statement_for,
    verify_signature,
    verify_signed_entry,
)
from nvcops.core.evidence.verify_evidence import check_signed

HERE = Path(__file__).parent
CASES = json.loads((HERE / "ssh_signatures.json").read_text(encoding="utf-8"))
CASE = CASES[0]
EMPTY = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----"
ENTRY = Entry(id="a1", time="2026-01-05T13:00:00Z", kind="approval", run="r1", actor="ann")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["source"])
def test_what_ssh_keygen_signed_verifies(case: dict[str, Any]) -> None:
    key = " ".join(case["public_key"].split()[:2])
    assert verify_signature(case["statement"], case["signature"]) == key
    entry = signed_entry(ENTRY, case["statement"], case["signature"])
    verify_signed_entry(entry, {"ann": [CASES[1]["public_key"], case["public_key"] + " ann@desk"]})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["source"])
def test_another_statement_does_not(case: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="does not verify"):
        verify_signature(case["statement"] | {"run": "r2"}, case["signature"])


@given(st.data())
def test_no_bit_of_a_signature_can_be_changed(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    lines = case["signature"].splitlines()
    blob = bytearray(base64.b64decode("".join(lines[1:-1])))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = "\n".join([lines[0], base64.b64encode(blob).decode(), lines[-1]])
    try:
        key = verify_signature(case["statement"], changed)
    except EvidenceError:
        return
    # Some bits name the key only; whoever changes them has signed with nobody's key.
    assert key != " ".join(case["public_key"].split()[:2])


@pytest.mark.parametrize(
    "signature",
    ["", "x", CASE["signature"][:-30], CASE["signature"].replace("U1NIU0lH", "AAAAAAAA"), CASE["public_key"], EMPTY],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(EvidenceError, match="signature does not hold"):
        verify_signature(CASE["statement"], signature)


def test_a_signature_for_another_purpose_does_not_count() -> None:
    with pytest.raises(EvidenceError, match="is for b'file'"):
        verify_signature(CASE["statement"], (HERE / "ssh_signature_for_files.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("change", [{"run": "r2"}, {"actor": "bob"}, {"kind": "attestation"}])
def test_a_signature_counts_for_its_own_entry_only(change: dict[str, str]) -> None:
    entry = msgspec.structs.replace(signed_entry(ENTRY, CASE["statement"], CASE["signature"]), **change)
    roster = {"ann": [CASE["public_key"]], "bob": [CASE["public_key"]]}
    with pytest.raises(EvidenceError, match="says another"):
        verify_signed_entry(entry, roster)


def test_the_key_must_be_the_actors() -> None:
    entry = signed_entry(ENTRY, CASE["statement"], CASE["signature"])
    with pytest.raises(EvidenceError, match="not one of 'ann'"):
        verify_signed_entry(entry, {"bob": [CASE["public_key"]], "ann": [CASES[1]["public_key"]]})


@pytest.mark.parametrize("body", [{}, {"statement": CASE["statement"]}, {"statement": "x", "signature": 1}])
def test_an_approval_without_a_signature_does_not_hold(body: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="approval of 'ann' does not hold"):
        verify_signed_entry(msgspec.structs.replace(ENTRY, body=body), {"ann": [CASE["public_key"]]})


def test_a_statement_is_bound_to_the_whole_entry() -> None:
    statement = statement_for(ENTRY, note="read", step="review")
    assert statement["time"] == ENTRY.time
    assert statement["note"] == "read"
    assert json.loads(statement_bytes(statement)) == statement
    moved = msgspec.structs.replace(ENTRY, time="2026-01-06T13:00:00Z", body={"statement": statement, "signature": ""})
    with pytest.raises(ValueError, match="another 'time'"):
        check_signed(msgspec.to_builtins(moved), [])


@pytest.mark.parametrize("value", [{"n": 0.5}, {"ü": 1}, {"n": 2**60}, {"n": [b"x"]}])
def test_a_statement_holds_what_every_verifier_writes_alike(value: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a signed statement holds"):
        statement_bytes(value)
