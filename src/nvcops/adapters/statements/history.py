"""What the database was asked over time: from our file, and where it knows nothing from what the server has counted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, sleep

import msgspec

from nvcops.adapters.statements.reading import HOME, WAITS, Waiting, inside_questions, questions, reading
from nvcops.adapters.statements.rises import Reading
from nvcops.adapters.statements.store import StatementStore
from nvcops.core.errors import Refused, TargetError
from nvcops.core.queries import Rows
from nvcops.core.schedule import now
from nvcops.core.statements import Inside, Planned, Waited, Waits
from nvcops.core.target import Database
from nvcops.core.workload import Statement, Workload

_STATEMENTS_MAX = 1_000
_LOOK_EVERY_S = 1.0
_EXPLAIN = "EXPLAIN (GENERIC_PLAN, FORMAT JSON)"  # since PostgreSQL 16


@dataclass(frozen=True, slots=True)
class StatementHistory:
    """See core.statements.Statements. `planners` are asked for plans, in this order, until one answers."""

    store: StatementStore
    database: Database
    planners: Sequence[Database] = ()

    def between(self, start: dt.datetime, end: dt.datetime) -> Workload:
        """What was asked between two moments; else what the server has counted until now."""
        return self.store.between(start, end, self.database.name) or self.live()

    def waits(self, start: dt.datetime, end: dt.datetime) -> Waits:
        """What was waited for between two moments."""
        return self.store.waits(start, end)

    def plan(self, text: str) -> Planned:
        """The plan of a statement whose constants nobody knows."""
        if ";" in text or not text:  # one statement is explained, and nothing runs behind it
            raise Refused("its text is not one whole statement")
        trouble: TargetError = Refused("there is no server to ask")
        for server in self.planners or (self.database,):
            try:
                (row,) = server.rows(f"{_EXPLAIN} {text}")
            except TargetError as error:
                trouble = error
            else:
                return Planned(server=server.name, explained=row["QUERY PLAN"][0])
        raise trouble

    def sample(self, seconds: float) -> Waits:
        """Look at the sessions each second, for so long."""
        end, last = monotonic() + seconds, monotonic()
        observed_s, sums = 0.0, dict[tuple[str, str, int, str], float]()
        while (left := end - monotonic()) > 0:
            sleep(min(_LOOK_EVERY_S, left))
            seen, since, last = msgspec.convert(self.database.rows(WAITS), list[Waiting]), last, monotonic()
            observed_s += last - since
            for one in seen:
                key = (one.kind, one.event, one.query, one.application)
                sums[key] = sums.get(key, 0.0) + one.count * (last - since)
        waited = [
            Waited(kind=key[0], event=key[1], query=key[2], application=key[3], seconds=sum_)
            for key, sum_ in sums.items()
        ]
        return Waits(observed_s=observed_s, waited=tuple(sorted(waited, key=lambda one: -one.seconds)))

    def live(self) -> Workload:
        """What the server has counted since its statistics were reset.

        Raises:
            TargetError: it does not answer, or pg_stat_statements is not there.
        """
        answers = self.database.read(questions(self.database.rows(HOME)))
        return workload(reading(self.database.name, _said(answers["info"]), _said(answers["counted"])), now())

    def inside(self) -> Inside:
        """What functions ask inside, as the server has counted it."""
        answers = self.database.read(inside_questions(self.database.rows(HOME)))
        (row,) = _said(answers["tracked"])
        told = msgspec.convert(_said(answers["inside"]), tuple[Statement, ...])
        return Inside(tracked=row["tracked"] == "all", statements=told)


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
