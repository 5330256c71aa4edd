"""A watch in a thread, what it told, and waiting for what it should tell."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from nvcops.core.alerts import Category
from nvcops.core.units import Seconds
from nvcops.core.watch import Look, Probe, ProbeKind, Prober

PLATFORM = """
[platform]
name = "shop"
title = "Shop"
state = "state"

[[services]]
name = "web"
url = "http://127.0.0.1:1"

[evidence]
origin = "shop.example.com/operations"
"""
WAIT_S = 60.0


@dataclass
class WebServer:
    """`web_server.py`, which can be started again at the same port."""

    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        argv = [sys.executable, str(Path(__file__).with_name("web_server.py")), str(self.port)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdout
            self.process.kill()
            self.process.wait(WAIT_S)
            self.process.stdout.close()
            self.process = None

    def send(self, signal: int) -> None:
        assert self.process
        self.process.send_signal(signal)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connections(self) -> int:
        """How many connections it accepted, this one not counted."""
        return int(httpx.get(f"{self.url}/connections", timeout=WAIT_S).text) - 1


@dataclass
class Watched:
    """What a watch told, by probe."""

    looks: list[Look] = field(default_factory=list)
    error: BaseException | None = None

    def tell(self, looks: Sequence[Look]) -> None:
        self.looks.extend(looks)

    def of(self, name: str) -> list[Look]:
        return [look for look in self.looks if look.probe == name]

    def until(self, met: Callable[[], Any]) -> Any:
        """Wait until it is met; whatever it answered."""
        end = time.monotonic() + WAIT_S
        while not (answer := met()):
            assert time.monotonic() < end, self.looks[-20:]
            assert self.error is None, self.error
            time.sleep(0.01)
        return answer

    def next(self, name: str, count: int = 1) -> list[Look]:
        """The looks that end from now on."""
        begin = len(self.of(name))
        self.until(lambda: len(self.of(name)) >= begin + count)
        return self.of(name)[begin : begin + count]

    def until_bad(self, name: str, count: int = 2) -> list[Look]:
        """Wait for so many failed looks in a row, from now on; them."""
        begin = len(self.of(name))

        def row() -> list[Look]:
            bad: list[Look] = []
            for look in self.of(name)[begin:]:
                bad = [*bad, look] if look.why and look.known else []
                if len(bad) == count:
                    return bad
            return []

        found: list[Look] = self.until(row)
        return found


@contextmanager
def watching(prober: Prober, tell: Callable[[Watched, Sequence[Look]], None] | None = None) -> Iterator[Watched]:
    """A prober that looks for as long as the block lasts."""
    stop, watched = threading.Event(), Watched()

    def told(looks: Sequence[Look]) -> None:
        tell(watched, looks) if tell else watched.tell(looks)

    def run() -> None:
        try:
            prober.run(stop, told)
        except BaseException as error:  # noqa: BLE001 - it is asked for
            watched.error = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watched
    finally:
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def probe(name: str, kind: ProbeKind, /, *, interval: float = 0.2, deadline: float = 5.0, **options: Any) -> Probe:
    """A probe that is believed after two looks."""
    return Probe(
        name=name,
        kind=kind,
        interval=Seconds(interval),
        deadline=Seconds(deadline),
        failures=2,
        recoveries=3,
        category=Category.HIGH,
        options=options,
    )
