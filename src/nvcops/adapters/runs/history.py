"""The journal of runs as rooms see it: which runs were under way, and what was missed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.ops_store import OpsStore
from nvcops.adapters.runs.records import RunRecords, moment_of
from nvcops.core.runs import RunRecord
from nvcops.core.schedule import Due, Standing

_FOUND_MAX = 100
_RUNS_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class History:
    """See core.target.RunHistory."""

    path: Path
    platform: str

    def run(self, run: str) -> RunRecord:
        """One run with its steps."""
        with self._records() as records:
            return records.get(run)

    def between(self, start: dt.datetime, end: dt.datetime) -> list[RunRecord]:
        """The runs that were under way at some moment between two, newest first."""
        with self._records() as records:
            found = records.find(limit=_RUNS_LOOKED_AT)
        return [run for run in found if run.started and run.started < end and (run.ended or end) >= start][:_FOUND_MAX]

    def missed(self, start: dt.datetime, end: dt.datetime) -> list[Due]:
        """What was due between two moments and was missed, oldest first."""
        query = (
            "SELECT procedure, due FROM missed WHERE platform = ? AND due >= ? AND due < ? ORDER BY due DESC LIMIT ?"
        )
        with self._records() as records:
            rows = records.ops.rows(query, self.platform, start.timestamp(), end.timestamp(), _FOUND_MAX)
        return [Due(row["procedure"], moment_of(row["due"]), Standing.MISSED) for row in reversed(rows)]

    @contextmanager
    def _records(self) -> Iterator[RunRecords]:
        with closing(OpsStore(self.path)) as ops:
            yield RunRecords(ops, self.platform)
