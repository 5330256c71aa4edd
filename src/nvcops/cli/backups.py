"""`nvcops backups`: what the repository has, until when one can go back, and how the transaction log stands."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import msgspec

from nvcops import wiring
from nvcops.cli.context import answer, json_option, manifest_path, target_option
from nvcops.cli.report import local
from nvcops.cli.serve import until_signalled
from nvcops.core.backups import Backups, Entry, Kind, ReceiverState
from nvcops.core.catalogue import on_hold, removed
from nvcops.core.errors import NotFoundError, NvcopsError, TargetError
from nvcops.core.units import Bytes, Seconds

_ABOUT_OTHERS = (Kind.HOLD, Kind.RELEASE, Kind.REMOVAL)


@click.command()
@click.argument("backup", required=False)
@target_option
@click.option("--all", "everything", is_flag=True, help="With restores, holds, removals, and what was removed.")
@json_option
def backups(backup: str | None, target_path: Path | None, everything: bool, as_json: bool) -> None:
    """List what the repository holds; of one BACKUP, its objects and what it builds upon."""
    manifest = wiring.load(manifest_path(target_path))
    repository = wiring.backups(manifest)
    catalogue = repository.catalogue()
    zone = ZoneInfo(manifest.platform.time_zone)
    if backup:
        entry = _find(catalogue, backup)
        answer(entry, as_json, lambda: _details(entry, zone))
        return
    held, gone = on_hold(catalogue), removed(catalogue)
    shown = [e for e in catalogue if everything or (e.id not in gone and e.kind not in (*_ABOUT_OTHERS, Kind.RESTORE))]
    receiver, room = _receiver(repository), repository.room()

    def lines() -> Iterator[str]:
        for entry in shown:
            mark = "  held" if entry.id in held else "  removed" if entry.id in gone else ""
            about = f"{_about(entry)}{mark}"
            yield f"{local(entry.ended, zone)}  {entry.kind:<13}  {entry.id:<22}  {_sizes(entry):<22}  {about}"
        if not shown:
            yield "nothing is backed up yet; `nvcops run database-backup` takes the first"
        yield ""
        yield _log_line(receiver)
        yield f"repository: {Bytes(room.used)} used" + (f", {Bytes(room.free)} free" if room.free is not None else "")

    document = {
        "entries": shown,
        "held": sorted(held),
        "removed": sorted(gone),
        "receiver": receiver if isinstance(receiver, ReceiverState) else {"trouble": receiver.sentence},
        "room": room,
    }
    answer(document, as_json, lines)


@click.command("receive-wal")
@target_option
def receive_wal(target_path: Path | None) -> None:
    """Receive the transaction log until SIGTERM or Ctrl-C: what `nvcops serve` does too, as a service of its own."""
    manifest = wiring.load(manifest_path(target_path))
    stop = threading.Event()
    until_signalled(stop)
    wiring.receiver(manifest)(stop)


def _find(catalogue: Sequence[Entry], backup: str) -> Entry:
    for entry in catalogue:
        if entry.id == backup:
            return entry
    raise NotFoundError(f"there is no backup {backup!r}", hint="`nvcops backups --all` lists them")


def _receiver(repository: Backups) -> ReceiverState | NvcopsError:
    try:
        return repository.receiver()
    except TargetError as error:  # the server is down: what is in the repository is wanted all the more
        return error


def _log_line(receiver: ReceiverState | NvcopsError) -> str:
    if isinstance(receiver, NvcopsError):
        return f"transaction log: not known: {receiver.sentence}"
    if not receiver.running:
        return f"transaction log: NOT RECEIVED: {receiver.trouble or 'no receiver runs'}"
    waits = ", commits wait for it" if receiver.synchronous else ""
    behind = f"{Bytes(receiver.lag_bytes)} behind" + (f" for {Seconds(receiver.lag_s)}" if receiver.lag_s else "")
    return f"transaction log: received to {receiver.received_lsn}, {behind}{waits}"


def _sizes(entry: Entry) -> str:
    if not entry.raw_bytes:
        return ""
    return f"{Bytes(entry.raw_bytes)} in {Bytes(entry.stored_bytes)}"


def _about(entry: Entry) -> str:
    """The one thing that matters about an entry of its kind."""
    if entry.database:
        builds = f" on {entry.database.parent}" if entry.database.parent else ""
        return f"to {entry.database.stop_lsn}, timeline {entry.database.timeline}{builds}"
    if entry.point:
        return f"{entry.point.database} to {entry.point.lsn}" + (
            f", version {entry.point.version}" if entry.point.version else ""
        )
    if entry.restore:
        good = "good" if entry.restore.good else "BAD"
        return f"{entry.restore.backup} to {entry.restore.target}: {good}, {Seconds(entry.restore.seconds)}"
    return " ".join(filter(None, [entry.version, entry.revision[:12], ", ".join(entry.of), entry.note]))


def _details(entry: Entry, zone: ZoneInfo) -> Iterator[str]:
    yield f"{entry.id}: {entry.kind}, {local(entry.began, zone)} to {local(entry.ended, zone)}"
    yield f"entry {entry.number} of the catalogue, after {entry.previous or 'none'}"
    for about in (entry.database, entry.point, entry.restore):
        if about is not None:
            yield from (
                f"{name:<18} {value}"
                for name, value in msgspec.structs.asdict(about).items()
                if value not in ("", None)
            )
    for stored in entry.objects:
        yield f"{stored.sha256[:16]}  {Bytes(stored.bytes)!s:>10}  {stored.key}"
