"""Advisories in a file, for a host without the network: pip-audit asks us for them as it would ask osv.dev."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from nvcops.adapters.gates.asked import CannotTell, read_bytes, read_json
from nvcops.core.units import Seconds

_BODY_MAX = 1 << 16
_FUTURE = dt.timedelta(minutes=5)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file: advisories of the OSV schema 1.x, and when they were fetched."""

    retrieved: dt.datetime
    advisories: list[dict[str, Any]]


def read_advisories(path: Path, now: dt.datetime, age_max: Seconds) -> list[dict[str, Any]]:
    """The advisories of a file.

    Raises:
        CannotTell: it is none, has none, or was fetched too long ago, or in the future.
    """
    try:
        kept = msgspec.convert(read_json(read_bytes(path), path.name), Kept)
        retrieved = kept.retrieved.astimezone(dt.UTC)
    except (msgspec.ValidationError, ValueError) as error:
        raise CannotTell(f"{path.name} has no advisories: {str(error)[:100]}") from error
    if not kept.advisories:
        raise CannotTell(f"{path.name} has no advisories")
    if retrieved > now + _FUTURE:
        raise CannotTell(f"{path.name} was fetched in the future, at {retrieved:%Y-%m-%d %H:%M}")
    if (age := (now - retrieved).total_seconds()) > age_max:
        raise CannotTell(f"{path.name} is stale: fetched {Seconds(round(age))} ago, and {age_max} is allowed")
    return kept.advisories


def seeded_advisory(name: str) -> dict[str, Any]:
    """An advisory about a package that nobody has."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
    affected = [{"package": {"name": canonicalize_name(name), "ecosystem": "PyPI"}, "ranges": ranges}]
    return {"id": f"SEEDED-{name}", "summary": name, "affected": affected, "modified": "2026-01-01T00:00:00Z"}


def affects(advisory: dict[str, Any], name: str, version: str) -> bool:
    """Whether an advisory is about a version: it is named, or lies in a range of the package's own order.

    >>> seeded = seeded_advisory("thing")
    >>> [affects(seeded, "thing", version) for version in ("0", "1.9", "2.0rc1", "2.0", "10")]
    [True, True, True, False, False]
    """
    for affected in advisory.get("affected", []):
        package = affected.get("package", {})
        if package.get("ecosystem") != "PyPI" or canonicalize_name(str(package.get("name", ""))) != canonicalize_name(
            name
        ):
            continue
        if version in affected.get("versions", []):
            return True
        ranges = [one for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
        if any(_within(one.get("events", []), version) for one in ranges):
            return True
        if not affected.get("versions") and not ranges:  # it says no version: then it is all of them
            return True
    return False


def _within(events: Sequence[dict[str, str]], version: str) -> bool:
    """Whether a version lies in a range: events in the order of versions, the last one before it decides."""
    asked, inside = Version(version), False
    order = ("introduced", "fixed", "last_affected")
    ordered = sorted(
        (
            (Version("0.dev0" if text == "0" else text), order.index(kind), kind)
            for e in events
            for kind, text in e.items()
        )
    )
    for bound, _, kind in ordered:
        if kind == "introduced" and asked >= bound:
            inside = True
        elif (kind == "fixed" and asked >= bound) or (kind == "last_affected" and asked > bound):
            inside = False
    return inside


@contextmanager
def serving(advisories: list[dict[str, Any]]) -> Iterator[str]:
    """The address at which the advisories are asked for, while the block lasts; what cannot be answered is a 500."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), _BODY_MAX)))
                name, version = str(asked["package"]["name"]), str(asked["version"])
                found = [one for one in advisories if affects(one, name, version)]
                status, body = 200, json.dumps({"vulns": found} if found else {}).encode()
            except Exception as error:  # noqa: BLE001 - whatever it is, pip-audit must not take it for an answer
                status, body = 500, str(error).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the gate's report says what was found."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
