"""Runs, steps, decisions and locks as rows: what changes together, with its evidence, changes in one transaction."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from nvcops.adapters.evidence_outbox import enqueue
from nvcops.adapters.ops_store import OpsStore
from nvcops.core.checks import Verdict
from nvcops.core.errors import LockHeld, NotFoundError
from nvcops.core.evidence import Entry
from nvcops.core.runs import RunRecord, RunState, Section, StepKind, StepRecord

_RESULT_CHARACTERS_MAX = 16_384  # what is shown; the journal has all of it
_LIST_MAX = 1_000


class RunStore:
    """The records of one platform's runs.

    Entries go into the evidence's outbox within the same transaction. Every method raises StateError when the file
    cannot be read or written.
    """

    def __init__(self, ops: OpsStore, platform: str) -> None:
        self.ops = ops
        self.platform = platform

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

    def claim(self, run: RunRecord, worker: str, moment: dt.datetime, entries: Iterable[Entry]) -> bool:
        """Take a run as it was seen; False when somebody else was quicker.

        Raises:
            LockHeld: naming the holder.
        """
        with self.ops.changing() as change:
            taken = change.execute(
                "UPDATE runs SET worker = ?, state = 'running', error = '', begun = coalesce(begun, ?),"
                " crashes = crashes + (worker != '')"
                " WHERE id = ? AND worker = ? AND state = ? AND ended IS NULL",
                (worker, moment.timestamp(), run.id, run.worker, run.state),
            )
            if taken.rowcount != 1:
                return False
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

    def finish(self, run: RunRecord, worker: str, entries: Iterable[Entry]) -> bool:
        """Write a run's end as the record has it and let go of its lock; False when this worker does not have it."""
        with self.ops.changing() as change:
            ended = change.execute(
                "UPDATE runs SET worker = '', state = ?, ended = ?, verdict = ?, summary = ?, error = ?, exit_code = ?"
                " WHERE id = ? AND worker = ? AND ended IS NULL",
                (
                    run.state,
                    _seconds(run.ended),
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
                    (*key, step.name, step.title, step.kind, RunState.RUNNING, _seconds(step.started)),
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
                (step.state, _seconds(step.ended), shown, step.error, run.id, step.number),
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

    def decide(self, run: RunRecord, step: str, kind: str, said: tuple[str, str, dt.datetime], entry: Entry) -> bool:
        """Enter what a person said about a step, and make a run that waits ready to go on; False when it is said."""
        person, note, time = said
        with self.ops.changing() as change:
            entered = change.execute(
                "INSERT INTO decisions (run, step, kind, person, note, time) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (run, step) DO NOTHING",
                (run.id, step, kind, person, note, time.timestamp()),
            )
            if not entered.rowcount:
                return False
            change.execute(
                "UPDATE runs SET state = ? WHERE id = ? AND worker = '' AND state = ?",
                (RunState.ENQUEUED, run.id, RunState.WAITING),
            )
            enqueue(change, entry)
            return True

    def decision(self, run: str, step: str) -> tuple[str, str, dt.datetime] | None:
        """What was said about a step: person, note, time."""
        rows = self.ops.rows("SELECT person, note, time FROM decisions WHERE run = ? AND step = ?", run, step)
        return (rows[0]["person"], rows[0]["note"], _moment(rows[0]["time"])) if rows else None

    def use_up(self, run: RunRecord, step: str) -> None:
        """A resolution counts for one time that a step's outcome was unknown."""
        with self.ops.changing() as change:
            change.execute("DELETE FROM decisions WHERE run = ? AND step = ?", (run.id, step))

    # --- reading ---

    def get(self, run: str) -> RunRecord:
        """A run with its steps and sections, by its id or by an unambiguous beginning of it.

        Raises:
            NotFoundError: there is none, or there are several.
        """
        rows = self.ops.rows("SELECT * FROM runs WHERE platform = ? AND id = ?", self.platform, run) or self.ops.rows(
            "SELECT * FROM runs WHERE platform = ? AND substr(id, 1, ?) = ? LIMIT 3", self.platform, len(run), run
        )
        if len(rows) != 1:
            found = "several runs begin" if rows else "there is no run that begins"
            raise NotFoundError(f"{found} with {run!r}", hint="`nvcops runs` lists them")
        return self._record(rows[0], complete=True)

    def requester(self, run: str) -> tuple[str, str]:
        """Who requested a run, and the fingerprint of the key that they signed with."""
        rows = self.ops.rows("SELECT requested_by, requester_key FROM runs WHERE id = ?", run)
        return (rows[0][0], rows[0][1]) if rows else ("", "")

    def crashes(self, run: str) -> int:
        """How many workers died while they had it."""
        rows = self.ops.rows("SELECT crashes FROM runs WHERE id = ?", run)
        return int(rows[0][0]) if rows else 0

    def find(self, states: Sequence[RunState] = (), *, procedure: str = "", limit: int = 50) -> list[RunRecord]:
        """Runs without their steps, the newest first."""
        marks = ", ".join("?" for _ in states)
        where = f" AND state IN ({marks})" if states else ""
        where += " AND procedure = ?" if procedure else ""
        rows = self.ops.rows(
            f"SELECT * FROM runs WHERE platform = ?{where} ORDER BY requested DESC, id LIMIT ?",  # noqa: S608 - marks
            self.platform,
            *states,
            *([procedure] if procedure else []),
            min(limit, _LIST_MAX),
        )
        return [self._record(row, complete=False) for row in rows]

    def _record(self, row: sqlite3.Row, *, complete: bool) -> RunRecord:
        sections = self._sections(row["id"]) if complete else ()
        return RunRecord(
            id=row["id"],
            procedure=row["procedure"],
            platform=row["platform"],
            lock=row["lock"],
            state=RunState(row["state"]),
            requested_by=row["requested_by"],
            requested=_moment(row["requested"]),
            due=_moment(row["due"]) if row["due"] is not None else None,
            dry_run=bool(row["dry_run"]),
            options=msgspec.json.decode(row["options_json"]),
            content_hash=row["content_hash"],
            started=_moment(row["begun"]) if row["begun"] is not None else None,
            ended=_moment(row["ended"]) if row["ended"] is not None else None,
            verdict=Verdict(row["verdict"]) if row["verdict"] is not None else None,
            findings=tuple(finding for section in sections for finding in section.findings),
            sections=sections,
            summary=row["summary"],
            error=row["error"],
            exit_code=row["exit_code"],
            worker=row["worker"],
            steps=self._steps(row["id"]) if complete else (),
        )

    def _steps(self, run: str) -> tuple[StepRecord, ...]:
        rows = self.ops.rows("SELECT * FROM steps WHERE run = ? ORDER BY number", run)
        return tuple(
            StepRecord(
                number=row["number"],
                name=row["name"],
                title=row["title"],
                kind=StepKind(row["kind"]),
                state=RunState(row["state"]),
                started=_moment(row["started"]) if row["started"] is not None else None,
                ended=_moment(row["ended"]) if row["ended"] is not None else None,
                result=msgspec.json.decode(row["result_json"]) if row["result_json"] else None,
                error=row["error"],
            )
            for row in rows
        )

    def _sections(self, run: str) -> tuple[Section, ...]:
        rows = self.ops.rows("SELECT section_json FROM sections WHERE run = ? ORDER BY number", run)
        return tuple(msgspec.json.decode(row[0], type=Section) for row in rows)

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
                f"{holder['requested_by']}, since {_moment(holder['since']):%Y-%m-%d %H:%M:%SZ}",
                hint=f"wait for it, or `nvcops cancel {holder['run']}`",
            )

    def _all(self, change: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        for entry in entries:
            enqueue(change, entry)


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _seconds(moment: dt.datetime | None) -> Any:
    return moment.timestamp() if moment else None
