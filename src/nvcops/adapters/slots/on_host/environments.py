"""The verbs about interpreters and programs: environment, run."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO

from nvcops.adapters.slots.on_host.basis import LOCK, No, linked, lock_of, locked, made, named, removed

_SAID_MAX = 4000


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
        if lock_of(release) != lock:
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
    install += ["--require-hashes", "--only-binary", ":all:", "-r", str(release / LOCK)]
    if (release / "wheels").is_dir():
        install += ["--no-index", "--find-links", str(release / "wheels")]
    for words in ([python, "-m", "venv", str(scratch)], install, [inner, "-I", "-m", "pip", "check"]):
        code, said = ended(words, Path("/"), end - time.monotonic())
        if code is None:
            raise No(f"{' '.join(words[:4])} did not end in time", "[delivery] lay_within", "late")
        if code:
            raise No(f"the environment cannot be made: {said}", "look at the lock, its hashes, and the registry")


def forget_environment(root: Path, environments: Path, lock: str, wait_s: float) -> int:
    """Remove an environment that we made; one that somebody else linked stays. The bytes freed."""
    link = environments / lock
    with locked(root, f"environment-{lock}", wait_s):
        if link.is_symlink() and str(link.readlink()).startswith(f".{lock}."):
            link.unlink()
        return 0 if link.exists() else sum(removed(left) for left in environments.glob(f".{lock}.*"))


def run(_: BinaryIO, words: list[str], folder: str, deadline_s: float) -> dict[str, Any]:
    """Run a program to its end; with everything that it began it is killed when that does not come in time."""
    try:
        code, said = ended(words, Path(folder), deadline_s)
    except OSError as error:
        raise No(f"{words[0]} cannot be run: {error.strerror}", "it is to be a program of that host") from None
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
