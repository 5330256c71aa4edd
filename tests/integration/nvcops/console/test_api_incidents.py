"""Incidents over HTTP beside and after their resolution; and what makes no door stumble."""

from __future__ import annotations

import json

import httpx
import pytest
from api_door import Opened


def declared(client: httpx.Client, **said: object) -> int:
    answer = client.post("/v1/incidents", json={"person": "dana", "title": "payments fail", **said})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["number"])


def test_action_items_are_promised_and_closed_over_http(opened: Opened) -> None:
    client = opened().client
    number = declared(client)
    promise = {"person": "dana", "text": "alarm at 80 %", "owner": "dana", "due": "2126-12-01", "measure": "monitoring"}
    made = client.post(f"/v1/incidents/{number}/actions", json=promise)
    assert (made.status_code, made.json()["id"]) == (201, "1-1"), made.text
    assert client.get(f"/v1/incidents/{number}/actions").json() == [made.json()]
    assert client.get("/v1/actions").json() == [made.json()]
    assert client.post(f"/v1/incidents/{number}/actions", json=promise | {"due": "2020-01-01"}).status_code == 400
    assert client.post(f"/v1/incidents/{number}/actions", json=promise | {"procedure": "none"}).status_code == 404
    assert client.post("/v1/incidents/7/actions", json=promise).status_code == 404
    by_both = {"person": "dana", "note": "done", "run": "system-status@x"}
    assert client.post("/v1/actions/1-1/done", json=by_both).status_code == 400
    assert client.post("/v1/actions/1-1/done", json={"person": "dana"}).status_code == 400
    assert client.post("/v1/actions/1-1/done", json={"person": "dana", "run": "system-status@x"}).status_code == 404
    assert client.post("/v1/actions/1-1/done", json={"person": "nobody", "note": "done"}).status_code == 403
    done = client.post("/v1/actions/1-1/done", json={"person": "dana", "note": "the alarm stands since today"})
    assert done.json()["closed_by"] == "dana", done.text
    assert client.get("/v1/actions").json() == []
    assert client.post("/v1/actions/1-1/done", json={"person": "dana", "note": "again"}).status_code == 400


def test_regulators_clocks_run_and_are_met_over_http(opened: Opened) -> None:
    client = opened().client
    number = declared(client, severity="P3")
    where = f"/v1/incidents/{number}"
    began = {"person": "dana", "rule": "us-36h", "reason": "customers cannot pay"}
    assert client.post(f"{where}/clocks", json=began | {"rule": "gdpr-72h"}).status_code == 400
    assert client.post(f"{where}/clocks", json=began | {"since": "2026-11-22T12:00:00"}).status_code == 422
    made = client.post(f"{where}/clocks", json=began | {"since": "2026-11-22T12:00:00+01:00"})
    assert (made.status_code, made.json()["due"]) == (201, "2026-11-23T23:00:00Z"), made.text
    assert [one["key"] for one in client.get(f"{where}/clocks").json()] == ["1/us-36h"]
    sent = client.post(f"{where}/clocks/us-36h/reported", json={"person": "dana", "reference": "OCC-7"})
    assert (sent.json()["reference"], sent.json()["met_by"]) == ("OCC-7", "dana"), sent.text
    late = {"person": "dana", "reason": "it was nothing"}
    assert client.post(f"{where}/clocks/us-36h/not-reportable", json=late).status_code == 400
    assert client.post(f"{where}/clocks/dora-4h/not-reportable", json=late).status_code == 404
    assert client.get("/v1/incidents/7/clocks").status_code == 404


def test_a_draft_is_filled_from_what_people_said(opened: Opened) -> None:
    client = opened().client
    where = f"/v1/incidents/{declared(client)}"
    before = client.get(f"{where}/drafts/dora-1month").json()
    assert "root-cause" in before["missing"]
    assert client.post(f"{where}/facts", json={"person": "dana", "field": "x", "text": "y"}).status_code == 400
    fact = {"person": "dana", "field": "root-cause", "text": "the pool was full"}
    assert client.post(f"{where}/facts", json=fact).json() == {"field": "root-cause", "text": "the pool was full"}
    after = client.get(f"{where}/drafts/dora-1month").json()
    assert "root-cause" not in after["missing"]
    assert "the pool was full" in after["text"]
    assert client.get(f"{where}/drafts/other").status_code == 400
    assert client.get("/v1/incidents/7/drafts/us-36h").status_code == 404


def test_an_incident_is_looked_into_and_told_of_over_http(opened: Opened) -> None:
    client = opened().client
    where = f"/v1/incidents/{declared(client)}"
    client.post(f"{where}/ack", json={"person": "dana"})
    assert client.post(f"{where}/investigate", json={"person": "dana"}).json()["state"] == "investigating"
    said = client.post(f"{where}/update", json={"person": "dana", "text": "we are on it", "public": True})
    assert said.status_code == 200, said.text
    touched = client.post(f"{where}/personal-data", json={"person": "dana", "reason": "addresses were seen"})
    assert touched.json()["personal_data"] is True
    line = {"person": "dana", "item": "Check monitoring dashboards", "note": "all red"}
    assert client.post(f"{where}/checklist", json=line).json()["by"] == "dana"
    assert client.post(f"{where}/checklist", json=line | {"item": "sleep"}).status_code == 400
    lines = {one["item"]: one["standing"] for one in client.get(f"{where}/checklist").json()}
    assert (lines["Check monitoring dashboards"], lines["Begin investigation"]) == ("done", "done")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/incidents/99999999999999999999999", None),
        ("POST", "/v1/incidents/99999999999999999999999/ack", {"person": "dana"}),
        ("POST", "/v1/incidents/1/note", {"person": "dana", "text": "\ud800"}),
        ("POST", "/v1/incidents/1/note", {"person": "dana", "text": "a\0b"}),
        ("DELETE", "/api/v2/silence/%00", None),
        ("GET", "/v1/incidents?limit=99999999999999999999999", None),
        ("POST", "/v1/incidents", {"person": "dana", "title": "t", "services": ["\ud800"]}),
    ],
)
def test_nothing_that_is_said_makes_it_stumble(opened: Opened, method: str, path: str, body: object) -> None:
    client = opened().client
    declared(client)
    content = None if body is None else json.dumps(body).encode()
    assert client.request(method, path, content=content).status_code < 500


def test_a_silence_without_a_zone_is_refused(opened: Opened) -> None:
    matchers = [{"name": "service", "value": "bank"}]
    said = {"matchers": matchers, "startsAt": "2026-01-01T00:00:00", "endsAt": "2126-01-01T00:00:00"}
    answer = opened().client.post("/api/v2/silences", json={**said, "createdBy": "dana", "comment": "x"})
    assert answer.status_code == 422


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_in_somebodys_browser_decides_nothing(opened: Opened, headers: dict[str, str]) -> None:
    client = opened().client
    where = f"/v1/incidents/{declared(client)}"
    sent = client.post(f"{where}/ack", content=b'{"person": "dana"}', headers={"Content-Type": "text/plain", **headers})
    assert sent.status_code == 403
    assert client.get(where).json()["incident"]["acknowledged"] is None
