"""The verbs about releases and slots: lay, laid, check, pointers, point, forget."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from nvcops.adapters.slots.on_host.basis import (
    CHUNK,
    SLOT,
    No,
    digest_of,
    linked,
    lock_of,
    locked,
    made,
    named,
    names,
    removed,
    synced,
)
from nvcops.adapters.slots.on_host.environments import forget_environment

_POINTER = re.compile(r"\.\./\.\./releases/([0-9a-f]{64})")
_LINE_MAX = 1 << 20
_FILES_MAX = 50_000
_PACKED = "__pycache__"  # Python writes it beside what it reads; it is made anew, and nobody signed for it


def lay(stream: BinaryIO, root: str, digest: str, size: int, wait_s: float) -> bool:
    """Take in a release's files from the stream; whether it was not there before."""
    releases = made(Path(root) / "releases")
    target = releases / named(digest)
    with locked(Path(root), f"release-{digest}", wait_s):
        for left in releases.glob(f".{digest}.*"):
            removed(left)
        if target.is_dir():
            return False
        if (free := shutil.disk_usage(releases).free) < size:
            raise No(f"{releases} has {free:,} bytes free, and the release needs {size:,}", "remove old releases")
        scratch = releases / f".{digest}.{secrets.token_hex(4)}"
        scratch.mkdir()
        try:
            _received(stream, scratch)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        synced(releases)
    return True


def _received(stream: BinaryIO, folder: Path) -> None:
    """Each file: a line with path, size, sha256 and executable, and after it so many bytes; at the end `null`."""
    folders = {folder}
    while (line := stream.readline(_LINE_MAX)).strip() != b"null":
        if not line.endswith(b"\n"):
            raise No("the release's files ended too early: the connection was cut", "begin again")
        told = json.loads(line)
        if any(part in ("", ".", "..") for part in told["path"].split("/")):
            raise No(f"{told['path']!r} leads out of its folder")
        path = folder / told["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.update(above for above in path.parents if folder in (above, *above.parents))
        _written(stream, path, told["size"], 0o755 if told["executable"] else 0o644)
        if digest_of(path) != told["sha256"]:
            raise No(f"{told['path']} is not on the disk as it was sent: its digest differs", "look at the disk")
    for made_folder in sorted(folders, reverse=True):
        synced(made_folder)


def _written(stream: BinaryIO, path: Path, size: int, mode: int) -> None:
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        while size:
            data = stream.read(min(size, CHUNK))
            if not data:
                raise No("the release's files ended too early: the connection was cut", "begin again")
            file.write(data)
            size -= len(data)
        file.flush()
        os.fsync(handle)


def laid(_: BinaryIO, root: str) -> list[str]:
    """The releases that are whole."""
    return names(Path(root) / "releases")


def check(_: BinaryIO, root: str, digest: str, files: dict[str, list[Any]]) -> int:
    """Compare every file of a release with what was signed, SHA-256 and permission to execute; how many there are."""
    folder = Path(root) / "releases" / named(digest)
    if not folder.is_dir():
        raise No(f"the release {digest[:16]} is not laid here", "lay it again")
    found = _tree(folder)
    for path in sorted({*files, *found}):
        if path not in found:
            raise _changed(digest, f"{path} is missing")
        if path not in files:
            raise _changed(digest, f"{path} does not belong to it")
        if found[path] != tuple(files[path]):
            raise _changed(digest, f"{path} was changed")
    return len(found)


def _changed(digest: str, what: str) -> No:
    return No(f"the release {digest[:16]} is not what was released: {what}", "forget it on this host, and lay it again")


def _tree(folder: Path) -> dict[str, tuple[str, bool]]:
    found = {}
    for above, folders, plain_names in os.walk(folder, followlinks=False):
        for name in [name for name in folders if name == _PACKED]:
            folders.remove(name)
            shutil.rmtree(Path(above) / name, ignore_errors=True)
        links = [name for name in folders if (Path(above) / name).is_symlink()]
        for name in (*plain_names, *links):
            path = Path(above) / name
            plain = path.is_file() and not path.is_symlink()
            found[path.relative_to(folder).as_posix()] = (
                (digest_of(path), bool(path.stat().st_mode & 0o100)) if plain else ("no plain file", False)
            )
        if len(found) > _FILES_MAX:
            raise No(f"{folder} has more than {_FILES_MAX:,} files", "no release has")
    return found


def pointers(_: BinaryIO, root: str, slots: list[str]) -> dict[str, str]:
    """What each slot points to; empty: nothing."""
    return {slot: _pointed(Path(root) / "slots" / named(slot, SLOT) / "current") for slot in slots}


def _pointed(link: Path) -> str:
    try:
        to = str(link.readlink())
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise No(f"{link} is no link", "remove it: a slot's pointer is a link to its release") from None
    match = _POINTER.fullmatch(to)
    if not match:
        raise No(f"{link} points to {to!r}, which is no release", "remove it, and put a release there again")
    return match[1]


def point(_: BinaryIO, root: str, slot: str, digest: str, wait_s: float) -> None:
    """Have a slot point to a release, in one step."""
    with locked(Path(root), "pointers", wait_s):
        if not (Path(root) / "releases" / named(digest)).is_dir():
            raise No(f"the release {digest[:16]} is not laid here", "lay it again")
        link = made(Path(root) / "slots" / named(slot, SLOT)) / "current"
        if pointers(_, root, [slot])[slot] != digest:
            linked(link, f"../../releases/{digest}")


def forget(_: BinaryIO, root: str, digest: str, environments: str, wait_s: float) -> int:
    """Remove a release that is in no slot, and its environment if it was the last that needs it; the bytes freed."""
    releases, freed = Path(root) / "releases", 0
    target = releases / named(digest)
    with locked(Path(root), f"release-{digest}", wait_s):
        with locked(Path(root), "pointers", wait_s):
            for slot, pointed in pointers(_, root, names(Path(root) / "slots", SLOT)).items():
                if pointed == digest:
                    raise No(f"the release {digest[:16]} is in the slot {slot}", "put another one there first")
            lock = lock_of(target)
            if lock and all(lock_of(releases / other) != lock for other in laid(_, root) if other != digest):
                freed = forget_environment(Path(root), Path(environments), lock, wait_s)
            if target.is_dir():
                target.rename(releases / f".{digest}.gone-{secrets.token_hex(4)}")
        return freed + sum(removed(left) for left in releases.glob(f".{digest}.*"))
