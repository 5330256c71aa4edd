"""The runs of a platform as a room may read them: opened, read and let go of at each question."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from nvcops.adapters.ops_store import OpsStore
from nvcops.adapters.runs.records import RunRecords, moment_of
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunRecord, Signed
from nvcops.core.schedule import Due, Standing
from nvcops.core.slo import EXCLUSIONS_MAX, Exclusion

T = TypeVar("T")
_MOST = 100
_APPROVED_MOST = dt.timedelta(hours=4)  # a run that was forgotten excuses nothing for ever
# A rehearsal changes nothing, and without records nobody was asked.
_APPROVED = """
SELECT s.run, s.result_json, max(s.ended) AS approved, r.ended FROM steps s JOIN runs r ON r.id = s.run
WHERE r.platform = ? AND r.dry_run = 0 AND s.kind = 'approve' AND s.state = 'concluded'
    AND s.ended < ? AND (r.ended IS NULL OR r.ended > ?) AND json_extract(s.result_json, '$.person') <> ''
GROUP BY s.run ORDER BY approved LIMIT ?"""


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

    def requester(self, run: str) -> tuple[str, str]:
        """Who asked for a run, and the fingerprint of their key."""
        return self._ask(lambda records: records.requester(run))

    def last(self, procedure: str, count: int) -> list[RunRecord]:
        """The last runs of a procedure that ended and were no rehearsal; at most 100."""
        return self._ask(lambda records: records.ended(procedure, limit=min(count, _MOST)))

    def missed(self, start: dt.datetime, end: dt.datetime) -> list[Due]:
        """What was due between two moments and was missed, oldest first; at most 100."""
        sql = "SELECT procedure, due FROM missed WHERE platform = ? AND due >= ? AND due < ? ORDER BY due LIMIT ?"
        parameters = (self.manifest.platform.name, start.timestamp(), end.timestamp(), _MOST)
        rows = self._ask(lambda records: records.ops.rows(sql, *parameters))
        return [Due(row["procedure"], moment_of(row["due"]), Standing.MISSED) for row in rows]

    def approved(self, start: dt.datetime, end: dt.datetime) -> list[Exclusion]:
        """The time that approved runs took."""
        parameters = (self.manifest.platform.name, end.timestamp(), start.timestamp(), EXCLUSIONS_MAX)
        rows = self._ask(lambda records: records.ops.rows(_APPROVED, *parameters))
        found = []
        for row in rows:
            approved = moment_of(row["approved"])
            over = min(moment_of(row["ended"]) if row["ended"] else end, end, approved + _APPROVED_MOST)
            if over > max(approved, start):
                said = msgspec.json.decode(row["result_json"], type=Signed)
                found.append(
                    Exclusion(start=approved, end=over, change=row["run"], approved_by=said.person, approved=approved)
                )
        return found

    def _ask(self, question: Callable[[RunRecords], T]) -> T:
        with closing(OpsStore(self.manifest.platform.state / "ops.sqlite")) as ops:
            return question(RunRecords(ops, self.manifest.platform.name))
