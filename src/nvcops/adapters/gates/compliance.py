"""Compliance: each declared control has evidence that is younger than its period: a run that came to a good verdict."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell, Ran
from nvcops.core.checks import Verdict
from nvcops.core.gates import GateLine, GateReport, judged
from nvcops.core.units import Seconds

_GOOD = (Verdict.OK, Verdict.WARNING)
_FUTURE = dt.timedelta(minutes=5)


def judge(asked: Asked) -> GateReport:
    """`options` are the controls: the procedure that is the evidence, and its period."""
    if not asked.options:
        raise CannotTell("the gate names no control: options = { procedure = period }")
    newest = {ran.procedure: ran for ran in asked.ran}
    lines = []
    for procedure in asked.options:
        period = asked.seconds(procedure, "7 d")
        ran = newest.get(procedure)
        if ran is None:
            raise CannotTell(f"the runs of {procedure} could not be read")
        if why := lacking(ran, period, asked.now):
            lines.append(GateLine(rule=procedure, text=f"{procedure} {why}"))
    return judged(lines, len(asked.options), "controls")


def lacking(ran: Ran, period: Seconds, now: dt.datetime) -> str:
    """Why a run is no evidence.

    >>> day = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    >>> def said(verdict, age_s):
    ...     ran = Ran(procedure="drill", ended=day - dt.timedelta(seconds=age_s), verdict=verdict)
    ...     return lacking(ran, Seconds(60), day)
    >>> said(Verdict.OK, 60), said(Verdict.OK, 120), said(Verdict.CRITICAL, 1)
    ('', 'ran last 2 min ago, and its period is 1 min', 'ended last with CRITICAL')
    >>> lacking(Ran(procedure="drill"), Seconds(60), day)
    'never ran'
    """
    if ran.ended is None or ran.verdict is None:
        return "never ran"
    if ran.ended > now + _FUTURE:
        return "ran in the future: a clock is wrong"
    if ran.verdict not in _GOOD:
        return f"ended last with {ran.verdict.name}"
    age = (now - ran.ended).total_seconds()
    return f"ran last {Seconds(round(age))} ago, and its period is {period}" if age > period else ""


def seed(asked: Asked) -> Asked:
    """All controls have good evidence but one, which is called after the fault and is a second too old."""
    good = [Ran(procedure=name, ended=asked.now, verdict=Verdict.OK) for name in asked.options]
    old = Ran(procedure=SEEDED, ended=asked.now - dt.timedelta(seconds=61), verdict=Verdict.OK)
    return msgspec.structs.replace(asked, options={**asked.options, SEEDED: "60 s"}, ran=(*good, old))
