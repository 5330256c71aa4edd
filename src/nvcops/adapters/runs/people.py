"""What people sign about runs: statements made, checked against the roster, and refusals kept as evidence."""

from __future__ import annotations

import datetime as dt
import getpass
import os
from collections.abc import Callable
from typing import Protocol

import msgspec

from nvcops.adapters.runs import entries
from nvcops.core.errors import NotAllowed, NvcopsError
from nvcops.core.evidence import Entry, utc
from nvcops.core.identity import Say, SignedStatement, Statement, check_second_person, check_signed
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord, StepKind, StepRecord
from nvcops.core.schedule import now

ANSWERED = {Say.ATTESTATION: StepKind.ATTEST, Say.APPROVAL: StepKind.APPROVE, Say.RESOLUTION: StepKind.ACT}


class Speaker(Protocol):
    """A person who can sign: `identity_ssh.Signer` at the command line."""

    @property
    def name(self) -> str:
        """Their handle in the roster."""
        ...

    def sign(self, statement: Statement) -> SignedStatement:
        """Sign a statement with their key."""
        ...


class People:
    """The roster at the desk: lets say what it allows, and notes what it refuses."""

    def __init__(self, manifest: Manifest, note: Callable[[Entry], None]) -> None:
        self._people = manifest.people
        self._note = note

    def said(
        self, speaker: Speaker, kind: Say, record: RunRecord, *, step: str = "", note: str = ""
    ) -> tuple[SignedStatement, str]:
        """A person's signed and checked statement, and the fingerprint of their key.

        Raises:
            NotAllowed: the key, the roster or the role does not allow it.
        """
        statement = Statement(
            kind=kind,
            platform=record.platform,
            run=record.id,
            procedure=record.procedure,
            actor=speaker.name,
            subject=step,
            time=utc(now()),
            note=note,
            content_hash=record.content_hash,
        )
        signed = speaker.sign(statement)
        if signed.statement != statement:
            raise NotAllowed(f"{speaker.name!r} signed something else than was asked")
        try:
            return signed, check_signed(self._people, signed, now())
        except NotAllowed as error:
            self.refuse(error, record, speaker.name, step)
            raise

    def check_second(self, record: RunRecord, step: str, approver: tuple[str, str], requester: tuple[str, str]) -> None:
        """That approver and requester (name and key of each) are two people.

        Raises:
            NotAllowed: they are one.
        """
        try:
            check_second_person(self._people, *approver, *requester)
        except NotAllowed as error:
            self.refuse(error, record, approver[0], step)
            raise

    def confirm(self, record: RunRecord, step: StepRecord, kept: str, requester: tuple[str, str]) -> Statement:
        """What stands in the records as said: they are files, and who can write to them must not speak for others.

        Raises:
            NotAllowed: nobody of the roster signed that about this step of this run.
        """
        try:
            signed = msgspec.json.decode(kept or "{}", type=SignedStatement)
            said = signed.statement
            about = (ANSWERED.get(said.kind), said.platform, said.run, said.procedure, said.subject, said.content_hash)
            if about != (step.kind, record.platform, record.id, record.procedure, step.name, record.content_hash):
                raise NotAllowed(f"what {said.actor!r} signed is about something else")  # noqa: TRY301 - one way out
            key = check_signed(self._people, signed, dt.datetime.fromisoformat(said.time))
            if said.kind is Say.APPROVAL:
                check_second_person(self._people, said.actor, key, *requester)
        except (NotAllowed, msgspec.DecodeError, ValueError) as error:
            refused = NotAllowed(
                f"the records have an answer to {step.name} that does not count: {error}",
                hint=f"somebody changed them; `nvcops cancel {record.id}` and run it again",
            )
            self.refuse(refused, record, "records", step.name)
            raise refused from error
        return said

    def refuse(self, error: NvcopsError, record: RunRecord, actor: str, step: str = "") -> None:
        """Keep as evidence that somebody was told no."""
        self._note(entries.refused(record, actor, step, error, now()))


def unsigned_user() -> str:
    """Whom the operating system knows: no proof, and named so that nobody takes it for one."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"
