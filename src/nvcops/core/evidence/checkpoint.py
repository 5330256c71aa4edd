"""Signed notes, checkpoints, and proofs as text: C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof."""

from __future__ import annotations

import base64
import re

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence.merkle import verify_inclusion
from nvcops.core.evidence.verify_evidence import (
    COSIGNATURE,
    NOTE,
    SEAL,
    InvalidError,
    key_id,
    leaf_hash,
    read_checkpoint,
    unbase64,
)

PROOF = "c2sp.org/tlog-proof@v1"
_ORIGIN = re.compile(r"[!-*,-~]{1,200}")


class Checkpoint(msgspec.Struct, frozen=True):
    """A tree head that the log signed. `time` is the cosignature's, in seconds since 1970."""

    size: int
    root: bytes
    time: int | None
    note: str


def check_origin(origin: str) -> None:
    """The name of a log, as it stands in every checkpoint.

    Raises:
        UsageError: it cannot be the name of a key.
    """
    if not _ORIGIN.fullmatch(origin) or origin == SEAL:
        raise UsageError(
            f"{origin[:60]!r} cannot be a log's origin", hint="a name like example.com/operations: no spaces, no +"
        )


def verifier_key(origin: str, key: Ed25519PrivateKey) -> str:
    """The public half of the log's key, as it is published: `origin+1234abcd+BASE64`."""
    public = key.public_key().public_bytes_raw()
    return f"{origin}+{key_id(origin, NOTE, public).hex()}+{_base64(bytes([NOTE]) + public)}"


def sign_note(text: str, origin: str, key: Ed25519PrivateKey, *, time: int | None = None) -> str:
    """A signed note; with a time (seconds since 1970) also a cosignature, which signs the time too."""
    public = key.public_key().public_bytes_raw()
    lines = [_signature(origin, key_id(origin, NOTE, public) + key.sign(text.encode()))]
    if time is not None:
        signed = key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        lines.append(_signature(origin, key_id(origin, COSIGNATURE, public) + time.to_bytes(8, "big") + signed))
    return f"{text}\n{''.join(lines)}"


def sign_checkpoint(origin: str, size: int, root: bytes, key: Ed25519PrivateKey, *, time: int) -> str:
    """A checkpoint over the tree's size and root."""
    return sign_note(f"{origin}\n{size}\n{_base64(root)}\n", origin, key, time=time)


def open_checkpoint(note: str, vkey: str) -> Checkpoint:
    """A checkpoint whose signatures verify.

    Raises:
        EvidenceError: they do not.
    """
    try:
        return Checkpoint(*read_checkpoint(note, vkey), note)
    except ValueError as error:
        raise EvidenceError(f"a checkpoint does not verify: {_sentence(error)}") from None


def join_notes(notes: list[str]) -> str:
    """Notes in one file: an empty line between them."""
    return "\n".join(notes)


def split_notes(text: str) -> tuple[list[str], str]:
    """The whole notes of a file, and what stands unfinished behind them."""
    parts = re.split(r"(?<=\n)\n", text)
    notes = [f"{head}\n{tail}" for head, tail in zip(parts[::2], parts[1::2], strict=False)]
    rest = parts[-1] if len(parts) % 2 else ""
    if notes and not rest and not notes[-1].endswith("\n"):
        rest = notes.pop()
    return notes, rest


def format_proof(index: int, path: list[bytes], note: str, *, entry: bytes) -> str:
    """A tlog-proof; the entry itself rides along as its extra data, so that it can be verified alone."""
    lines = [PROOF, f"extra {_base64(entry)}", f"index {index}", *map(_base64, path)]
    return "\n".join(lines) + f"\n\n{note}"


def verify_proof(proof: str, vkey: str) -> tuple[int, bytes]:
    """The index and the bytes of the entry that a tlog-proof shows to be in the log.

    Raises:
        EvidenceError: it does not.
    """
    head, gap, note = proof.partition("\n\n")
    lines = head.split("\n")
    try:
        if lines[0] != PROOF or not gap or not re.fullmatch(r"index (0|[1-9]\d{0,17})", lines[2]):
            raise InvalidError("it is not a tlog-proof with its entry")
        entry, path = unbase64(lines[1].removeprefix("extra ")), [unbase64(line) for line in lines[3:]]
    except (ValueError, IndexError) as error:
        raise EvidenceError(f"the proof is malformed: {_sentence(error)}") from None
    checkpoint, index = open_checkpoint(note, vkey), int(lines[2][6:])
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, path, checkpoint.root)
    return index, entry


def _signature(name: str, data: bytes) -> str:
    return f"\u2014 {name} {_base64(data)}\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sentence(error: Exception) -> str:
    return str(error.args[0]) if error.args else repr(error)
