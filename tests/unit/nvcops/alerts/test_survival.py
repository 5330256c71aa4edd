"""On the real store: what was taken is there after it was closed, and nothing that a transaction lost is half there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alerts_world import at, platform, said

from nvcops.adapters.records import open_records
from nvcops.alerts import desk as alerts
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core.alerts import Alert, Group, Member
from nvcops.core.incidents import Incident, IncidentState
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.core.records import Desk

DOWN = said(service="bank", category="critical")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return platform(tmp_path)


@contextmanager
def opened(manifest: Manifest) -> Iterator[Desk]:
    """A transaction of an engine that was started for it."""
    records = open_records(manifest)
    try:
        with records.changing() as desk:
            yield desk
    finally:
        records.close()


def take(desk: Desk, manifest: Manifest, seconds: float, *these: Said) -> alerts.Taken:
    return alerts.take(desk, these, at(seconds), manifest=manifest, routing=default_routing(manifest))


def tick(desk: Desk, manifest: Manifest, seconds: float) -> dt.datetime | None:
    return alerts.tick(desk, at(seconds), manifest=manifest, routing=default_routing(manifest))


def test_each_step_may_be_another_engine_s(manifest: Manifest) -> None:
    with opened(manifest) as desk:
        take(desk, manifest, 0, DOWN)
    with opened(manifest) as desk:
        assert tick(desk, manifest, 1) is not None
    with opened(manifest) as desk:
        (page,) = desk.find(Page)
        assert [message.to for message in desk.find(Message, purpose="page")] == ["dana"]
        take(desk, manifest, 2, DOWN, said(service="bank", category="critical", over=True))
    with opened(manifest) as desk:
        tick(desk, manifest, 31)
        assert desk.find(Page)[0].resolved == at(31)
        assert [incident.state for incident in desk.find(Incident)] == [IncidentState.MITIGATED]
        assert len(desk.find(Message, purpose="page")) == 1
    with opened(manifest) as desk:
        take(desk, manifest, 40, said(service="bank", category="critical", starts=0))
        tick(desk, manifest, 40)
        assert not desk.find(Alert, ends__isnull=True), "what was resolved stays resolved"
        assert desk.find(Page) == [page_of(desk, page.id)]


def page_of(desk: Desk, key: str) -> Page:
    found = desk.get(Page, key)
    assert found is not None
    return found


def lose_everything(manifest: Manifest) -> None:
    with opened(manifest) as desk:
        take(desk, manifest, 0, DOWN)
        tick(desk, manifest, 0)
        assert desk.find(Page)
        raise ZeroDivisionError


def test_a_transaction_that_is_lost_leaves_nothing(manifest: Manifest) -> None:
    with pytest.raises(ZeroDivisionError):
        lose_everything(manifest)
    with opened(manifest) as desk:
        assert [desk.count(kind) for kind in (Alert, Group, Member, Incident, Page, Message)] == [0] * 6


def test_a_storm_is_taken_and_paged_once(manifest: Manifest) -> None:
    labels = {"service": "bank", "category": "critical"}
    storm = [said(f"Down{number % 50}", instance=str(number), **labels) for number in range(4_000)]
    with opened(manifest) as desk:
        assert take(desk, manifest, 0, *storm).begun == 4_000
    with opened(manifest) as desk:
        tick(desk, manifest, 0)
        assert desk.count(Message, purpose="page") == desk.count(Page) == desk.count(Incident) == 1
        assert desk.count(Member, told__isnull=False) == 4_000
