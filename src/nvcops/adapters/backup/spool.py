"""The folder into which pg_receivewal writes: what lies there, whose it is, and how the receiver says that it is.

Beside the log lie a lock that the receiver holds while it lives, the system identifier of the server whose log it is,
and the receiver's notes.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.files import unusable, write_new
from nvcops.core.backups import SEGMENT_BYTES, ReceiverState, lsn_bytes
from nvcops.core.errors import Refused, StateError, TargetError
from nvcops.core.schedule import now

STANDBY_NAME = "nvcops_wal"  # what stands in synchronous_standby_names
LOCK = ".lock-receiver"
_NOTES = ".receiver.json"
_IDENTITY = ".system-identifier"
_FINISHED = re.compile(r"[0-9A-F]{24}")
_PARTIAL = re.compile(r"[0-9A-F]{24}\.partial")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_SERVER = """
SELECT system_identifier::text, pg_current_wal_flush_lsn()::text,
       ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,
       current_setting('synchronous_standby_names'),
       (SELECT string_agg(sync_state, ' ') FROM pg_stat_replication WHERE application_name = %s)
FROM pg_control_system()
"""
_SLOT = """
SELECT active, coalesce(restart_lsn::text, ''), coalesce(wal_status, ''),
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
FROM pg_replication_slots WHERE slot_name = %s
"""


class Kept(msgspec.Struct, frozen=True):
    """What must not be forgotten before a backup was begun after it, and since when."""

    time: dt.datetime
    text: str


class Notes(msgspec.Struct, frozen=True):
    """What a receiver leaves for whoever asks: why it cannot receive now, and what must not be forgotten."""

    trouble: str = ""
    kept: tuple[Kept, ...] = ()


class Spool(msgspec.Struct, frozen=True):
    """What lies in a spool, by name: histories of timelines, and the log, of which the last is where it goes on."""

    histories: tuple[str, ...]
    logs: tuple[str, ...]

    @property
    def finished(self) -> tuple[str, ...]:
        """Segments that are whole."""
        return tuple(name for name in self.logs if not name.endswith(".partial"))

    @property
    def over(self) -> tuple[str, ...]:
        """What pg_receivewal needs no more: but for the newest, whole segments and the ends of timelines left behind.

        >>> Spool((), ("1" * 24, "1" * 23 + "2.partial", "2" * 24)).over == ("1" * 24, "1" * 23 + "2.partial")
        True
        """
        newest = self.logs[-1][:8] if self.logs else ""
        return tuple(name for name in self.logs[:-1] if not name.endswith(".partial") or name[:8] < newest)


def look(spool: Path) -> Spool:
    """What lies there; empty when there is no such folder yet.

    Raises:
        StateError: it cannot be read.
    """
    try:
        names = sorted(path.name for path in spool.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise unusable(spool, error) from error
    return Spool(
        tuple(name for name in names if _HISTORY.fullmatch(name)),
        tuple(name for name in names if _FINISHED.fullmatch(name) or _PARTIAL.fullmatch(name)),
    )


def identity(spool: Path) -> str:
    """The system identifier of the server whose log lies there; empty: none was received yet."""
    try:
        return (spool / _IDENTITY).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise unusable(spool, error) from error


def claim(spool: Path, system_identifier: str) -> None:
    """Say whose log lies there.

    Raises:
        Refused: it is another server's.
    """
    if not identity(spool):
        write_new(spool / _IDENTITY, system_identifier.encode("ascii"))
    if (there := identity(spool)) != system_identifier:
        raise Refused(
            f"the spool {spool} is of the server {there}, and the server is {system_identifier}",
            hint="give each cluster a repository of its own",
        )


def read_notes(spool: Path) -> Notes:
    """The receiver's notes; empty ones where there are none."""
    try:
        return msgspec.json.decode((spool / _NOTES).read_bytes(), type=Notes)
    except (FileNotFoundError, msgspec.DecodeError):
        return Notes()
    except OSError as error:
        raise unusable(spool, error) from error


