# ruff: noqa: ARG002 - what a socket takes is the socket's
"""A platform in memory for changes: people with keys, a journal of runs, figures, and a clock that the test moves."""

from __future__ import annotations

import datetime as dt
import functools
import typing
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from desk import MemoryDesk, MemoryRecords
from nvcops.core.changes import Change, ChangeCategory, ChangeKind, ChangeState, Consent
from nvcops.core.checks import Finding, Verdict
from nvcops.core.commits import Brought
from nvcops.core.errors import NotFoundError, StateError, StepFailed, Unreachable
from nvcops.core.identity import fingerprint
from nvcops.core.manifest import Manifest, Person, parse
from nvcops.core.manifest.delivery import ChangesEntry
from nvcops.core.runs import RunRecord, RunState, Signed
from nvcops.core.target import Increase, ScrapeSummary

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
NOON = dt.datetime(2026, 11, 24, 17, tzinfo=dt.UTC)  # a Tuesday, noon in New York
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
NAMES = ("dana", "omar", "ines", "carla")  # author, colleague, second colleague, executive; a stranger has no name


def key_line(seed: int) -> str:
    """A line of a public key file, the same for the same seed."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.public_key().public_bytes(*form).decode()


LINES = {name: key_line(number) for number, name in enumerate(NAMES, 1)}
KEYS = {name: fingerprint(line) for name, line in LINES.items()} | {"stranger": fingerprint(key_line(99))}


@functools.cache
def example() -> Manifest:
    """The commented example."""
    return parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)


def manifest(**changes: Any) -> Manifest:
    """The commented example with four people; `changes` are keys of [changes]."""
    read = example()
    people = tuple(
        Person(name=name, full_name=name.title(), roles=("operator", "approver"), ssh_keys=(LINES[name],))
        for name in NAMES
    )
    entry = ChangesEntry(**({"executives": ("carla",)} | changes))
    return msgspec.structs.replace(read, people=people, changes=entry)


class Journal:
    """core.target.RunHistory: `asked` has who asked for each run, and their key."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[str, str]] = {}
        self.runs: dict[str, RunRecord] = {}
        self.done: list[RunRecord] = []
        self.broken = ""

    def requester(self, run: str) -> tuple[str, str]:
        if self.broken:
            raise StateError(self.broken)
        return self.asked.get(run, ("", ""))

    def run(self, run: str) -> RunRecord:
        if run not in self.runs:
            raise NotFoundError(f"there is no run {run}")
        return self.runs[run]

    def last(self, procedure: str, count: int) -> list[RunRecord]:
        return [run for run in self.done if run.procedure == procedure][:count]


