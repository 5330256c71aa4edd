"""A drill as `nvcops run incident-drill` carries it out: a real page over HTTP, a person who answers, the score."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops import wiring
from nvcops.adapters.files import routing_text
from nvcops.adapters.outbox import Sender
from nvcops.alerts.routing_file import routing_of
from nvcops.cli.app import nvcops
from nvcops.core import schedule
from nvcops.core.incidents import Event, Incident, IncidentState
from nvcops.core.manifest import Manifest
from nvcops.core.records import Records
from nvcops.incidents import leading
from nvcops.wiring.engine import Engine

TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
[evidence]
origin = "test.example.com/operations"
[alerts]
routing = "alertmanager.yml"
[incidents]
change_for_drills = false
[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
ssh_keys = ["{key}"]
contacts = [{{ kind = "sms", url = "json://127.0.0.1:{port}/dana" }}]
[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}]
"""
ROUTES = """
route: {receiver: oncall, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: oncall}]
"""
ANSWERED_WITHIN_S = 60


class Gateway(http.server.BaseHTTPRequestHandler):
    """What takes messages in."""

    got: list[bytes]

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Nothing is printed."""


@pytest.fixture
def gateway() -> Iterator[tuple[int, list[bytes]]]:
    got: list[bytes] = []
    handler = type("Handler", (Gateway,), {"got": got})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_port, got
        server.shutdown()
        serving.join(30)


@pytest.fixture
def platform(tmp_path: Path, gateway: tuple[int, list[bytes]]) -> Path:
    key = Ed25519PrivateKey.generate()
    encoding, private = serialization.Encoding, serialization.PrivateFormat.OpenSSH
    file = tmp_path / "dana"
    file.write_bytes(key.private_bytes(encoding.PEM, private, serialization.NoEncryption()))
    file.chmod(0o600)
    public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path = tmp_path / "platform.toml"
    path.write_text(TEXT.format(key=public, port=gateway[0]))
    path.with_name("alertmanager.yml").write_text(ROUTES)
    return path


def answer(records: Records, manifest: Manifest, got: list[bytes], stop: threading.Event) -> None:
    """Dana: when the page has come, she acknowledges."""
    for _ in range(ANSWERED_WITHIN_S * 10):
        if stop.wait(0.1):
            return
        with records.reading() as reading:
            found = reading.find(Incident, state=IncidentState.DETECTED)
        if got and found:
            with records.changing() as desk:
                leading.acknowledge(desk, found[0].number, manifest=manifest, person="dana", at=schedule.now())
            return


def test_a_drill_is_paged_answered_and_scored(platform: Path, gateway: tuple[int, list[bytes]]) -> None:
    manifest, stop = wiring.load(platform), threading.Event()
    with wiring.open_records(manifest) as records:
        sender = Sender(
            records, manifest, hooks=lambda _name: (), dead=lambda _desk, _message, _at: None, notify=lambda _text: None
        )
        engine = Engine(manifest, records, routing_of(manifest, routing_text(manifest)), notify=lambda _text: None)
        beside = [
            threading.Thread(target=engine.run, args=(stop,)),
            threading.Thread(target=sender.run, args=(stop,)),
            threading.Thread(target=answer, args=(records, manifest, gateway[1], stop)),
        ]
        for thread in beside:
            thread.start()
        try:
            ended = CliRunner().invoke(
                nvcops,
                [
                    *("run", "incident-drill", "--json", "--target", str(platform)),
                    *("--as", "dana", "--key", str(platform.with_name("dana"))),
                ],
                standalone_mode=False,
            )
        finally:
            stop.set()
            for thread in beside:
                thread.join(60)
        assert ended.exception is None, ended.exception
        record = json.loads(ended.stdout)
        checks = {finding["check"]: finding["verdict"] for finding in record["findings"]}
        assert checks == dict.fromkeys(("drill.detected", "drill.paged", "drill.acknowledged", "drill.contained"), 0), (
            record["findings"]
        )
        with records.reading() as reading:
            (incident,) = reading.find(Incident)
            assert (incident.source, incident.acknowledged_by) == ("drill", "dana")
            assert incident.state is IncidentState.MITIGATED
            (figures,) = reading.find(Event, incident=1, kind="drill")
            assert set(figures.data["seconds"]) == {"detected", "paged", "acknowledged", "contained"}
    assert b"drill" in gateway[1][0].lower()
