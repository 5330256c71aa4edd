"""What people sign: an approval or an attestation is a statement under a roster SSH key (PROTOCOL.sshsig)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence.entry import Entry
from nvcops.core.evidence.verify_evidence import FIELDS, NAMESPACE, canonical_json, check_signed, verify_sshsig

_BOUND = sorted(FIELDS - {"id", "body"})


def statement_for(entry: Entry, **claims: Any) -> dict[str, Any]:
    """What the entry's actor signs: the entry's own fields, so that the signature fits no other entry, and claims."""
    return {name: getattr(entry, name) for name in _BOUND} | claims


def statement_bytes(statement: dict[str, Any]) -> bytes:
    """The bytes to sign: RFC 8785 JSON.

    Raises:
        UsageError: it has fractions or names outside ASCII, which not every verifier would write alike.
    """
    if not _plain(statement):
        raise UsageError("a signed statement holds text, whole numbers, lists and objects only, with ASCII names")
    return canonical_json(statement)


def signed_entry(entry: Entry, statement: dict[str, Any], signature: str) -> Entry:
    """The entry with the statement and its armored SSH signature in its body."""
    return msgspec.structs.replace(entry, body={**entry.body, "statement": statement, "signature": signature})


def verify_signature(statement: dict[str, Any], signature: str) -> str:
    """The public key, as `ssh-ed25519 AAAA...`, that signed the statement.

    Raises:
        EvidenceError: none did.
    """
    try:
        return verify_sshsig(statement_bytes(statement), signature)
    except (ValueError, IndexError) as error:
        raise EvidenceError(f"the signature does not hold: {error.args[0]}") from None


def verify_signed_entry(entry: Entry, roster: Mapping[str, Sequence[str]]) -> None:
    """Check that the entry's actor signed it; `roster` has each person's public SSH keys.

    Raises:
        EvidenceError: says why it does not hold.
    """
    try:
        check_signed(msgspec.to_builtins(entry), allowed_signers(roster))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = error.args[0] if isinstance(error, ValueError) else "it carries no signed statement"
        raise EvidenceError(f"the {entry.kind} of {entry.actor!r} does not hold: {said}") from None


def allowed_signers(roster: Mapping[str, Sequence[str]]) -> list[str]:
    """The roster as lines of OpenSSH's allowed_signers, without comments.

    >>> allowed_signers({"ann": ["ssh-ed25519 AAAAC3 ann@desk"]})
    ['ann namespaces="nvcops" ssh-ed25519 AAAAC3']
    """
    return sorted(
        f'{person} namespaces="{NAMESPACE}" {" ".join(key.split()[:2])}'
        for person, keys in roster.items()
        for key in keys
    )


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and name.isascii() and _plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, int):
        return abs(value) < 2**53
    return value is None or isinstance(value, str)
