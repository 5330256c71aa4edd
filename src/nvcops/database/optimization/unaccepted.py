"""What a run changed and did not live to see accepted is taken back: when it is cancelled, or by the next run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.upkeep import Outcome, Pending
from nvcops.database.optimization.altering import alter, as_meant, in_force, reload
from nvcops.database.optimization.proposals import Kind, Proposal

# --- Facts ---


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A change that nobody had accepted: of which run, and why it may still be in force; empty: it is taken back."""

    run: str
    subject: str
    still: str = ""


# --- Rules ---

UNACCEPTED = Check(
    "optimization.unaccepted", "Not accepted", "nvcops run db-optimization tries again; or take it back by hand"
)


def left_findings(left: Sequence[Left]) -> list[Finding]:
    """What earlier runs left in force.

    >>> [(line.verdict.name, line.observed) for line in left_findings([
    ...     Left(run="r@1", subject="jit = off"), Left(run="r@1", subject="a = b", still="db-1 does not answer")])]
    [('WARNING', 'r@1 ended before it was accepted: it is taken back'), ('CRITICAL', 'r@1 ended before it was accepted,\
 and it may be in force: db-1 does not answer')]
    """
    lines = []
    for one in left:
        ended = f"{one.run} ended before it was accepted"
        if one.still:
            observed = f"{ended}, and it may be in force: {one.still}"
            lines.append(UNACCEPTED.finding(Verdict.CRITICAL, observed, subject=one.subject))
        else:
            lines.append(UNACCEPTED.finding(Verdict.WARNING, f"{ended}: it is taken back", subject=one.subject))
    return lines


def sentences(left: Sequence[Left]) -> list[str]:
    """The same for who ends the run."""
    return [
        f"{one.subject} may still be in force: {one.still}; the next db-optimization takes it back"
        if one.still
        else f"{one.subject} is taken back"
        for one in left
    ]


# --- Procedures ---


def clean(run: Run, target: Target) -> list[Finding]:
    """Take back what other runs left, before anything is looked at. The lock says that none of them is under way."""
    if target.upkeep is None:
        return []
    others = [one.subject for one in run.read(unaccepted, target) if one.run != run.id]
    if not others:
        return []
    left = run.step(f"take back {', '.join(others)}, which nobody accepted", take_back_others, target, run.id)
    return left_findings(left or [])


@conduct(deadline="1 min", idempotent=True)
def unaccepted(target: Target) -> list[Pending]:
    """Look for changes that nobody has accepted."""
    return target.upkeep.pending() if target.upkeep else []


@conduct(deadline="2 h", idempotent=True)
def take_back_others(target: Target, run: str) -> list[Left]:
    """Take back what runs other than this one left."""
    return [_taken_back(target, one) for one in unaccepted(target) if one.run != run]


def given_up(target: Target, run: str) -> list[str]:
    """Take back what a run that ends here has in force and did not see accepted; what became of it."""
    return sentences([_taken_back(target, one) for one in unaccepted(target) if one.run == run])


def _taken_back(target: Target, one: Pending) -> Left:
    """Take one back, read it back, and forget it when it is gone."""
    try:
        proposal = msgspec.json.decode(one.change, type=Proposal)
        done = alter(target, proposal, one.server, "")
        if done.outcome is Outcome.DONE and proposal.kind is not Kind.TABLE:
            done = reload(target)
        if done.outcome is not Outcome.DONE:
            return Left(run=one.run, subject=one.subject, still=done.why)
        there = in_force(target, [proposal], False)
        if there.trouble or as_meant(proposal, there.values):
            return Left(run=one.run, subject=one.subject, still=there.trouble or "the server still runs with it")
        if target.upkeep is not None:
            target.upkeep.settle(one.run, [one.subject])
    except (NvcopsError, msgspec.DecodeError) as error:
        why = error.sentence if isinstance(error, NvcopsError) else f"its note cannot be read: {error}"
        return Left(run=one.run, subject=one.subject, still=why)
    return Left(run=one.run, subject=one.subject)
