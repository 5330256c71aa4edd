"""What is done on a host of slots. This file is sent to the host's Python (3.9 or newer), so it needs no other of ours.

    ROOT/releases/DIGEST/         a release, unpacked; it is there whole or not at all
    ROOT/slots/SLOT/current    -> ../../releases/DIGEST
    ROOT/locks/                   one file for each thing that two must not do at once
    ENVIRONMENTS/LOCK          -> .LOCK.NUMBER, the interpreter for a lock; likewise whole or not at all

It reads one request from standard input, a line of JSON, and says one line of JSON behind MARK. Each verb may be
repeated after it was killed anywhere; what a killed one left is removed by the next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

MARK = "nvcops-slots: "
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SLOT = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_POINTER = re.compile(r"\.\./\.\./releases/([0-9a-f]{64})")
_LINE_MAX = 16 << 20
_CHUNK = 1 << 20
_FILES_MAX = 50_000
_SAID_MAX = 4000
_PACKED = "__pycache__"  # Python writes it beside what it reads; it is made anew, and nobody signed for it


class No(Exception):
    """The host says no: a sentence, and a hint."""

    def __init__(self, sentence: str, hint: str = "", kind: str = "refused") -> None:
        super().__init__(sentence)
        self.sentence, self.hint, self.kind = sentence, hint, kind


# --- what two must not do at once ---


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


# --- files that are on the disk when a function returns ---


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


def named(name: str, pattern: re.Pattern[str] = _DIGEST) -> str:
    """A name that becomes a folder's, or No."""
    if not pattern.fullmatch(name):
        raise No(f"{name[:80]!r} is no {'digest' if pattern is _DIGEST else 'name of a slot'}")
    return name


def names(folder: Path, pattern: re.Pattern[str] = _DIGEST) -> list[str]:
    """What a folder has of that kind; nothing where it is not there."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name))
    except FileNotFoundError:
        return []


# --- releases ---


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
            data = stream.read(min(size, _CHUNK))
            if not data:
                raise No("the release's files ended too early: the connection was cut", "begin again")
            file.write(data)
            size -= len(data)
        file.flush()
        os.fsync(handle)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


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
    for above, folders, names in os.walk(folder, followlinks=False):
        for name in [name for name in folders if name == _PACKED]:
            folders.remove(name)
            shutil.rmtree(Path(above) / name, ignore_errors=True)
        links = [name for name in folders if (Path(above) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(above) / name
            plain = path.is_file() and not path.is_symlink()
            found[path.relative_to(folder).as_posix()] = (
                (digest_of(path), bool(path.stat().st_mode & 0o100)) if plain else ("no plain file", False)
            )
        if len(found) > _FILES_MAX:
            raise No(f"{folder} has more than {_FILES_MAX:,} files", "no release has")
    return found


def forget(_: BinaryIO, root: str, digest: str, environments: str, wait_s: float) -> int:
    """Remove a release that is in no slot, and its environment if it was the last that needs it; the bytes freed."""
    releases = Path(root) / "releases"
    target = releases / named(digest)
    with locked(Path(root), f"release-{digest}", wait_s):
        with locked(Path(root), "pointers", wait_s):
            for slot, pointed in pointers(_, root, names(Path(root) / "slots", _SLOT)).items():
                if pointed == digest:
                    raise No(f"the release {digest[:16]} is in the slot {slot}", "put another one there first")
            lock = _lock_of(target)
            if target.is_dir():
                target.rename(releases / f".{digest}.gone-{secrets.token_hex(4)}")
        freed = sum(removed(left) for left in releases.glob(f".{digest}.*"))
    if lock and all(_lock_of(releases / other) != lock for other in laid(_, root)):
        freed += _forget_environment(Path(root), Path(environments), lock, wait_s)
    return freed


def _lock_of(release: Path) -> str:
    try:
        return digest_of(release / "requirements.txt")
    except FileNotFoundError:
        return ""


# --- slots ---


def pointers(_: BinaryIO, root: str, slots: list[str]) -> dict[str, str]:
    """What each slot points to; empty: nothing."""
    return {slot: _pointed(Path(root) / "slots" / named(slot, _SLOT) / "current") for slot in slots}


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
        link = made(Path(root) / "slots" / named(slot, _SLOT)) / "current"
        if pointers(_, root, [slot])[slot] != digest:
            linked(link, f"../../releases/{digest}")


def hold(stream: BinaryIO, root: str, name: str, wait_s: float) -> None:
    """Hold a lock from the answer on, until the one who asked lets go of the connection."""
    with locked(Path(root), name, wait_s):
        say({"value": True})
        while stream.read(_CHUNK):
            pass


# --- environments ---


def environment(
    _: BinaryIO, root: str, digest: str, environments: str, lock: str, python: str, deadline_s: float
) -> bool:
    """Make the interpreter with what a release's lock says, where it is missing; whether it was."""
    end = time.monotonic() + deadline_s
    folder, release = made(Path(environments)), Path(root) / "releases" / named(digest)
    interpreter = folder / named(lock) / "bin" / "python"
    if interpreter.exists():
        return False
    with locked(Path(root), f"environment-{lock}", deadline_s):
        if interpreter.exists():  # somebody else has made it meanwhile
            return False
        for left in folder.glob(f".{lock}.*"):
            removed(left)
        if _lock_of(release) != lock:
            raise No(f"the lock of the release {digest[:16]} is not what was released", "lay the release again")
        scratch = folder / f".{lock}.{secrets.token_hex(4)}"
        try:
            _make(scratch, release, python, end)
            linked(folder / lock, scratch.name)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    return True


