"""A platform of files on this machine: a release, a configuration, logs, and a repository beside them."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup.repository import Repository, open_repository
from nvcops.core.backups import Entry, Kind
from nvcops.core.manifest import Manifest, parse
from nvcops.core.schedule import now

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
