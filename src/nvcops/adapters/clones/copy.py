"""A copy whose server runs: asked, changed, measured. See core.clones.Copy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from nvcops.adapters.backup.tools import Tools
from nvcops.adapters.clones import load, what_if
from nvcops.adapters.clones.prepared import call, generic, parameters, prepare
from nvcops.adapters.clones.session import Door, Session, as_target_error, first_line, run, told
from nvcops.core.clones import Load, Timing, WhatIf
from nvcops.core.errors import Refused, TargetError
from nvcops.core.queries import Rows
from nvcops.core.workload import Statement

_ROWS_MAX = 10_000
_ASKED_S = 300.0
_EXPLAINED_S = 1800.0
_PLANNED = {"plan_cache_mode": "force_custom_plan"}
_PLANNED_WITHOUT = {"plan_cache_mode": "force_generic_plan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCopy:
    """See core.clones.Copy. `data` is the folder over which its server runs."""

    door: Door
    data: Path
    tools: Tools

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """All rows of a query."""
        with self.door.session(deadline_s=_ASKED_S) as session, told(_ASKED_S):
            found: Rows = run(session, sql, parameters).fetchmany(_ROWS_MAX + 1)
        if len(found) > _ROWS_MAX:
            raise Refused(f"the copy has more than {_ROWS_MAX:,} rows to say", hint="ask for fewer")
        return found

    def execute(self, *statements: str, deadline_s: float = 3600.0) -> None:
        """Change it."""
        with self.door.session(deadline_s=deadline_s) as session, told(deadline_s):
            for statement in statements:
                run(session, statement)

    def explain(
        self, statement: Statement, *, analyze: bool = False, settings: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The plans."""
        words = "EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT JSON)" if analyze else "EXPLAIN (VERBOSE, FORMAT JSON)"
        planned = _PLANNED if statement.arguments else _PLANNED_WITHOUT
        if analyze and not statement.arguments and parameters(statement.text):
            raise Refused(f"the statement {statement.id} has no arguments to be run with")
        with (
            self.door.session(deadline_s=_EXPLAINED_S, settings={**planned, **(settings or {})}) as session,
            told(_EXPLAINED_S),
        ):
            name = prepare(session, statement)
            return [_plan(session, f"{words} {each}") for each in _calls(statement, name)]

    def timed(
        self,
        statements: Sequence[Statement],
        *,
        rounds: int,
        deadline_s: float,
        settings: Mapping[str, str] | None = None,
    ) -> list[Timing]:
        """How long each takes."""
        with self.door.session(deadline_s=deadline_s, settings={**_PLANNED, **(settings or {})}) as session:
            clocks = [_Clock(session, statement, number, deadline_s) for number, statement in enumerate(statements)]
            for kept in (False, *[True] * rounds):
                for clock in clocks:
                    clock.go_round(kept=kept)
        return [clock.timing() for clock in clocks]

    def load(self, statements: Sequence[Statement], *, sessions: int, seconds: float, warm_s: float = 1.0) -> Load:
        """What sessions get done side by side."""
        return load.measured(self.door, statements, sessions=sessions, seconds=seconds, warm_s=warm_s)

    def what_if(self) -> AbstractContextManager[WhatIf]:
        """Ask about indexes that are not there."""
        return what_if.opened(self.door, self.data, self.tools)


def _calls(statement: Statement, name: str) -> list[str]:
    """One EXECUTE for each set of arguments."""
    if statement.arguments:
        return [call(name, arguments) for arguments in statement.arguments]
    return [generic(name, parameters(statement.text))]


def _plan(session: Session, text: str) -> dict[str, Any]:
    """One plan; whatever the statement does is undone."""
    with rolled_back(session):
        row = run(session, text).fetchone()
    if row is None:
        raise Refused("the copy has no plan")
    answer = row["QUERY PLAN"][0]
    plan: dict[str, Any] = answer["Plan"]
    return plan | {name: answer[name] for name in ("Planning Time", "Execution Time") if name in answer}


@contextmanager
def rolled_back(session: Session) -> Iterator[None]:
    """A transaction of which nothing stays."""
    session.execute("BEGIN")
    try:
        yield
    finally:
        if not session.closed:
            session.execute("ROLLBACK")


class _Clock:
    """Measures one statement, round by round; it gives up at the first trouble, which is told."""

    def __init__(self, session: Session, statement: Statement, number: int, deadline_s: float) -> None:
        self._session, self._statement, self._deadline_s = session, statement, deadline_s
        self._seconds: list[float] = []
        self._stopped, self._trouble, self._calls = False, "", list[str]()
        if parameters(statement.text) and not statement.arguments:
            self._trouble = "it has no arguments"
            return
        try:
            self._calls = _calls(statement, prepare(session, statement, number))
        except psycopg.Error as error:
            self._trouble = first_line(as_target_error(error, deadline_s))
        except TargetError as error:
            self._trouble = error.sentence

    def go_round(self, *, kept: bool) -> None:
        """Run it once with each of its arguments."""
        for each in self._calls:
            if self._stopped or self._trouble:
                return
            try:
                with rolled_back(self._session):
                    began = time.perf_counter()
                    run(self._session, each)
                    took = time.perf_counter() - began
            except psycopg.errors.QueryCanceled:
                self._stopped, self._seconds = True, [self._deadline_s]
            except psycopg.Error as error:
                self._trouble = as_target_error(error, self._deadline_s).sentence
            else:
                self._seconds += [took] if kept else []

    def timing(self) -> Timing:
        """What was measured."""
        seconds = () if self._trouble else tuple(self._seconds)
        return Timing(id=self._statement.id, seconds=seconds, stopped=self._stopped, trouble=self._trouble)
