"""An engine that is killed at each statement of what it does, one after the other; run with a folder.

For each act of a page's life and each statement of it a copy of this process does the act and kills itself there.
The next copy says what stands in the records before it goes a statement further. Each prints lines of JSON.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from nvcops.adapters.records import open_records
from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest, parse
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.core.records import Desk, Records
from nvcops.oncall import paging

AT = dt.datetime(2026, 1, 6, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
STATEMENTS_MAX = 100
TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
state = "{state}"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
[evidence]
origin = "test.example.com/operations"
[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
contacts = [{{ kind = "sms", url = "json://127.0.0.1:1/a" }}, {{ kind = "push", url = "json://127.0.0.1:1/b" }}]
[[people]]
name = "omar"
full_name = "Omar Castellanos"
roles = ["operator"]
contacts = [{{ kind = "sms", url = "json://127.0.0.1:1/c" }}]
[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}, {{ person = "omar" }}]
"""
Act = Callable[[Desk, Manifest], object]
ACTS: dict[str, Act] = {
    "begin": lambda desk, manifest: paging.begin(
        desk,
        manifest=manifest,
        about="root",
        policy="oncall",
        category=Category.CRITICAL,
        summary="it fails",
        body="details",
        at=AT,
        incident=1,
    ),
    "advance": lambda desk, manifest: paging.advance(desk, manifest=manifest, at=AT + 5 * MINUTE),
    "update": lambda desk, manifest: paging.update(
        desk, manifest=manifest, about="root", body="P0", at=AT + 6 * MINUTE
    ),
    "acknowledge": lambda desk, manifest: paging.acknowledge(
        desk, manifest=manifest, about="root", person="omar", at=AT + 7 * MINUTE
    ),
    "resolve": lambda desk, manifest: paging.resolve(
        desk, manifest=manifest, about="root", body="it works", at=AT + 8 * MINUTE
    ),
}


def manifest_in(folder: Path) -> Manifest:
    return parse(TEXT.format(state=folder / "state"), folder / "platform.toml")


class Dying:
    """A desk of which the n-th statement is the last: it was carried out, and the process is killed."""

    def __init__(self, desk: Desk, last: int) -> None:
        self._desk, self._left = desk, last

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            done = getattr(self._desk, name)(*args, **kwargs)
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call


def state_of(desk: Any) -> dict[str, list[Any]]:
    """What stands there, in a form that can be compared."""
    pages = [[page.id, page.step, str(page.next), page.acknowledged_by, str(page.resolved)] for page in desk.find(Page)]
    return {"pages": pages, "messages": [[one.id, one.state] for one in desk.find(Message)]}


def in_a_copy(work: Callable[..., object], *args: object) -> bool:
    """Whether a copy of this process did the work and lived."""
    pid = os.fork()
    if pid == 0:
        work(*args)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        sys.exit(f"a copy ended with {status}")
    return True


def attempt(manifest: Manifest, name: str, last: int) -> None:
    """Say what stands there, then do the act, up to its `last` statement."""
    records = open_records(manifest)
    look(records, name, "before" if last == 1 else "killed")
    with records.changing() as desk:
        ACTS[name](cast("Desk", Dying(desk, last)), manifest)
    look(records, name, "done")
    records.close()


def again(manifest: Manifest, name: str) -> None:
    """Do the act once more, as an engine does that died before it knew; then let what asks be sent."""
    records = open_records(manifest)
    with records.changing() as desk:
        ACTS[name](desk, manifest)
    look(records, name, "again")
    with records.changing() as desk:
        waiting = desk.find(Message, state=MessageState.WAITING, purpose="page")
        desk.put(*(msgspec.structs.replace(message, state=MessageState.SENT) for message in waiting))
    records.close()


def look(records: Records, name: str, when: str) -> None:
    with records.reading() as reading:
        print(json.dumps({"act": name, "when": when, **state_of(reading)}), flush=True)


def main(folder: Path) -> None:
    manifest = manifest_in(folder)
    for name in ACTS:
        for last in range(1, STATEMENTS_MAX):
            if in_a_copy(attempt, manifest, name, last):
                break
        in_a_copy(again, manifest, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
