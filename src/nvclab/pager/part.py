"""The pager as a part of the lab: its process, its file, and how it is told to behave."""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from nvclab.errors import PartFailed
from nvclab.pager.pages import BEHAVIOUR, Behaviour
from nvclab.parts.process import Process

if TYPE_CHECKING:
    from pathlib import Path

_DEADLINE_S = 5.0


@dataclass
class Pager:
    """A receiver on a loopback port; what arrives stands in `pages`."""

    port: int
    pages: Path
    log: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        argv = [sys.executable, "-m", "nvclab.pager", "--port", str(self.port), "--file", str(self.pages)]
        self.process = Process("pager", argv, self.log)

    def launch(self) -> None:
        """Start it without waiting; it takes every page again."""
        self.process.start()

    def ready(self) -> bool:
        """Say whether it answers."""
        try:
            return ask(self.port, "GET") is not None
        except PartFailed:
            return False

    def stop(self) -> None:
        """End it; what arrived stays."""
        self.process.stop()


def behave(port: int, behaviour: Behaviour) -> Behaviour:
    """Tell the pager on a port how to behave; PartFailed when it does not answer, or does not understand."""
    return ask(port, "PUT", behaviour)


def ask(port: int, method: str, behaviour: Behaviour | None = None) -> Behaviour:
    """How the pager behaves, told otherwise first where `behaviour` is given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_DEADLINE_S)
    try:
        connection.request(method, BEHAVIOUR, json.dumps(asdict(behaviour)) if behaviour else None)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PartFailed(f"The pager does not answer: {error}.", hint="nvclab part start pager") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise PartFailed(f"The pager refuses: {said}.")
    return Behaviour(**said)
