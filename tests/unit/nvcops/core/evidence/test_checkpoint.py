"""Signed notes, checkpoints and proofs as text, against published values and against changes of every byte."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence.checkpoint import (
    check_origin,
    format_proof,
    join_notes,
    open_checkpoint,
    sign_checkpoint,
    sign_note,
    split_notes,
    verifier_key,
    verify_proof,
)
from nvcops.core.evidence.verify_evidence import SEAL, leaf_hash, node_hash, open_note, read_vkey

ORIGIN = "bank.example/operations"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = verifier_key(ORIGIN, KEY)
ROOT = bytes(range(100, 132))
NOTE = sign_checkpoint(ORIGIN, 7, ROOT, KEY, time=1_767_600_000)

# The example in the documentation of Go's package golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_that_another_program_signed_verifies() -> None:
    lines, time = open_note(GO_NOTE, GO_VKEY)
    assert lines[0].startswith("If you think cryptography")
    assert time is None


def test_a_checkpoint_has_the_lines_of_the_specification() -> None:
    text, gap, signatures = NOTE.partition("\n\n")
    assert (text, gap) == (f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()}", "\n\n")
    assert [line.split(" ")[:2] for line in signatures.splitlines()] == [["\u2014", ORIGIN]] * 2


def test_the_cosignature_signs_the_time() -> None:
    name, raw = read_vkey(VKEY)
    blob = base64.b64decode(NOTE.splitlines()[-1].split(" ")[2])
    text = NOTE.partition("\n\n")[0] + "\n"
    assert (name, int.from_bytes(blob[4:12], "big")) == (ORIGIN, 1_767_600_000)
    KEY.public_key().verify(blob[12:], f"cosignature/v1\ntime 1767600000\n{text}".encode())
    assert raw == KEY.public_key().public_bytes_raw()


def test_it_is_read_back() -> None:
    found = open_checkpoint(NOTE, VKEY)
    assert (found.size, found.root, found.time, found.note) == (7, ROOT, 1_767_600_000, NOTE)


@pytest.mark.parametrize("at", range(len(NOTE.encode())))
def test_no_byte_of_a_checkpoint_can_be_changed(at: int) -> None:
    data = bytearray(NOTE.encode())
    data[at] ^= 1
    try:
        changed = data.decode()
    except UnicodeDecodeError:
        return
    try:
        found = open_checkpoint(changed, VKEY)
    except EvidenceError:
        return
    # A line by another name or key is to be ignored: then the time is not known any more, and nothing else differs.
    assert (found.size, found.root, found.time) == (7, ROOT, None)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE.replace("\n7\n", "\n07\n"),
        NOTE + "\n",
        NOTE + "x",
        NOTE.replace("\u2014", "-"),
        "\0",
    ],
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(EvidenceError, match="checkpoint does not verify"):
        open_checkpoint(note, VKEY)


@pytest.mark.parametrize(
    "text", [f"{ORIGIN}\n7\n", f"other\n7\n{'A' * 43}=\n", f"{ORIGIN}\n-7\n{'A' * 43}=\n", f"{ORIGIN}\n7\nAAAA\nmore\n"]
)
def test_a_signed_text_of_another_form_is_no_checkpoint(text: str) -> None:
    with pytest.raises(EvidenceError, match="malformed, or another log's"):
        open_checkpoint(sign_note(text, ORIGIN, KEY), VKEY)


def test_another_key_by_the_same_name_does_not_verify() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(EvidenceError, match="not signed by"):
        open_checkpoint(NOTE, verifier_key(ORIGIN, other))


@pytest.mark.parametrize("vkey", ["", "a+b+c", VKEY[:-4], VKEY.replace("bank", "bonk"), f"{ORIGIN}+00000000+AAAA"])
def test_a_verifier_key_is_checked(vkey: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_vkey(vkey)


@pytest.mark.parametrize("origin", ["", "with space", "with+plus", "ü", SEAL, "x" * 201])
def test_an_origin_must_fit_into_a_note(origin: str) -> None:
    with pytest.raises(UsageError, match="origin"):
        check_origin(origin)


@given(st.integers(0, 5), st.integers(0, 400))
def test_a_file_of_notes_is_read_back_and_a_cut_one_says_so(count: int, cut: int) -> None:
    all_notes = [sign_checkpoint(ORIGIN, size + 1, ROOT, KEY, time=size) for size in range(count)]
    text = join_notes(all_notes)
    assert split_notes(text) == (all_notes, "")
    kept = text[: max(len(text) - cut, 0)]
    found, rest = split_notes(kept)
    assert join_notes([*found, rest] if rest else found).rstrip("\n") == kept.rstrip("\n")
    assert found[:-1] == all_notes[: max(len(found) - 1, 0)]


def test_a_proof_shows_its_entry_and_no_other() -> None:
    entry, sibling = b'{"id":"e1"}', leaf_hash(b"other")
    root = node_hash(sibling, leaf_hash(entry))
    proof = format_proof(1, [sibling], sign_checkpoint(ORIGIN, 2, root, KEY, time=1), entry=entry)
    assert proof.splitlines()[0] == "c2sp.org/tlog-proof@v1"
    assert verify_proof(proof, VKEY) == (1, entry)
    forged = proof.replace(base64.b64encode(entry).decode(), base64.b64encode(b'{"id":"e2"}').decode())
    for wrong in (
        forged,
        proof.replace("index 1", "index 0"),
        proof.replace("index 1", "index 01"),
        "",
        NOTE,
        proof[9:],
    ):
        with pytest.raises(EvidenceError):
            verify_proof(wrong, VKEY)
