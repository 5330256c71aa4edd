"""What every verb needs: an answer that is no, locks, and files that are on the disk when a function returns."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{64}")
SLOT = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
LOCK = "requirements.txt"
CHUNK = 1 << 20


class No(Exception):
    """The host says no: a sentence, and a hint."""

    def __init__(self, sentence: str, hint: str = "", kind: str = "refused") -> None:
        super().__init__(sentence)
        self.sentence, self.hint, self.kind = sentence, hint, kind


@contextlib.contextmanager
def locked(root: Path, name: str, wait_s: float) -> Any:
    """Hold a lock; the kernel gives it back when its holder dies."""
    folder = made(root / "locks")
    handle = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise No(f"{name} is being changed by somebody else", "wait until that is over", "held") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def made(folder: Path) -> Path:
    """A folder, made with those above it where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def synced(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def linked(link: Path, to: str) -> None:
    """Have a link point somewhere: in one step, whatever it pointed to before."""
    for left in link.parent.glob(f".{link.name}.link-*"):
        left.unlink()
    scratch = link.with_name(f".{link.name}.link-{secrets.token_hex(4)}")
    scratch.symlink_to(to)
    scratch.replace(link)
    synced(link.parent)


def removed(path: Path) -> int:
    """Remove a folder or a file with all that is in it; the bytes that it held."""
    size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    return size


def named(name: str, pattern: re.Pattern[str] = DIGEST) -> str:
    """A name that becomes a folder's, or No."""
    if not pattern.fullmatch(name):
        raise No(f"{name[:80]!r} is no {'digest' if pattern is DIGEST else 'name of a slot'}")
    return name


def names(folder: Path, pattern: re.Pattern[str] = DIGEST) -> list[str]:
    """What a folder has of that kind; nothing where it is not there."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def lock_of(release: Path) -> str:
    """The digest of a release's locked requirements; empty where it has none, or is not there."""
    try:
        return digest_of(release / LOCK)
    except FileNotFoundError:
        return ""
