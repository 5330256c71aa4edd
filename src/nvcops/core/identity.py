"""Who said it: statements that people sign with their SSH keys, and what the roster lets them say.

A statement is canonical JSON of plain text, signed as an SSH signature (SSHSIG) of the namespace "nvcops", so that
`ssh-keygen -Y verify` and the offline verifier both can check what stands in the evidence.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from nvcops.core.errors import EvidenceError, NotAllowed
from nvcops.core.evidence import statement_bytes, verify_signature

NOTE_CHARACTERS_MAX = 2000
FRESH = dt.timedelta(minutes=15)


class Person(Protocol):
    """An entry of the manifest's [[people]]."""

    @property
    def name(self) -> str:
        """The handle in commands and evidence."""

    @property
    def roles(self) -> Sequence[str]:
        """Of operator, approver, auditor."""

    @property
    def ssh_keys(self) -> Sequence[str]:
        """Lines of public key files."""


class Say(StrEnum):
    """What a signed statement is: also the kind of its entry in the evidence."""

    REQUEST = "request"
    ATTESTATION = "attestation"
    APPROVAL = "approval"
    RESOLUTION = "resolution"
    CANCELLATION = "cancellation"
    DECISION = "decision"  # about an incident, an alert, a roster or a change: `run` names it, as incident/7
    BREAK_GLASS = "break-glass"  # that a change may pass a freeze: two people say it, `run` names the change


_ROLES = dict.fromkeys(Say, ("operator", "approver")) | {Say.APPROVAL: ("approver",)}


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says about one step of one run (`subject` is the step; empty: the run).

    `note` is free text; of a resolution it begins with "redo" or "done". `content_hash` is the procedure's: what was
    approved is this code and no other.
    """

    kind: Say
    platform: str
    run: str
    procedure: str
    actor: str
    subject: str
    time: str
    note: str
    content_hash: str

    def encoded(self) -> bytes:
        """The bytes that are signed: RFC 8785."""
        return statement_bytes(msgspec.to_builtins(self))


class SignedStatement(msgspec.Struct, frozen=True):
    """A statement and its armored SSH signature."""

    statement: Statement
    signature: str


def fingerprint(key_line: str) -> str:
    """A public key as `ssh-keygen -l` names it: one key has one fingerprint, whatever its comment.

    Raises:
        ValueError: it is no line of a public key file.
    """
    fields = key_line.split()
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ValueError(f"{key_line[:40]!r} is no SSH public key: it is a line of ~/.ssh/id_ed25519.pub") from error
    named = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    if named.decode("ascii", "replace") != fields[0]:
        raise ValueError(f"{key_line[:40]!r} is no SSH public key: its type is not the one inside it")
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def shared_keys(people: Sequence[Person]) -> Iterator[tuple[int, str]]:
    """Mistakes of a roster: (index of the person, sentence). A key with two names could approve its own request."""
    owners: dict[str, str] = {}
    for index, person in enumerate(people):
        for line in person.ssh_keys:
            try:
                owner = owners.setdefault(fingerprint(line), person.name)
            except ValueError as error:
                yield index, str(error)
                continue
            if owner != person.name:
                yield index, f"{person.name!r} has the same SSH key as {owner!r}"


def find_key(people: Sequence[Person], key_line: str) -> Person | None:
    """Whose key it is.

    Raises:
        NotAllowed: the roster gives it to two people.
    """
    wanted = fingerprint(key_line)
    owners = [p for p in people if wanted in {fingerprint(line) for line in p.ssh_keys}]
    if len(owners) > 1:
        names = " and ".join(repr(owner.name) for owner in owners)
        raise NotAllowed(f"the roster has the same SSH key for {names}", hint="a key is one person's")
    return owners[0] if owners else None


def check_signed(people: Sequence[Person], signed: SignedStatement, now: dt.datetime) -> str:
    """That a statement was signed just now by whom it names, and that the roster lets them say it.

    Returns:
        The fingerprint of the key that signed.

    Raises:
        NotAllowed: with the reason; the caller makes it evidence.
    """
    statement = signed.statement
    person = next((person for person in people if person.name == statement.actor), None)
    if person is None:
        raise NotAllowed(
            f"{statement.actor!r} is nobody in the roster", hint="[[people]] of platform.toml is the roster"
        )
    try:
        key = verify_signature(msgspec.to_builtins(statement), signed.signature)
    except EvidenceError as error:
        raise NotAllowed(f"the statement of {person.name!r} is not valid: {error}") from error
    owner = find_key(people, key)
    if owner is None or owner.name != person.name:
        whose = f"it is {owner.name!r}'s" if owner else "the roster does not know it"
        raise NotAllowed(f"the key {fingerprint(key)} is not {person.name!r}'s: {whose}")
    if not set(person.roles) & set(_ROLES[statement.kind]):
        raise NotAllowed(
            f"{person.name!r} may not sign this {statement.kind}: their roles are {', '.join(person.roles) or 'none'}",
            hint=f"that takes the role {' or '.join(_ROLES[statement.kind])}",
        )
    if abs(now - dt.datetime.fromisoformat(statement.time)) > FRESH:
        raise NotAllowed(f"the statement of {person.name!r} was signed at {statement.time}: sign it again")
    if len(statement.note) > NOTE_CHARACTERS_MAX:
        raise NotAllowed(f"the note has {len(statement.note)} characters; {NOTE_CHARACTERS_MAX} are the limit")
    return fingerprint(key)


def check_second_person(
    people: Sequence[Person],
    approver: str,
    key: str,
    requester: str,
    requester_key: str,
    *,
    did: str = "requested this run",
    to: str = "approve it",
) -> None:
    """That an approval comes from another person than the request: by name, and by every key of both.

    Raises:
        NotAllowed: it is the same person; `did` says what they did before, `to` what they must not do now.
    """
    if approver == requester or _one_person(people, (approver, key), (requester, requester_key)):
        hint = "ask another person with the role approver" if to == "approve it" else "ask another person"
        raise NotAllowed(f"{approver!r} {did} and cannot {to}", hint=hint)


def _one_person(people: Sequence[Person], one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two names sign with one key, or the roster knows the key of one as the other's."""
    keys = {
        name: {fingerprint(line) for person in people if person.name == name for line in person.ssh_keys}
        for name, _ in (one, other)
    }
    (first, first_key), (second, second_key) = one, other
    return bool((first_key and first_key == second_key) or first_key in keys[second] or second_key in keys[first])
