"""The change under which live data are replaced: an emergency, so that no freeze holds a repair up."""

from __future__ import annotations

from nvcops.changes import carrying
from nvcops.core.changes import ChangeCategory, ChangeKind
from nvcops.core.runs import Run
from nvcops.core.target import Target


def replacing(run: Run, target: Target, title: str, step: str, change: str = "") -> carrying.Carried:
    """Go on under the named change, else ask a second person; it is reviewed afterwards. Raises as `carrying.carry`."""
    wish = carrying.Wish(
        kind=ChangeKind.RESTORE,
        title=title,
        number=carrying.number_of(change),
        category=ChangeCategory.EMERGENCY,
        asks=True,
    )
    return carrying.under(run, target, wish, step)
