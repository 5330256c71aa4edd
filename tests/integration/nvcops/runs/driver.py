"""One process that works on runs, for tests: driver.py FOLDER COMMAND ...; answers with a line of JSON.

KILL_AT=n kills it, as by kill -9, at its n-th write to the records or to the journal.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import workshop
from platform_file import open_runs, read_manifest, signer

from nvcops.adapters.runs.serve import Server
from nvcops.core import procedures
from nvcops.core.errors import NvcopsError


def main(folder: Path, command: str, *arguments: str) -> None:
    die_at(int(os.environ.get("KILL_AT", "0")))
    kind = "serve" if command == "serve" else "cli"
    manifest = read_manifest(folder)
    with open_runs(manifest, folder, kind=kind) as runs:
        print("ready", flush=True)
        if command == "run":
            options = json.loads(arguments[1]) if len(arguments) > 1 else {}
            record = runs.start(procedures.find(arguments[0]), options=options)
        elif command == "resume":
            record = runs.resume(arguments[0])
        elif command == "attest":
            record = runs.attest(arguments[0], arguments[1], signer(manifest, folder, arguments[2]), note="seen")
        elif command == "serve":
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            Server(runs).work(stop)
            return
        print(msgspec.json.encode(record).decode(), flush=True)


def die_at(number: int) -> None:
    """Die at the n-th of the moments at which something durable happens."""
    from nvcops.adapters.runs import dbos as runs_dbos
    from nvcops.adapters.runs import store as runs_store

    left = [number]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if number:
        for name in ("add", "claim", "begin", "end", "finish"):
            setattr(runs_store.RunStore, name, dying(getattr(runs_store.RunStore, name)))
        runs_dbos.Dbos.step = staticmethod(dying(runs_dbos.Dbos.step))  # type: ignore[method-assign]
        workshop.Workshop.act = dying(workshop.Workshop.act)  # type: ignore[method-assign]


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except NvcopsError as refused:
        print(json.dumps({"refused": type(refused).__name__, "sentence": refused.sentence}), flush=True)
        sys.exit(refused.exit_code)
