"""What a base backup says of itself, PostgreSQL's own words: backup_manifest and backup_label, against its entry."""

from __future__ import annotations

import hashlib
import re

import msgspec

from nvcops.core.backups import Cause, DatabaseBackup, lsn_bytes

_CHECKSUM = re.compile(rb'"Manifest-Checksum": "([0-9a-f]{64})"')
_FROM = re.compile(r"^INCREMENTAL FROM LSN: ([0-9A-F]+/[0-9A-F]+)$", re.MULTILINE)


class Trouble(msgspec.Struct, frozen=True):
    """Why something that was read back is not good."""

    cause: Cause
    sentence: str


class _Range(msgspec.Struct, rename={"timeline": "Timeline", "start": "Start-LSN", "end": "End-LSN"}):
    timeline: int
    start: str
    end: str


class _Manifest(
    msgspec.Struct,
    rename={"version": "PostgreSQL-Backup-Manifest-Version", "owner": "System-Identifier", "log": "WAL-Ranges"},
):
    version: int
    log: list[_Range]
    owner: int = 0  # from PostgreSQL 17 on


def manifest_trouble(data: bytes, backup: DatabaseBackup) -> Trouble | None:
    """What is wrong with a backup_manifest: its own checksum, whose it is, which log it needs."""
    body, newline, last = data.rstrip(b"\n").rpartition(b"\n")
    match = _CHECKSUM.search(last)
    if match is None or hashlib.sha256(body + newline).hexdigest().encode() != match[1]:
        return Trouble(Cause.EDITED, "its backup_manifest was edited: it does not have its own checksum")
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
    except msgspec.DecodeError as error:
        return Trouble(Cause.EDITED, f"its backup_manifest is none: {error}")
    if manifest.owner and str(manifest.owner) != backup.system_identifier:
        sentence = f"it is of the cluster {manifest.owner} by its backup_manifest, and its entry says another"
        return Trouble(Cause.FOREIGN, sentence)
    needs = [(r.timeline, lsn_bytes(r.start), lsn_bytes(r.end)) for r in manifest.log]
    said = (backup.timeline, lsn_bytes(backup.start_lsn), lsn_bytes(backup.stop_lsn))
    if not needs or (needs[-1][0], needs[0][1], needs[-1][2]) != said:
        sentence = (
            f"it needs other log by its backup_manifest than its entry says ({backup.start_lsn} to {backup.stop_lsn})"
        )
        return Trouble(Cause.EDITED, sentence)
    return None


def label_trouble(label: str, parent: DatabaseBackup) -> Trouble | None:
    """What is wrong with the backup_label of an incremental: it must be built upon where its parent began."""
    match = _FROM.search(label)
    if match is None:
        return Trouble(Cause.BROKEN_PARENT, "its backup_label does not say upon what it builds")
    if lsn_bytes(match[1]) != lsn_bytes(parent.start_lsn):
        sentence = f"it builds upon a backup that began at {match[1]}, and its parent began at {parent.start_lsn}"
        return Trouble(Cause.BROKEN_PARENT, sentence)
    return None
