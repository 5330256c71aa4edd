"""Seconds that the health check takes for 200 HTTP targets: each is asked whether it is ready, and for its version.

The targets are 200 small real servers on loopback in one other process. The room's own fact asks them, the room's own
rules judge the answers. Beside it, in the same run: a loop of plain asyncio streams over the same addresses that sends
the same requests and reads the answers without looking at them.

    health_check.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.target import connect
from nvcops.core.checks import Verdict
from nvcops.core.manifest import EvidenceEntry, Instance, Limits, Manifest, Platform, ServiceEntry
from nvcops.health.parts import door_findings, doors

TARGETS = 200
BOUND_S = 1.0
PATHS = ("/readyz", "/version")


@dataclass(frozen=True)
class Run:
    """Seconds of one run."""

    check_s: float
    plain_s: float


async def serve() -> None:
    """All targets, until standard input ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            now = dt.datetime.now(dt.UTC).isoformat()
            body = json.dumps({"status": "ready", "version": "1.0", "now": now}).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            await writer.drain()
        finally:
            writer.close()

    servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(TARGETS)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def manifest(ports: list[int]) -> Manifest:
    """A platform of one service with a front door and 199 instances."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    instances = tuple(Instance(name=f"web-{number}", url=url) for number, url in enumerate(urls[1:], 1))
    service = ServiceEntry(name="web", url=urls[0], ready=PATHS[0], version=PATHS[1], instances=instances)
    platform = Platform(name="bench", title="Bench", state=Path("unused"))
    return Manifest(platform=platform, services=(service,), evidence=EvidenceEntry(origin="bench.example/log"))


def check(ports: list[int]) -> float:
    """The room's way; every line must be OK."""
    platform = manifest(ports)
    began = time.perf_counter()
    findings = door_findings(doors(connect(platform)), Limits())
    took = time.perf_counter() - began
    wrong = [finding for finding in findings if finding.verdict is not Verdict.OK]
    if wrong or len(findings) < TARGETS:
        sys.exit(f"health_check: {len(wrong)} of {len(findings)} lines are not OK, the first: {wrong[:1]}")
    return took


def plain(ports: list[int]) -> float:
    """The same requests without a check."""

    async def one(port: int, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.read()
        writer.close()

    async def everything() -> None:
        questions = [(ports[0], PATHS[0]), *((port, path) for port in ports[1:] for path in PATHS)]
        await asyncio.gather(*(one(port, path) for port, path in questions))

    began = time.perf_counter()
    asyncio.run(everything())
    return time.perf_counter() - began


def measure(runs: int) -> list[Run]:
    """Both, in turns; a first round that is not counted opens what is opened once."""
    servers = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert servers.stdout is not None  # noqa: S101 - it was asked for two lines above
        ports = json.loads(servers.stdout.readline())
        check(ports)
        return [Run(check(ports), plain(ports)) for _ in range(runs)]
    finally:
        servers.communicate(timeout=10)


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 runs instead of 15")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return 0
    runs = measure(3 if options.quick else 15)
    figure = sorted(run.check_s for run in runs)[len(runs) // 2]
    reference = sorted(run.plain_s for run in runs)[len(runs) // 2]
    if options.json:
        found = {"figure": figure, "unit": "s", "bound": BOUND_S, "ratio": figure / BOUND_S}
        print(json.dumps({**found, "plain_s": reference, "runs": [vars(run) for run in runs]}))
    else:
        print(f"health_check: {TARGETS} HTTP targets, asked whether they are ready and for their version")
        print(f"  check   {figure:.3f} s   bound <= {BOUND_S:g} s   ratio {figure / BOUND_S:.2f}")
        print(f"  plain   {reference:.3f} s of plain streams, ratio {figure / reference:.1f}")
    return 0 if figure <= BOUND_S else 2


if __name__ == "__main__":
    sys.exit(main())
