"""What the tests of the alerts' desk share: a platform with people, a routing, a clock that is moved by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec

from desk import MemoryDesk
from nvcops.alerts import desk as alerts
from nvcops.alerts.routing import Routing, default_routing
from nvcops.alerts.routing_file import read_routing
from nvcops.alerts.said import Said
from nvcops.core.manifest import AlertsEntry, Manifest, parse
from nvcops.core.oncall import Message

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)  # a Monday
PLATFORM = """
[platform]
name = "test-bank"
title = "Test Bank"
state = "{state}"

[[services]]
name = "bank"
url = "http://127.0.0.1:1"

[alerts]
listen = "127.0.0.1:9780"

[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
contacts = [{{ kind = "sms", url = "json://127.0.0.1:1/dana" }}]

[[oncall.policies]]
name = "oncall"
steps = [{{ person = "dana" }}]

[[oncall.policies]]
name = "database"
steps = [{{ person = "dana" }}]

[evidence]
origin = "test.example.com/operations"
"""


def at(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


def platform(state: Path = Path("/var/lib/nvcops"), **settings: Any) -> Manifest:
    manifest = parse(PLATFORM.format(state=state), Path("platform.toml"))
    return msgspec.structs.replace(manifest, alerts=AlertsEntry(listen="127.0.0.1:9780", **settings))


def routing_of(text: str) -> Routing:
    return read_routing(text, Path("alertmanager.yml"), policies=["oncall", "database"])


def said(name: str = "Down", *, over: bool = False, starts: float | None = None, **labels: Any) -> Said:
    """An alert as its source says it, until it says that it is over."""
    ends = labels.pop("ends", None)
    lasts = labels.pop("lasts", True)
    summary = labels.pop("summary", "")
    return Said(
        labels={"alertname": name, **labels},
        annotations={"summary": summary} if summary else {},
        starts=None if starts is None else at(starts),
        ends=None if ends is None else at(ends),
        over=over,
        source="test",
        lasts=lasts,
    )


class Office:
    """A desk, and a routing; `take` and `tick` at so many seconds after noon."""

    def __init__(self, routing: Routing | None = None, manifest: Manifest | None = None) -> None:
        self.manifest = manifest or platform()
        self.routing = routing or default_routing(self.manifest)
        self.desk = MemoryDesk()

    def take(self, seconds: float, *these: Said) -> alerts.Taken:
        return alerts.take(self.desk, these, at(seconds), manifest=self.manifest, routing=self.routing)

    def tick(self, seconds: float) -> dt.datetime | None:
        return alerts.tick(self.desk, at(seconds), manifest=self.manifest, routing=self.routing)

    def sent(self, seconds: float, purpose: str = "") -> list[Message]:
        """What was written to the outbox at that moment."""
        written = [m for m in self.desk.every(Message) if m.created == at(seconds)]
        return [m for m in written if purpose in ("", m.purpose)]

    def posted(self, seconds: float) -> list[dict[str, Any]]:
        """What the webhooks get of that moment."""
        return [msgspec.json.decode(message.payload) for message in self.sent(seconds, "webhook")]