def write_notes(spool: Path, notes: Notes) -> None:
    """Put notes in the place of the former ones."""
    scratch = spool / f"{_NOTES}.new"
    try:
        scratch.write_bytes(msgspec.json.encode(notes))
        scratch.rename(spool / _NOTES)
    except OSError as error:
        raise StateError(f"{spool} cannot be written: {error.strerror}", hint="look at the disk's space") from error


def receives(spool: Path) -> bool:
    """Whether a receiver holds the spool's lock."""
    try:
        handle = os.open(spool / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(spool, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def receiver_state(repository: Repository) -> ReceiverState:
    """How the transaction-log backup stands: asked of the server, and seen in the spool, by whichever process.

    Raises:
        StateError: the spool cannot be read.
    """
    spool, slot = repository.spool, repository.entry.slot
    running, notes, waiting = receives(spool), read_notes(spool), look(spool).over
    trouble = "" if running else "the receiver does not run"
    trouble = "; ".join(part for part in (trouble, notes.trouble, *_not_over(repository, notes.kept)) if part)
    try:
        server = repository.source.rows(_SERVER, STANDBY_NAME)[0]
        slots = repository.source.rows(_SLOT, slot)
    except TargetError as error:
        return ReceiverState(
            running=running,
            trouble="; ".join(part for part in (trouble, error.sentence) if part),
            system_identifier=identity(spool),
            slot=slot,
            spooled=len(waiting),
        )
    active, received, status, retained = slots[0] if slots else (False, "", "", 0)
    troubles = [trouble] if trouble else []
    if not slots or status == "lost":
        troubles.append(
            f"the server has no slot {slot}" if not slots else f"the server's limit made the slot {slot} invalid"
        )
    elif running and not active:
        troubles.append(f"nothing is received now: the server's slot {slot} is not in use{_no_room(spool)}")
    lag_bytes = max(0, lsn_bytes(server[1]) - lsn_bytes(received)) if received else 0
    return ReceiverState(
        running=running,
        trouble="; ".join(troubles),
        system_identifier=server[0],
        timeline=server[2],
        server_lsn=server[1],
        received_lsn=received,
        lag_bytes=lag_bytes,
        lag_s=_lag_s(spool, waiting, behind=lag_bytes > 0 or not received),
        slot=slot,
        slot_active=active,
        retained_bytes=int(retained),
        synchronous=bool(active) and _synchronous(server),
        spooled=len(waiting),
    )


def _no_room(spool: Path) -> str:
    """Whether the disk is why: the receiver itself cannot write it down then."""
    try:
        full = shutil.disk_usage(spool).free < SEGMENT_BYTES
    except OSError as error:
        return f", and {unusable(spool, error).sentence}"
    return f", and the disk of {spool} is full" if full else ""


def _not_over(repository: Repository, kept: Sequence[Kept]) -> list[str]:
    """What no later backup has made harmless: from that one on the log is whole. The audit says what is lost before."""
    if not kept:
        return []
    begun = [entry.began for entry in repository.catalogue.entries() if entry.kind.of_database]
    return [note.text for note in kept if not begun or max(begun) <= note.time]


def _lag_s(spool: Path, waiting: Sequence[str], *, behind: bool) -> float | None:
    """For how long: since something was received last, or since the oldest segment waits for the repository."""
    if not behind and not waiting:
        return 0.0
    names = waiting[:1] or look(spool).logs[-1:]
    if not names:
        return None
    moment = _modified(spool / names[0])
    return max(0.0, now().timestamp() - moment) if moment is not None else 0.0  # it moves on at this moment


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it became whole, or went into the repository
        return None


def _synchronous(server: tuple[Any, ...]) -> bool:
    """Whether commits wait for it: its state, which only some roles are shown, else the server's setting."""
    names, state = server[3], server[4]
    if state:
        return "sync" in state.split() or "quorum" in state.split()
    return re.search(rf"(?<![\w-]){STANDBY_NAME}(?![\w-])|\*", names) is not None
