"""What the database was asked over time: from our file, and where it knows nothing from what the server has counted."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from nvcops.adapters.statements.reading import HOME, questions, reading
from nvcops.adapters.statements.rises import Reading
from nvcops.adapters.statements.store import StatementStore
from nvcops.core.errors import TargetError
from nvcops.core.queries import Rows
from nvcops.core.schedule import now
from nvcops.core.statements import Waits
from nvcops.core.target import Database
from nvcops.core.workload import Statement, Workload

_STATEMENTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class StatementHistory:
    """See core.statements.Statements."""

    store: StatementStore
    database: Database

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        """What was asked between two moments; else what the server has counted until now."""
        return self.store.between(start, end, self.database.name) or self.live()

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        """What was waited for between two moments."""
        return self.store.waits(start, end)

    def live(self) -> Workload:
        """What the server has counted since its statistics were reset.

        Raises:
            TargetError: it does not answer, or pg_stat_statements is not there.
        """
        answers = self.database.read(questions(self.database.rows(HOME)))
        return workload(reading(self.database.name, _said(answers["info"]), _said(answers["counted"])), now())


def workload(counted: Reading, until: dt.datetime) -> Workload:
    """A reading as a workload: the roles of a statement together."""
    sums: dict[int, Statement] = {}
    for one in counted.counted:
        before = sums.get(one.query, Statement(id=one.query, text=one.text, calls=0.0, total_s=0.0))
        sums[one.query] = Statement(
            id=one.query,
            text=before.text,
            calls=before.calls + one.calls,
            total_s=before.total_s + one.total_ms / 1000,
            rows=before.rows + one.rows,
        )
    told = sorted(sums.values(), key=lambda one: one.total_s, reverse=True)
    everything = sum(one.total_s for one in told)
    top = tuple(told[:_STATEMENTS_MAX])
    share = min(sum(one.total_s for one in top) / everything, 1.0) if everything else 1.0
    return Workload(server=counted.server, since=counted.reset, until=until, statements=top, share=share)


def _said(answer: Rows | TargetError) -> Rows:
    if isinstance(answer, TargetError):
        raise answer
    return answer
