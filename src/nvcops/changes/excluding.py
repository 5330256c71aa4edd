"""The time that changes took which were approved before their run: it is left out of the objectives as a run's is."""

from __future__ import annotations

import datetime as dt

from nvcops.core.changes import Change, ChangeCategory
from nvcops.core.records import Reading
from nvcops.core.slo import EXCLUSIONS_MAX, Exclusion

_MOST = dt.timedelta(hours=4)  # one that was forgotten excuses nothing for ever


def excluded(reading: Reading, start: dt.datetime, end: dt.datetime) -> list[Exclusion]:
    """The time between two moments that changes took, from their beginning on, oldest first; at most 1,000.

    `change` names the run, by which it is known whether that was maintenance. What was approved in the run itself
    stands in the run's journal, and an emergency is a repair: neither is here.
    """
    found = reading.find(Change, began__gte=start - _MOST, began__lt=end, order="began", limit=EXCLUSIONS_MAX)
    spans = []
    for change in found:
        before = [one.person for one in change.approved_by if not one.run]
        by = ", ".join(before) or change.standard
        over = min(change.done or end, end, change.began + _MOST) if change.began else end
        if not by or change.began is None or change.category is ChangeCategory.EMERGENCY or over <= start:
            continue
        spans += [
            Exclusion(start=change.began, end=over, change=run, approved_by=by, approved=change.began)
            for run in change.runs[-1:]
            if over > change.began
        ]
    return spans