class Figures:
    """core.target.Metrics: `rises` by series, of which a test says how much rose when."""

    def __init__(self) -> None:
        self.rises: Callable[[str, dt.datetime, dt.datetime], list[Increase]] = lambda *_: []
        self.down = False
        self.asked_of: tuple[int, int] = (0, 0)

    def increases(self, service: str, series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        if self.down:
            raise Unreachable("the metrics do not answer")
        return self.rises(series, start, end)

    def scrapes(self, service: str, start: dt.datetime, end: dt.datetime) -> ScrapeSummary:
        if self.down:
            raise Unreachable("the metrics do not answer")
        asked, ready = self.asked_of
        return ScrapeSummary(asked, ready, (end - start).total_seconds(), start, end)


class Checkout:
    """core.target.Commits."""

    def __init__(self) -> None:
        self.what = Brought()
        self.wanted: list[tuple[str, str]] = []

    def brought(self, old: str, new: str, author: object, at: dt.datetime) -> Brought:
        self.wanted.append((old, new))
        return self.what


class World:
    """The target, its clock, and runs by whom one likes."""

    def __init__(self, **changes: Any) -> None:
        self.at = NOON
        self.records, self.journal, self.figures = MemoryRecords(), Journal(), Figures()
        self.commits = Checkout()
        self.target: Any = SimpleNamespace(
            manifest=manifest(**changes),
            records=self.records,
            runs=self.journal,
            metrics=self.figures,
            commits=self.commits,
            releases=None,
        )

    @property
    def manifest(self) -> Manifest:
        return self.target.manifest

    def settings(self, **changes: Any) -> None:
        self.target.manifest = manifest(**changes)

    def run(self, by: str = "dana", procedure: str = "optimize-indexes", key: str | None = None) -> WorldRun:
        """A run that somebody asked for, signed unless `key` is empty."""
        name = f"{procedure}@{len(self.journal.runs)}"
        self.journal.asked[name] = (by, KEYS.get(by, "") if key is None else key)
        self.journal.runs[name] = record(name, procedure, self.at, by=by)
        return WorldRun(self, name)

    def ran(self, procedure: str, verdict: Verdict | None = Verdict.OK, **fields: Any) -> RunRecord:
        """A run that ended; the newest comes first."""
        name = f"{procedure}#{len(self.journal.done)}"
        state = RunState.FAILED if verdict is None else RunState.CONCLUDED
        ended = record(name, procedure, self.at, state=state, verdict=verdict, ended=self.at, **fields)
        self.journal.done.insert(0, ended)
        return ended

    def change(self, number: int = 1) -> Change:
        with self.records.reading() as reading:
            found = reading.get(Change, number)
            assert found is not None
            return found

    def put(self, *changes: Change) -> None:
        with self.records.changing() as desk:
            desk.put(*changes)

    def desk(self) -> Any:
        return self.records.changing()

    def kinds(self) -> list[str]:
        """What stands in the evidence."""
        found: list[str] = []
        self.records._notes, notes = [], self.records._notes
        found += [entry.kind for entry in notes]
        self.records._notes = notes
        return found


def record(name: str, procedure: str, at: dt.datetime, **fields: Any) -> RunRecord:
    by = fields.pop("by", "dana")
    given = {"state": RunState.RUNNING, "platform": "nvc-bank", "requested_by": by, "requested": at, "started": at}
    return RunRecord(id=name, procedure=procedure, **(given | fields))


class WorldRun:
    """The twin of core.runs.Run that acts: results cross JSON, and a journal answers what was done already."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.id = world, name
        self.started = world.at
        self.journal: list[Any] = []
        self.place = 0
        self.approver = "omar"
        self.asked: list[tuple[str, str]] = []
        self.findings: list[Finding] = []
        self.rehearsal = False

    def again(self) -> WorldRun:
        """The same run, gone through once more from its beginning."""
        self.place = 0
        return self

    def lose_the_last(self) -> None:
        """The last act was done, and its worker was killed before the journal had it."""
        self.journal.pop()
        self.place = min(self.place, len(self.journal))

    def _once(self, kind: Any, body: Callable[[], Any]) -> Any:
        if self.place == len(self.journal):
            self.journal.append(msgspec.json.encode(body()))
        self.place += 1
        return msgspec.json.decode(self.journal[self.place - 1], type=kind)

    def read(self, fact: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._once(typing.get_type_hints(fact)["return"], lambda: fact(*args, **kwargs))

    def step(self, title: str, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self.rehearsal:
            return None

        def body() -> Any:
            try:
                return act(*args, **kwargs)
            except Exception as error:
                raise StepFailed(f"{title}: {error}") from error

        return self._once(typing.get_type_hints(act)["return"], body)

    def approve(self, name: str, title: str) -> Signed:
        self.asked.append((name, title))
        return self._once(Signed, lambda: Signed(self.approver, "fine", self.world.at))

    def conclude(self, findings: list[Finding], *, summary: str = "") -> None:
        self.findings = list(findings)


def change(number: int = 1, **fields: Any) -> Change:
    """A change that dana asked for."""
    given = {
        "category": ChangeCategory.NORMAL,
        "kind": ChangeKind.INDEX,
        "title": "an index",
        "reason": "payments are slow",
        "author": "dana",
        "author_key": KEYS["dana"],
        "requested": NOON,
    }
    return Change(number=number, **(given | fields))


def approved(number: int = 1, *by: str, **fields: Any) -> Change:
    """One that these people approved (omar, where none is named)."""
    consents = tuple(Consent(person=name, key=KEYS[name], time=NOON) for name in by or ("omar",))
    return change(number, **({"state": ChangeState.APPROVED, "approved_by": consents} | fields))


__all__ = ["MemoryDesk"]
