"""What is recorded: an entry is an RFC 8785 canonical JSON object, and its bytes are a leaf of the tree."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
import rfc8785

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence.verify_evidence import TIME

ENTRY_BYTES_MAX = 2**16 - 1  # the length prefix of a tlog-tiles entry bundle has 16 bits
ID_LENGTH_MAX = 200
SECRET_LENGTH_MIN = 8
SAFE_INTEGER = 2**53 - 1
SPOOLED = -1
_ID = re.compile(r"[!-~]{1,200}")
_KIND = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened.

    `id` is the producer's and unique: appending the same entry again is harmless. `time` is RFC 3339 in UTC, as in
    `2026-01-05T13:00:00Z`. `kind` is one of an open set: run.started, step.finished, verdict, approval, attestation,
    refusal ... `body` is a JSON object. Customers' personal data stands in none of them in clear: see `commitment`;
    which member of the staff did what is the evidence itself.
    """

    id: str
    time: str
    kind: str
    platform: str = ""
    run: str = ""
    procedure: str = ""
    actor: str = ""
    subject: str = ""
    body: dict[str, Any] = {}


class Log(Protocol):
    """Where producers put entries."""

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Record entries, durably when it returns; the answer is each one's index.

        An entry that is already there (same id, same content) answers its index. While the log's store cannot be
        written, entries are kept durably beside it and answer SPOOLED: they get their index when it can be.

        Raises:
            UsageError: an entry is malformed.
            EvidenceError: the id is taken by another content, or a secret stands in the entry.
            StateError: it could be kept nowhere.
        """
        ...


def utc(time: dt.datetime) -> str:
    """An aware time as an entry's `time`.

    >>> utc(dt.datetime(2026, 1, 5, 8, tzinfo=dt.timezone(dt.timedelta(hours=-5))))
    '2026-01-05T13:00:00.000000Z'
    """
    if time.tzinfo is None:
        raise UsageError(f"{time} has no time zone")
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def microseconds(time: str) -> int:
    """An entry's time as microseconds since 1970, so that times can be compared.

    >>> microseconds("1970-01-01T00:00:01.5Z")
    1500000
    """
    since = dt.datetime.fromisoformat(time) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return since // dt.timedelta(microseconds=1)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of an entry, after checking it.

    Raises:
        UsageError: the field that is wrong.
    """
    if not _ID.fullmatch(entry.id):
        raise UsageError(f"an entry's id is {entry.id[:40]!r}", hint="1 to 200 printable ASCII characters, no spaces")
    if not _KIND.fullmatch(entry.kind):
        raise UsageError(
            f"the entry {entry.id} is of the kind {entry.kind[:40]!r}", hint="lower case, as in run.started"
        )
    try:
        if not TIME.fullmatch(entry.time):
            raise ValueError(entry.time)  # noqa: TRY301 - one answer for both ways of being wrong
        microseconds(entry.time)
    except ValueError:
        raise UsageError(
            f"the entry {entry.id} has the time {entry.time[:40]!r}", hint="UTC, as in 2026-01-05T13:00:00Z"
        ) from None
    try:
        data = rfc8785.dumps(msgspec.structs.asdict(entry))
    except rfc8785.CanonicalizationError as error:
        raise UsageError(f"the entry {entry.id} cannot be written as JSON: {error}") from None
    if len(data) > ENTRY_BYTES_MAX:
        raise UsageError(
            f"the entry {entry.id} has {len(data):,} bytes, more than {ENTRY_BYTES_MAX:,}",
            hint="record a digest of the large part, and keep that part elsewhere",
        )
    return data


def decode(data: bytes) -> Entry:
    """An entry from its bytes.

    Raises:
        EvidenceError: they are not an entry's.
    """
    try:
        return msgspec.json.decode(data, type=Entry)
    except msgspec.DecodeError as error:
        raise EvidenceError(f"these bytes are not an entry: {error}") from None


class Redactor:
    """Knows secret values, and refuses an entry in which one stands.

    A value of 8 characters or more is found anywhere: as it is, in base64, or percent-encoded. A shorter one would be
    found in too many innocent words, so it is found only where it is a whole JSON string.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._needles: set[bytes] = set()
        for secret in filter(None, secrets):
            written = json.dumps(secret, ensure_ascii=False)
            if len(secret) < SECRET_LENGTH_MIN:
                self._needles.add(written.encode())
            else:
                encoded = base64.b64encode(secret.encode()).rstrip(b"=")[:-1]
                self._needles |= {written[1:-1].encode(), encoded, quote(secret, safe="").encode()}

    def check(self, identity: str, data: bytes) -> None:
        """Refuse the bytes of an entry that hold a secret.

        >>> Redactor(["hunter2hunter2"]).check("e1", b'{"url":"postgres://app:hunter2hunter2@db"}')
        Traceback (most recent call last):
        nvcops.core.errors.EvidenceError: the entry e1 holds a secret value, so it was not recorded
        """
        if any(needle in data for needle in self._needles):
            raise EvidenceError(
                f"the entry {identity} holds a secret value, so it was not recorded",
                hint="leave the value out where the entry is made",
            )
