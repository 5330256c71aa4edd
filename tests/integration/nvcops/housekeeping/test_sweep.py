"""A sweep beside customers: it waits while they are slower, and gives up when that stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import valkey

from nvclab.parts import valkey as part
from nvcops.adapters.sweeping import GuardedSweeper
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.caches import Pace
from nvcops.core.manifest import Series, ServiceEntry
from nvcops.core.units import Seconds

KEYS = 2_000
EDGES = (0.01, 0.1, 1.0)


class Customers:
    """A service whose histogram of latency goes on as told: 1,000 requests a second of `seconds` each."""

    def __init__(self) -> None:
        self.seconds = 0.005
        self._counts = dict.fromkeys((*EDGES, float("inf")), 0)
        self._at = time.monotonic()

    def page(self) -> str:
        came = int((time.monotonic() - self._at) * 1_000)
        self._at += came / 1_000
        for edge in self._counts:
            self._counts[edge] += came if self.seconds <= edge else 0
        lines = [
            f'latency_bucket{{le="{edge:g}"}} {count}'.replace("inf", "+Inf") for edge, count in self._counts.items()
        ]
        return "# TYPE latency histogram\n" + "\n".join(lines) + "\n"


@contextmanager
def served(customers: Customers) -> Iterator[ServiceEntry]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = customers.page().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield ServiceEntry(
            name="bank", url=url, metrics="/metrics", series=Series(requests="requests", latency="latency")
        )
        server.shutdown()


@pytest.fixture
def cache() -> Iterator[ValkeyServer]:
    with part.temporary() as running:
        with valkey.Valkey(port=running.port) as client, client.pipeline(transaction=False) as batch:
            for number in range(KEYS):
                batch.set(f"quote:{number}", "x")
            batch.execute()
        yield ValkeyServer(name="cache", url=f"valkey://127.0.0.1:{running.port}/0", deadline_s=2.0)


def sweeper(cache: ValkeyServer, entry: ServiceEntry) -> GuardedSweeper:
    return GuardedSweeper(cache=cache, services=[entry], database=None, learn_s=1.5, requests_min=20)


def test_all_goes_while_customers_feel_nothing(cache: ValkeyServer) -> None:
    with served(Customers()) as entry:
        swept = sweeper(cache, entry).sweep("quote:*", Pace(rate=1_000))
    assert (swept.removed, swept.stopped, swept.waited_s) == (KEYS, "", 0)
    assert swept.p99_before_s is not None


def test_it_gives_up_when_customers_stay_slow_and_goes_on_later_with_what_is_left(cache: ValkeyServer) -> None:
    customers = Customers()
    with served(customers) as entry:
        slower = threading.Timer(2.5, setattr, (customers, "seconds", 0.5))
        slower.start()
        swept = sweeper(cache, entry).sweep("quote:*", Pace(rate=150, patience=Seconds(2)))
        assert "the p99 of bank rose" in swept.stopped
        assert 0 < swept.removed < KEYS
        assert swept.waited_s >= 2
        customers.seconds = 0.005
        left = sweeper(cache, entry).sweep("quote:*", Pace(rate=10_000))
    assert (left.stopped, swept.removed + left.removed) == ("", KEYS)


def test_it_waits_for_a_slowness_that_passes_and_goes_on_to_the_end(cache: ValkeyServer) -> None:
    customers = Customers()
    with served(customers) as entry:
        moments = [threading.Timer(2.5, setattr, (customers, "seconds", 0.5))]
        moments.append(threading.Timer(6.0, setattr, (customers, "seconds", 0.005)))
        for moment in moments:
            moment.start()
        swept = sweeper(cache, entry).sweep("quote:*", Pace(rate=300, patience=Seconds(20)))
    assert (swept.removed, swept.stopped) == (KEYS, "")
    assert swept.waited_s >= 1
