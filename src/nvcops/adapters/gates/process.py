"""How a gate starts a program: without a shell, its output in files, and told from a verdict when it could not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.backup.tools import last_words
from nvcops.adapters.gates.asked import Asked, CannotTell

OUTPUT_MAX = 64 << 20
_NOT_RUN = (126, 127)  # what a shell or env says of a program that is none, or is not there


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code, and what it said."""

    code: int
    output: str
    error: str

    @property
    def said(self) -> str:
        """Its last words, for a person."""
        return last_words(self.error if self.error.strip() else self.output)


def run(
    argv: Sequence[str], *, work: str, folder: str | Path | None = None, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a program to its end; the deadline is that of the gate's own process, which takes the program with it.

    Raises:
        CannotTell: it is not there, was killed, or said more than 64 MiB.
    """
    with tempfile.TemporaryFile(dir=work) as output, tempfile.TemporaryFile(dir=work) as error:
        try:
            code = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                cwd=folder or work,
                env={**os.environ, **(environment or {})},
                check=False,
            ).returncode
        except (OSError, ValueError) as problem:
            raise CannotTell(f"{argv[0]} cannot be run: {getattr(problem, 'strerror', None) or problem}") from problem
        texts = []
        for file in (output, error):
            if file.seek(0, os.SEEK_END) > OUTPUT_MAX:
                raise CannotTell(f"{argv[0]} said more than {OUTPUT_MAX >> 20} MiB")
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    ended = Ended(code, *texts)
    return checked_end(argv[0], ended)


def checked_end(name: str, ended: Ended) -> Ended:
    """The same; a program that was killed, or was not there, said nothing of the release."""
    if ended.code < 0:
        raise CannotTell(f"{name} was killed by signal {-ended.code}: {ended.said}")
    if ended.code in _NOT_RUN:
        raise CannotTell(f"{name} cannot be run: {ended.said}")
    return ended


def dies_with_us(signal_name: str) -> list[str]:
    """What is put before a program so that it gets a signal when whoever started it is gone, where that can be."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, "--"] if setpriv else []


def tool(asked: Asked, name: str) -> str:
    """The path of a tool: as the option `tool` says, else beside our own interpreter, else on PATH.

    Raises:
        CannotTell: it is not installed.
    """
    given = asked.options.get("tool")
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(given) if given else shutil.which(str(beside)) or shutil.which(name)
    if found is None:
        raise CannotTell(f"{given or name} is not installed")
    return found


def filled(asked: Asked, program: Sequence[str], **more: str) -> list[str]:
    """A program's words with {release}, {previous}, {checkout}, {python}, {digest} and {work} filled in.

    Raises:
        CannotTell: one of them is not known.
    """
    known = {
        "release": asked.release,
        "previous": asked.previous,
        "checkout": asked.checkout,
        "python": asked.python,
        "digest": asked.digest,
        "work": asked.work,
        **more,
    }
    missing = {
        "release": "there is no release to look at",
        "previous": "there is no release before to compare with",
        "checkout": "no checkout was given: name one with --checkout",
        "python": "there is no environment for the release's lock",
        "digest": "there is no release to look at",
    }
    words = []
    for word in program:
        for name, value in known.items():
            if f"{{{name}}}" in word and not value:
                raise CannotTell(missing.get(name, f"{{{name}}} is not known"))
            word = word.replace(f"{{{name}}}", value)  # noqa: PLW2901 - one place holder after the other
        words.append(word)
    return words
