"""What the measurements of delivery share: a lab with slots, who deploys and who approves, and what customers saw."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from nvclab import running

COMMAND_S, RUN_S, ARRIVED_S = 120.0, 900.0, 120.0
DEPLOYER, APPROVER = "dana", "omar"
SWIFT, COMPARED = "swift", "compared"
# Without an analysis: a bank whose requests do not fail proves nothing, and each failed request is the rollout's doing.
_STRATEGIES: Mapping[str, list[dict[str, Any]]] = {
    SWIFT: [{"set_weight": 10}, {"pause": "1 s"}, {"set_weight": 50}, {"pause": "1 s"}],
    COMPARED: [{"set_weight": 50}, {"analysis": True}],
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code is its verdict; `seconds` from the approval."""

    run: str
    code: int
    seconds: float
    findings: list[dict[str, Any]]

    @property
    def said(self) -> str:
        """Its first line."""
        return str(self.findings[0]["observed"]) if self.findings else ""


@dataclass(frozen=True)
class Seen:
    """What customers saw up to a moment, by kind of request."""

    requests: int
    failed: dict[str, int]

    def since(self, before: Seen) -> Seen:
        """What they saw between two moments."""
        failed = {kind: count - before.failed.get(kind, 0) for kind, count in self.failed.items()}
        return Seen(self.requests - before.requests, {kind: count for kind, count in failed.items() if count})


@dataclass
class Delivered:
    """A lab whose bank is deployed to, as two people at their command lines do it."""

    lab: running.Lab
    platform: Path

    def build(self, name: str, *options: str, version: str) -> str:
        """Build a variant of the bank; its digest."""
        said = self.lab.run("release", name, *options, "--version", version, "--json").stdout
        return str(json.loads(said)["digest"])

    def asked(self, *words: str) -> dict[str, Any]:
        """What a command of operations answers, as JSON, whatever its verdict."""
        done = self.nvcops(*words, "--json")
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"nvcops {' '.join(words)} ended with {done.returncode}: {done.stderr}") from None
        return found

    def nvcops(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command of operations, to its end."""
        return subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=RUN_S, check=False)

    def argv(self, *words: str) -> list[str]:
        """A command of operations for this platform."""
        return [sys.executable, "-m", "nvcops", *words, "--target", str(self.platform)]

    def person(self, name: str) -> tuple[str, ...]:
        """The flags of somebody who signs."""
        return ("--as", name, "--key", str(self.lab.folder / "keys" / name))

    def requested(self, version: str, strategy: str = SWIFT) -> dict[str, Any]:
        """One person asks for a deployment: a run that waits for another's approval, or that was refused."""
        return self.asked("release", "deploy", version, "--strategy", strategy, "--no-wait", *self.person(DEPLOYER))

    def approval(self, run: str) -> list[str]:
        """The command of whoever approves a deployment: it carries it out, and ends with it."""
        return self.argv("approve", run, "deploy", "--note", "go", *self.person(APPROVER))

    def deploy(self, version: str, strategy: str = SWIFT) -> Ended:
        """Deploy a release, and wait for the end."""
        run = self.requested(version, strategy)
        began = time.monotonic()
        said = ""
        if run["state"] == "waiting":
            command = self.approval(run["id"])
            said = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False).stderr
        return self.ended(run["id"], began, said)

    def rollback(self) -> Ended:
        """Put the release before back into service, and wait for the end."""
        began = time.monotonic()
        run = self.asked("release", "rollback", *self.person(DEPLOYER))
        return self.ended(run["id"], began)

    def ended(self, run: str, began: float, said: str = "") -> Ended:
        """How a run ended that began at a moment of the monotonic clock; RuntimeError, with `said`, when it did not."""
        shown = self.asked("show", run)
        if shown["state"] not in ("concluded", "cancelled"):
            raise RuntimeError(f"{run} is {shown['state']}: {shown['error'] or said[-1000:]}")
        return Ended(run, int(shown["exit_code"]), time.monotonic() - began, shown["findings"])

    def status(self) -> dict[str, dict[str, Any]]:
        """What runs in each slot, and what traffic it gets: by the slot's name."""
        return {str(one["slot"]): one for one in self.asked("release", "status")["slots"]}

    def serving(self) -> set[str]:
        """The digests of the releases that get traffic."""
        return {str(one["release"]) for one in self.status().values() if one["weight"]}

    def last(self) -> dict[str, Any]:
        """The newest rollout's record."""
        found = json.loads(self.nvcops("release", "history", "--json", "--limit", "1").stdout)
        newest: dict[str, Any] = found[0]
        return newest

    def customers(self) -> Seen:
        """What customers saw until now; their report is at most a second old when this returns."""
        time.sleep(1.5)
        figures = json.loads((self.lab.folder / "customers" / "figures.json").read_text(encoding="utf-8"))
        return Seen(figures["requests"], {name: kind["errors"] for name, kind in figures["kinds"].items()})

    def wait_until(self, holds: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
        """Look until something is so; RuntimeError when it never is."""
        end = time.monotonic() + deadline_s
        while not holds():
            if time.monotonic() > end:
                raise RuntimeError(f"{what} within {deadline_s:g} s")
            time.sleep(0.2)


@contextmanager
def delivered(users: int = 40, think_s: float = 1.0, **analysis: Any) -> Iterator[Delivered]:
    """A lab with slots and customers who are all there; `analysis` goes into [delivery.analysis]."""
    with running.temporary("--delivery", users=users, think_s=think_s) as lab:
        bank = Delivered(lab, _platform(lab.folder, analysis))
        bank.wait_until(lambda: _present(lab) == users, "the customers are not all there", ARRIVED_S)
        yield bank


@contextmanager
def going_on(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs meanwhile, and does not outlive us; its lines come on stderr."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _present(lab: running.Lab) -> int:
    return int(lab.status()["customers"].get("users", 0))


def _platform(folder: Path, analysis: Mapping[str, Any]) -> Path:
    """The lab's manifest with strategies and times of a measurement, beside it."""
    document = tomlkit.parse((folder / "platform.toml").read_text(encoding="utf-8"))
    delivery: Any = document["delivery"]
    for name, steps in _STRATEGIES.items():
        delivery["strategies"].append(tomlkit.item({"name": name, "steps": steps}))
    delivery["analysis"].update({"warm_up": "1 s", "time_limit": "120 s", **analysis})
    delivery["rollback_window"] = "1 s"
    path = folder / "delivered.toml"
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path
