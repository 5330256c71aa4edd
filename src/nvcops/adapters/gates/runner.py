"""How gates are run: each over a fresh copy of the release, in a process of its own that does not outlive its deadline.

The process is given little of our environment: a gate may run the release's own code, and our secrets are none of its.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.adapters.backup.tools import last_words
from nvcops.adapters.gates.asked import Asked, Ran
from nvcops.adapters.gates.process import dies_with_us
from nvcops.adapters.releases.store import open_releases
from nvcops.adapters.runs.history import RunJournal
from nvcops.core import progress
from nvcops.core.errors import NvcopsError, StateError
from nvcops.core.gates import LINES_MAX, GateReport, GateVerdict, Subject, unknown
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Gate
from nvcops.core.releases import Release, Releases
from nvcops.core.runs import RunRecord
from nvcops.core.target import RunHistory
from nvcops.core.units import Seconds

_ANSWER_MAX = 1 << 20
_KEPT = ("TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_LOOK_S = 0.05
_LEFT_AFTER_S = 86_400.0
_RUNS_READ = 20


@dataclass(frozen=True, slots=True)
class GateRunner:
    """See core.gates.Gates. `folder` is where gates work; `environments` where the releases' interpreters are."""

    folder: Path
    releases: Releases | None
    runs: RunHistory | None
    environments: Path | None = None

    def judge(self, gate: Gate, subject: Subject) -> GateReport:
        """Unpack the release, and ask the gate."""
        return self._said(gate, subject, seeded=False)

    def control(self, gate: Gate, subject: Subject) -> GateReport:
        """Ask the gate of its seeded fault."""
        return self._said(gate, subject, seeded=True)

    def _said(self, gate: Gate, subject: Subject, *, seeded: bool) -> GateReport:
        began = time.monotonic()
        try:
            with self._work() as work:
                report = _below(ask(self._asked(gate, subject, work, seeded=seeded), gate, work), work)
        except NvcopsError as error:
            report = unknown(error.sentence)
        return msgspec.structs.replace(report, seconds=round(time.monotonic() - began, 3))

    @contextmanager
    def _work(self) -> Iterator[Path]:
        """A folder of one's own; what killed ones left is removed after a day."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in self.folder.iterdir():
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > _LEFT_AFTER_S:
                        shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(dir=self.folder))
        except OSError as error:
            raise StateError(f"gates cannot work in {self.folder}: {error.strerror or error}") from error
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _asked(self, gate: Gate, subject: Subject, work: Path, *, seeded: bool) -> Asked:
        asked = Asked(
            kind=gate.kind,
            work=str(work / "work"),
            now=subject.now,
            program=gate.program,
            report=gate.report,
            options=gate.options,
            digest=subject.digest,
            seeded=seeded,
            ran=self._ran(gate) if gate.kind == "compliance" else (),
        )
        (work / "work").mkdir()
        if seeded and gate.control is not None:
            return self._brought(asked, gate.control, work)
        if seeded and gate.kind != "performance":
            return asked
        return self._unpacked(asked, subject, work)

    def _brought(self, asked: Asked, control: Path, work: Path) -> Asked:
        """The manifest's own fault takes the place of the release and of the checkout."""
        try:
            shutil.copytree(control, work / "control", symlinks=True)
        except (OSError, shutil.Error) as error:
            raise StateError(f"the control in {control} cannot be read: {str(error)[:200]}") from error
        place = str(work / "control")
        python = sys.executable
        return msgspec.structs.replace(
            asked, release=place, checkout=place, previous=place, python=python, brought=True
        )

    def _unpacked(self, asked: Asked, subject: Subject, work: Path) -> Asked:
        if self.releases is None or not subject.digest:
            raise StateError("there is no release to look at", hint="`nvcops release build` makes one")
        release = self._unpack(subject.digest, work / "release")
        asked = msgspec.structs.replace(
            asked,
            release=str(work / "release"),
            python=self._python(release),
            migrations=release.migrations,
            revision=release.revision,
            checkout=subject.checkout,
        )
        if not subject.previous:
            return asked
        previous = self._unpack(subject.previous, work / "previous")
        return msgspec.structs.replace(
            asked,
            previous=str(work / "previous"),
            previous_python=self._python(previous),
            applied=previous.migrations,
        )

    def _unpack(self, digest: str, folder: Path) -> Release:
        if self.releases is None:
            raise StateError("there is no store of releases", hint="[delivery] store in platform.toml")
        self.releases.unpack(digest, folder)
        return self.releases.find(digest)

    def _python(self, release: Release) -> str:
        """The interpreter with the lock's packages: ours where no other is named, empty where nobody made that one."""
        if self.environments is None:
            return sys.executable
        python = self.environments / release.lock / "bin" / "python"
        return str(python) if os.access(python, os.X_OK) else ""

    def _ran(self, gate: Gate) -> tuple[Ran, ...]:
        if self.runs is None:
            raise StateError("no runs are kept here, so nothing is evidence of anything")
        return tuple(newest(name, self.runs.last(name, _RUNS_READ)) for name in gate.options)


