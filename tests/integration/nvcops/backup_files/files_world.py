"""A platform of files on this machine: a release, a configuration, logs, and a repository beside them."""

from __future__ import annotations

import base64
import datetime as dt
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nvcops import wiring
from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.adapters.runs import journal
from nvcops.adapters.target import connect
from nvcops.core.backups import Entry, Kind
from nvcops.core.checks import Finding, Verdict
from nvcops.core.manifest import Manifest, parse
from nvcops.core.procedures import find
from nvcops.core.runs import Signed, verdict_of
from nvcops.core.schedule import now
from nvcops.core.target import Target

assert wiring.ROOMS, "the rooms are what fills the runbook"

TEXT = """
[platform]
name = "ship"
title = "Ship"
state = "state"
[database]
name = "ship"
user = "ship"
primary = {{ name = "db-1", host = "127.0.0.1" }}
log = "logs/db.json"
[[services]]
name = "bank"
url = "http://127.0.0.1:9"
log = "logs/application.log"
[backups]
repository = "repository"
application = "release"
configuration = ["etc/bank.toml", "etc/conf.d"]
{more}
[evidence]
origin = "ship.example.com/log"
"""


@dataclass
class World:
    folder: Path
    manifest: Manifest

    @property
    def repository(self) -> Repository:
        return open_repository(self.manifest)

    def write(self, name: str, text: str | bytes, mode: int = 0o640) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def objects(self, prefix: str = "backups/") -> list[str]:
        return [file.key for file in self.repository.store.list(prefix)]


def world(folder: Path, *, encrypted: bool = False, keep: str = "") -> World:
    more = ""
    if encrypted:
        key = folder / "repository.secret"
        key.write_text(base64.b64encode(os.urandom(32)).decode())
        key.chmod(0o600)
        more = f'key_file = "{key}"'
    path = folder / "platform.toml"
    path.write_text(TEXT.format(more=more + keep))
    made = World(folder, parse(path.read_text(), path))
    for name in ("release", "etc/conf.d", "logs"):
        (folder / name).mkdir(parents=True)
    return made


def draft(id: str, kind: Kind) -> Entry:  # noqa: A002 - the catalogue's own word
    return Entry(number=0, id=id, kind=kind, platform="", began=now(), ended=now())


def tree(folder: Path) -> dict[str, object]:
    """Everything below a folder: contents, permissions, owners, times, links."""
    seen: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        what = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = None if path.is_symlink() else status.st_mode
        time = None if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        seen[str(path.relative_to(folder))] = (what, mode, status.st_uid, status.st_gid, time)
    return seen


def edited(entry: Entry, **changes: object) -> Entry:
    return msgspec.structs.replace(entry, **changes)


class ActingRun:
    """A run in memory that acts: what crosses the journal is crossed, a second person approves."""

    def __init__(self, target: Target, *, dry_run: bool = False, started: dt.datetime | None = None) -> None:
        self.target = target
        self.id = f"in-memory@{secrets.token_hex(4)}"
        self.started = started or now()
        self.dry_run = dry_run
        self.approved: list[str] = []
        self.findings: list[Finding] = []

    def read(self, fact: Any, /, *args: Any, **kwargs: Any) -> Any:
        return journal.read_back(journal.returned(fact(*args, **kwargs)), journal.return_type(fact))

    def step(self, title: str, act: Any, /, *args: Any, **kwargs: Any) -> Any:
        assert title
        return None if self.dry_run else self.read(act, *args, **kwargs)

    def approve(self, name: str, title: str) -> Signed:
        self.approved.append(f"{name}: {title}")
        return Signed("" if self.dry_run else "omar", "fine", self.started)

    def conclude(self, findings: Sequence[Finding], *, summary: str = "") -> None:
        assert findings
        assert not summary
        self.findings = list(findings)

    def of(self, check: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.check == check]

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.findings)


def acted(
    name: str, ship: World, *, dry_run: bool = False, started: dt.datetime | None = None, **options: Any
) -> ActingRun:
    """Run a procedure on the world."""
    target = connect(ship.manifest)
    run = ActingRun(target, dry_run=dry_run, started=started)
    procedure = find(name)
    procedure.function(run, target, **procedure.arguments(options))
    return run
