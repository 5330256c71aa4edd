"""What the measurements of detection share: what stops customers, a lab that is watched, and who is paged when."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from nvclab import running
from nvclab.control import ask
from nvclab.layout import OPERATIONS
from nvclab.pager.pages import Page, read
from nvclab.parts.process import port_answers
from nvcops import wiring
from nvcops.core import schedule
from nvcops.core.alerts import Alert
from nvcops.core.procedures import Procedure, runbook
from nvcops.core.records import Records

USERS = 50
READY_S, SILENT_S, HEALED_S, END_S = 60.0, 4.0, 120.0, 30.0
LOOK_S = 0.02
ON_CALL = ("dana", "omar")
ASKS = "nvcops ack "
Question = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something that stops customers at once, or all that look at their accounts: a page must come.

    `part` is what a page or its incident must name.
    """

    name: str
    why: str
    part: str
    breaks: tuple[Question, ...]
    heals: tuple[Question, ...]


def _of_catalogue(name: str, why: str, part: str) -> Fault:
    heal = {"command": "heal", "name": name}
    return Fault(name, why, part, ({"command": "fault", "name": name},), (heal,))


def _of_hosts(verb: str, hosts: tuple[str, ...], why: str, part: str) -> Fault:
    def host(verb: str, name: str) -> Question:
        return {"command": "host", "verb": verb, "name": name}

    breaks = tuple(host(verb, name) for name in hosts)
    return Fault(f"{verb} {' and '.join(hosts)}", why, part, breaks, tuple(host("mend", name) for name in hosts))


BOTH = ("bank-1", "bank-2")
# Left out, because others stand in or customers only wait: one instance, the standby, its replay, a held lock, a slow
# query, a dropped index, a wrong clock, a full archive, guessed passwords. And a killed postmaster, which is back
# before a second look.
FAULTS = (
    _of_catalogue("stop-cache", "the bank knows no session without it, and is not ready", "cache"),
    _of_catalogue("exhaust-connections", "an instance that opens a connection is refused", "connections"),
    _of_catalogue("expire-certificate", "no customer trusts the front door", "certificate"),
    _of_catalogue("raise-error-rate", "nobody sees the entries of their account", "statements"),
    _of_hosts("crash", ("db-1",), "nobody can pay: the database that writes is gone", "db-1"),
    _of_hosts("freeze", ("db-1",), "nobody can pay: the database that writes does not answer", "db-1"),
    _of_hosts("freeze", ("cache",), "as without it, but connections stay open", "cache"),
    _of_hosts("crash", ("proxy",), "the front door is gone", "front-door"),
    _of_hosts("freeze", ("proxy",), "the front door takes connections, and answers nobody", "front-door"),
    _of_hosts("crash", BOTH, "nobody is behind the front door", "backend"),
    _of_hosts("freeze", BOTH, "nobody behind the front door answers", "backend"),
)


