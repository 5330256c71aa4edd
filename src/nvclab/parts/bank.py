"""The operated service's own programs, started as processes: migrate, seed, and its instances.

This module knows the bank's command line and environment, and nothing else of it.
"""

from __future__ import annotations

import http.client
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvclab.parts.process import Process, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PROGRAM = (sys.executable, "-m", "nvcbank")
_TOOL_DEADLINE_S = 120.0


def run(*arguments: str, env: Mapping[str, str]) -> str:
    """Run one command of the bank to its end; PartFailed with what it said when it fails."""
    return run_tool([*PROGRAM, *arguments], env=env, deadline_s=_TOOL_DEADLINE_S, name=f"nvcbank {arguments[0]}")


@dataclass(frozen=True)
class Program:
    """How the bank is started: words before its own arguments, and what it is told besides."""

    words: Sequence[str] = PROGRAM
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Instance:
    """One instance of the service on a loopback port. `program` is asked at each start: a slot's release may change."""

    name: str
    port: int
    log: Path
    env: Mapping[str, str]
    clock_offset_s: float = 0.0
    program: Callable[[], Program] = Program
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(self.name, PROGRAM, self.log, self.env)

    def launch(self) -> None:
        """Start what is to run there without waiting, with the clock it is to believe in."""
        program = self.program()
        clock = {"NVCBANK_CLOCK_OFFSET_S": f"{self.clock_offset_s:g}"}
        self.process.argv = [*program.words, "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process.env = {**self.env, **clock, **program.env}
        self.process.start()

    def ready(self) -> bool:
        """Say whether it wants customers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Let it finish what it began, and end."""
        self.process.stop()
