"""Restores from the native repository: see core.restores.Restores. What is in the folder of work says how far one came.

W/unpacked.json    the base backup is there, whole and verified
W/boot             since which start of this machine: what was unpacked before it need not have reached the disk
W/laid             the log lies ready in pg_wal, and recovery.signal asks for it
W/replayed.json    the copy has reached its target and went on as a timeline of its own
W/verified.json    what was seen in it
W/moving           it is on its way to its place (restores_place says how)
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from nvcops.adapters.backup import restores_log, restores_place
from nvcops.adapters.backup import restores_look as look
from nvcops.adapters.backup.clone import Clone, CloneEnded, ended_before_target
from nvcops.adapters.backup.pack import BLOCK_BYTES, Sealing, seal, unseal
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.adapters.backup.restores_live import Live
from nvcops.adapters.backup.restores_plan import Stock, chain_of, database_of, make_plan, stock_of, to_text, work_folder
from nvcops.adapters.backup.restores_verify import Looking
from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.backup.unpack import Pace, Unpacking
from nvcops.adapters.evidence.files import private_folder
from nvcops.core.backups import DatabaseBackup, Entry, RestoreTarget, lsn_bytes, lsn_text
from nvcops.core.catalogue import base_backups
from nvcops.core.errors import NotFoundError, Refused, StateError, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.progress import tell
from nvcops.core.restores import (
    LiveSnapshot,
    OldData,
    Purpose,
    Replayed,
    RestorePlan,
    Speed,
    Unpacked,
    Verification,
)
from nvcops.core.schedule import now

_REPLAY_S = 24 * 3600.0
_MEASURED_BYTES = 24 << 20
_BOOT = "boot"
_NOW = "SELECT pg_walfile_name(pg_current_wal_lsn()), pg_last_xact_replay_timestamp()"
_HISTORY = "SELECT pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.history')"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRestores:
    """Restored copies from a repository. `state` is a folder of ours."""

    repository: Repository
    manifest: Manifest
    state: Path

    def plan(self, run: str, backup: str, to: RestoreTarget, *, purpose: Purpose, into: Path | None) -> RestorePlan:
        """Decide what a restore takes; nothing is touched."""
        if purpose is Purpose.IN_PLACE and self.manifest.cluster is not None:
            raise _of_a_cluster(self.manifest.cluster.scope)
        where = self.manifest.recovery.data if purpose is Purpose.IN_PLACE else into
        where = where.absolute() if where else None
        work = work_folder(run, purpose, where, self._scratch)
        return make_plan(self._stock, restores_place.checked(run), backup, to, purpose, where, work)

    def speed(self) -> Speed:
        """Measure this machine for a moment."""
        return measured_speed(self._scratch)

    def unpack(self, plan: RestorePlan) -> Unpacked:
        """Write the base backup into the folder of work, and verify it."""
        done = _kept(plan, Unpacked)
        if done is not None and (_kept(plan, Replayed) is not None or _is_of_this_boot(plan)):
            return done
        self._works.note(plan)
        for name in _FILES.values():
            (plan.work / name).unlink(missing_ok=True)
        tools = self._tools(plan)
        private_folder(plan.work.parent if plan.purpose is Purpose.DRILL else plan.work)
        plan.work.mkdir(mode=0o700, exist_ok=True)
        tools.give(plan.work)
        rate = self.repository.entry.rate_max if plan.purpose is Purpose.DRILL else None
        pace = Pace(float(rate) if rate else None, quiet=_quiet(plan))
        unpacked = self._unpacked(plan, tools, pace)
        (plan.work / _BOOT).write_bytes(_this_boot())
        return _keep(plan, unpacked)

    def replay(self, plan: RestorePlan) -> Replayed:
        """Replay the log up to the target; the copy goes on as a timeline of its own, and is stopped."""
        if (done := _kept(plan, Replayed)) is not None:
            return done
        self.unpack(plan)  # once more, if the machine went down since
        began = time.monotonic()
        self._lay_ready(plan)
        tell(0, 0, "replaying the log")
        replayed = self._recovered(plan)
        return _keep(plan, msgspec.structs.replace(replayed, seconds=time.monotonic() - began))

    def verify(self, plan: RestorePlan, *, acknowledged_before: datetime | None = None) -> Verification:
        """Look at everything in the copy."""
        if (done := _kept(plan, Verification)) is not None:
            return done
        before = acknowledged_before or plan.target.time
        if before is None and (replayed := _kept(plan, Replayed)) is not None:
            before = replayed.last_commit if plan.target.lsn or plan.target.name else replayed.log_read
        database = self.repository.source.database.name
        looking = Looking(clone=self._clone(plan), recovery=self.manifest.recovery, database=database)
        return _keep(plan, looking.carry_out(before))

    def deliver(self, plan: RestorePlan) -> None:
        """Move the finished data to their place."""
        restores_place.deliver(plan)

    def delivered(self, plan: RestorePlan) -> bool:
        """Whether the finished data are in their place."""
        return restores_place.delivered(plan)

    def discard(self, plan: RestorePlan) -> bool:
        """Leave nothing of it."""
        return restores_place.discard(plan, self._works)

    def forget(self, plan: RestorePlan) -> None:
        """Nothing is going to be undone."""
        restores_place.forget(plan, self._works)

    def tidy(self, run: str) -> list[str]:
        """Undo what other runs left when they were killed."""
        done = self._woken(run)
        for plan in self._works.others(run):
            if restores_place.stands_in_place(plan):
                self.forget(plan)
                done.append(f"left the data in {plan.into_path} that {plan.run} had put there; the old ones are aside")
            else:
                self.discard(plan)
                done.append(f"removed what {plan.run} had left in {plan.work}")
        return done

    def snapshot(self, run: str) -> LiveSnapshot:
        """Read the books of the live data at one LSN."""
        self._live.wake(run)
        return self._live.snapshot(run)

    def old_data(self) -> list[OldData]:
        """What in-place restores put aside."""
        return restores_place.old_data(self.manifest.recovery.data)

    def release(self, run: str) -> None:
        """Remove for good what an in-place restore put aside."""
        data = self.manifest.recovery.data
        if data is None:
            raise NotFoundError("platform.toml does not say where the data lie", hint="[recovery] data")
        restores_place.release(data, run, self._works)

    # What differs from one engine to another: where backups and log come from.

    @property
    def _stock(self) -> Stock:
        return stock_of(self.repository)

    def _unpacked(self, plan: RestorePlan, tools: Tools, pace: Pace) -> Unpacked:
        unpacking = Unpacking(
            repository=self.repository, chain=self._chain(plan), work=plan.work, tools=tools, pace=pace
        )
        return unpacking.carry_out()

    def _log(self, database: DatabaseBackup, target: RestoreTarget, *, everything: bool) -> restores_log.Log:
        return restores_log.read_log(self.repository, database, target, everything=everything)

    def _lay(self, log: restores_log.Log, data: Path, tools: Tools, pace: Pace) -> None:
        restores_log.lay_ready(self.repository, log, data, tools, pace)

    # ---

    @property
    def _scratch(self) -> Path:
        return self.repository.entry.scratch or self.manifest.platform.state / "scratch"

    @property
    def _works(self) -> restores_place.Works:
        return restores_place.Works(self.state / "works")

    @property
    def _live(self) -> Live:
        return Live(repository=self.repository, state=self.state)

    def _woken(self, run: str) -> list[str]:
        """Wake a standby that a killed run left paused; one that does not answer is no reason not to restore."""
        try:
            return self._live.wake(run)
        except TargetError as error:
            return [f"a killed run may have left a standby paused, which does not answer now: {error.sentence}"]

    def _tools(self, plan: RestorePlan) -> Tools:
        return self.repository.tools(plan.major)

    def _chain(self, plan: RestorePlan) -> list[Entry]:
        backups = base_backups(self._stock.entries)
        entry = next((entry for entry in reversed(backups) if entry.id == plan.backup), None)
        if entry is None:
            raise NotFoundError(f"the backup {plan.backup} was removed meanwhile", hint="begin again")
        return chain_of(backups, entry)

    def _clone(self, plan: RestorePlan) -> Clone:
        return Clone(
            data=plan.work / "data",
            work=plan.work,
            tools=self._tools(plan),
            superuser=self.repository.entry.superuser,
            quiet=_quiet(plan),
        )

    def _lay_ready(self, plan: RestorePlan, *, everything: bool = False) -> None:
        """Lay the log ready and ask for a recovery: once, since the copy may have been promoted since."""
        if _kept(plan, _Laid) is not None and not everything:
            return
        data = plan.work / "data"
        tools, database = self._tools(plan), database_of(self._chain(plan)[-1])
        read = now()
        log = self._log(database, plan.target, everything=everything)
        self._lay(log, data, tools, Pace(quiet=_quiet(plan)))
        (data / "standby.signal").unlink(missing_ok=True)
        (data / "recovery.signal").touch(mode=0o600)
        tools.give(data / "recovery.signal")
        _keep(plan, _Laid(log.way[-1].timeline, log.trimmed, log.bytes, read))

    def _recovered(self, plan: RestorePlan) -> Replayed:
        """Recover to the target; where the log ends before it, with all of the log, or to its end if that is the same.

        Nothing that was committed lies between the end of the log and a moment after it, nor an LSN that is its end.
        """
        laid = _kept(plan, _Laid)
        if laid is None:
            raise StateError("the log does not lie ready", hint="begin the restore anew")
        try:
            return self._run_recovery(plan, laid, plan.target)
        except CloneEnded as error:
            if not ended_before_target(error):
                raise
        if laid.trimmed:
            self._lay_ready(plan, everything=True)
            return self._recovered(plan)
        if plan.target.name:
            raise StateError(
                f"the log has no restore point {plan.target.name!r}", hint="pg_create_restore_point makes them"
            )
        replayed = self._run_recovery(plan, laid, RestoreTarget())
        if plan.target.lsn and lsn_bytes(replayed.lsn) < lsn_bytes(plan.target.lsn):
            raise StateError(
                f"the log ends at {replayed.lsn}, before {plan.target.lsn}",
                hint="is the transaction log being received?",
            )
        return replayed

    def _run_recovery(self, plan: RestorePlan, laid: _Laid, target: RestoreTarget) -> Replayed:
        settings = recovery_settings(target, laid.timeline)
        with (
            self._clone(plan).running(deadline_s=_REPLAY_S, recovery=settings) as conninfo,
            look.connected(conninfo, "template1") as session,
        ):
            row = session.execute(_NOW).fetchone()
            history = session.execute(_HISTORY).fetchone()
        if row is None or history is None:
            raise StateError(f"the copy of {to_text(plan.target)} does not say where it stands")
        left = restores_log.parse_history(history[0])
        return Replayed(
            lsn=lsn_text(left[max(left)]),
            timeline=int(row[0][:8], 16),
            wal_bytes=laid.bytes,
            seconds=0.0,
            log_read=laid.read,
            last_commit=row[1],
        )


class _Laid(msgspec.Struct, frozen=True):
    timeline: int
    trimmed: bool
    bytes: int
    read: datetime


def open_restores(manifest: Manifest) -> NativeRestores:
    """The restores of a manifest, behind the engine that it names.

    Raises:
        ManifestError: there is no [backups], or a secret cannot be read.
    """
    repository, state = open_repository(manifest), manifest.platform.state / "restores"
    if repository.entry.engine == "native":
        return NativeRestores(repository=repository, manifest=manifest, state=state)
    from nvcops.adapters.backup.pgbackrest_restores import PgBackRestRestores

    return PgBackRestRestores(repository=repository, manifest=manifest, state=state)


def recovery_settings(target: RestoreTarget, timeline: int) -> dict[str, str]:
    """What makes PostgreSQL stop at a target, promoted. `false` is the program that finds nothing outside of pg_wal.

    >>> recovery_settings(RestoreTarget(lsn="0/3000060"), 2)["recovery_target_inclusive"]
    'off'
    """
    settings = {
        "restore_command": "false",
        "recovery_target_timeline": str(timeline),
        "recovery_target_action": "promote",
    }
    if target.lsn:
        return settings | {"recovery_target_lsn": target.lsn, "recovery_target_inclusive": "off"}
    if target.time is not None:
        return settings | {"recovery_target_time": target.time.isoformat()}
    return settings | ({"recovery_target_name": target.name} if target.name else {})


def measured_speed(folder: Path) -> Speed:
    """Pack, unpack and write as much as takes a moment, and sum it up, as a restore does with a backup."""
    private_folder(folder)
    block = (os.urandom(BLOCK_BYTES // 4) + bytes(BLOCK_BYTES // 4)) * 2
    path = folder / f".speed-{os.getpid()}"
    try:
        with path.open("w+b") as file:
            file.writelines(seal([block] * (_MEASURED_BYTES // BLOCK_BYTES), Sealing()))
            file.seek(0)
            began = time.perf_counter()
            with path.with_suffix(".raw").open("wb") as raw:
                raw.writelines(unseal(file, Sealing()))
            unpacked = time.perf_counter() - began
        began = time.perf_counter()
        with path.with_suffix(".raw").open("rb") as raw:
            while chunk := raw.read(BLOCK_BYTES):
                zlib.crc32(chunk)
        return Speed(unpack=_MEASURED_BYTES / unpacked, verify=_MEASURED_BYTES / (time.perf_counter() - began))
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".raw").unlink(missing_ok=True)


def _of_a_cluster(scope: str) -> Refused:
    """Patroni would start, rewind or make anew whatever it finds there, by what it remembers of the old data."""
    return Refused(
        f"the servers are Patroni's ({scope}), which would not leave data in place as they were restored",
        hint="--into a folder, then by hand: docs/decisions/restores.md says in which order",
    )


def _quiet(plan: RestorePlan) -> bool:
    return plan.purpose is Purpose.DRILL


_FILES: Mapping[type, str] = {
    Unpacked: "unpacked.json",
    _Laid: "laid.json",
    Replayed: "replayed.json",
    Verification: "verified.json",
}


def _kept(plan: RestorePlan, kind: type[T]) -> T | None:
    """What an earlier attempt at this part of the restore came to.

    A drill forces nothing to the disk: what it did before the machine was started anew is not there.

    Raises:
        StateError: it was written, and cannot be read.
    """
    path = plan.work / _FILES[kind]
    if _quiet(plan) and not _is_of_this_boot(plan):
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(f"{path} cannot be read: {error}", hint="begin the restore anew") from error


def _keep(plan: RestorePlan, outcome: T) -> T:
    restores_place.write_whole(plan.work / _FILES[type(outcome)], msgspec.json.encode(outcome))
    return outcome


def _is_of_this_boot(plan: RestorePlan) -> bool:
    """Whether what was unpacked was so since this machine was started: nobody has forced it to the disk yet."""
    path = plan.work / _BOOT
    return path.exists() and path.read_bytes() == _this_boot()


def _this_boot() -> bytes:
    return Path("/proc/sys/kernel/random/boot_id").read_bytes()
