"""A lab with a cluster, `nvcops serve` beside it, and what a test asks of both."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvclab import running
from nvclab.parts.account import dying_with_parent
from nvcops import wiring
from nvcops.adapters.target import connect
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.target import Target
from nvcops.recovery.pair import Pair, ready_findings, whole_again

DEADLINE_S = 400


@dataclass
class World:
    """A lab that runs, and the platform file by which it is operated."""

    lab: running.Lab
    platform: Path

    @property
    def target(self) -> Target:
        """The platform, connected anew."""
        return connect(wiring.load(self.platform))

    def nvcops(self, *arguments: str) -> list[str]:
        """A command line of ours."""
        return [sys.executable, "-m", "nvcops", *arguments, "--target", str(self.platform)]

    def answer(self, *arguments: str) -> dict[str, Any]:
        """What a command says as JSON."""
        argv = self.nvcops(*arguments, "--json")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.stdout, done.stderr[-2000:]
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def whole(self) -> Pair:
        """Wait until the pair is whole, and show that it is."""
        pair = whole_again(self.target)
        wrong = not_ok(ready_findings(pair, self.target.manifest.limits))
        assert not wrong, wrong
        return pair

    @contextmanager
    def serving(self) -> Iterator[None]:
        """`nvcops serve` for as long as the block lasts."""
        with (self.lab.folder / "logs/serve.log").open("ab") as log:
            argv = [*dying_with_parent(), *self.nvcops("serve", "--quiet")]
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            server.kill()
            server.wait()


@contextmanager
def world(*, guard: bool = True, users: int = 60, think_s: float = 1.0) -> Iterator[World]:
    """A lab of one's own."""
    with running.temporary("--ha", users=users, think_s=think_s) as lab:
        platform = lab.folder / "platform.toml"
        text = platform.read_text(encoding="utf-8")
        text, found = re.subn(r"(?m)^guard = true$", f"guard = {str(guard).lower()}", text)
        assert found == 1
        platform.write_text(text, encoding="utf-8")
        yield World(lab, platform)


def not_ok(findings: list[Finding]) -> list[str]:
    """The lines that are not OK, for a person."""
    return [f"{one.check} {one.subject}: {one.observed}" for one in findings if one.verdict is not Verdict.OK]


def wait_for(there: Any, what: str, seconds: float = 60.0) -> Any:
    """Wait until it is so, and answer what it said; who does not answer has not said so."""
    end = time.monotonic() + seconds
    while True:
        with suppress(TargetError):
            if said := there():
                return said
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
