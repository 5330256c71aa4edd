"""One record of each kind, with everything in it that is hard to keep."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core import alerts, changes, gates, incidents, oncall, releases, rollouts
from nvcops.core.alerts import Category, Matcher
from nvcops.core.incidents import IncidentState, Reason, Severity, Suggestion

T = dt.datetime(2026, 11, 1, 5, 59, 59, 123456, tzinfo=dt.UTC)
LATER = T + dt.timedelta(minutes=5)
HARD = "Zürich \u2603 \U0001f6a8 'quoted' \"twice\" %s ? {} back\\slash\nline"


def alert(number: int = 0, **given: object) -> alerts.Alert:
    labels = {"alertname": "Down", "instance": f"bank-{number}"}
    plain = {"labels": labels, "source": "probe", "category": Category.CRITICAL, "starts": T, "noticed": T}
    return alerts.Alert(**{"fingerprint": alerts.fingerprint(labels), "updated": T, **plain, **given})


def message(number: int = 0, **given: object) -> oncall.Message:
    plain = {"to": "dana", "channel": "0:sms", "subject": "down", "body": HARD, "purpose": "page", "created": T}
    return oncall.Message(**{"id": f"m-{number:05}", "due": T, **plain, **given})


def all_kinds() -> list[msgspec.Struct]:
    incident = incidents.Incident(
        number=7,
        title=HARD,
        state=IncidentState.DETECTED,
        severity=Severity.P0,
        inferred=Severity.P1,
        reasons=(Reason(rule="burn", severity=Severity.P1, seen=HARD, source="slo"),),
        source="alerts",
        services=("bank", "ledger"),
        security=True,
        began=T,
        detected=LATER,
        roles={"technical lead": "dana"},
        suggestions=(Suggestion(title="x", evidence="y", weight=0.25),),
        links=({"kind": "run", "id": "1", "text": HARD, "time": "now"},),
    )
    return [
        alert(annotations={HARD: HARD, "nul": "a\0b"}, ends=LATER, times=2**40),
        alerts.Group(key="/0{}", route="/0", receiver="oncall", labels={}, opened=T, due=LATER),
        alerts.Member(key="/0{}/f", group="/0{}", fingerprint="f", told=T),
        alerts.Silence(
            id="s", matchers=(Matcher("a", "=~", ".*"),), starts=T, ends=LATER, author="dana", reason="", created=T
        ),
        oncall.Override(
            id="o", rotation="primary", person="omar", starts=T, ends=LATER, author="dana", reason="", created=T
        ),
        oncall.Page(
            id="p", about="incident/7", incident=7, policy="oncall", category=Category.LOW, summary="", opened=T
        ),
        message(state=oncall.MessageState.FALLEN_BACK, lease_until=LATER, payload='{"a": 1}'),
        oncall.Reach(id="r", person="dana", channel="0:sms", code_sha256="00", sent=T),
        oncall.Beat(id="b", host="h", last=T),
        incident,
        incidents.IncidentAlert(
            key="7/f",
            incident=7,
            fingerprint="f",
            name="n",
            category="low",
            labels={"a": "b"},
            summary="",
            value=0.1,
            starts=T,
        ),
        incidents.Event(
            id="e", incident=7, time=T, kind="note", text=HARD, data={"a": [1, None, {"b": 0.5}], "c": HARD}
        ),
        incidents.Tick(key="7/detection/1", incident=7, phase="detection", item="1", by="dana", time=T),
        incidents.ActionItem(id="a", incident=7, text="", owner="dana", due=dt.date(2026, 12, 1), created=T),
        incidents.Clock(key="7/us", incident=7, rule="us", title="", began=T, due=LATER, warned=LATER),
        *of_delivery(),
    ]


def of_delivery() -> list[msgspec.Struct]:
    consent = changes.Consent(person="omar", time=T, key="SHA256:x", executive=True, run="r", note=HARD)
    return [
        releases.Admission(id="dev/ab", stage="dev", digest="ab", time=T, by="dana", run="r", gates=("lint", HARD)),
        gates.GateControl(
            id="dev/lint",
            definition="0f",
            time=LATER,
            verdict=gates.GateVerdict.REFUSED,
            sentence=HARD,
            run="r",
            refused=T,
        ),
        rollouts.Rollout(
            id="deploy@1",
            service="bank",
            new="00",
            version=HARD,
            phase=rollouts.Phase.ROLLED_BACK,
            step=2,
            began=T,
            ended=LATER,
            rollback_s=0.25,
            change=17,
        ),
        changes.Change(
            number=2**40,
            category=changes.ChangeCategory.EMERGENCY,
            kind=changes.ChangeKind.DEPLOYMENT,
            title=HARD,
            reason=HARD,
            author="dana",
            requested=T,
            state=changes.ChangeState.ROLLED_BACK,
            planned_end=LATER,
            services=("bank",),
            risk=0.125,
            approved_by=(consent,),
            break_glass=(consent, consent),
            runs=("r",),
            incident=7,
            customers=2**40,
            budgets={HARD: -0.5},
            features={"size": 0.25},
            committed=(T, LATER),
            reviewed=LATER,
        ),
    ]
