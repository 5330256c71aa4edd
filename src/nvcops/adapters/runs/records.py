"""Reading the records of runs."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence

import msgspec

from nvcops.adapters.ops_store import OpsStore
from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError
from nvcops.core.runs import RunRecord, RunState, Section, StepKind, StepRecord

_LIST_MAX = 1_000


class RunRecords:
    """What stands in the records of one platform's runs. Every method raises StateError when they cannot be read."""

    def __init__(self, ops: OpsStore, platform: str) -> None:
        self.ops = ops
        self.platform = platform

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

    def cancelled_by(self, run: str) -> str:
        """Who asked for a run to stop; empty: nobody."""
        rows = self.ops.rows("SELECT cancelled_by FROM runs WHERE id = ?", run)
        return str(rows[0][0] or "") if rows else ""

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

    def ended(self, procedure: str, *, limit: int) -> list[RunRecord]:
        """Runs of a procedure that ended and were no rehearsal, without their steps, the newest first."""
        rows = self.ops.rows(
            "SELECT * FROM runs WHERE platform = ? AND procedure = ? AND dry_run = 0 AND ended IS NOT NULL"
            " ORDER BY ended DESC, id LIMIT ?",
            self.platform,
            procedure,
            min(limit, _LIST_MAX),
        )
        return [self._record(row, complete=False) for row in rows]

    def under_way(self, start: dt.datetime, end: dt.datetime, *, limit: int) -> list[RunRecord]:
        """Runs that had begun before `end` and not ended before `start`, without their steps, the newest first."""
        rows = self.ops.rows(
            "SELECT * FROM runs WHERE platform = ? AND begun < ? AND (ended IS NULL OR ended >= ?)"
            " ORDER BY begun DESC, id LIMIT ?",
            self.platform,
            end.timestamp(),
            start.timestamp(),
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
            requested=moment_of(row["requested"]),
            due=moment_of(row["due"]) if row["due"] is not None else None,
            dry_run=bool(row["dry_run"]),
            options=msgspec.json.decode(row["options_json"]),
            content_hash=row["content_hash"],
            started=moment_of(row["begun"]) if row["begun"] is not None else None,
            ended=moment_of(row["ended"]) if row["ended"] is not None else None,
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
                started=moment_of(row["started"]) if row["started"] is not None else None,
                ended=moment_of(row["ended"]) if row["ended"] is not None else None,
                result=msgspec.json.decode(row["result_json"]) if row["result_json"] else None,
                error=row["error"],
            )
            for row in rows
        )

    def _sections(self, run: str) -> tuple[Section, ...]:
        rows = self.ops.rows("SELECT section_json FROM sections WHERE run = ? ORDER BY number", run)
        return tuple(msgspec.json.decode(row[0], type=Section) for row in rows)


def moment_of(seconds: float) -> dt.datetime:
    """A moment as the records keep it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def seconds_of(moment: dt.datetime | None) -> float | None:
    """The same, back."""
    return moment.timestamp() if moment else None
