"""The manifest's own programs: how parts are stopped and started, and hosts put off. No shell, a deadline each."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from nvcops.core.errors import DeadlineExceeded, Refused
from nvcops.core.manifest import ControlEntry

_SAID_MAX = 500


@dataclass(frozen=True, slots=True)
class Programs:
    """See core.cluster.Control."""

    entry: ControlEntry

    def start(self, name: str) -> None:
        """Start a part."""
        self._run("start", self.entry.start, name)

    def stop(self, name: str) -> None:
        """Stop a part."""
        self._run("stop", self.entry.stop, name)

    def running(self, name: str) -> bool:
        """Whether it runs: the program ends with 0 when it does, with 3 when it does not (as `systemctl is-active`)."""
        return self._ended("running", self.entry.running, name, codes=(0, 3)) == 0

    def rebuild(self, name: str) -> None:
        """Make a standby anew."""
        self._run("rebuild", self.entry.rebuild, name)

    def fence(self, name: str) -> None:
        """Put off a host for certain."""
        self._run("fence", self.entry.fence, name)

    def break_host(self, kind: str, name: str) -> None:
        """Do to a host what a drill is about."""
        self._run("break_host", self.entry.break_host, name, kind)

    def mend_host(self, name: str) -> None:
        """Undo that."""
        self._run("mend_host", self.entry.mend_host, name)

    def _run(self, key: str, program: Sequence[str], name: str, kind: str = "") -> None:
        self._ended(key, program, name, kind)

    def _ended(self, key: str, program: Sequence[str], name: str, kind: str = "", codes: Sequence[int] = (0,)) -> int:
        if not program:
            raise Refused(
                f"platform.toml does not say how to do that to {name}", hint=f"[control] {key} names the program"
            )
        argv = [word.replace("{name}", name).replace("{kind}", kind) for word in program]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.entry.deadline,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(
                f"{argv[0]} ({key} {name}) did not end within {self.entry.deadline}: it may have done it or not"
            ) from error
        except OSError as error:
            raise Refused(f"{argv[0]} cannot be run: {error.strerror or error}", hint=f"[control] {key}") from error
        if done.returncode not in codes:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[:_SAID_MAX]
            raise Refused(f"{key} {name} ended with {done.returncode}: {said}", hint=f"[control] {key}")
        return done.returncode
