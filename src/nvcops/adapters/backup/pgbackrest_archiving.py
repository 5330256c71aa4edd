"""How the archiving of the log stands: the server's own count of it, beside what the archive has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.adapters.backup.examine_line import is_segment, number_of
from nvcops.adapters.backup.repository import Source
from nvcops.core.backups import ReceiverState, Segment, lsn_bytes, lsn_text

_ASKED = """
SELECT current_setting('archive_mode') AS mode, current_setting('archive_command') AS command,
       last_archived_time, last_failed_time, coalesce(last_failed_wal, '') AS failed, clock_timestamp() AS now,
       pg_current_wal_lsn()::text AS lsn, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
       (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS waiting
FROM pg_stat_archiver
"""


class Archiver(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the primary says. `waiting` are the segments that are whole and not archived yet."""

    mode: str
    command: str
    last_archived: dt.datetime | None
    last_failed: dt.datetime | None
    failed: str
    now: dt.datetime
    lsn: str
    timeline: str
    system_identifier: str
    segment_bytes: int
    waiting: int


def receiver_state(source: Source, archive: Sequence[Segment]) -> ReceiverState:
    """How archiving stands now; what is in a segment that is not full yet is behind by its nature."""
    return state_of(msgspec.convert(source.rows(_ASKED)[0], Archiver), archive)


def state_of(archiver: Archiver, archive: Sequence[Segment]) -> ReceiverState:
    """The state from what the server says and what the archive has."""
    received = _received(archiver, archive)
    server = lsn_bytes(archiver.lsn)
    lag = max(0, server - received)
    since = archiver.last_archived
    return ReceiverState(
        running=not (trouble := _trouble(archiver)),
        trouble=trouble,
        system_identifier=archiver.system_identifier,
        timeline=int(archiver.timeline, 16),
        server_lsn=archiver.lsn,
        received_lsn=lsn_text(received) if received else "",
        lag_bytes=lag,
        lag_s=0.0 if not lag else (archiver.now - since).total_seconds() if since else None,
        retained_bytes=archiver.waiting * archiver.segment_bytes,
        spooled=archiver.waiting,
    )


def _trouble(archiver: Archiver) -> str:
    if archiver.mode == "off" or archiver.command in ("", "(disabled)"):
        return "the server archives nothing: archive_mode or archive_command is not set"
    failed, archived = archiver.last_failed, archiver.last_archived
    if failed is not None and (archived is None or failed > archived):
        return f"archiving {archiver.failed} failed last at {failed:%Y-%m-%d %H:%M:%S %Z}"
    return ""


def _received(archiver: Archiver, archive: Sequence[Segment]) -> int:
    """The end of the newest segment of the server's timeline in the archive; holes before it are the audit's matter."""
    its = [
        segment.name
        for segment in archive
        if segment.system_identifier == archiver.system_identifier
        and segment.name.startswith(archiver.timeline)
        and is_segment(segment.name)
        and not segment.partial
    ]
    return (number_of(max(its), archiver.segment_bytes) + 1) * archiver.segment_bytes if its else 0
