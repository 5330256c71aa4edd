"""A door over HTTP, with real records behind it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from nvcops import wiring
from nvcops.adapters.metrics.scrape import metrics_store
from nvcops.alerts.said import Said
from nvcops.console.served import Served
from nvcops.console.serving import serve
from nvcops.core.errors import StateError
from nvcops.core.manifest import Manifest, parse
from nvcops.core.records import Desk

TEXT = """
[platform]
name = "bank"
title = "A bank"
state = "state"

[[services]]
name = "bank"
url = "http://127.0.0.1:1"

[alerts]
listen = "127.0.0.1:{port}"
body_max = 65536

[incidents]
regulators = ["us", "dora"]

[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]

[evidence]
origin = "bank.example/operations"
"""


class Door:
    """A door that is open, and what came in by it."""

    def __init__(self, manifest: Manifest, client: httpx.Client, taken: list[Said]) -> None:
        self.manifest, self.client, self.taken = manifest, client, taken


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


Opened = Callable[..., Door]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    stop, threads, closing = threading.Event(), [], []

    def door(*, token: str = "", broken: bool = False, most: int = 100) -> Door:
        port = free_port()
        manifest = parse(TEXT.format(port=port), tmp_path / "platform.toml")
        records = wiring.open_records(manifest)
        closing.append(records)
        taken: list[Said] = []

        def take(said: list[Said]) -> int:
            if broken:
                raise StateError("the records cannot be written", hint="look at the disk")
            taken.extend(said[:most])
            return max(len(said) - most, 0)

        def change(decide: Callable[[Desk], object]) -> None:
            with records.thing.changing() as desk:
                decide(desk)

        platform = Served(manifest, records.thing, metrics_store(manifest), take, change, token)
        threads.append(threading.Thread(target=serve, args=(platform, stop)))
        threads[-1].start()
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        closing.append(client)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                client.get("/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.02)
        return Door(manifest, client, taken)

    yield door
    stop.set()
    for thread in threads:
        thread.join(20)
    for thing in reversed(closing):
        getattr(thing, "thing", thing).close()
