"""The runs of a platform as a room may read them: opened, read and let go of at each question."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from nvcops.adapters.ops_store import OpsStore
from nvcops.adapters.runs.records import RunRecords, moment_of
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord
from nvcops.core.schedule import Due, Standing

T = TypeVar("T")
_MOST = 100


@dataclass(frozen=True, slots=True)
class RunJournal:
    """See core.target.RunHistory."""

    manifest: Manifest

    def run(self, run: str) -> RunRecord:
        """One run with its steps; raises NotFoundError where there is none."""
        return self._ask(lambda records: records.get(run))

    def between(self, start: dt.datetime, end: dt.datetime) -> list[RunRecord]:
        """The runs that were under way at some moment between two, without their steps, newest first; at most 100."""
        return self._ask(lambda records: records.under_way(start, end, limit=_MOST))

    def missed(self, start: dt.datetime, end: dt.datetime) -> list[Due]:
        """What was due between two moments and was missed, oldest first; at most 100."""
        sql = "SELECT procedure, due FROM missed WHERE platform = ? AND due >= ? AND due < ? ORDER BY due LIMIT ?"
        parameters = (self.manifest.platform.name, start.timestamp(), end.timestamp(), _MOST)
        rows = self._ask(lambda records: records.ops.rows(sql, *parameters))
        return [Due(row["procedure"], moment_of(row["due"]), Standing.MISSED) for row in rows]

    def _ask(self, question: Callable[[RunRecords], T]) -> T:
        with closing(OpsStore(self.manifest.platform.state / "ops.sqlite")) as ops:
            return question(RunRecords(ops, self.manifest.platform.name))