def open_gates(manifest: Manifest) -> GateRunner | None:
    """The gates of a platform; None where nothing is delivered."""
    entry = manifest.delivery
    if entry is None:
        return None
    return GateRunner(
        folder=manifest.platform.state / "gates",
        releases=open_releases(manifest),
        runs=RunJournal(manifest),
        environments=entry.environments,
    )


def newest(procedure: str, runs: list[RunRecord]) -> Ran:
    """The newest of a procedure's runs that came to a verdict."""
    done = [(run.ended, run.verdict) for run in runs if run.ended and run.verdict is not None and not run.dry_run]
    ended, verdict = max(done, default=(None, None))
    return Ran(procedure=procedure, ended=ended, verdict=verdict)


def ask(asked: Asked, gate: Gate, work: Path) -> GateReport:
    """Start a gate's process, and take its answer; one that does not come in time, or is none, is UNKNOWN."""
    (work / "asked").write_bytes(msgspec.json.encode(asked))
    argv = [*dies_with_us("TERM"), sys.executable, "-P", "-m", "nvcops.adapters.gates"]
    with (work / "asked").open("rb") as question, (work / "said").open("wb") as said, (work / "err").open("wb") as err:
        process = subprocess.Popen(
            argv,
            stdin=question,
            stdout=said,
            stderr=err,
            cwd=asked.work,
            env=_environment(os.environ, asked.work),
            start_new_session=True,
        )
        try:
            ended = _wait(process, gate)
        finally:
            with suppress(ProcessLookupError):  # all that it started goes with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not ended:
        return unknown(f"it did not end within {gate.deadline}")
    return _answer(process.returncode, _start(work / "said"), _start(work / "err").decode(errors="replace"))


def _below(report: GateReport, work: Path) -> GateReport:
    """The same, with paths as they are in the release: the folder in which a gate worked is gone already."""

    def short(text: str) -> str:
        for folder in ("release", "previous", "control", "work/seeded", "work"):
            text = text.replace(f"{work}/{folder}/", "")
        return text

    lines = tuple(msgspec.structs.replace(line, text=short(line.text), file=short(line.file)) for line in report.lines)
    return msgspec.structs.replace(report, sentence=short(report.sentence), lines=lines)


def _wait(process: subprocess.Popen[bytes], gate: Gate) -> bool:
    """Wait for the end, and say now and then that one waits; whether it came in time."""
    began, told = time.monotonic(), 0.0
    while process.poll() is None:
        waited = time.monotonic() - began
        if waited >= gate.deadline:
            return False
        if waited >= told:
            progress.tell(0, 0, f"for {Seconds(int(waited))} of {gate.deadline} at most")
            told += 1.0
        time.sleep(min(_LOOK_S, gate.deadline - waited))
    return True


def _answer(code: int, said: bytes, error: str) -> GateReport:
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return unknown(f"the gate's process {how}: {last_words(error)}")
    try:
        report = msgspec.json.decode(said, type=GateReport)
    except (msgspec.DecodeError, RecursionError) as problem:
        return unknown(f"the gate's process said nothing that can be read: {problem}")
    if report.verdict is GateVerdict.PASS and (report.checked <= 0 or report.objections):
        return unknown(f"it passed what it did not look at: {report.sentence}")
    return msgspec.structs.replace(report, lines=report.lines[:LINES_MAX])


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_ANSWER_MAX)


def _environment(ours: Mapping[str, str], work: str) -> dict[str, str]:
    """Where programs are found, how the network is reached, and a home that is gone afterwards."""
    kept = {name: ours[name] for name in _KEPT if name in ours}
    kept |= {name: value for name, value in ours.items() if name.lower() in _PROXIES}
    beside = str(Path(sys.executable).parent)
    path = f"{beside}{os.pathsep}{ours.get('PATH', os.defpath)}"
    return {"LANG": "C.UTF-8", **kept, "PATH": path, "HOME": work, "TMPDIR": work}
