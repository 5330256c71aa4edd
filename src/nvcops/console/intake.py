"""Alerts come in: as a Prometheus, an Alertmanager, a PagerDuty client, a CloudEvents source or anybody sends them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from nvcops.alerts import intake
from nvcops.alerts.said import Said
from nvcops.console.served import served
from nvcops.core.errors import NvcopsError


class TooManyError(NvcopsError):
    """More alerts fire than are taken; those that were known before are taken all the same."""


router = Router(tags=["alerts"])


def take(said: list[Said]) -> dict[str, Any]:
    """Take alerts in; which they were."""
    if refused := served().take(said):
        raise TooManyError(f"{refused} of {len(said)} alerts are refused: too many fire", hint="[alerts] firing_max")
    return {"taken": len(said), "fingerprints": sorted({one.fingerprint for one in said})}


@router.post("/v1/webhook/alertmanager", summary="The webhook of an Alertmanager, version 4")
def webhook(request: HttpRequest) -> dict[str, Any]:
    """Notifications of an Alertmanager."""
    return take(intake.parse_webhook(request.body))


@router.post("/v2/enqueue", summary="PagerDuty's Events API, version 2", response={202: dict[str, str]})
def pagerduty(request: HttpRequest) -> Status[dict[str, str]]:
    """An event as PagerDuty's clients send it; the answer is PagerDuty's too."""
    said = intake.parse_pagerduty(request.body)
    take(said)
    key = said[0].identity.get("key", "") or said[0].fingerprint
    return Status(202, {"status": "success", "message": "Event processed", "dedup_key": key})


@router.post("/v1/events", summary="CloudEvents 1.0: structured, a batch, or binary")
def cloudevents(request: HttpRequest) -> dict[str, Any]:
    """CloudEvents."""
    return take(intake.parse_cloudevents(request.body, dict(request.headers)))


@router.post("/v1/alerts", summary="Plain JSON: an object or a list of them, with a name and what else is known")
def plain(request: HttpRequest) -> dict[str, Any]:
    """Plain JSON."""
    return take(intake.parse_plain(request.body))
