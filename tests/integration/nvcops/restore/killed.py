"""A run in a process of its own that can be killed at any of its steps, and goes on from its journal.

    killed.py FOLDER PROCEDURE OPTIONS RUN      with KILL=N:before, N:after or N:SECONDS in the environment

It prints the checks that are not OK when it has concluded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from acting import ActingRun

from nvcops.adapters.files import load_manifest
from nvcops.adapters.runs import journal
from nvcops.adapters.target import connect
from nvcops.core.errors import NvcopsError, StepFailed
from nvcops.core.procedures import find


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Journaled(ActingRun):
    """Each step's outcome is in the journal before the next begins."""

    file: Path = Path()
    kill: tuple[int, str] = (0, "")
    number: int = 0
    kept: list[str] = field(default_factory=list)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return journal.read_back(self._once(lambda: fact(*args, **kwargs)), journal.return_type(fact))

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        kept = self._once(lambda: act(*args, **kwargs))
        if error := journal.error_in(kept):
            raise StepFailed(f"{title}: {error}")
        return journal.read_back(kept, journal.return_type(act))

    def _once(self, body: Callable[[], Any]) -> str:
        self.number += 1
        if self.number <= len(self.kept):
            return self.kept[self.number - 1]
        when = self.kill[1] if self.number == self.kill[0] else ""
        if when == "before":
            die()
        if when not in ("", "after"):
            threading.Timer(float(when), die).start()
        try:
            outcome = journal.returned(body())
        except NvcopsError as error:
            outcome = journal.raised(error)
        if when:
            die()
        self.kept.append(outcome)
        scratch = self.file.with_suffix(".new")
        scratch.write_text(json.dumps(self.kept))
        scratch.rename(self.file)
        return outcome


@dataclass
class Stopped:
    """Control of servers that the test has stopped and starts itself."""

    def start(self, name: str) -> None: ...
    def stop(self, name: str) -> None: ...
    def rebuild(self, name: str) -> None: ...
    def running(self, name: str) -> bool:
        return name == ""  # none of them

    def fence(self, name: str) -> None: ...
    def break_host(self, kind: str, name: str) -> None: ...
    def mend_host(self, name: str) -> None: ...


def main() -> None:
    folder, name, options, run_id = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
    file = folder / f"journal-{run_id}"
    kept = json.loads(file.read_text()) if file.exists() else []
    at, _, when = os.environ.get("KILL", "0:").partition(":")
    run = Journaled(id=run_id, file=file, kill=(int(at), when), kept=kept)
    procedure = find(name)
    target = replace(connect(load_manifest(folder / "platform.toml")), control=Stopped())
    procedure.function(run, target, **procedure.arguments(options))
    print(
        json.dumps(
            {
                "wrong": [finding.check for finding in run.wrong],
                "steps": run.number,
                "said": [f"{line.check} {line.subject}: {line.observed}" for line in run.findings],
            }
        )
    )


if __name__ == "__main__":
    main()
