"""Runs, steps, decisions and locks as rows: what changes together, with its evidence, changes in one transaction."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable

import msgspec

from nvcops.adapters.evidence.outbox import enqueue
from nvcops.adapters.runs.records import RunRecords, moment_of, seconds_of
from nvcops.core.errors import LockHeld
from nvcops.core.evidence import Entry
from nvcops.core.identity import SignedStatement
from nvcops.core.runs import RunRecord, RunState, Section, StepRecord

_RESULT_CHARACTERS_MAX = 16_384  # what is shown; the journal has all of it


class RunStore(RunRecords):
    """The records of one platform's runs.

    Entries go into the evidence's outbox within the same transaction. Every method raises StateError when the file
    cannot be read or written.
    """

    # --- runs ---

    def add(self, run: RunRecord, requester_key: str, entries: Iterable[Entry]) -> bool:
        """Enter a run, with its lock when a worker already has it; False when a run of this id is there.

        Raises:
            LockHeld: naming the holder.
        """
        with self.ops.changing() as change:
            if change.execute("SELECT 1 FROM runs WHERE id = ?", (run.id,)).fetchone():
                return False
            change.execute(
                "INSERT INTO runs (id, procedure, platform, lock, state, requested_by, requester_key, requested, due,"
                " dry_run, options_json, content_hash, worker, begun)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    run.procedure,
                    run.platform,
                    run.lock,
                    run.state,
                    run.requested_by,
                    requester_key,
                    run.requested.timestamp(),
                    run.due.timestamp() if run.due else None,
                    run.dry_run,
                    msgspec.json.encode(run.options).decode(),
                    run.content_hash,
                    run.worker,
                    run.started.timestamp() if run.started else None,
                ),
            )
            if run.worker:
                self._take_lock(change, run, run.requested)
            self._all(change, entries)
            return True

    def claim(
        self, run: RunRecord, worker: str, moment: dt.datetime, entries: Iterable[Entry], *, locking: bool = True
    ) -> bool:
        """Take a run as it was seen, bound to the content that the record says; False when somebody was quicker.

        Without `locking` it is only to be ended: that must not wait for another run's lock.

        Raises:
            LockHeld: naming the holder.
        """
        with self.ops.changing() as change:
            taken = change.execute(
                "UPDATE runs SET worker = ?, state = 'running', error = '', begun = coalesce(begun, ?),"
                " content_hash = ?, crashes = crashes + (worker != '')"
                " WHERE id = ? AND worker = ? AND state = ? AND ended IS NULL",
                (worker, moment.timestamp(), run.content_hash, run.id, run.worker, run.state),
            )
            if taken.rowcount != 1:
                return False
            if locking:
                self._take_lock(change, run, moment)
            self._all(change, entries)
            return True

    def release(self, run: RunRecord, worker: str, state: RunState, error: str, entries: Iterable[Entry]) -> None:
        """Put a run down without an end; `error` says why."""
        with self.ops.changing() as change:
            put_down = change.execute(
                "UPDATE runs SET worker = '', state = ?, error = ? WHERE id = ? AND worker = ? AND ended IS NULL",
                (state, error, run.id, worker),
            )
            if put_down.rowcount:
                self._all(change, entries)

    def hold(self, run: RunRecord, why: str) -> None:
        """Leave a run that nobody has to a person."""
        with self.ops.changing() as change:
            change.execute(
                "UPDATE runs SET state = ?, error = ? WHERE id = ? AND worker = '' AND ended IS NULL",
                (RunState.WAITING, why, run.id),
            )

    def finish(self, run: RunRecord, worker: str, entries: Iterable[Entry]) -> bool:
        """Write a run's end as the record has it and let go of its lock; False when this worker does not have it."""
        with self.ops.changing() as change:
            ended = change.execute(
                "UPDATE runs SET worker = '', state = ?, ended = ?, verdict = ?, summary = ?, error = ?, exit_code = ?"
                " WHERE id = ? AND worker = ? AND ended IS NULL",
                (
                    run.state,
                    seconds_of(run.ended),
                    run.verdict,
                    run.summary,
                    run.error,
                    run.exit_code,
                    run.id,
                    worker,
                ),
            )
            if not ended.rowcount:
                return False
            change.execute("DELETE FROM locks WHERE run = ?", (run.id,))
            self._all(change, entries)
            return True

    def ask_to_cancel(self, run: RunRecord, person: str, entries: Iterable[Entry]) -> bool:
        """Note that a run is to stop at its next step."""
        with self.ops.changing() as change:
            noted = change.execute("UPDATE runs SET cancelled_by = ? WHERE id = ? AND ended IS NULL", (person, run.id))
            if noted.rowcount:
                self._all(change, entries)
            return noted.rowcount == 1

    def note(self, entries: Iterable[Entry]) -> None:
        """Evidence without a record of its own: refusals."""
        with self.ops.changing() as change:
            self._all(change, entries)

    # --- steps ---

    def begin(
        self, run: RunRecord, worker: str, step: StepRecord, entry: Entry
    ) -> tuple[RunState | None, str, RunState | None]:
        """Enter a step's beginning, once.

        Returns:
            The run's state (None when this worker does not have it), who cancelled it, and the step's earlier state.
        """
        with self.ops.changing() as change:
            row = change.execute("SELECT state, worker, cancelled_by FROM runs WHERE id = ?", (run.id,)).fetchone()
            if row is None or row["worker"] != worker:
                return None, "", None
            key = (run.id, step.number)
            old = change.execute("SELECT state FROM steps WHERE run = ? AND number = ?", key).fetchone()
            if old is None and not row["cancelled_by"]:
                change.execute(
                    "INSERT INTO steps (run, number, name, title, kind, state, started) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*key, step.name, step.title, step.kind, RunState.RUNNING, seconds_of(step.started)),
                )
                enqueue(change, entry)
            return RunState(row["state"]), row["cancelled_by"], RunState(old["state"]) if old else None

    def end(
        self, run: RunRecord, step: StepRecord, result: str, entries: Iterable[Entry], section: Section | None = None
    ) -> None:
        """Enter a step's end, once."""
        shown = result if len(result) <= _RESULT_CHARACTERS_MAX else None
        with self.ops.changing() as change:
            ended = change.execute(
                "UPDATE steps SET state = ?, ended = ?, result_json = ?, error = ?"
                " WHERE run = ? AND number = ? AND ended IS NULL",
                (step.state, seconds_of(step.ended), shown, step.error, run.id, step.number),
            )
            if not ended.rowcount:
                return
            if section:
                change.execute(
                    "INSERT INTO sections (run, number, section_json) VALUES (?, ?, ?)",
                    (run.id, step.number, msgspec.json.encode(section).decode()),
                )
            self._all(change, entries)

    def wait(self, run: RunRecord, worker: str, step: StepRecord, entries: Iterable[Entry]) -> bool:
        """Put a run down until a person has said something about a step; False when somebody already did."""
        with self.ops.changing() as change:
            key = (run.id, step.name)
            if change.execute("SELECT 1 FROM decisions WHERE run = ? AND step = ?", key).fetchone():
                return False
            first = change.execute(
                "UPDATE steps SET state = ?, error = ? WHERE run = ? AND number = ? AND state != ?",
                (RunState.WAITING, step.error, run.id, step.number, RunState.WAITING),
            )
            change.execute(
                "UPDATE runs SET worker = '', state = ? WHERE id = ? AND worker = ?", (RunState.WAITING, run.id, worker)
            )
            if first.rowcount:
                self._all(change, entries)
            return True

    def go_on(self, run: RunRecord, step: StepRecord) -> None:
        """A step that waited is under way again."""
        with self.ops.changing() as change:
            change.execute(
                "UPDATE steps SET state = ?, error = '' WHERE run = ? AND number = ? AND state = ?",
                (RunState.RUNNING, run.id, step.number, RunState.WAITING),
            )

    # --- decisions ---

    def decide(self, run: RunRecord, signed: SignedStatement, entry: Entry) -> bool:
        """Enter what a person said about a step, and make a run that waits ready to go on; False when it is said."""
        said = signed.statement
        with self.ops.changing() as change:
            entered = change.execute(
                "INSERT INTO decisions (run, step, kind, person, note, time, signed_json)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, step) DO NOTHING",
                (
                    run.id,
                    said.subject,
                    said.kind,
                    said.actor,
                    said.note,
                    dt.datetime.fromisoformat(said.time).timestamp(),
                    msgspec.json.encode(signed).decode(),
                ),
            )
            if not entered.rowcount:
                return False
            change.execute(
                "UPDATE runs SET state = ? WHERE id = ? AND worker = '' AND state = ?",
                (RunState.ENQUEUED, run.id, RunState.WAITING),
            )
            enqueue(change, entry)
            return True

    def decision(self, run: str, step: str) -> str | None:
        """What was said about a step: a SignedStatement as JSON, to be checked; "" when nobody signed it."""
        rows = self.ops.rows("SELECT signed_json FROM decisions WHERE run = ? AND step = ?", run, step)
        return str(rows[0][0]) if rows else None

    def use_up(self, run: RunRecord, step: str) -> None:
        """A resolution counts for one time that a step's outcome was unknown."""
        with self.ops.changing() as change:
            change.execute("DELETE FROM decisions WHERE run = ? AND step = ?", (run.id, step))

    # --- the schedule ---

    def watched(self, procedure: str, cadence: str, moment: dt.datetime) -> dt.datetime:
        """Up to when a cadence was followed; one that is new is followed from now on."""
        with self.ops.changing() as change:
            change.execute(
                "INSERT INTO watched (platform, procedure, cadence, since, until) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (platform, procedure) DO UPDATE SET cadence = excluded.cadence, until = excluded.until"
                " WHERE cadence != excluded.cadence",
                (self.platform, procedure, cadence, moment.timestamp(), moment.timestamp()),
            )
        query = "SELECT until FROM watched WHERE platform = ? AND procedure = ?"
        return moment_of(self.ops.rows(query, self.platform, procedure)[0][0])

    def watch(self, procedure: str, cadence: str, until: dt.datetime) -> None:
        """Note up to when a cadence was followed."""
        with self.ops.changing() as change:
            change.execute(
                "UPDATE watched SET until = ? WHERE platform = ? AND procedure = ? AND cadence = ?",
                (until.timestamp(), self.platform, procedure, cadence),
            )

    def known_since(self) -> dt.datetime | None:
        """Since when somebody follows the schedule here, or the first run; None: never yet."""
        rows = self.ops.rows(
            "SELECT min(moment) FROM (SELECT min(since) AS moment FROM watched WHERE platform = ?"
            " UNION ALL SELECT min(requested) FROM runs WHERE platform = ?)",
            self.platform,
            self.platform,
        )
        return moment_of(rows[0][0]) if rows[0][0] is not None else None

    def miss(self, procedure: str, due: dt.datetime, moment: dt.datetime, entry: Entry) -> bool:
        """Note, once, that a due moment was missed."""
        with self.ops.changing() as change:
            noted = change.execute(
                "INSERT INTO missed (platform, procedure, due, noticed) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (self.platform, procedure, due.timestamp(), moment.timestamp()),
            )
            if noted.rowcount:
                enqueue(change, entry)
            return bool(noted.rowcount)

    def begun(self, procedure: str, since: dt.datetime) -> dict[dt.datetime, dt.datetime]:
        """When the runs of due moments began, by due moment."""
        rows = self.ops.rows(
            "SELECT due, begun FROM runs WHERE platform = ? AND procedure = ? AND due >= ? AND begun IS NOT NULL",
            self.platform,
            procedure,
            since.timestamp(),
        )
        return {moment_of(row["due"]): moment_of(row["begun"]) for row in rows}

    # --- within a transaction ---

    def _take_lock(self, change: sqlite3.Connection, run: RunRecord, moment: dt.datetime) -> None:
        if not run.lock or run.dry_run:
            return
        change.execute(
            "INSERT INTO locks (platform, lock, run, since) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (run.platform, run.lock, run.id, moment.timestamp()),
        )
        holder = change.execute(
            "SELECT l.run, l.since, r.requested_by FROM locks l JOIN runs r ON r.id = l.run"
            " WHERE l.platform = ? AND l.lock = ?",
            (run.platform, run.lock),
        ).fetchone()
        if holder["run"] != run.id:
            raise LockHeld(
                f"{run.lock!r} of {run.platform} is held by the run {holder['run']}, requested by "
                f"{holder['requested_by']}, since {moment_of(holder['since']):%Y-%m-%d %H:%M:%SZ}",
                hint=f"wait for it, or `nvcops cancel {holder['run']}`",
            )

    def _all(self, change: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        for entry in entries:
            enqueue(change, entry)
