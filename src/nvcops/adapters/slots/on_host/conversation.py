"""One request from standard input, a line of JSON, and one line of JSON behind MARK as its answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

from nvcops.adapters.slots.on_host.basis import CHUNK, No, locked
from nvcops.adapters.slots.on_host.environments import environment, run
from nvcops.adapters.slots.on_host.releases import check, forget, laid, lay, point, pointers

MARK = "nvcops-slots: "
_REQUEST_MAX = 32 << 20


def hold(stream: BinaryIO, root: str, name: str, wait_s: float) -> None:
    """Hold a lock from the answer on, until the one who asked lets go of the connection."""
    with locked(Path(root), name, wait_s):
        say({"value": True})
        while stream.read(CHUNK):
            pass


VERBS = {verb.__name__: verb for verb in (lay, laid, check, forget, pointers, point, hold, environment, run)}


def say(answer: dict[str, Any]) -> None:
    """One line, so marked that what a login shell says besides is told apart."""
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


def main(stream: BinaryIO) -> None:
    """Do what is asked."""
    try:
        asked = json.loads(stream.readline(_REQUEST_MAX))
        value = VERBS[asked.pop("verb")](stream, **asked)
    except No as no:
        say({"no": no.sentence, "hint": no.hint, "kind": no.kind})
    except OSError as error:
        hint = "look at the disk's space and the permissions"
        say({"no": f"{error.filename or 'the disk'}: {error.strerror}", "hint": hint, "kind": "refused"})
    else:
        say({"value": value})
