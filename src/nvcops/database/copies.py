"""What every proof begins and ends with: the statements that the live database is asked, and a copy to try them on."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.clones import Clones, Copied, Copy
from nvcops.core.errors import NvcopsError, UsageError
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.core.workload import Statement, Workload

_ARGUMENT_SETS = 3
_SHARE = 0.99  # of all time: what is left is asked too rarely to matter
_STATEMENTS_MAX = 60
_TRIED = "nvcops_tried"
_WAS_TRIED = "SELECT to_regnamespace(%(name)s) IS NOT NULL AS tried"

# --- Facts ---


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the database was asked; `trouble` says why that is not known."""

    workload: Workload | None = None
    trouble: str = ""


@conduct(deadline="2 min", idempotent=True)
def asked(target: Target, since: dt.datetime, until: dt.datetime) -> Asked:
    """Read what the database was asked."""
    if target.statements is None:
        return Asked(trouble="platform.toml names no [database]")
    try:
        return Asked(workload=target.statements.between(since, until))
    except NvcopsError as error:
        return Asked(trouble=error.sentence)


def weightiest(workload: Workload) -> list[Statement]:
    """The statements that make up almost all of the time, the costliest first."""
    total = sum(statement.total_s for statement in workload.statements)
    chosen: list[Statement] = []
    reached = 0.0
    for statement in sorted(workload.statements, key=lambda one: -one.total_s)[:_STATEMENTS_MAX]:
        if reached >= _SHARE * total:
            break
        chosen.append(statement)
        reached += statement.total_s
    return chosen


def with_arguments(clones: Clones, copy: Copy, statements: list[Statement]) -> list[Statement]:
    """The statements with values of the copy's own columns; those for which none are found are left out."""
    return clones.with_arguments(copy, statements, _ARGUMENT_SETS)


def untried(clones: Clones, run: str) -> None:
    """See that nothing was tried on a run's copy yet: one on which that was begun before is made anew.

    What was changed there by whoever was killed would be measured, or be found mended.
    """
    clones.make(run)
    with clones.opened(run) as copy:
        tried = bool(copy.rows(_WAS_TRIED, {"name": _TRIED})[0]["tried"])
    if tried:
        clones.discard(run)
        clones.make(run)
    with clones.opened(run) as copy:
        copy.execute(f"CREATE SCHEMA {_TRIED}")


# --- Procedures ---


def clones_of(target: Target) -> Clones:
    """Where copies are made.

    Raises:
        UsageError: there are no backups to make them of.
    """
    if target.clones is None:
        raise UsageError("a proof needs a copy, and a copy a backup", hint="[backups] in platform.toml")
    return target.clones


@conduct(deadline="4 h", idempotent=True, attempts=2)
def copied(target: Target, run: str) -> Copied:
    """Restore the newest backup beside the live database."""
    clones = clones_of(target)
    clones.tidy(run)
    return clones.make(run)


@conduct(deadline="10 min", idempotent=True, attempts=3)
def discarded(target: Target, run: str) -> bool:
    """Throw the copy away."""
    return clones_of(target).discard(run)
