"""Nothing answers: what must be there is CRITICAL, the rest is UNKNOWN, nothing is OK, and it ends in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nvcops.adapters.files import load_manifest
from nvcops.adapters.target import connect
from nvcops.core.checks import Verdict
from nvcops.core.target import Target

MUST_BE_THERE = {"service.front", "service.instance", "database.server", "proxy.answers", "cache.answers"}
NEEDS_NOBODY = {"database.standbys"}
TEXT = """
[platform]
name = "shop"
title = "The Shop"
state = "state"

[[services]]
name = "web"
url = "https://127.0.0.1:{port}"
version = "/version"
metrics = "/metrics"
deadline = "300 ms"
log = "web.log"
instances = [
    {{ name = "web-1", url = "http://127.0.0.1:{port}" }},
    {{ name = "web-2", url = "http://127.0.0.1:{port}" }},
]
[services.series]
requests = "requests_total"
latency = "request_seconds"
outcomes = "orders_total"
[services.events]
sign_in_failures = ["session.failed"]

[database]
port = {port}
name = "shop"
user = "nvcops"
deadline = "300 ms"
log = "postgresql.json"
primary = {{ name = "db-1", host = "127.0.0.1" }}
standbys = [{{ name = "db-2", host = "127.0.0.1" }}]
required_indexes = ["order_customer"]

[cache]
url = "valkey://127.0.0.1:{port}/0"
deadline = "300 ms"

[proxy]
socket = "{proxy}"
backends = ["web"]
deadline = "300 ms"

[[certificates]]
name = "shop.example.com"
address = "127.0.0.1:{port}"
deadline = "300 ms"

[[disks]]
name = "data"
path = "not there"

[evidence]
origin = "shop.example.com/operations"
"""


@pytest.fixture(params=["gone", "silent"])
def dead(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """A platform of which nobody listens, and one of which everybody listens and nobody answers."""
    with ExitStack() as stack:
        port, proxy = 1, tmp_path / "proxy.sock"
        if request.param == "silent":
            port = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512)).getsockname()[1]
            silent = stack.enter_context(socket.socket(socket.AF_UNIX))
            silent.bind(str(proxy))
            silent.listen()
        path = tmp_path / "platform.toml"
        path.write_text(TEXT.format(port=port, proxy=proxy), encoding="utf-8")
        yield connect(load_manifest(path))


def test_nothing_is_ok(dead: Target, rehearse: Callable[..., Any]) -> None:
    began = time.monotonic()
    run = rehearse("daily-health-check", dead)
    assert time.monotonic() - began < 15, "all deadlines together are less than 4 s"
    by_verdict: dict[Verdict, set[str]] = {}
    for line in run.findings:
        by_verdict.setdefault(line.verdict, set()).add(line.check)
        assert line.observed, line
        assert line.next_step, line
    assert by_verdict[Verdict.CRITICAL] == MUST_BE_THERE
    assert set(by_verdict) == {Verdict.CRITICAL, Verdict.UNKNOWN}
    assert {"certificate.expiry", "disk.used", "kpi.availability", "database.replication_lag", "recovery.backups"} <= (
        by_verdict[Verdict.UNKNOWN]
    )
    assert run.verdict is Verdict.CRITICAL


@pytest.mark.parametrize("name", ["db-performance-check", "security-events-summary", "system-status"])
def test_the_others_are_not_ok_either(dead: Target, rehearse: Callable[..., Any], name: str) -> None:
    run = rehearse(name, dead)
    assert run.findings
    assert Verdict.OK not in {line.verdict for line in run.findings}


def test_the_morning_runs_all_three_and_then_asks(dead: Target, rehearse: Callable[..., Any]) -> None:
    run = rehearse("morning-health-check", dead)
    assert list(run.included) == ["daily-health-check", "db-performance-check", "security-events-summary"]
    assert run.attested == ["security-alerts-reviewed"]
    assert [line.verdict.name for line in run.findings] == ["CRITICAL", "CRITICAL", "UNKNOWN", "OK"]
    assert run.summary.startswith(
        "The morning at The Shop: daily-health-check is CRITICAL, db-performance-check is CRI"
    )
    assert "by dana" in run.summary
    assert len(run.summary.split()) < 150, "read aloud in a minute"
