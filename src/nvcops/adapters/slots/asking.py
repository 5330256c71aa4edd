"""The conversation with a host of slots: one file of ours does there what is asked of it (on_host)."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import IO, Any, Protocol

from nvcops.adapters.backup.tools import last_words
from nvcops.adapters.slots.on_host.conversation import MARK
from nvcops.core.errors import DeadlineExceeded, LockHeld, NvcopsError, Refused, Unreachable

QUICK_S = 30.0
_GRACE_S = 5.0  # a host that keeps a deadline itself is given so much longer to say so
_SSH_FAILED = 255
_NO_PROGRAM = (126, 127)
_PACKAGE = "nvcops.adapters.slots.on_host"
_MODULES = ("basis", "environments", "releases", "conversation")  # each after those that it imports
# The modules come first, so that what follows them on standard input is for the verb itself.
_BOOTSTRAP = """\
import json, sys, types
for name, source in json.loads(sys.stdin.buffer.read(int(sys.argv[1]))):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
module.main(sys.stdin.buffer)
"""


class Host(Protocol):
    """Where slots are. `root` and `environments` are folders there, `python` an interpreter."""

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def environments(self) -> str: ...
    @property
    def python(self) -> str: ...

    def words(self, program: list[str]) -> list[str]:
        """How a program of that host is run from here."""

    def start(self, slot: str) -> None:
        """Start what is to run in a slot; fine when it runs."""

    def stop(self, slot: str) -> None:
        """Stop what runs in a slot; it stays stopped."""

    def running(self, slot: str) -> bool:
        """Whether a slot's program runs."""


def run_there(host: Host, program: list[str], folder: str, deadline_s: float) -> tuple[int, str]:
    """Run a program on a host: its exit code, and the last that it said.

    Raises:
        DeadlineExceeded: it did not end, and was killed with all that it had begun.
    """
    done = ask(host, "run", deadline_s + _GRACE_S, words=program, folder=folder, deadline_s=deadline_s)
    if done["code"] is None:
        raise DeadlineExceeded(
            f"{program[0]} on {host.name} did not end within {deadline_s:g} s, and was killed; "
            f"it said: {last_words(done['said'])}"
        )
    return int(done["code"]), str(done["said"])


def ask(host: Host, verb: str, within_s: float, data: Iterable[bytes] = (), **request: Any) -> Any:
    """Have a host do one of the verbs of on_host; `data` follows the request.

    Raises:
        Unreachable: the host does not answer.
        DeadlineExceeded: not in time; it may have been done or not.
        LockHeld: somebody else does it.
        Refused: it said no.
    """
    with tempfile.TemporaryFile() as told:
        for piece in (_asked(verb, request), *data):
            told.write(piece)
        told.seek(0)
        try:
            done = subprocess.run(_words(host), stdin=told, capture_output=True, timeout=within_s, check=False, cwd="/")
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(
                f"{host.name} did not {verb} within {within_s:g} s: it may have done it or not"
            ) from error
        except OSError as error:
            raise _not_run(host, error) from error
    return _answer(host, verb, done.returncode, done.stdout, done.stderr)


@contextmanager
def held(host: Host, name: str, wait_s: float) -> Iterator[None]:
    """Hold a lock of a host. When we die the connection ends, and with it the lock.

    Raises:
        LockHeld: another one holds it, still after `wait_s` seconds. And what `ask` raises.
    """
    request = {"root": host.root, "name": name, "wait_s": wait_s}
    with tempfile.TemporaryFile() as complaint:
        try:
            holder = subprocess.Popen(
                _words(host), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaint, bufsize=0, cwd="/"
            )
        except OSError as error:
            raise _not_run(host, error) from error
        with holder:  # which lets go of its standard input at the end
            try:
                _wait_until_held(host, holder, _asked("hold", request), complaint, wait_s + QUICK_S)
                yield
            finally:
                holder.kill()


def _wait_until_held(
    host: Host, holder: subprocess.Popen[bytes], asked: bytes, complaint: IO[bytes], within_s: float
) -> None:
    if holder.stdin is None or holder.stdout is None:
        raise TypeError("the holder of a lock is asked through pipes")
    with suppress(BrokenPipeError):  # it has ended: below it is found why
        holder.stdin.write(asked)
    said = _line(holder.stdout, within_s)
    if said is None:
        raise DeadlineExceeded(f"{host.name} did not answer within {within_s:g} s")
    if MARK.encode() in said:
        _answer(host, "hold", 0, said, b"")
        return
    code = holder.wait()
    complaint.seek(0)
    raise _gone(host, "hold", code, complaint.read().decode(errors="replace"))


def _line(stream: IO[bytes], within_s: float) -> bytes | None:
    """What it says up to the end of its answer, or to its own end; None: neither came in time."""
    end, said = time.monotonic() + within_s, b""
    while (left := end - time.monotonic()) > 0:
        if select.select([stream], [], [], left)[0]:
            piece = stream.read(1 << 12)
            said += piece
            if not piece or (MARK.encode() in said and said.endswith(b"\n")):
                return said
    return None


@cache
def _source() -> bytes:
    folder = files(_PACKAGE)
    modules = [(f"{_PACKAGE}.{name}", (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
    return json.dumps(modules).encode()


def _words(host: Host) -> list[str]:
    return host.words([host.python, "-I", "-S", "-c", _BOOTSTRAP, str(len(_source()))])


def _asked(verb: str, request: dict[str, Any]) -> bytes:
    return _source() + json.dumps({"verb": verb, **request}).encode() + b"\n"


def _answer(host: Host, verb: str, code: int, said: bytes, complaint: bytes) -> Any:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.startswith(MARK)]
    if code or not lines:
        raise _gone(host, verb, code, complaint.decode(errors="replace"))
    try:
        answer = json.loads(lines[-1].removeprefix(MARK))
    except ValueError as error:
        raise Refused(f"{host.name} answered {lines[-1][:80]!r}", hint="who speaks in between?") from error
    if "no" in answer:
        kinds: dict[str, type[NvcopsError]] = {"held": LockHeld, "late": DeadlineExceeded}
        raise kinds.get(answer["kind"], Refused)(f"{host.name}: {answer['no']}", hint=answer["hint"])
    return answer["value"]


def _gone(host: Host, verb: str, code: int, complaint: str) -> NvcopsError:
    """Why there is no answer: ssh failed, or there is no Python, or it was killed."""
    words = last_words(complaint)
    if code == _SSH_FAILED:
        refused = "denied" in words or "verification failed" in words
        kind = Refused if refused else Unreachable
        return kind(
            f"{host.name} cannot be reached by ssh: {words}",
            hint="`known_hosts` and `identity` of [[delivery.hosts]]" if refused else "is the host up?",
        )
    if code in _NO_PROGRAM:
        return Refused(f"there is no {host.python} on {host.name}", hint="[[delivery.hosts]] python names it")
    return Unreachable(f"{host.name} broke off while it was to {verb} ({code}): {words}", hint="try again")


def _not_run(host: Host, error: OSError) -> Refused:
    return Refused(f"{host.words([''])[0] or host.python} cannot be run: {error.strerror}", hint="is it installed?")
