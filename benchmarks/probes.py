"""CPU that 1,000 HTTP probes cost, each looked at every 10 s, in percent of one core: looking, counting, judging.

The server that they ask is a process of its own. Counted is this process's CPU time over wall time, all of its threads;
the looks go where `nvcops serve` sends them: to the rules about streaks, and into the sums of the probes' series.

    probes.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from nvcops.adapters.metrics.looks import LookSeries
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.probes import open_prober
from nvcops.alerts.signals import Watchman
from nvcops.core import manifest
from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest
from nvcops.core.units import Seconds
from nvcops.core.watch import Look, Probe

BOUND_PERCENT = 30.0
PROBES, INTERVAL_S = 1_000, 10.0
LOOKS_SHARE_MIN = 0.95  # a watch that does not look is not cheap, it is broken
SETTLE_S = 3.0
END_S = 20.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n" + b'{"status":"ready"}'
PLATFORM = """
[platform]
name = "many"
title = "Many services"
state = "state"
[[services]]
name = "many"
url = "http://127.0.0.1:1"
[evidence]
origin = "many.example.com/operations"
"""


@dataclass(frozen=True)
class Run:
    """One window."""

    percent: float
    looks: int
    failed: int
    slowest_ms: float


@dataclass
class Heard:
    """What was told, and the same work for it that `nvcops serve` does."""

    watchman: Watchman
    series: LookSeries
    looks: list[Look] = field(default_factory=list)

    def tell(self, looks: Sequence[Look]) -> None:
        """Judge, count, remember."""
        self.watchman.hear(looks)
        self.series.hear(looks)
        self.looks.extend(looks)


async def _serve(said: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
                if b"connection: close" in head.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    said.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _server(said: Connection) -> None:
    asyncio.run(_serve(said))


@contextmanager
def server() -> Iterator[int]:
    """A server in a process of its own; its port."""
    context = multiprocessing.get_context("spawn")
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=_server, args=(said,), daemon=True)
    process.start()
    try:
        yield heard.recv()
    finally:
        process.kill()
        process.join(END_S)


def probes(port: int) -> list[Probe]:
    """A thousand, each believed after two looks."""
    return [
        Probe(
            name=f"service-{number}",
            kind="http",
            service="many",
            interval=Seconds(INTERVAL_S),
            deadline=Seconds(1),
            failures=2,
            recoveries=3,
            category=Category.HIGH,
            options={"url": f"http://127.0.0.1:{port}", "path": "/readyz"},
        )
        for number in range(PROBES)
    ]


@contextmanager
def watch(platform: Manifest, watched: list[Probe], folder: Path) -> Iterator[Heard]:
    """The prober, as it runs in `nvcops serve`."""
    store = MetricsStore(folder / "metrics.sqlite", 3600, 86400)
    heard, stop = Heard(Watchman(watched, platform), LookSeries(store, watched, 15.0)), threading.Event()
    thread = threading.Thread(target=open_prober(platform, watched).run, args=(stop, heard.tell))
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(END_S)


def window(heard: Heard, seconds: float) -> Run:
    """CPU over wall time; the sums are written down once in it."""
    before, began, cpu = len(heard.looks), time.monotonic(), time.process_time()
    time.sleep(seconds)
    heard.series()
    percent = 100 * (time.process_time() - cpu) / (time.monotonic() - began)
    looks = heard.looks[before:]
    if len(looks) < LOOKS_SHARE_MIN * PROBES * seconds / INTERVAL_S:
        sys.exit(f"probes: {len(looks)} looks instead of {PROBES * seconds / INTERVAL_S:.0f}")
    failed = sum(bool(look.why) for look in looks)
    return Run(percent, len(looks), failed, 1000 * max(look.seconds or 0.0 for look in looks))


def measure(seconds: float, runs: int) -> list[Run]:
    """One watch, several windows."""
    with server() as port, tempfile.TemporaryDirectory(prefix="nvcops-probes-") as folder:
        platform = manifest.parse(PLATFORM, Path(folder) / "platform.toml")
        with watch(platform, probes(port), Path(folder)) as heard:
            time.sleep(SETTLE_S)
            return [window(heard, seconds) for _ in range(runs)]


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one window of 10 s instead of three of 20 s")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    runs = measure(*((INTERVAL_S, 1) if options.quick else (2 * INTERVAL_S, 3)))
    figure = sorted(run.percent for run in runs)[len(runs) // 2]
    if options.json:
        found = {"figure": figure, "unit": "% of a core", "bound": BOUND_PERCENT, "ratio": figure / BOUND_PERCENT}
        print(json.dumps({**found, "runs": [vars(run) for run in runs]}))
    else:
        print(f"probes: {PROBES:,} HTTP probes, each every {INTERVAL_S:g} s")
        print(f"  watch   {figure:.2f} % of a core   bound <= {BOUND_PERCENT:g} %   ratio {figure / BOUND_PERCENT:.2f}")
        for run in runs:
            seen = f"{run.looks} looks, {run.failed} failed, slowest {run.slowest_ms:.0f} ms"
            print(f"  run     {run.percent:.2f} %; {seen}")
    return 0 if figure <= BOUND_PERCENT else 2


if __name__ == "__main__":
    sys.exit(main())
