"""pgBackRest, run: under the account that runs the servers, with a deadline, and its exit code never believed alone."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import zstandard

from nvcops.adapters.backup.tools import Done, Tools, last_words
from nvcops.core.errors import DeadlineExceeded, LockHeld, NotFoundError, Refused, StateError

PROGRAM = "pgbackrest"
SUFFIXES = ("", ".zst", ".gz", ".bz2", ".lz4")
ASK_S = 120.0
FETCH_S = 300.0
_LOCKED = 50  # its exit codes: lock could not be acquired; file missing
_MISSING = 55
_CHUNK = 1 << 20
_LZ4 = "lz4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One stanza of it. `config` is its configuration file where that is not Debian's own."""

    stanza: str
    config: Path | None = None
    account: str | None = None

    @property
    def tools(self) -> Tools:
        """Runs it as the database's account.

        Raises:
            StateError: it is not installed.
        """
        found = shutil.which(PROGRAM)
        if found is None:
            raise StateError(
                "pgbackrest is not installed", hint='apt-get install pgbackrest, or [backups] engine = "native"'
            )
        return Tools(folder=Path(found).parent, major=0, account=self.account)

    def arguments(self, command: str, *arguments: str) -> list[str]:
        """Its command line after the program's name.

        >>> Program(stanza="main", config=Path("/etc/p.conf")).arguments("info", "--output=json")
        ['--config=/etc/p.conf', '--stanza=main', '--log-level-console=warn', 'info', '--output=json']
        """
        where = [f"--config={self.config}"] if self.config else []
        return [*where, f"--stanza={self.stanza}", "--log-level-console=warn", command, *arguments]

    def run(self, command: str, *arguments: str, deadline_s: float = ASK_S, quiet: bool = False) -> Done:
        """Run one of its commands to the end; what that was worth is for the caller to find out."""
        said = self.arguments(command, *arguments)
        return self.tools.run(PROGRAM, *said, deadline_s=deadline_s, quiet=quiet, as_server=True)

    def answer(self, command: str, *arguments: str, deadline_s: float = ASK_S, quiet: bool = False) -> str:
        """What a command printed.

        Raises:
            LockHeld: another one of it is at work. NotFoundError: a file that was asked for is not there.
            Refused: it ended otherwise than well; with its last words.
        """
        done = self.run(command, *arguments, deadline_s=deadline_s, quiet=quiet)
        if done.code:
            raise refusal(command, done.code, done.said)
        return done.output

    def fetch(self, key: str, into: Path) -> int:
        """Write a file of its repository, decrypted but still compressed; bytes of it. Raises as `answer` does."""
        with into.open("wb") as file, into.with_name(f"{into.name}.said").open("w+b") as said:
            Path(said.name).unlink()
            child = self.tools.start(
                PROGRAM, *self.arguments("repo-get", key), as_server=True, stdout=file, stderr=said
            )
            try:
                code = child.wait(FETCH_S)
            except subprocess.TimeoutExpired:
                raise DeadlineExceeded(f"pgbackrest repo-get {key} did not end within {FETCH_S:g} s") from None
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
            said.seek(0)
            if code:
                raise refusal(f"repo-get {key}", code, last_words(said.read().decode(errors="replace")))
        return into.stat().st_size


class Readable(Protocol):
    """What raw bytes are read from."""

    def read(self, size: int, /) -> bytes: ...


class Damaged(Refused):
    """A file of the repository cannot be decompressed."""


def refusal(command: str, code: int, said: str) -> Exception:
    """What an exit code other than 0 means; 0 means nothing."""
    if code == _LOCKED:
        return LockHeld(f"pgbackrest is at work already: {said}", hint="wait for its end")
    if code == _MISSING:
        return NotFoundError(f"pgbackrest {command} found nothing: {said}")
    return Refused(f"pgbackrest {command} ended with {code}: {said}", hint="run it by hand, as the database's account")


def raw(stored: Path) -> Iterator[bytes]:
    """The bytes that went into a stored file, by the compression that its name says, about 1 MiB at a time.

    Raises:
        Damaged: it cannot be decompressed. What ends too early may just be short.
    """
    try:
        with _opened(stored) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise Damaged(f"{stored.name} cannot be decompressed: {error}") from error


def unpacked(stored: Path, into: Path) -> tuple[int, str]:
    """Write the raw bytes of a stored file; how many they are, and their SHA-1. Raises Damaged."""
    digest, size = hashlib.sha1(usedforsecurity=False), 0
    with into.open("wb") as file:
        for chunk in raw(stored):
            digest.update(chunk)
            size += file.write(chunk)
    return size, digest.hexdigest()


@contextlib.contextmanager
def _opened(stored: Path) -> Iterator[Readable]:
    if stored.suffix == ".lz4":
        with _piped([_LZ4, "-dc", str(stored)]) as piped:
            yield piped
    elif stored.suffix == ".zst":
        with (
            stored.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as zst,
        ):
            yield zst
    elif stored.suffix == ".gz":
        with stored.open("rb") as file, gzip.GzipFile(fileobj=file) as gz:
            yield gz
    elif stored.suffix == ".bz2":
        with bz2.open(stored) as bz:
            yield bz
    else:
        with stored.open("rb") as plain:
            yield plain


@contextlib.contextmanager
def _piped(argv: Sequence[str]) -> Iterator[IO[bytes]]:
    """The output of a program; Python has no LZ4 of its own."""
    if shutil.which(argv[0]) is None:
        raise StateError(
            f"{argv[0]} is not installed: this repository is compressed with it", hint=f"apt-get install {argv[0]}"
        )
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            if child.stdout is not None:
                yield child.stdout
            if child.wait(FETCH_S):
                raise EOFError(f"{argv[0]} ended with {child.returncode}")
        finally:
            if child.poll() is None:
                child.kill()
