"""An engine that takes an alert, decides, asks people and sends; it kills itself at a point that is given to it.

    page_path.py FILE           FILE: {"state", "database", "ways", "die_at", "late_s", "deadline_s", "trace"} as JSON

The points are: before each statement that a database is given, before and after each commit, before and after each
message is handed over. It ends with 0 when nothing is left to do; then `trace` says at which points it was.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nvcops.adapters.outbox.sender import Sender
from nvcops.adapters.outbox.transport import Transport
from nvcops.adapters.records import open_records
from nvcops.alerts import desk as alerts
from nvcops.alerts.own import undeliverable
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core.manifest import Contact, EvidenceEntry, Manifest, Person, Platform
from nvcops.core.manifest.operations import OncallEntry, Policy, PolicyStep, RecordsEntry, Rotation
from nvcops.core.oncall import Message, MessageState
from nvcops.core.records import Desk, Records
from nvcops.oncall import paging

FAULT = dt.datetime(2026, 11, 23, 7, 13, tzinfo=dt.UTC)
OPEN = [MessageState.WAITING, MessageState.SENDING]
PATIENCE_S = 60.0


def manifest_of(state: Path, database: dict[str, Any] | None, ways: list[str]) -> Manifest:
    """Two people who take turns, each with these ways to reach them."""
    people = tuple(
        Person(
            name=name,
            full_name=name,
            roles=("operator",),
            contacts=tuple(Contact(kind="chat", url=f"{way}/{name}") for way in ways),
        )
        for name in ("dana", "omar")
    )
    turns = Rotation(name="primary", people=("dana", "omar"), starts=dt.date(2026, 1, 5))
    steps = (PolicyStep(rotation="primary"), PolicyStep(person="omar"))
    oncall = OncallEntry(rotations=(turns,), policies=(Policy(name="oncall", steps=steps),))
    records = msgspec.convert(database or {}, RecordsEntry, dec_hook=lambda kind, value: kind(value))
    platform = Platform(name="t", title="T", state=state)
    evidence = EvidenceEntry(origin="t.example.com/o")
    return Manifest(platform=platform, evidence=evidence, people=people, oncall=oncall, records=records)


class Points:
    """Counts the points of the page path, and dies at one."""

    def __init__(self, die_at: int) -> None:
        self._numbers = itertools.count(1)
        self._die_at = die_at
        self._quiet = threading.local()
        self.seen: list[str] = []

    def pass_by(self, what: str) -> None:
        """One point."""
        if getattr(self._quiet, "on", False):
            return
        self.seen.append(what)
        if next(self._numbers) == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def unseen(self, act: Callable[[], Any]) -> Any:
        """What the drill itself asks is no point."""
        self._quiet.on = True
        try:
            return act()
        finally:
            self._quiet.on = False

    def around(self, owner: Any, name: str, *, after: bool) -> None:
        """Make a method's beginning, and its end, points."""
        plain = getattr(owner, name)

        @functools.wraps(plain)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(f"before {name}")
            done = plain(*args, **kwargs)
            if after:
                self.pass_by(f"after {name}")
            return done

        setattr(owner, name, watched)


def put_points_in(points: Points) -> None:
    """Where the path's statements, commits and messages go through."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from nvcops.adapters.records import desk

    points.around(desk, "enqueue", after=False)
    points.around(CursorWrapper, "execute", after=False)
    points.around(BaseDatabaseWrapper, "_commit", after=True)
    points.around(Transport, "send", after=True)


def decide(manifest: Manifest, at: dt.datetime, desk: Desk) -> None:
    """What the engine does with an alert, and with what is due."""
    said = Said(
        labels={"alertname": "BankDown", "severity": "critical", "service": "bank"}, starts=FAULT, source="drill"
    )
    routing = default_routing(manifest)
    alerts.take(desk, [said], at, manifest=manifest, routing=routing)
    alerts.tick(desk, at, manifest=manifest, routing=routing)
    paging.advance(desk, manifest=manifest, at=at)


def sent_all(records: Records) -> bool:
    """Whether nothing waits to be sent."""
    with records.reading() as reading:
        return reading.count(Message, state__in=[state.value for state in OPEN]) == 0


def main(told: dict[str, Any]) -> None:
    """Take, decide, send, until nothing is left."""
    manifest = manifest_of(Path(told["state"]), told["database"], told["ways"])
    late = dt.timedelta(seconds=told["late_s"])
    points, stop = Points(told["die_at"]), threading.Event()
    records = points.unseen(lambda: open_records(manifest))
    put_points_in(points)
    begun = time.monotonic()

    def clock() -> dt.datetime:
        return FAULT + late + dt.timedelta(seconds=time.monotonic() - begun)

    def dead(desk: Desk, message: Message, at: dt.datetime) -> None:
        alerts.take(desk, [undeliverable(message)], at, manifest=manifest, routing=default_routing(manifest))

    with records.changing() as desk:
        decide(manifest, clock(), desk)
    sender = Sender(
        records, manifest, hooks=lambda _name: [], dead=dead, notify=print, clock=clock, deadline_s=told["deadline_s"]
    )
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while not points.unseen(lambda: sent_all(records)):
        if time.monotonic() > end:
            sys.exit("messages are left")
        time.sleep(0.02)
    stop.set()
    thread.join()
    records.close()
    Path(told["trace"]).write_text("\n".join(points.seen), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
