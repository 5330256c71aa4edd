"""Copies made by the restores that drills use, kept until they are discarded. See core.clones.Clones.

Their notes lie in a folder of their own, `clones`: what tidies up after restores does not see them, and the other way
round. A note is written before anything is made and goes after everything is gone, so that no half-made copy is
forgotten. The runs that make copies share a lock: when one begins, every other one's copy is nobody's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec

from nvcops.adapters.backup.clone import Clone
from nvcops.adapters.backup.restores import NativeRestores, open_restores
from nvcops.adapters.backup.restores_place import Works, checked, write_whole
from nvcops.adapters.clones import arguments
from nvcops.adapters.clones.copy import RunningCopy
from nvcops.adapters.clones.session import door
from nvcops.adapters.clones.settings import bounded, live_settings, memory_bytes
from nvcops.core.backups import RestoreTarget
from nvcops.core.catalogue import base_backups
from nvcops.core.clones import Clones, Copied, Copy
from nvcops.core.errors import NotFoundError, StateError
from nvcops.core.manifest import Manifest
from nvcops.core.restores import Purpose, RestorePlan
from nvcops.core.workload import Statement

_NEWEST = "newest"
_BACKUPS_MAX = 20
_START_S = 900.0
_SETTINGS = "settings.json"
_MORE_LOCKS = "1024"  # of each transaction: the planner is asked about thousands of indexes in one


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredClones:
    """Copies restored from a platform's repository."""

    restores: NativeRestores
    database: str

    def make(self, run: str) -> Copied:
        """Restore the newest backup for a run."""
        plan = self._noted(run)
        if plan is not None:
            try:
                return self._made(plan)
            except NotFoundError:  # its backup was removed since
                self.restores.discard(plan)
        return self._made(self._planned(run))

    @contextmanager
    def opened(self, run: str, settings: Mapping[str, str] | None = None) -> Iterator[Copy]:
        """Run the copy's server; a copy that the machine did not survive whole is made again before."""
        plan = self._noted(run)
        if plan is None:
            raise NotFoundError(f"{run} has no copy of the database", hint="it is made first")
        self._made(plan)
        live = msgspec.json.decode((plan.work / _SETTINGS).read_bytes(), type=dict[str, str])
        given = {"max_locks_per_transaction": _MORE_LOCKS, **live, **(settings or {})}
        clone = self._clone(plan)
        with clone.running(deadline_s=_START_S, recovery=given) as conninfo:
            yield RunningCopy(door=door(conninfo, self.database), data=clone.data, tools=clone.tools)

    def with_arguments(self, copy: Copy, statements: Sequence[Statement], sets: int) -> list[Statement]:
        """The statements with arguments drawn from the copy's columns."""
        if not isinstance(copy, RunningCopy):
            raise TypeError(f"{copy!r} is no copy of ours")
        return arguments.drawn(copy.door, statements, sets)

    def discard(self, run: str) -> bool:
        """Leave nothing of a run's copy."""
        plan = self._noted(run)
        if plan is None:
            return False
        there = plan.work.exists()
        self.restores.discard(plan)
        return there

    def tidy(self, run: str) -> list[str]:
        """Remove what other runs left."""
        return self.restores.tidy(checked(run))

    def _planned(self, run: str) -> RestorePlan:
        """Of the newest backup; where its log has not arrived, of the newest one before it whose log is there."""
        try:
            return self._plan(run, _NEWEST)
        except StateError as error:
            backups = base_backups(self.restores.repository.catalogue.entries())
            for entry in list(reversed(backups))[1:_BACKUPS_MAX]:
                with suppress(StateError):
                    return self._plan(run, entry.id)
            raise error from None

    def _plan(self, run: str, backup: str) -> RestorePlan:
        return self.restores.plan(run, backup, RestoreTarget(), purpose=Purpose.DRILL, into=None)

    def _made(self, plan: RestorePlan) -> Copied:
        """Go on from where it stands; nothing is done twice."""
        unpacked = self.restores.unpack(plan)
        settings = plan.work / _SETTINGS
        if not settings.exists():
            now = bounded(live_settings(self.restores.repository), memory_bytes())
            write_whole(settings, msgspec.json.encode(now))
        replayed = self.restores.replay(plan)
        return Copied(
            backup=plan.backup,
            as_of=replayed.last_commit,
            bytes=unpacked.bytes,
            seconds=unpacked.seconds + replayed.seconds,
        )

    def _noted(self, run: str) -> RestorePlan | None:
        name = checked(run)
        return next((plan for plan in Works(self.restores.state / "works").others("") if plan.run == name), None)

    def _clone(self, plan: RestorePlan) -> Clone:
        return Clone(
            data=plan.work / "data",
            work=plan.work,
            tools=self.restores.repository.tools(plan.major),
            superuser=self.restores.repository.entry.superuser,
            quiet=True,
        )


def open_clones(manifest: Manifest) -> Clones:
    """The copies of a manifest's database.

    Raises:
        ManifestError: there is no [backups], or a secret cannot be read.
    """
    restores = open_restores(manifest)
    own = dataclasses.replace(restores, state=manifest.platform.state / "clones")
    return RestoredClones(restores=own, database=own.repository.source.database.name)
