"""The door by which other rooms change something: inside of their run, under a change that may begin, or not at all.

`carry` finds the change and marks it as being carried out, `done` says how that ended. Both are journaled by the run,
so a run that is resumed answers from its journal. A change comes from one of three places: it is named (`--change
C-17`), an entry of [[changes.standard]] whose evidence verifies makes one, or the run's own approval is its approval:
then what a second person approved is this very run, and nobody is asked twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.changes.executing import Ended, begun, finished
from nvcops.changes.lifecycle import number_of
from nvcops.changes.looking import Found, Way, Wish, looked_for
from nvcops.core.changes import ChangeCategory, ChangeKind
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import NotAllowed
from nvcops.core.runs import Run, Signed
from nvcops.core.target import Target

__all__ = ["Carried", "Ended", "Wish", "carry", "done", "ended_by", "number_of", "under"]


class Carried(msgspec.Struct, frozen=True):
    """The number of the change (0: none), and who approved it."""

    number: int
    approved: str = ""


def carry(  # noqa: PLR0913 - what a change is
    run: Run,
    target: Target,
    kind: ChangeKind,
    title: str,
    *,
    number: int = 0,
    step: str = "",
    digest: str = "",
    services: tuple[str, ...] = (),
    schema: bool | None = None,
    rollback_plan: str = "",
    category: ChangeCategory = ChangeCategory.NORMAL,
) -> int:
    """Go on under a change; its number, 0 in a rehearsal or where no change is required.

    `number` is the change that somebody named (see `number_of`), 0: none. `step` is the name of the run's approval,
    which is asked for where no change is named and none approves itself; without it such a run is refused. `title` says
    what is about to be done. `schema`: whether the schema is changed, None where nobody knows. `category` is what a
    change is that is made here: normal, or an emergency (a repair that no freeze holds up, and that is reviewed later;
    without `step` it is approved afterwards).

    Raises:
        NotAllowed: there is no change under which it may be done now, by who wants to do it.
        StepFailed: meanwhile there is none any more.
    """
    wish = Wish(
        kind=kind,
        title=title,
        number=number,
        digest=digest,
        services=services,
        schema=schema,
        rollback_plan=rollback_plan,
        category=category,
        asks=bool(step),
    )
    return under(run, target, wish, step).number


def under(run: Run, target: Target, wish: Wish, step: str = "") -> Carried:
    """The same, with who approved it; raises as `carry` does. `wish.asks` where there is a `step`."""
    found = run.read(looked_for, target, run.id, run.started, wish)
    if found.way is Way.REFUSED:
        raise NotAllowed(found.why, hint=found.hint)
    signed = Signed("", "", run.started)
    if step and found.way in (Way.ASKED, Way.FREE):
        signed = run.approve(step, wish.title)
    by = signed.person or found.approved
    if found.way is Way.FREE:
        return Carried(0, by)
    return Carried(run.step(_begins(found), begun, target, run.id, wish, found, signed) or 0, by)


def ended_by(findings: Sequence[Finding]) -> Ended:
    """How it ended by the findings that were read again: something CRITICAL is a failure.

    >>> ended_by([Finding(check="a", title="A", verdict=Verdict.WARNING)]), ended_by([])
    (<Ended.DONE: 'done'>, <Ended.DONE: 'done'>)
    """
    return Ended.FAILED if any(line.verdict is Verdict.CRITICAL for line in findings) else Ended.DONE


def done(run: Run, target: Target, number: int, ended: Ended, why: str = "") -> None:
    """Say how the carrying out ended; `why` in a sentence. Nothing where there is no change."""
    if number:
        run.step(f"C-{number} is {ended}", finished, target, run.id, number, ended, why)


def _begins(found: Found) -> str:
    named = f"C-{found.number}" if found.number else "a standard change" if found.standard else "a change"
    return f"carry out {named}"
