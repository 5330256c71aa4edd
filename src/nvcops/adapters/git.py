"""The commits of a checkout, as `git log` says them: no shell, a deadline, and nothing that the checkout could run."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nvcops.core.commits import Brought, Commit, Touched
from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable

COMMITS_MAX = 100
_DEADLINE_S = 10.0
_SAID_MAX = 300
_SUBJECT_MAX = 300
_FIELDS = ("%H", "%cI", "%an", "%s")
_BROUGHT_MAX, _FILES_MAX, _HISTORY_MAX = 1_000, 2_000, 5_000
_RECENT, _KNOWN = dt.timedelta(days=90), dt.timedelta(days=365)
_REVISION = re.compile(r"[0-9a-f]{7,64}")
_COVERAGE_BYTES_MAX = 64 << 20
_NOTHING = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's empty tree
_END = "\0"  # the one character that no commit can hold
_KEPT_ENVIRONMENT = ("PATH", "HOME", "TMPDIR")
# A checkout that is not ours may name programs in its configuration: none of them is asked for by `git log`, and what
# could be is switched off. `safe.directory` is this one folder, which the manifest names.
_QUIET = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "log.showSignature=false",
    "-c",
    "core.quotePath=false",
)


class _Summary(msgspec.Struct):
    num_statements: int
    covered_lines: int


class _File(msgspec.Struct):
    summary: _Summary


class _Report(msgspec.Struct):
    """The part of coverage.py's JSON report that is read."""

    files: Mapping[str, _File]


@dataclass(frozen=True, slots=True)
class GitCheckout:
    """See core.commits.Commits."""

    folder: Path
    deadline_s: float = _DEADLINE_S
    coverage: Path | None = None

    def between(self, start: dt.datetime, end: dt.datetime) -> list[Commit]:
        """What was committed between two moments on the branch that is checked out, the newest first; at most 100."""
        said = self._run(
            "log",
            "--no-color",
            "--no-show-signature",
            f"--max-count={COMMITS_MAX}",
            f"--since={start.astimezone(dt.UTC).isoformat()}",
            f"--until={end.astimezone(dt.UTC).isoformat()}",
            f"--format={'%x00'.join(_FIELDS)}%x00",
        )
        return [commit for commit in _commits(said) if start <= commit.time < end]

    def head(self, paths: Sequence[Path], changed: str) -> str:
        """The commit that is checked out; `changed` behind it when the paths are not as they were committed."""
        commit = self._run("rev-parse", "--verify", "HEAD").strip()
        status = self._run("status", "--porcelain", "--no-renames", "--", *map(str, paths))
        return f"{commit}{changed}" if status else commit

    def brought(self, old: str, new: str, author: Sequence[str], at: dt.datetime) -> Brought:
        """See core.commits.Commits."""
        for revision in (old, new):
            if revision and not _REVISION.fullmatch(revision):
                raise Refused(f"{revision[:80]!r} is no revision", hint="a release names its commit in hex")
        before = old or self._parent(new)
        span = [new, f"^{old}"] if old else ["--max-count=1", new]
        said = self._run(
            "log",
            "--no-color",
            "--no-show-signature",
            f"--max-count={_BROUGHT_MAX}",
            f"--format={'%x00'.join(_FIELDS)}%x00",
            *span,
            "--",
        )
        lines = self._run(
            "diff", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "-z", before, new, "--"
        )
        changed = dict(_changed(lines))
        recent, known = self._history(new, author, at)
        tested = self._tested() if self.coverage else {}
        files = [
            Touched(
                path=path,
                lines=count,
                commits=recent.get(path, 0),
                by_author=path in known,
                statements=tested.get(path, (0, 0))[0],
                covered=tested.get(path, (0, 0))[1],
            )
            for path, count in list(changed.items())[:_FILES_MAX]
        ]
        return Brought(commits=tuple(_commits(said)), files=tuple(files))

    def _parent(self, revision: str) -> str:
        """The commit before; the empty tree before the first."""
        parents = self._run("log", "--no-color", "--no-show-signature", "--max-count=1", "--format=%P", revision, "--")
        return (parents.split() or [_NOTHING])[0]

    def _history(self, new: str, author: Sequence[str], at: dt.datetime) -> tuple[dict[str, int], set[str]]:
        """How often each path was committed to lately, and the paths that the author knows."""
        said = self._run(
            "log",
            "--no-color",
            "--no-show-signature",
            "--no-renames",
            f"--max-count={_HISTORY_MAX}",
            f"--since={(at - _KNOWN).astimezone(dt.UTC).isoformat()}",
            "--format=%x01%an%x02%ae%x02%cI",
            "--name-only",
            new,
            "--",
        )
        recent, known = dict[str, int](), set[str]()
        for commit in said.split("\1")[1:]:
            head, *paths = [line for line in commit.split("\n") if line]
            name, address, time = [*head.split("\2"), "", ""][:3]
            if {name, address.partition("@")[0]} & set(author):
                known.update(paths)
            if dt.datetime.fromisoformat(time) >= at - _RECENT:
                for path in paths:
                    recent[path] = recent.get(path, 0) + 1
        return recent, known

    def _tested(self) -> dict[str, tuple[int, int]]:
        """The statements of each file, and how many of them tests cover."""
        assert self.coverage is not None  # noqa: S101 - asked only where there is a report
        try:
            with self.coverage.open("rb") as file:
                report = msgspec.json.decode(file.read(_COVERAGE_BYTES_MAX), type=_Report)
        except (OSError, msgspec.MsgspecError) as error:
            hint = "[changes] coverage names the file that `coverage json` writes"
            raise Unreachable(f"the report of coverage {self.coverage} cannot be read: {error}", hint=hint) from error
        return {path: (one.summary.num_statements, one.summary.covered_lines) for path, one in report.files.items()}

    def _run(self, *arguments: str) -> str:
        argv = ["git", *_QUIET, "-c", f"safe.directory={self.folder}", "-C", str(self.folder), *arguments]
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment = kept | {
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_PAGER": "cat",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                timeout=self.deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(
                f"git {arguments[0]} of {self.folder} did not end within {self.deadline_s:g} s"
            ) from error
        except OSError as error:
            hint = "install git; [incidents] repository names the checkout"
            raise Unreachable(f"git cannot be run: {error.strerror or error}", hint=hint) from error
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode and "does not have any commits yet" not in said:
            raise Refused(
                f"git {arguments[0]} of {self.folder}: {said[:_SAID_MAX]}",
                hint="[incidents] repository names a checkout",
            )
        return done.stdout.decode(errors="replace")


def checkout_of(folder: Path) -> GitCheckout | None:
    """The checkout in which a folder is; None: it is in none."""
    folder = folder.resolve()
    for above in (folder, *folder.parents):
        if (above / ".git").exists():
            return GitCheckout(above)
    return None


def _commits(said: str) -> list[Commit]:
    words, size = said.split(_END)[:-1], len(_FIELDS)
    return [_commit(words[first : first + size]) for first in range(0, len(words), size)]


def _changed(said: str) -> Iterator[tuple[str, int]]:
    """Paths and changed lines of `git diff --numstat -z`; of a binary file none are counted."""
    for line in said.split(_END):
        added, removed, path = [*line.split("\t", 2), "", ""][:3]
        if path:
            yield path, sum(int(count) for count in (added, removed) if count.isdecimal())


def _commit(words: Sequence[str]) -> Commit:
    name, time, author, subject = words
    moment = dt.datetime.fromisoformat(time).astimezone(dt.UTC)
    return Commit(name.strip()[:12], moment, author[:80], subject[:_SUBJECT_MAX])
