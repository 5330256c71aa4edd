"""The payers of the payments benchmark: one process, raw sockets, keep-alive, one request in flight per connection.

Reads a plan as JSON from standard input, writes its result as JSON to standard output:
    plan    {"port", "connections", "warmup_s", "seconds", "payers": [[account, token], ...], "seed"}
    result  {"seconds", "settled", "declined", "refused", "cpu_s", "latencies_ms": {"mean", "p50", "p99"},
             "acknowledged": [[key, id], ...]}
Only what is answered in the measured seconds counts; everything that was acknowledged at any time is reported.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import partial
from typing import Any

import uvloop


class Tally:
    """What all connections saw."""

    def __init__(self) -> None:
        self.measuring = False
        self.stopping = False
        self.settled = self.declined = self.refused = 0
        self.latencies: list[float] = []
        self.acknowledged: list[tuple[str, int]] = []


class Payer(asyncio.Protocol):
    """Pays, waits for the answer, pays again."""

    def __init__(self, number: int, plan: dict[str, Any], tally: Tally) -> None:
        self._number = number
        self._count = 0
        self._payers = plan["payers"]
        self._random = random.Random(plan["seed"] * 100_003 + number)
        self._prefix = f"bench-{plan['seed']}-{number}-"
        self._tally = tally
        self._buffer = b""
        self._key = ""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: Any = transport
        self._pay()

    def connection_lost(self, error: Exception | None) -> None:
        """Losing a connection before the end spoils the run."""
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the bank closed a connection: {error}"))

    def _pay(self) -> None:
        self._count += 1
        self._key = f"{self._prefix}{self._count}"
        draw = self._random.random
        payers = self._payers
        account, token = payers[int(draw() * len(payers))]
        payee = payers[int(draw() * len(payers))][0]
        while payee == account:
            payee = payers[int(draw() * len(payers))][0]
        body = (
            f'{{"from_account":{account},"to_account":{payee},"amount":{1 + int(draw() * 2000)},'
            f'"currency":"EUR","reference":"invoice {self._count}"}}'
        )
        self._sent_at = time.perf_counter()
        self._transport.write(
            f"POST /v1/payments HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {token}\r\n"
            f"Idempotency-Key: {self._key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take an answer when it is whole, note it, pay again."""
        if self._buffer:
            data = self._buffer + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _content_length(data):
            self._buffer = data
            return
        self._buffer = b""
        self._note(data, head + 4)
        if self._tally.stopping:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._pay()

    def _note(self, data: bytes, body: int) -> None:
        tally = self._tally
        if data.startswith(b"HTTP/1.1 201"):
            settled = data.find(b'"status":"settled"', body) > 0
            if settled:
                tally.acknowledged.append((self._key, int(data[body + 6 : data.index(b",", body)])))
            if tally.measuring:
                tally.latencies.append(time.perf_counter() - self._sent_at)
                tally.settled += settled
                tally.declined += not settled
        elif tally.measuring:
            tally.refused += 1


def _content_length(data: bytes) -> int:
    start = data.index(b"Content-Length: ") + 16
    return int(data[start : data.index(b"\r", start)])


def _same(payer: Payer) -> Payer:
    return payer


async def pay(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the plan; returns the result."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    payers = [Payer(number, plan, tally) for number in range(plan["connections"])]
    for payer in payers:
        await loop.create_connection(partial(_same, payer), "127.0.0.1", plan["port"])
    await asyncio.sleep(plan["warmup_s"])
    tally.measuring = True
    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.sleep(plan["seconds"])
    tally.measuring = False
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    tally.stopping = True
    await asyncio.wait_for(asyncio.gather(*(payer.done for payer in payers)), 10)
    latencies = sorted(tally.latencies)
    return {
        "seconds": seconds,
        "settled": tally.settled,
        "declined": tally.declined,
        "refused": tally.refused,
        "cpu_s": cpu_s,
        "latencies_ms": {
            "mean": 1000 * sum(latencies) / len(latencies),
            "p50": 1000 * latencies[len(latencies) // 2],
            "p99": 1000 * latencies[len(latencies) * 99 // 100],
        },
        "acknowledged": tally.acknowledged,
    }


if __name__ == "__main__":
    json.dump(uvloop.run(pay(json.load(sys.stdin))), sys.stdout)
