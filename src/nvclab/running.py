"""A lab of one's own for as long as a block lasts: for tests and benchmarks, driven through the command line.

with running.temporary(users=20) as lab:
    lab.run("fault", "stop-standby")
    lab.status()["parts"]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvclab.errors import LabError
from nvclab.layout import Layout
from nvclab.parts.account import dying_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEADLINE_S = 150.0


@dataclass(frozen=True)
class Lab:
    """A lab in `folder`, running or not."""

    folder: Path

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout(self.folder)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One `nvclab` command for this lab; LabError when it fails, unless `check` is off."""
        argv = [sys.executable, "-m", "nvclab", *arguments, "--dir", str(self.folder)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
        if check and done.returncode != 0:
            raise LabError(f"nvclab {arguments[0]} ended with {done.returncode}.", hint=done.stderr + done.stdout)
        return done

    def status(self) -> dict[str, Any]:
        """What `nvclab status --json` says."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def part(self, name: str) -> dict[str, Any]:
        """One part of the status."""
        found: dict[str, Any] = next(part for part in self.status()["parts"] if part["name"] == name)
        return found


@contextmanager
def temporary(*wishes: str, users: int = 20, think_s: float = 10.0, folder: Path | None = None) -> Iterator[Lab]:
    """A ready lab, in `folder` or in a folder of its own, which is removed at the end; it dies with the caller.

    wishes: further flags of `nvclab up`, e.g. "--synchronous-backup"; without "--delivery" the checkout runs.
    """
    own = folder or Path(tempfile.mkdtemp(prefix="nvclab-lab-"))
    lab = Lab(own)
    try:
        with _started(own, users, think_s, wishes):
            try:
                yield lab
            finally:
                lab.run("down")
    finally:
        if folder is None:
            shutil.rmtree(own)


@contextmanager
def _started(folder: Path, users: int, think_s: float, wishes: tuple[str, ...]) -> Iterator[None]:
    """A supervisor that is our child, from the moment it is ready until it ends; LabError when it is never ready."""
    argv = [*dying_with_parent(), sys.executable, "-m", "nvclab", "up", "--dir", str(folder)]
    argv += ["--users", str(users), "--think-s", str(think_s), "--no-delivery", *wishes]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("ready"):
                break
        else:
            raise LabError(f"nvclab up ended with {process.wait()}.", hint="".join(lines))
        try:
            yield
        finally:
            process.wait(_DEADLINE_S)
