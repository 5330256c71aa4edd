"""Cases of detection rules as data: for each rule stories that it must tell, and stories that it must not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from nvcops.core.detections import Detection
from nvcops.security.detection.engine import Engine
from nvcops.security.detection.parsers.audit import AuditParser
from nvcops.security.detection.parsers.evidence import EvidenceParser
from nvcops.security.detection.parsers.haproxy import HaproxyParser
from nvcops.security.detection.parsers.lines import Parser
from nvcops.security.detection.parsers.postgres import PostgresParser
from nvcops.security.detection.parsers.service import ServiceParser
from nvcops.security.detection.parsers.syslog import SyslogParser
from nvcops.security.detection.parsers.valkey import ValkeyParser

FOLDER = Path(__file__).parent / "rules" / "detection"
NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
UTC = ZoneInfo("UTC")
Writer = Callable[[dt.datetime, Any, int], str]


@dataclass(frozen=True)
class Case:
    """One story of one rule."""

    rule: str
    file: str
    matches: bool
    story: Any

    def lines(self) -> Iterator[bytes]:
        """The lines of the story, a second apart unless it says otherwise."""
        time = NOON
        for part in self.story if isinstance(self.story, list) else [self.story]:
            extra = part if isinstance(part, dict) else {}
            for number in range(int(extra.get("times", 1))):
                yield WRITERS[self.file](time, part, number).encode()
                time += dt.timedelta(seconds=float(extra.get("every", 1)))

    def detections(self, engine: Engine) -> list[Detection]:
        """What an engine makes of it."""
        parser = PARSERS[self.file]()
        found = []
        for line in self.lines():
            event = parser.parse(line)
            assert not event.trouble, (event.trouble, line)
            found += engine.see(event, line)
        return found


def cases() -> list[Case]:
    """All of them."""
    found = []
    for path in sorted(FOLDER.glob("*.yml")):
        for rule, stories in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            found += [Case(rule, path.stem, True, story) for story in stories["match"]]
            found += [Case(rule, path.stem, False, story) for story in stories["clean"]]
    return found


def _numbered(part: Any, number: int) -> Any:
    if isinstance(part, str):
        return part.replace("{n}", str(number + 1))
    if isinstance(part, dict):
        return {key: _numbered(value, number) for key, value in part.items() if key not in ("times", "every")}
    return part


def postgres(time: dt.datetime, part: Any, number: int) -> str:
    told = _numbered({"message": part} if isinstance(part, str) else part, number)
    code = told.get("code", "00000")
    line = {
        "timestamp": f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC",
        "user": told.get("user", "dba"),
        "dbname": told.get("dbname", "bank"),
        "pid": 4711,
        "remote_host": told.get("host", "192.0.2.9"),
        "remote_port": 50000,
        "error_severity": "LOG" if code == "00000" else "FATAL",
        "state_code": code,
        "message": told["message"],
        "statement": told.get("statement"),
    }
    return json.dumps(line)


def valkey(time: dt.datetime, part: Any, number: int) -> str:
    if isinstance(part, dict):
        return f"12:M {time:%d %b %Y %H:%M:%S}.000 * {part['log']}"
    words = " ".join(f'"{word}"' for word in _numbered(part, number).split())
    return f"{time.timestamp():.6f} [0 192.0.2.9:5000] {words}"


def bank(time: dt.datetime, part: Any, number: int) -> str:
    return json.dumps({"time": time.isoformat(), "level": "info", **_numbered(part, number)})


def nvcops(time: dt.datetime, part: Any, number: int) -> str:
    entry = {"id": f"e{number}", "time": f"{time:%Y-%m-%dT%H:%M:%SZ}", "platform": "p", **_numbered(part, number)}
    return json.dumps(entry)


def web(time: dt.datetime, part: Any, number: int) -> str:
    told = {"request": part} if isinstance(part, str) else part
    request = _numbered(told["request"], number)
    if request.startswith("<"):
        url, code, agent = "<BADREQ>", request.split()[1], ""
    else:
        method, path, code, *rest = request.split(" ", 3)
        url, agent = f"{method} {path} HTTP/1.1", rest[0] if rest else ""
    when = f"{time:%d/%b/%Y:%H:%M:%S}.{time.microsecond // 1000:03d}"
    headers = f"{{{agent.replace('}', '')}}} " if agent else ""
    rest = f'front bank/bank-1 0/0/1/2/3 {code} 99 - - ---- 1/1/0/0/0 0/0 {headers}"{url}"'
    return f"{told.get('ip', '192.0.2.9')}:5000 [{when}] {rest}"


def linux(time: dt.datetime, part: Any, number: int) -> str:
    program, _, message = _numbered(part if isinstance(part, str) else part["line"], number).partition(": ")
    return f"{time:%b} {time.day:2d} {time:%H:%M:%S} db-1 {program}[99]: {message}"


def audit(time: dt.datetime, part: Any, number: int) -> str:
    kind, _, rest = _numbered(part, number).partition(" ")
    return f"type={kind} msg=audit({time.timestamp():.3f}:{number + 1}): {rest}"


WRITERS: dict[str, Writer] = {
    "postgresql": postgres,
    "valkey": valkey,
    "bank": bank,
    "nvcops": nvcops,
    "web": web,
    "linux": linux,
    "audit": audit,
}
PARSERS: dict[str, Callable[[], Parser]] = {
    "postgresql": lambda: PostgresParser("db-1", UTC),
    "valkey": lambda: ValkeyParser("cache", UTC, NOON),
    "bank": lambda: ServiceParser("bank"),
    "nvcops": lambda: EvidenceParser("evidence"),
    "web": lambda: HaproxyParser("proxy", UTC, NOON),
    "linux": lambda: SyslogParser("host", UTC, NOON),
    "audit": lambda: AuditParser("audit"),
}