@dataclass(frozen=True)
class Watched:
    """A lab, `nvcops serve` beside it, and what that has recorded."""

    lab: running.Lab
    platform: Path
    records: Records

    def ask(self, question: Question) -> None:
        """One command to the lab's supervisor, without the start of a program."""
        ask(self.lab.layout.record().control, question)

    def nvcops(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        """One `nvcops` command with --json, and what it answers; RuntimeError when it ends otherwise."""
        command = [sys.executable, "-m", "nvcops", *words, "--json", "--target", str(self.platform)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode not in codes:
            raise RuntimeError(f"nvcops {' '.join(words)} ended with {done.returncode}: {done.stderr or done.stdout}")
        return json.loads(done.stdout)

    def told(self, since: float) -> list[Page]:
        """What arrived for those on call from a moment on."""
        return [page for page in read(self.lab.layout.pages, since) if page.person in ON_CALL]

    def pages(self, since: float) -> list[Page]:
        """What of it asks for an acknowledgement."""
        return [page for page in self.told(since) if ASKS in page.title]

    def firing(self) -> list[Alert]:
        """The alerts that fire now."""
        with self.records.reading() as reading:
            found = reading.find(Alert, ends__isnull=True)
        return [alert for alert in found if alert.firing(schedule.now())]

    def down(self) -> list[Alert]:
        """Those of them that say what is so now: an objective's look back over hours."""
        return [alert for alert in self.firing() if "slo" not in alert.labels]

    def listens(self) -> bool:
        """Whether `nvcops serve` takes alerts in."""
        return port_answers(self.lab.layout.record().ports[OPERATIONS])


@contextmanager
def watched(*, objectives: bool, ha: bool = False, think_s: float = 1.0) -> Iterator[Watched]:
    """A lab with customers and `nvcops serve` beside it, when all is well and nobody is paged.

    Without its objectives where one fault follows the other: what the error budget's pace over the last hours says of
    one would still be said, and paged, during the next.
    """
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(running.temporary(*(["--ha"] if ha else []), users=USERS, think_s=think_s))
        log = stack.enter_context((lab.folder / "serve.log").open("ab"))
        platform = manifest_of(lab.folder / "platform.toml", objectives=objectives)
        records = stack.enter_context(wiring.open_records(wiring.load(platform)))
        watch = Watched(lab, platform, records)
        until(lambda: arrived(lab), READY_S, "all customers are signed in")
        command = [sys.executable, "-m", "nvcops", "serve", "--quiet", "--target", str(watch.platform)]
        with subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                calm(watch, server)
                yield watch
            finally:
                server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(END_S)
                server.kill()


def arrived(lab: running.Lab) -> bool:
    """Whether every customer is there: until then many sign in, which is slow on purpose."""
    return bool(lab.status()["customers"].get("users") == USERS)


def _ours(entry: Procedure) -> bool:
    """Whether it is of the runbook: tests enter procedures of their own into the registry."""
    return entry.function.__module__.startswith("nvcops.")


def manifest_of(platform: Path, *, objectives: bool) -> Path:
    """A manifest beside a manifest, in which nothing is due: what a run finds at some hour is an alert too.

    `objectives` says whether its [[slos]] stay.
    """
    document = tomlkit.parse(platform.read_text(encoding="utf-8"))
    if not objectives:
        del document["slos"]
    document["procedures"] = {entry.name: {"when": "never"} for entry in runbook() if _ours(entry)}
    other = platform.with_name("watched.toml")
    other.write_text(tomlkit.dumps(document), encoding="utf-8")
    return other


def calm(watch: Watched, server: subprocess.Popen[bytes]) -> None:
    """Wait until it listens and nothing fires."""

    def well() -> bool:
        if server.poll() is not None:
            said = (watch.lab.folder / "serve.log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"nvcops serve ended with {server.returncode}: {said[-2000:]}")
        return watch.listens() and not watch.firing()

    until(well, READY_S, "nvcops serve listens and nothing fires")
    time.sleep(SILENT_S)


def until(holds: Callable[[], Any], deadline_s: float, what: str) -> Any:
    """Look until it holds; what it then is. TimeoutError, with what was waited for, when it does not in time."""
    end = time.monotonic() + deadline_s
    while not (found := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(LOOK_S)
    return found


def broken(watch: Watched, fault: Fault) -> float:
    """Break it; the moment just before the first command was given, in seconds since 1970."""
    moment = time.time()
    for question in fault.breaks:
        watch.ask(question)
    return moment


def closed(watch: Watched) -> None:
    """Dana acknowledges what is open, and says that it is over; what happens next is another incident."""
    as_dana = ("--as", "dana", "--key", str(watch.lab.folder / "keys" / "dana"))
    for incident in opened(watch):
        number = str(incident["number"])
        if not incident["acknowledged"]:
            watch.nvcops("ack", number, *as_dana)
        over = ("the lab healed it", "--despite", "what fired is over, and its end not yet told")
        watch.nvcops("resolve", number, *over, *as_dana)


def healed(watch: Watched, fault: Fault) -> None:
    """Heal it, and wait until nothing is down any more."""
    for question in fault.heals:
        watch.ask(question)
    try:
        until(lambda: not watch.down(), HEALED_S, f"nothing is down after {fault.name} was healed")
    except TimeoutError as error:
        raise RuntimeError(f"{error}; still down: {[alert.summary for alert in watch.down()]}") from error


def opened(watch: Watched) -> list[dict[str, Any]]:
    """The incidents that are open, the newest first."""
    found: list[dict[str, Any]] = watch.nvcops("incidents", codes=(0, 1, 2))
    return found


def parts(watch: Watched, number: int) -> set[str]:
    """What the alerts of an incident are about: their parts, and their probes."""
    alerts = watch.nvcops("incident", "show", str(number))["alerts"]
    return {alert["labels"].get(label, "") for alert in alerts for label in ("part", "role", "probe")}
