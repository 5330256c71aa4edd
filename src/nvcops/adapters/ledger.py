"""What the service's own books say of a time: the queries of a file, asked of the primary by a role that may read."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup.restores_look import read_invariants
from nvcops.core.errors import NvcopsError
from nvcops.core.target import Booked, Database


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """See core.target.Ledger. The file is written as the invariants' is: `-- name: title`, below it a query."""

    path: Path
    database: Database

    def booked(self, start: dt.datetime, end: dt.datetime) -> list[Booked]:
        """Each figure of a time; one that cannot be had says why."""
        window = {"start": start.isoformat(), "end": end.isoformat()}
        return [self._one(stated.name, stated.query, window) for stated in read_invariants(self.path)]

    def _one(self, title: str, query: str, window: dict[str, str]) -> Booked:
        try:
            rows = self.database.rows(query, window)
            return Booked(title=title, value=float(next(iter(rows[0].values()))))
        except NvcopsError as error:
            return Booked(title=title, why=error.sentence)
        except (IndexError, StopIteration, TypeError, ValueError):
            return Booked(title=title, why="the query answers with no number")
