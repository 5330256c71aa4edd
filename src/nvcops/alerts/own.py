"""What nvcops has to say of itself: procedures that did not run or ended badly, silent instances, lost messages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nvcops.alerts.said import NVCOPS, Said
from nvcops.core.alerts import ALERTNAME, Category
from nvcops.core.checks import Verdict
from nvcops.core.oncall import Beat, Message
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.schedule import Due

SOURCE = NVCOPS
_MISSED, _ENDED, _UNDELIVERABLE = "ProcedureMissed", "ProcedureEndedBadly", "MessageUndeliverable"
_AS = {Verdict.CRITICAL: Category.HIGH, Verdict.WARNING: Category.LOW, Verdict.UNKNOWN: Category.MEDIUM}

# --- Rules ---


def runs_said(missed: Iterable[Due], runs: Sequence[RunRecord], at: dt.datetime) -> list[Said]:
    """What was missed and has not run since, and what the last run of a procedure came to where that is no good.

    Said again each time; what is not said any more is over. A bad end of a run that somebody asked for is theirs to
    see, and a good one makes good for what was due.
    """
    last = _last(runs)
    said = []
    for due in missed:
        since = last.get(due.procedure)
        if since is None or (since.started or since.requested) < due.due:
            words = f"{due.procedure} was due at {due.due:%Y-%m-%d %H:%M %Z} and did not run"
            said.append(_of_procedure(_MISSED, due.procedure, Category.MEDIUM, due.due, words))
    for run in last.values():
        trouble = trouble_of(run)
        if trouble is not None:
            category, words = trouble
            said.append(_of_procedure(_ENDED, run.procedure, category, run.ended or at, words, url=run.id))
    return list({one.fingerprint: one for one in said}.values())


def _last(runs: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """The last run of each procedure that ended and was no rehearsal; `runs` are the newest first."""
    found: dict[str, RunRecord] = {}
    for run in runs:
        if run.state.ended and run.state is not RunState.CANCELLED and not run.dry_run:
            found.setdefault(run.procedure, run)
    return found


def trouble_of(run: RunRecord) -> tuple[Category, str] | None:
    """How grave the end of a run is, and in words; None where it was good."""
    if run.due is None:
        return None
    if run.state is RunState.FAILED:
        return Category.HIGH, f"{run.procedure} failed: {run.error or 'without a word'}"
    if run.verdict is None or run.verdict is Verdict.OK:
        return None
    return _AS[run.verdict], f"{run.procedure} is {run.verdict.name}: {run.summary or run.id}"


def _of_procedure(
    name: str, procedure: str, category: Category, starts: dt.datetime, words: str, url: str = ""
) -> Said:
    return Said(
        labels={ALERTNAME: name, "procedure": procedure, "category": category.value, "kind": "run"},
        annotations={"summary": words, **({"run": url} if url else {})},
        starts=starts,
        source=SOURCE,
        identity={ALERTNAME: name, "procedure": procedure},
        lasts=False,
    )


def beats_said(found: Sequence[Beat], silent: Sequence[Beat]) -> list[Said]:
    """Of each other instance whether it is silent; of one that nobody knows any more nothing is said, so it is over."""
    quiet = {beat.id for beat in silent}
    return [
        Said(
            labels={
                ALERTNAME: "InstanceSilent",
                "instance": beat.id,
                "category": Category.HIGH.value,
                "kind": "nvcops",
            },
            annotations={"summary": f"nvcops on {beat.host} has not been heard of since {beat.last:%H:%M:%S %Z}"},
            starts=beat.last if beat.id in quiet else None,
            over=beat.id not in quiet,
            source=SOURCE,
            lasts=False,
        )
        for beat in found
    ]


def of_itself(message: Message) -> bool:
    """Whether a lost message only said that messages to that receiver are lost: to say so again would never end."""
    if not message.payload:
        return False
    labels = [alert.get("labels", {}) for alert in msgspec.json.decode(message.payload).get("alerts", ())]
    return bool(labels) and all(one.get(ALERTNAME) == _UNDELIVERABLE and one.get("to") == message.to for one in labels)


def undeliverable(message: Message) -> Said:
    """A message that reached nobody, by any channel."""
    return Said(
        labels={ALERTNAME: _UNDELIVERABLE, "to": message.to, "category": Category.HIGH.value, "kind": "nvcops"},
        annotations={
            "summary": f"{message.to} could not be told: {message.subject[:200]}",
            "error": message.error[:300],
        },
        source=SOURCE,
        lasts=False,
    )


def mistake(error: Exception) -> Said:
    """A mistake in nvcops itself: what it kept from being decided may be the worst there is."""
    return Said(
        labels={ALERTNAME: "EngineMistake", "category": Category.CRITICAL.value, "kind": "nvcops"},
        annotations={
            "summary": f"nvcops cannot decide all that it should: {type(error).__name__}: {error}"[:300],
            "description": "What raised is kept and tried again each minute; all else goes on. See what it prints.",
        },
        source=SOURCE,
        lasts=False,
    )


def condition_said(labels: Mapping[str, str], summary: str, starts: dt.datetime) -> Said:
    """A condition of our own that holds since `starts`: said again while it does."""
    return Said(
        labels={**labels, "kind": "nvcops"},
        annotations={"summary": summary},
        starts=starts,
        source=SOURCE,
        lasts=False,
    )
