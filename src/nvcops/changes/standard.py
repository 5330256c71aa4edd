"""Changes that are approved beforehand: they approve themselves when what they claim is seen to be so."""

from __future__ import annotations

import datetime as dt

from nvcops.changes import freezes, lifecycle, risk
from nvcops.changes.measuring import Measured
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState
from nvcops.core.checks import Verdict
from nvcops.core.errors import NvcopsError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Standard
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.target import Target
from nvcops.core.units import Ratio

_BAD = (ChangeState.FAILED, ChangeState.ROLLED_BACK)

# --- Rules ---


def entry_for(manifest: Manifest, kind: ChangeKind, procedure: str) -> Standard | None:
    """The entry under which a procedure's change of a kind is standard; None where there is none."""
    return next(
        (one for one in manifest.changes.standard if one.kind is kind and procedure and procedure in one.procedures),
        None,
    )


def succeeded(run: RunRecord, bad: set[str]) -> bool:
    """Whether a run came to a good end: a verdict of OK or WARNING, and its change neither failed nor was undone."""
    good = run.state is RunState.CONCLUDED and run.verdict in (Verdict.OK, Verdict.WARNING)
    return good and run.id not in bad


def row_of(runs: list[RunRecord], bad: set[str]) -> int:
    """How many of the newest runs were successful without a break."""
    for number, run in enumerate(runs):
        if not succeeded(run, bad):
            return number
    return len(runs)


def unproven(entry: Standard, row: int, measured: Measured) -> list[str]:
    """What of a standard change's evidence does not hold; nothing: it is approved.

    Where the score has not enough data, the risk is what the unbroken row of successful runs says of it.
    """
    found = []
    if row < entry.runs:
        found.append(f"not standard: {row} of the last {entry.runs} runs were successful without a break")
    chance = measured.risk if measured.risk is not None else risk.of_runs(row)
    if chance >= entry.risk_max:
        source = "its score" if measured.risk is not None else f"{row} successful runs"
        found.append(f"not standard: risk {Ratio(chance)} by {source}, {entry.risk_max} is the limit")
    return found


# --- Facts ---


def unmet(target: Target, entry: Standard, procedure: str, measured: Measured, at: dt.datetime) -> list[str]:
    """Why a standard change does not approve itself now; nothing where it does."""
    if target.runs is None or target.records is None:
        return ["not standard: no runs are kept"]
    try:
        runs = target.runs.last(procedure, entry.runs)
        with target.records.reading() as reading:
            newest = reading.find(Change, state__in=list(_BAD), order="-number", limit=lifecycle.OPEN_MAX)
    except NvcopsError as error:
        return [f"not standard: {error.sentence}"]
    bad = {run for change in newest for run in change.runs}
    found = unproven(entry, row_of(runs, bad), measured)
    objectives = [one.name for one in target.manifest.slos if one.service in {*measured.services, *measured.dependants}]
    found += [
        f"not standard: the error budget of {name} is not known" for name in objectives if name not in measured.budgets
    ]
    frozen = freezes.frozen(target.manifest, ChangeCategory.STANDARD, at, measured.budgets)
    return found + ([frozen] if frozen else [])
