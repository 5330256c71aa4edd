"""A child process: its log file, its end with its parent, waiting for it, stopping it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import LabError, PartFailed
from nvclab.parts.account import dying_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# Below the kernel's range for outgoing connections, so that no customer's connection takes a part's port.
_PORTS = range(12_000, 32_000)
_PORT_TRIES = 500
_TAIL_BYTES = 4096
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH")


@dataclass
class Process:
    """One program, started by the calling thread, dying with it; stdout and stderr go to `log`.

    `start` may be called again after the end: that is a restart. Start it from the main thread, because the kernel ties
    the child to the thread that started it.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    as_database_owner: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # what it gets when we die
    _popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; PartFailed when it cannot be started at all."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        prefix = dying_with_parent(self.death_signal, as_database_owner=self.as_database_owner)
        with self.log.open("ab") as log:
            try:
                self._popen = subprocess.Popen(
                    [*prefix, *self.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=child_environment(self.env),
                    start_new_session=True,  # Ctrl-C is for the supervisor, which stops parts in order
                )
            except OSError as error:
                raise PartFailed(f"{self.name} cannot be started: {error}.") from error

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """How it ended: negative for a signal, None while it runs or before it started."""
        return self._popen.poll() if self._popen is not None else None

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it runs."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def stop(self, deadline_s: float = 10.0) -> None:
        """Ask it to end, wait, and kill it when it does not: afterwards it is gone."""
        if self._popen is None:
            return
        self.send(self.stop_signal)
        self.send(signal.SIGCONT)  # a frozen process hears nothing else
        if not self.ends_within(deadline_s):
            self.kill()

    def ends_within(self, deadline_s: float) -> bool:
        """Wait for its end, and say whether it came."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill -9 and wait for the end."""
        if self._popen is not None:
            self.send(signal.SIGKILL)
            self._popen.wait()

    def wait_until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Wait until `ready()`; PartFailed with the log's tail when it ends first or the deadline passes."""
        end = time.monotonic() + deadline_s
        pause_s = 0.01
        while not ready():
            if self.pid is None:
                raise failure(f"{self.name} ended with {self.exit_code} instead of starting.", self.tail())
            if time.monotonic() > end:
                raise failure(f"{self.name} was not ready within {deadline_s:g} s.", self.tail())
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)

    def tail(self) -> str:
        """The end of its log, for a person who wonders why."""
        return tail(self.log)


def tail(path: Path, lines: int = 12) -> str:
    """Last lines of a log file, with its name; says so when there is none."""
    if not path.exists() or path.stat().st_size == 0:
        return f"{path} is empty"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = log.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join([f"the end of {path}:", *text])


def failure(sentence: str, said: str) -> PartFailed:
    """The error for a program that failed; what it said is the hint, unless we know better."""
    if "No space left on device" in said:
        return PartFailed(f"The disk is full: {sentence}", hint="make room, or choose another --dir")
    return PartFailed(sentence, hint=said)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a child may know: a short list of harmless variables, and what it was given."""
    return {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ} | dict(extra)


def run_tool(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    as_database_owner: bool = False,
    deadline_s: float = 60.0,
    name: str = "",
) -> str:
    """Run a program to its end and return its stdout; PartFailed with what it said when it fails or takes too long."""
    name = name or Path(argv[0]).name
    try:
        done = subprocess.run(
            [*dying_with_parent(as_database_owner=as_database_owner), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=child_environment(env or {}),
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PartFailed(f"{name} did not end within {deadline_s:g} s.") from error
    except OSError as error:
        raise PartFailed(f"{name} cannot be started: {error}.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise failure(f"{name} ended with {done.returncode}.", "\n".join(said.splitlines()[-12:]))
    return done.stdout.decode(errors="replace")


def free_ports(count: int, *, avoid: Iterable[int] = ()) -> list[int]:
    """Loopback TCP ports on which nothing listens, all different."""
    taken = set(avoid)
    found: list[int] = []
    for _ in range(_PORT_TRIES):
        if len(found) == count:
            return found
        port = random.choice(_PORTS)  # noqa: S311 - a port is no secret
        if port not in taken and port_is_free(port):
            taken.add(port)
            found.append(port)
    raise LabError(f"No {count} free ports were found on 127.0.0.1.", hint="ss -ltn shows who listens")


def port_is_free(port: int) -> bool:
    """Say whether a server could listen there now."""
    with socket.socket() as probe:
        # Like every server: a connection in TIME_WAIT is no hindrance, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_answers(port: int, timeout_s: float = 0.5) -> bool:
    """Say whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout_s).close()
    except OSError:
        return False
    return True
