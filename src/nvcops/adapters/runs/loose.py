"""Runs while no records can be kept: reading goes on, acting does not, and what happened is kept for the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import msgspec

from nvcops.adapters.runs import entries
from nvcops.adapters.runs import journal as journal_format
from nvcops.adapters.runs.conduct import Watch
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import StateError
from nvcops.core.evidence import Entry
from nvcops.core.runs import RunRecord, RunState, Section, Signed, StepKind, StepRecord
from nvcops.core.schedule import now

Keep = Callable[[Sequence[Entry]], None]


class LooseJournal:
    """Steps and sections in memory; their evidence goes straight to the log, which spools it if it must."""

    def __init__(self, run: RunRecord, keep: Keep, watch: Watch) -> None:
        self._run = run
        self._keep = keep
        self._watch = watch
        self.steps: list[StepRecord] = []
        self.unasked: list[Finding] = []

    def once(self, step: StepRecord, body: Callable[[], str], *, repeatable: bool) -> str:
        """See runs_conduct.Journal: a step that may not be repeated is not begun at all."""
        if step.kind is StepKind.ACT and not self._run.dry_run:
            raise StateError(
                f"{step.title}: nothing is acted on while no records of runs can be kept",
                hint="make room or give access in the state folder, then run it again",
            )
        begun = msgspec.structs.replace(step, started=now())
        self._watch(begun)
        kept = body()
        self._ended(begun, kept, repeatable=repeatable)
        return kept

    def person(self, step: StepRecord) -> str:
        """Nobody is asked, since the answer could not be kept; the run's verdict says so."""
        self.unasked.append(
            Finding(
                check=f"{self._run.procedure}.{step.kind}",
                title=step.title,
                verdict=Verdict.UNKNOWN,
                observed="nobody was asked: no records of runs can be kept",
                next_step="make room or give access in the state folder, then run it again",
            )
        )
        moment: dt.datetime = now()
        kept = journal_format.returned(Signed("", "nobody was asked", moment))
        self._ended(msgspec.structs.replace(step, started=moment), kept, repeatable=True)
        return kept

    def conclude(self, step: StepRecord, section: Section) -> None:
        """See runs_conduct.Journal."""
        moment = now()
        self._keep(list(entries.concluded(self._run, section, step.number, moment)))
        self.steps.append(msgspec.structs.replace(step, state=RunState.CONCLUDED, started=moment, ended=moment))

    def _ended(self, step: StepRecord, kept: str, *, repeatable: bool) -> None:
        assert repeatable or self._run.dry_run  # noqa: S101 - `once` refused it
        error = journal_format.error_in(kept)
        state = RunState.FAILED if error else RunState.CONCLUDED
        ended = msgspec.structs.replace(step, state=state, ended=now(), error=error)
        self.steps.append(ended)
        self._keep([entries.finished(self._run, ended, journal_format.value_in(kept))])
        self._watch(ended)
