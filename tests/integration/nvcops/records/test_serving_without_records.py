"""`nvcops serve` while the server of its records is down: it begins, says so loudly, and goes on when they are back."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from records_places import in_a_file

from nvclab.parts import postgres
from nvcops import wiring
from nvcops.adapters.records.later import KeptRecords
from nvcops.core.alerts import Alert
from nvcops.core.errors import ManifestError, StateError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Page

TEXT = """
[platform]
name = "t"
title = "T"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:{nobody}"
[records]
host = "127.0.0.1"
port = {database}
name = "postgres"
user = "postgres"
password_file = "password"
[alerts]
listen = "127.0.0.1:{port}"
[watch]
heartbeat_url_file = "heartbeat"
heartbeat_interval = "0.5 s"
[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}]
[evidence]
origin = "t.example.com/operations"
"""
SOON_S, AGAIN_S = 30, 40


def until(holds: Callable[[], Any], within_s: float, what: str) -> Any:
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def server() -> Iterator[postgres.Postgres]:
    with postgres.temporary() as running:
        yield running


@pytest.fixture
def beats() -> Iterator[socket.socket]:
    """Where the dead man's handle is called; nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def platform(tmp_path: Path, server: postgres.Postgres, beats: socket.socket) -> Path:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ports.append(listening.getsockname()[1])
    path = tmp_path / "platform.toml"
    path.write_text(TEXT.format(database=server.port, port=ports[0], nobody=ports[1]), encoding="utf-8")
    for name, text in (
        ("password", server.password),
        ("heartbeat", f"http://127.0.0.1:{beats.getsockname()[1]}/x"),
    ):
        path.with_name(name).touch(mode=0o600)
        path.with_name(name).write_text(text, encoding="utf-8")
    return path


@contextmanager
def serving(platform: Path) -> Iterator[Callable[[], str]]:
    """`nvcops serve` beside the test; what it has said so far."""
    said = platform.with_name("serve.log")
    command = [sys.executable, "-m", "nvcops", "serve", "--target", str(platform)]
    with said.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield lambda: said.read_text(encoding="utf-8", errors="replace")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON_S) == 0
        finally:
            process.kill()


def asked(manifest: Manifest, path: str) -> httpx.Response | None:
    try:
        return httpx.get(f"http://{manifest.alerts.listen}{path}", timeout=20)
    except httpx.TransportError:
        return None


def beaten(beats: socket.socket) -> bool:
    try:
        connection, _ = beats.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def test_it_begins_without_its_records_and_goes_on_with_them(
    platform: Path, server: postgres.Postgres, beats: socket.socket
) -> None:
    manifest = wiring.load(platform)
    server.stop()
    with serving(platform) as said:
        until(lambda: "CRITICAL: pages cannot be recorded: the records in" in said(), SOON_S, "that it is said")
        answer = until(lambda: asked(manifest, "/healthz"), SOON_S, "an answer")
        assert (answer.status_code, answer.text[:25]) == (503, "pages cannot be recorded:")
        assert asked(manifest, "/-/ready").status_code == 503
        assert asked(manifest, "/-/healthy").status_code == 200
        url = f"http://{manifest.alerts.listen}/v1/alerts"
        refused = httpx.post(url, json={"name": "DiskFull", "severity": "critical"}, timeout=30)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        time.sleep(1.5)  # three times the heart's interval
        assert not beaten(beats), "the dead man's handle is not held while nobody can be paged"
        server.start()
        until(lambda: "pages can be recorded again, after" in said(), AGAIN_S, "that it is said")
        assert asked(manifest, "/healthz").text == "ok\n"
        until(lambda: beaten(beats), SOON_S, "a beat")
        assert httpx.post(url, json={"name": "DiskFull", "severity": "critical"}, timeout=30).status_code == 200
        with wiring.open_records(manifest) as records:

            def seen() -> set[str]:
                with records.reading() as reading:
                    assert reading.find(Page)
                    return {alert.name for alert in reading.find(Alert)}

            until(lambda: {"DiskFull", "ProbeDown"} <= seen(), SOON_S, "what was seen meanwhile, and what came in")


def test_a_password_that_cannot_be_read_is_said_at_once(platform: Path) -> None:
    platform.with_name("password").unlink()
    with pytest.raises(ManifestError, match="password"):
        wiring.keep_records(wiring.load(platform))


def test_what_was_closed_is_not_opened_again(tmp_path: Path) -> None:
    kept = KeptRecords(in_a_file(tmp_path))
    with kept.changing() as desk:
        assert desk.count(Alert) == 0
    kept.close()
    with pytest.raises(StateError, match="were closed"), kept.reading():
        pass
