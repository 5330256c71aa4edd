"""What pgBackRest says, read: its backups, its archive, a backup's manifest, the text of its `verify`. Nothing is run.

Its own judgements (status, exit code) are no verdict here: they end well over a log with a hole.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nvcops.core.backups import DatabaseBackup, Entry, Kind, Segment, Stored
from nvcops.core.errors import Refused, Unreachable

ENGINE = "pgbackrest"
OUR_ID = "nvcops-id"
_EMPTY = 2  # its status code of a stanza without backups; 0 is one with backups, all others are trouble
_STORED = re.compile(
    r"(?P<archive>\d+(?:\.\d+)?-\d+)/(?:[0-9A-F]{16}/)?"
    r"(?:(?P<segment>[0-9A-F]{24}(?:\.partial)?)-(?P<sha1>[0-9a-f]{40})(?:\.[a-z0-9]+)?|(?P<history>[0-9A-F]{8}\.history))"
)


class _Lsn(msgspec.Struct):
    start: str
    stop: str


class _Moments(msgspec.Struct):
    start: int
    stop: int


class _Sizes(msgspec.Struct):
    delta: int


class _Info(msgspec.Struct):
    delta: int
    size: int
    repository: _Sizes


class _Log(msgspec.Struct):
    start: str
    stop: str


class _Of(msgspec.Struct):
    id: int


class Backup(msgspec.Struct):
    """A backup as `info` lists it; `error`: pages of it did not match their checksums when it was taken."""

    label: str
    type: str
    prior: str | None
    error: bool | None
    archive: _Log
    database: _Of
    info: _Info
    lsn: _Lsn
    timestamp: _Moments
    annotation: dict[str, str] = {}


class _Server(msgspec.Struct):
    id: int
    system_id: Annotated[int, msgspec.Meta(ge=1)] = msgspec.field(name="system-id")
    version: str


class _Status(msgspec.Struct):
    code: int
    message: str


class Stanza(msgspec.Struct):
    """One database of its repository."""

    name: str
    status: _Status
    backup: list[Backup] = []
    db: list[_Server] = []

    def system_identifier(self, number: int) -> str:
        """Of the server that its repository calls by that number; empty when it lists none."""
        return next((str(server.system_id) for server in self.db if server.id == number), "")

    def major(self, number: int) -> int:
        """The major version of that server, 0 when it lists none."""
        return next((int(server.version.split(".")[0]) for server in self.db if server.id == number), 0)


def stanza(info: bytes, name: str) -> Stanza:
    """The answer of `info --output=json`.

    Raises:
        Unreachable: it has no such stanza, or cannot read it: it ends with 0 then as well.
    """
    try:
        found = [each for each in msgspec.json.decode(info, type=list[Stanza]) if each.name == name]
    except msgspec.DecodeError as error:
        raise Refused(f"pgbackrest info answered what nvcops cannot read: {error}") from error
    if not found or found[0].status.code not in (0, _EMPTY):
        why = found[0].status.message if found else "no such stanza"
        raise Unreachable(
            f"the repository of pgbackrest stanza {name} cannot be read: {why}",
            hint="`pgbackrest check` as its account; the stanza is [backups] stanza",
        )
    return found[0]


def entries(read: Stanza, platform: str) -> list[Entry]:
    """Its backups as entries of a catalogue, oldest first; their ids are its labels, their number is 0."""
    return [_entry(read, backup, platform) for backup in sorted(read.backup, key=lambda each: each.timestamp.stop)]


def _entry(read: Stanza, backup: Backup, platform: str) -> Entry:
    began, ended = _moment(backup.timestamp.start), _moment(backup.timestamp.stop)
    return Entry(
        number=0,
        id=backup.label,
        kind=Kind.FULL if backup.type == "full" else Kind.INCREMENTAL,
        platform=platform,
        began=began,
        ended=ended,
        engine=ENGINE,
        objects=(
            Stored(
                key=f"backup/{read.name}/{backup.label}",
                bytes=backup.info.repository.delta,
                sha256="",
                raw_bytes=backup.info.delta,
            ),
        ),
        raw_bytes=backup.info.size,
        database=DatabaseBackup(
            system_identifier=read.system_identifier(backup.database.id),
            major=read.major(backup.database.id),
            timeline=int(backup.archive.start[:8], 16),
            start_lsn=backup.lsn.start,
            stop_lsn=backup.lsn.stop,
            stop_time=ended,
            parent=backup.prior or "",
        ),
        note=f"asked for as {backup.annotation[OUR_ID]}" if OUR_ID in backup.annotation else "",
    )


def _moment(epoch: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(epoch, dt.UTC)


def segments(listing: bytes, read: Stanza) -> Iterator[Segment]:
    """The log in `repo-ls --recurse --output=json archive/<stanza>`.

    `sha256` holds the first 32 digits of the SHA-1 that pgBackRest writes into the name, of the raw bytes as well;
    empty for a history file, which has none.
    """
    for path, about in sorted(_listed(listing).items()):
        match = _STORED.fullmatch(path)
        if match is None or about.get("type") != "file":
            continue
        name = (match["segment"] or match["history"]).removesuffix(".partial")
        yield Segment(
            name=name,
            system_identifier=read.system_identifier(int(match["archive"].rpartition("-")[2])),
            sha256=(match["sha1"] or "")[:32],
            key=f"archive/{read.name}/{path}",
            bytes=int(about.get("size", 0)),
            modified=_moment(int(about.get("time", 0))),
            partial=".partial-" in path,
        )


def _listed(listing: bytes) -> Mapping[str, Mapping[str, Any]]:
    try:
        return msgspec.json.decode(listing, type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        raise Refused(f"pgbackrest repo-ls answered what nvcops cannot read: {error}") from error


def stored_sizes(listing: bytes) -> dict[str, int]:
    """The files of any `repo-ls --recurse --output=json` by path, with their bytes."""
    files = _listed(listing).items()
    return {path: int(about.get("size", 0)) for path, about in files if about.get("type") == "file"}


def digest_in_name(key: str) -> str:
    """The SHA-1 of the raw bytes that a segment's name in the archive promises; empty where none is in it.

    >>> digest_in_name("archive/main/15-1/0000000100000000/000000010000000000000004-" + 20 * "f3" + ".zst") == 20 * "f3"
    True
    >>> digest_in_name("archive/main/15-1/00000002.history")
    ''
    """
    found = re.search(r"-([0-9a-f]{40})(?:\.|$)", key)
    return found[1] if found else ""


class File(msgspec.Struct, frozen=True):
    """A file of a base backup: its path in the data directory, its size, the SHA-1 of its bytes (empty of none).

    `stored` are its bytes in this backup's folder of the repository; None: they are an earlier one's, or in a bundle.
    """

    path: str
    size: int
    sha1: str
    stored: int | None = None


def manifest_files(manifest: str) -> Iterator[File]:
    r"""The files of a `backup.manifest`; those of tablespaces have paths below pg_tblspc.

    >>> list(manifest_files('[target:file]\npg_data/PG_VERSION={"checksum":"58","size":3}\n\n[target:path]\na={}\n'))
    [File(path='PG_VERSION', size=3, sha1='58', stored=3)]
    """
    _, found, section = manifest.partition("[target:file]\n")
    for line in section.split("\n\n", 1)[0].splitlines() if found else ():
        path, _, about = line.partition("={")
        fields = json.loads("{" + about)
        size = int(fields.get("size", 0))
        stored = None if "reference" in fields or "bni" in fields else int(fields.get("repo-size", size))
        yield File(path.removeprefix("pg_data/"), size, str(fields.get("checksum", "")), stored)


def manifest_is_whole(manifest: bytes) -> bool:
    r"""Whether a `backup.manifest` ends as one that was written to its end: with its own checksum.

    >>> manifest_is_whole(b'[backrest]\nbackrest-checksum="3b4e408fb1c4da4d45fab961782339a9463f3597"\n')
    True
    >>> manifest_is_whole(b'[backrest]\nbackrest-che')
    False
    """
    return re.search(rb'\[backrest\]\nbackrest-checksum="[0-9a-f]{40}"\n\Z', manifest) is not None


def sha1(path: Path) -> str:
    """The SHA-1 of a file: the digest that pgBackRest keeps; against faults, not against forgers."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def witness(text: str) -> list[str]:
    r"""What is wrong by the text of `verify --output=text --verbose`; its exit code is 0 all the same.

    >>> witness("stanza: main\nstatus: ok\n")
    []
    >>> witness("status: error\n  archiveId: 15-1, total WAL checked: 11, total valid WAL: 10\n"
    ...         "    missing: 0, checksum invalid: 1, size invalid: 0, other: 0\n")
    ['archiveId 15-1: checksum invalid 1']
    """
    wrong, subject = [], ""
    for line in text.splitlines():
        match = re.match(r"\s*(archiveId|backup): ([^,]+),", line)
        if match:
            subject = f"{match[1]} {match[2]}"
        counts = re.findall(r"(missing|checksum invalid|size invalid|other): (\d+)", line)
        wrong += [f"{subject}: {kind} {count}" for kind, count in counts if count != "0"]
    if not wrong and re.search(r"^status: error", text, re.MULTILINE):
        wrong = ["status: error"]
    return wrong