def _make(scratch: Path, release: Path, python: str, end: float) -> None:
    """An environment with the lock's packages and no others: from the release's own wheels, where it brings them."""
    inner = str(scratch / "bin" / "python")
    install = [inner, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    install += ["--require-hashes", "--only-binary", ":all:", "-r", str(release / "requirements.txt")]
    if (release / "wheels").is_dir():
        install += ["--no-index", "--find-links", str(release / "wheels")]
    for words in ([python, "-m", "venv", str(scratch)], install, [inner, "-I", "-m", "pip", "check"]):
        code, said = ended(words, Path("/"), end - time.monotonic())
        if code is None:
            raise No(f"{' '.join(words[:4])} did not end in time", "[delivery] lay_within", "late")
        if code:
            raise No(f"the environment cannot be made: {said}", "look at the lock, its hashes, and the registry")


def _forget_environment(root: Path, environments: Path, lock: str, wait_s: float) -> int:
    """Remove an environment that we made; one that was linked by somebody else stays."""
    link = environments / lock
    with locked(root, f"environment-{lock}", wait_s):
        try:
            to = str(link.readlink())
        except OSError:
            return 0
        if not to.startswith(f".{lock}."):
            return 0
        link.unlink()
        return removed(environments / to)


# --- programs ---


def run(_: BinaryIO, words: list[str], folder: str, deadline_s: float) -> dict[str, Any]:
    """Run a program to its end; with everything that it began it is killed when that does not come in time."""
    code, said = ended(words, Path(folder), deadline_s)
    return {"code": code, "said": said}


def ended(words: list[str], folder: Path, deadline_s: float) -> tuple[int | None, str]:
    """The exit code, None: it did not end in time; and the last that it said."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    begun = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = begun.communicate(timeout=max(deadline_s, 0.01))
        code: int | None = begun.returncode
    except subprocess.TimeoutExpired:
        os.killpg(begun.pid, signal.SIGKILL)
        code, said = None, b""
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that left its session may hold the pipe for ever
            said, _ = begun.communicate(timeout=1)
    return code, said[-_SAID_MAX:].decode(errors="replace").strip()


# --- the conversation ---

VERBS = {verb.__name__: verb for verb in (lay, laid, check, forget, pointers, point, hold, environment, run)}


def say(answer: dict[str, Any]) -> None:
    """One line, so marked that what a login shell says besides is told apart."""
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


def main(stream: BinaryIO) -> None:
    """Do what is asked."""
    try:
        asked = json.loads(stream.readline(_LINE_MAX))
        value = VERBS[asked.pop("verb")](stream, **asked)
    except No as no:
        say({"no": no.sentence, "hint": no.hint, "kind": no.kind})
    except OSError as error:
        where = error.filename or "the disk"
        say(
            {"no": f"{where}: {error.strerror}", "hint": "look at the disk's space and the permissions", "kind": "disk"}
        )
    else:
        say({"value": value})


if __name__ == "__main__":
    main(sys.stdin.buffer)
