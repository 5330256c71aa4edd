"""A bundle: one file that proves a part of a log to somebody who has only that file (and the log's key).

It is a plain tar, so that any tool opens it, and behind the tar's end stands the log's seal: a signed note over the
SHA-256 of all bytes before it. No byte of the file is outside of the seal, and the same part gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence import verify_evidence
from nvcops.core.evidence.checkpoint import Checkpoint, sign_note, verifier_key
from nvcops.core.evidence.entry import decode
from nvcops.core.evidence.signed import allowed_signers
from nvcops.core.evidence.tiles import TiledTree
from nvcops.core.evidence.verify_evidence import SEAL, canonical_json, leaf_hash

ENTRIES_MAX = 1_000_000
README = """\
This is evidence from the log {origin}: its entries {start} to {last}.

To verify it, offline, with Python 3.9 or newer and its package `cryptography`:
    tar -xf BUNDLE verify_evidence.py          (or take that file from a place that you trust more)
    python verify_evidence.py BUNDLE --key 'KEY'
KEY is the log's key as its owner published it. Without --key the key in the bundle is trusted, and the answer says so.
It ends with 0 when everything holds and with 2 when something does not, and names the first bad entry.

entries.jsonl has one entry per line; checkpoint/ has the tree heads that the log signed; the rest serves the proof.
"""


class Disclosure(msgspec.Struct, frozen=True):
    """A value of personal data, with the salt that links it to the commitment in an entry."""

    commitment: str
    salt: bytes
    value: str


class Part(msgspec.Struct, frozen=True):
    """The part of a log that goes into a bundle: entries from index `start` on, and the checkpoints over them.

    The last checkpoint covers all the entries; each of the others ends inside of them.
    """

    start: int
    entries: Sequence[bytes]
    checkpoints: Sequence[Checkpoint]


def seal(
    part: Part,
    tree: TiledTree,
    origin: str,
    key: Ed25519PrivateKey,
    *,
    roster: Mapping[str, Sequence[str]],
    disclosed: Iterable[Disclosure] = (),
) -> bytes:
    """The bundle's bytes. `roster` has each person's public SSH keys; those who signed in this part go along.

    Raises:
        UsageError: the part is empty or too large.
        EvidenceError: the tree has a hole.
    """
    if not 0 < len(part.entries) <= ENTRIES_MAX:
        raise UsageError(f"a bundle holds 1 to {ENTRIES_MAX:,} entries, not {len(part.entries):,}")
    stop, size = part.start + len(part.entries), part.checkpoints[-1].size
    edges = {
        "start": part.start,
        "size": size,
        "left": _texts(tree.edge(0, part.start)),
        "right": _texts(tree.edge(stop, size)),
    }
    members = {
        "README.txt": README.format(origin=origin, start=part.start, last=stop - 1).encode(),
        "verify_evidence.py": Path(verify_evidence.__file__).read_bytes(),
        "log.vkey": verifier_key(origin, key).encode() + b"\n",
        "allowed_signers": _lines(line.encode() for line in allowed_signers(_signers(part.entries, roster))),
        "edges.json": canonical_json(edges) + b"\n",
        **{f"checkpoint/{found.size}": found.note.encode() for found in part.checkpoints},
        "disclosed.jsonl": _lines(_disclosed_line(item) for item in disclosed),
        "leaves": b"".join(map(leaf_hash, part.entries)),
        "entries.jsonl": _lines(part.entries),
    }
    archive = _pack(members)
    return archive + sign_note(f"{SEAL}\n{hashlib.sha256(archive).hexdigest()}\n", origin, key).encode()


class Verification(msgspec.Struct, frozen=True):
    """One line of what the verifier says about a bundle."""

    check: str
    holds: bool
    sentence: str
    first_bad: int | None


def verify_bundle(data: bytes, vkey: str = "") -> list[Verification]:
    """Verify a bundle with the verifier that lies in every bundle; `vkey` is the log's key that is trusted.

    Raises:
        UsageError: it is no bundle.
    """
    try:
        return [Verification(*line) for line in verify_evidence.verify(data, vkey)]
    except (ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise UsageError(
            f"this is not an evidence bundle: {error}", hint="`nvcops evidence export` writes one"
        ) from None


def _signers(entries: Iterable[bytes], roster: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The part of the roster that signed something here: a bundle tells no more about people than it must."""
    actors = {entry.actor for entry in map(decode, entries) if "signature" in entry.body}
    return {person: keys for person, keys in roster.items() if person in actors}


def _disclosed_line(item: Disclosure) -> bytes:
    if verify_evidence.commitment(item.value, item.salt) != item.commitment:
        raise EvidenceError(f"the kept value and salt do not fit the commitment {item.commitment}")
    line: dict[str, Any] = {"commitment": item.commitment, "salt": item.salt.hex(), "value": item.value}
    return canonical_json(line)


def _pack(members: Mapping[str, bytes]) -> bytes:
    """A tar without times, owners and permissions of this machine."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return sink.getvalue()


def _lines(items: Iterable[bytes]) -> bytes:
    return b"".join(item + b"\n" for item in items)


def _texts(hashes: Iterable[bytes]) -> list[str]:
    return [base64.b64encode(item).decode() for item in hashes]
