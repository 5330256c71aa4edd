"""The door over HTTP: alerts come in by five ways, incidents are led, and what is wrong is refused with a sentence."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from api_door import TEXT, Opened

from nvcops.adapters.metrics.looks import LookSeries
from nvcops.adapters.metrics.scrape import metrics_store
from nvcops.console.served import Served
from nvcops.console.serving import serve
from nvcops.core.alerts import Category
from nvcops.core.errors import StateError
from nvcops.core.exposition import parse_page
from nvcops.core.manifest import parse
from nvcops.core.units import Seconds
from nvcops.core.watch import Look, Probe


def test_it_says_that_it_lives(opened: Opened) -> None:
    assert opened().client.get("/healthz").text == "ok\n"


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/api/v2/alerts", [{"labels": {"alertname": "Down", "service": "bank"}}], ["Down"]),
        (
            "/v1/webhook/alertmanager",
            {"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": {"alertname": "Slow"}}]},
            ["Slow"],
        ),
        ("/v1/alerts", {"name": "DiskFull", "severity": "critical"}, ["DiskFull"]),
    ],
)
def test_alerts_come_in(opened: Opened, path: str, body: object, names: list[str]) -> None:
    door = opened()
    answer = door.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["taken"] == len(names)
    assert [said.labels["alertname"] for said in door.taken] == names


def test_a_pagerduty_client_is_answered_as_pagerduty_does(opened: Opened) -> None:
    door = opened()
    event = {
        "routing_key": "k" * 32,
        "event_action": "trigger",
        "dedup_key": "disk/1",
        "payload": {"summary": "disk full", "source": "db-1", "severity": "critical"},
    }
    answer = door.client.post("/v2/enqueue", json=event)
    assert (answer.status_code, answer.json()["status"], answer.json()["dedup_key"]) == (202, "success", "disk/1")
    assert door.taken


def test_a_cloudevent_comes_in(opened: Opened) -> None:
    door = opened()
    headers = {"ce-id": "1", "ce-source": "/db-1", "ce-specversion": "1.0", "ce-type": "com.example.disk.full"}
    answer = door.client.post("/v1/events", headers=headers, json={"summary": "disk full"})
    assert answer.status_code == 200, answer.text
    assert door.taken


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v2/alerts", b"{", 400),
        ("/api/v2/alerts", b'[{"labels": {"alertname": 3}}]', 400),
        ("/v1/webhook/alertmanager", b'{"version": "3", "alerts": []}', 400),
        ("/v2/enqueue", b"[]", 400),
        ("/v1/events", b"{}", 400),
        ("/v1/alerts", b"\xff\xfe", 400),
        ("/v1/alerts", b'"' + b"x" * 70_000 + b'"', 413),
        ("/v1/nothing", b"{}", 404),
        ("/v1/incidents/7/ack", b'{"person": "dana"}', 404),
        ("/v1/incidents/7/ack", b'{"person": "nobody"}', 403),
        ("/v1/incidents/7/ack", b"{}", 422),
    ],
)
def test_what_is_wrong_is_refused(opened: Opened, path: str, body: bytes, status: int) -> None:
    door = opened()
    answer = door.client.post(path, content=body)
    assert answer.status_code == status, answer.text
    if status in (400, 403, 413):
        assert len(answer.json()["error"]) > 10
    assert not door.taken


def test_a_body_of_unknown_length_is_limited_too(opened: Opened) -> None:
    door = opened()

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1024

    try:
        answer = door.client.post("/v1/alerts", content=endless())
    except httpx.TransportError:
        pass  # the connection was closed while it was still being sent
    else:
        assert answer.status_code == 413
    assert door.client.get("/healthz").status_code == 200
    assert not door.taken


def test_records_that_cannot_be_written_are_said_to_be_tried_again(opened: Opened) -> None:
    answer = opened(broken=True).client.post("/v1/alerts", json={"name": "DiskFull"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "the records cannot be written", "hint": "look at the disk"}


def test_too_many_alerts_are_refused_and_the_sender_is_told(opened: Opened) -> None:
    answer = opened(most=1).client.post("/v1/alerts", json=[{"name": "A"}, {"name": "B"}])
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert answer.json()["error"] == "1 of 2 alerts are refused: too many fire"


def test_a_token_is_asked_of_everybody(opened: Opened) -> None:
    door = opened(token="a-long-token-of-ours")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-long-token-of-ours"}):
        assert door.client.post("/v1/alerts", json={"name": "A"}, headers=headers).status_code == 401
        assert door.client.get("/v1/incidents", headers=headers).status_code == 401
    assert not door.taken
    good = {"Authorization": "Bearer a-long-token-of-ours"}
    assert door.client.post("/v1/alerts", json={"name": "A"}, headers=good).status_code == 200
    assert door.client.get("/healthz").status_code == 200


def test_an_incident_is_led_over_http(opened: Opened) -> None:
    client = opened().client
    declared = client.post("/v1/incidents", json={"person": "dana", "title": "payments fail", "severity": "P1"})
    assert declared.status_code == 201, declared.text
    number = declared.json()["number"]
    assert [one["number"] for one in client.get("/v1/incidents").json()] == [number]
    assert client.post(f"/v1/incidents/{number}/resolve", json={"person": "dana", "text": "x"}).status_code == 400
    assert client.post(f"/v1/incidents/{number}/ack", json={"person": "dana"}).json()["acknowledged_by"] == "dana"
    assert client.post(f"/v1/incidents/{number}/ack", json={"person": "dana"}).status_code == 400
    role = {"person": "dana", "role": "technical lead", "to": "dana"}
    assert client.post(f"/v1/incidents/{number}/assign", json=role).json()["roles"] == {"technical lead": "dana"}
    client.post(f"/v1/incidents/{number}/note", json={"person": "dana", "text": "the disk is full"})
    client.post(f"/v1/incidents/{number}/severity", json={"person": "dana", "severity": "P2", "reason": "few"})
    client.post(f"/v1/incidents/{number}/mitigate", json={"person": "dana", "text": "space was made"})
    over = client.post(f"/v1/incidents/{number}/resolve", json={"person": "dana", "text": "a larger disk"})
    assert over.json()["state"] == "resolved", over.text
    assert client.get("/v1/incidents").json() == []
    whole = client.get(f"/v1/incidents/{number}").json()
    assert {"opened", "acknowledged", "role", "note", "overridden", "mitigated", "resolved"} <= {
        event["kind"] for event in whole["timeline"]
    }
    lines = client.get(f"/v1/incidents/{number}/checklist").json()
    assert ("Acknowledge alert within 5 minutes", "dana") in {(line["item"], line["by"]) for line in lines}
    written = client.get(f"/v1/incidents/{number}/postmortem").json()
    assert not written["published"]
    unfinished = client.post(f"/v1/incidents/{number}/postmortem", json={"person": "dana", "text": written["text"]})
    assert unfinished.status_code == 400
    completed = {"person": "dana", "text": written["text"].replace("_To be written:_", "Written:")}
    assert client.post(f"/v1/incidents/{number}/postmortem", json=completed).status_code == 200
    assert client.get(f"/v1/incidents/{number}/postmortem").json()["published"]
    assert client.get("/v1/oncall").json() == {}


def test_silences_come_and_go_as_alertmanagers_clients_know_it(opened: Opened) -> None:
    client = opened().client
    said = {
        "matchers": [{"name": "service", "value": "bank|shop", "isRegex": True}],
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": (dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)).isoformat(),
        "createdBy": "dana",
        "comment": "a test of the power",
    }
    made = client.post("/api/v2/silences", json=said)
    assert made.status_code == 200, made.text
    (there,) = client.get("/api/v2/silences").json()
    assert (there["id"], there["createdBy"], there["status"]) == (
        made.json()["silenceID"],
        "dana",
        {"state": "active"},
    )
    assert there["matchers"] == [{"name": "service", "value": "bank|shop", "isRegex": True, "isEqual": True}]
    assert client.post("/api/v2/silences", json={**said, "createdBy": "nobody"}).status_code == 403
    assert client.post("/api/v2/silences", json={**said, "matchers": []}).status_code == 400
    assert client.delete(f"/api/v2/silence/{there['id']}").status_code == 200
    assert client.get("/api/v2/silences").json() == []
    assert client.delete("/api/v2/silence/unknown").status_code == 404
    assert client.get("/api/v2/alerts").json() == []


def test_our_own_figures_are_read_as_a_prometheus_does(opened: Opened) -> None:
    door = opened()
    probe = Probe(
        name="disk.data",
        kind="disk",
        interval=Seconds(1),
        deadline=Seconds(1),
        failures=2,
        recoveries=3,
        category=Category.HIGH,
    )
    series = LookSeries(metrics_store(door.manifest), [probe], 1)
    series.hear([Look(probe="disk.data", time=dt.datetime.now(dt.UTC), why="", seconds=0.25, value=0.5)])
    series()
    door.client.post("/v1/incidents", json={"person": "dana", "title": "payments fail"})
    page = parse_page(door.client.get("/metrics").text)
    figures = page.gauges
    labels = 'kind="disk",probe="disk.data"'
    assert figures[f"nvcops_probe_value{{{labels}}}"] == 0.5
    assert figures[f"nvcops_probe_success{{{labels}}}"] == 1
    assert figures["nvcops_incidents_open"] == 1


def test_the_roster_is_a_calendar(opened: Opened) -> None:
    answer = opened().client.get("/v1/oncall.ics")
    assert answer.headers["content-type"].startswith("text/calendar")
    assert answer.text.startswith("BEGIN:VCALENDAR")


def test_an_address_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        manifest = parse(TEXT.format(port=port), tmp_path / "platform.toml")
        platform = Served(manifest, None, None, lambda _said: 0, lambda _decide: None)  # type: ignore[arg-type]
        with pytest.raises(StateError, match=f"nothing can listen on 127.0.0.1:{port}"):
            serve(platform, threading.Event())
    assert replace(platform).token == ""
