"""What Alertmanager's own clients ask: the alerts that fire, and silences, as its API v2 has them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import AwareDatetime

from nvcops.alerts import silences
from nvcops.alerts.intake import parse_alertmanager
from nvcops.console.intake import take
from nvcops.console.served import served
from nvcops.core import schedule
from nvcops.core.alerts import Alert, Matcher, Silence
from nvcops.core.records import Desk

router = Router(tags=["alerts"])
_SHOWN_MAX = 1_000


class SaidMatcher(Schema):
    """A matcher as Alertmanager's API writes it."""

    name: str
    value: str
    isRegex: bool = False  # noqa: N815 - the API's own name
    isEqual: bool = True  # noqa: N815 - the same

    def read(self) -> Matcher:
        """As we have it."""
        if self.isRegex:
            return Matcher(self.name, "=~" if self.isEqual else "!~", self.value)
        return Matcher(self.name, "=" if self.isEqual else "!=", self.value)


class SaidSilence(Schema):
    """A silence as Alertmanager's API writes it; `createdBy` is somebody of the roster."""

    matchers: list[SaidMatcher]
    startsAt: AwareDatetime  # noqa: N815 - the API's own name
    endsAt: AwareDatetime  # noqa: N815 - the same
    createdBy: str  # noqa: N815 - the same
    comment: str


def _written(silence: Silence, at: dt.datetime) -> dict[str, Any]:
    state = "expired" if at >= silence.ends else "active" if at >= silence.starts else "pending"
    matchers = [
        {"name": m.name, "value": m.value, "isRegex": "~" in m.operator, "isEqual": not m.operator.startswith("!")}
        for m in silence.matchers
    ]
    return {
        "id": silence.id,
        "matchers": matchers,
        "startsAt": silence.starts,
        "endsAt": silence.ends,
        "updatedAt": silence.created,
        "createdBy": silence.author,
        "comment": silence.reason,
        "status": {"state": state},
    }


@router.post("/api/v2/alerts", summary="A Prometheus may use this as its Alertmanager")
def say(request: HttpRequest) -> dict[str, Any]:
    """Alerts as a Prometheus posts them."""
    return take(parse_alertmanager(request.body))


@router.get("/api/v2/alerts")
def alerts(request: HttpRequest) -> list[dict[str, Any]]:
    """The alerts that fire."""
    at = schedule.now()
    with served().records.reading() as reading:
        found = [alert for alert in reading.find(Alert, ends__isnull=True, limit=_SHOWN_MAX) if alert.firing(at)]
        standing = silences.silences(reading, at)
    answer = []
    for alert in found:
        by = silences.muting(standing, alert.labels, at)
        status = {"state": "suppressed" if by else "active", "silencedBy": [by.id] if by else [], "inhibitedBy": []}
        answer.append(
            {
                "fingerprint": alert.fingerprint,
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": alert.starts,
                "updatedAt": alert.updated,
                "endsAt": alert.expires or alert.updated,
                "generatorURL": alert.url,
                "receivers": [],
                "status": status,
            }
        )
    return answer


@router.get("/api/v2/silences")
def list_silences(request: HttpRequest) -> list[dict[str, Any]]:
    """The silences that hold or will."""
    at = schedule.now()
    with served().records.reading() as reading:
        return [_written(one, at) for one in silences.silences(reading, at)]


@router.post("/api/v2/silences")
def silence(request: HttpRequest, said: SaidSilence) -> dict[str, str]:
    """Silence what all matchers match."""
    platform, done = served(), []

    def change(desk: Desk) -> None:
        platform.note(desk, said.createdBy, "alerts", "silence")
        at = schedule.now()
        done.append(
            silences.silence(
                desk,
                manifest=platform.manifest,
                matchers=[one.read() for one in said.matchers],
                starts=max(said.startsAt, at),
                ends=said.endsAt,
                author=said.createdBy,
                reason=said.comment,
                at=at,
            )
        )

    platform.change(change)
    return {"silenceID": done[-1].id}


@router.delete("/api/v2/silence/{key}")
def expire(request: HttpRequest, key: str) -> dict[str, str]:
    """End a silence now; its author is who is taken to have done so."""
    platform = served()

    def change(desk: Desk) -> None:
        there = desk.get(Silence, key)
        person = there.author if there else ""
        if there is not None:
            platform.note(desk, person, "alerts", "expire")
        silences.expire(desk, key, manifest=platform.manifest, person=person, at=schedule.now())

    platform.change(change)
    return {"silenceID": key}
