"""The commits of a checkout, as `git log` says them: no shell, a deadline, and nothing that the checkout could run."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable
from nvcops.core.target import Commit

COMMITS_MAX = 100
_DEADLINE_S = 10.0
_SAID_MAX = 300
_SUBJECT_MAX = 300
_FIELDS = ("%H", "%cI", "%an", "%s")
_END = "\0"  # the one character that no commit can hold
_KEPT_ENVIRONMENT = ("PATH", "HOME", "TMPDIR")
# A checkout that is not ours may name programs in its configuration: none of them is asked for by `git log`, and what
# could be is switched off. `safe.directory` is this one folder, which the manifest names.
_QUIET = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false")


@dataclass(frozen=True, slots=True)
class GitCheckout:
    """See core.target.Commits."""

    folder: Path
    deadline_s: float = _DEADLINE_S

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
        words, size = said.split(_END)[:-1], len(_FIELDS)
        commits = [_commit(words[first : first + size]) for first in range(0, len(words), size)]
        return [commit for commit in commits if start <= commit.time < end]

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
            raise DeadlineExceeded(f"git log of {self.folder} did not end within {self.deadline_s:g} s") from error
        except OSError as error:
            hint = "install git; [incidents] repository names the checkout"
            raise Unreachable(f"git cannot be run: {error.strerror or error}", hint=hint) from error
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode and "does not have any commits yet" not in said:
            raise Refused(
                f"git log of {self.folder}: {said[:_SAID_MAX]}", hint="[incidents] repository names a checkout"
            )
        return done.stdout.decode(errors="replace")


def _commit(words: Sequence[str]) -> Commit:
    name, time, author, subject = words
    moment = dt.datetime.fromisoformat(time).astimezone(dt.UTC)
    return Commit(name.strip()[:12], moment, author[:80], subject[:_SUBJECT_MAX])
