"""What is due becomes a run, once; what was due and did not run in time is missed, and that is noted, once."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import cast
from zoneinfo import ZoneInfo

import msgspec

from nvcops.adapters.runs import entries
from nvcops.adapters.runs.store import RunStore
from nvcops.core import procedures, schedule
from nvcops.core.manifest import Manifest
from nvcops.core.procedures import Procedure
from nvcops.core.runs import RunRecord, RunState, scheduled_id
from nvcops.core.schedule import Due, Standing, When

_PER_TICK_MAX = 100
_NEVER = When.read("never")


class Tick(msgspec.Struct, frozen=True):
    """What one look at the clock brought about."""

    enqueued: list[Due]
    missed: list[Due]


def cadences(manifest: Manifest) -> dict[str, When]:
    """When each procedure is due on this platform: as it says itself, or as the manifest says.

    Never by itself where the platform lacks what the procedure is about.
    """
    due = {entry.name: entry.when if _fits(entry, manifest) else _NEVER for entry in procedures.runbook()}
    return {**due, **{name: entry.when for name, entry in manifest.procedures.items()}}


def _fits(entry: Procedure, manifest: Manifest) -> bool:
    return all(_table(manifest, path) for path in entry.needs)


def _table(manifest: Manifest, path: str) -> object:
    """What stands at a path as `database.upkeep`; None where a part of it was left out."""
    return functools.reduce(lambda table, key: getattr(table, key, None), path.split("."), cast("object", manifest))


class Scheduler:
    """Follows the cadences of one platform."""

    def __init__(self, manifest: Manifest, store: RunStore, enqueue: Callable[[Procedure, dt.datetime], bool]) -> None:
        self._manifest = manifest
        self._zone = ZoneInfo(manifest.platform.time_zone)
        self._store = store
        self._enqueue = enqueue
        self._next: dict[str, dt.datetime | None] = {}
        self._latest = dt.datetime.min.replace(tzinfo=dt.UTC)

    def tick(self, moment: dt.datetime) -> Tick:
        """Enqueue what is due, and note what was missed since the last tick.

        A procedure that is seen for the first time, or with another cadence, is followed from this moment on.
        """
        if moment < self._latest:  # the clock was put back: what it said before is no reason to wait
            self._next.clear()
        self._latest = moment
        enqueued, missed = [], []
        for name, when in cadences(self._manifest).items():
            following = self._next.get(name, moment)
            if following is None or following > moment:
                continue
            newly_due = self._newly_due(name, when, moment)
            for due in newly_due[:_PER_TICK_MAX]:
                standing = schedule.standing(due, None, moment, self._manifest.calendar.missed_after)
                if standing is Standing.MISSED:
                    missed += self._miss(name, due, moment)
                elif self._enqueue(procedures.find(name), due):
                    enqueued.append(Due(name, due, standing))
                self._store.watch(name, when, due + dt.timedelta(microseconds=1))
            if len(newly_due) <= _PER_TICK_MAX:  # else the next tick goes on with the rest
                self._next[name] = schedule.next_due(when, self._manifest.calendar, self._zone, moment)
        return Tick(enqueued, missed + list(self._never_begun(moment)))

    def _newly_due(self, name: str, when: When, moment: dt.datetime) -> Sequence[dt.datetime]:
        since = min(self._store.watched(name, when, moment), moment)  # followed into a future that was none
        after = moment + dt.timedelta(microseconds=1)
        return schedule.due_times(when, self._manifest.calendar, self._zone, since, after)

    def _never_begun(self, moment: dt.datetime) -> Iterator[Due]:
        """Runs that wait for a worker or a lock for so long that they count as missed; they still run, late."""
        for run in self._store.find([RunState.ENQUEUED], limit=1000):
            if run.due and not run.started:
                late = schedule.standing(run.due, None, moment, self._manifest.calendar.missed_after)
                if late is Standing.MISSED:
                    yield from self._miss(run.procedure, run.due, moment)

    def _miss(self, name: str, due: dt.datetime, moment: dt.datetime) -> list[Due]:
        run = RunRecord(
            id=scheduled_id(name, due),
            procedure=name,
            platform=self._manifest.platform.name,
            state=RunState.ENQUEUED,
            requested_by="schedule",
            requested=moment,
            due=due,
        )
        entry = entries.run_entry(run, "run.missed", moment, due=due)
        return [Due(name, due, Standing.MISSED)] if self._store.miss(name, due, moment, entry) else []

    def due(self, start: dt.datetime, end: dt.datetime, moment: dt.datetime) -> list[Due]:
        """The due moments of a time and how each stands, oldest first; nothing from before anybody followed them."""
        known = self._store.known_since()
        if known is None:
            return []
        found: list[Due] = []
        for name, when in cadences(self._manifest).items():
            times = schedule.due_times(when, self._manifest.calendar, self._zone, max(start, known), end)
            begun = self._store.begun(name, start)
            missed_after = self._manifest.calendar.missed_after
            found += schedule.outstanding(name, times, begun, moment, missed_after)
        return sorted(found, key=lambda entry: (entry.due, entry.procedure))
