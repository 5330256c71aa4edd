"""What a release is built from: a service's packages, its lock, its migrations, and wheels where it brings them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.releases.archive import FILE_BYTES_MAX, FILES_MAX, Packed, path_trouble
from nvcops.adapters.releases.contents import APP, LOCK, MIGRATIONS, WHEELS
from nvcops.adapters.releases.lock import Locked, read_lock
from nvcops.core.errors import StateError, UsageError
from nvcops.core.releases import Migration

MIGRATION_NAMES = r"(?P<number>\d+)_(?P<kind>expand|contract)_\w+\.sql"
_LOCK_BYTES_MAX = 16 << 20
_LEFT_OUT = re.compile(r"__pycache__|.*\.py[co]")
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-[^-]+(-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where everything stands in the folder `root`; the others are relative to it.

    `packages` are folders that Python imports by their names. `migrations` empty: `migrations` of the first package,
    if it is there. `names` is the pattern of their names, with the groups `number` and `kind` (expand or contract).
    """

    root: Path
    packages: tuple[str, ...]
    lock: str = "requirements.txt"
    migrations: str = ""
    wheels: str = ""
    names: str = MIGRATION_NAMES


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was first read."""

    path: Path
    sha256: str
    executable: bool

    def packed(self, name: str) -> Packed:
        """The file under its name in the artifact.

        Raises:
            StateError: it cannot be read any more, or was changed meanwhile.
        """
        packed = Packed(name, read_file(self.path, FILE_BYTES_MAX), self.executable)
        if packed.sha256 != self.sha256:
            raise StateError(f"{self.path} was changed while the release was built", hint="build it again")
        return packed


@dataclass(frozen=True, slots=True)
class Source:
    """What was found: files by their names in the artifact, the lock's digest and packages, the migrations in order."""

    files: Mapping[str, SourceFile]
    lock: str
    packages: tuple[Locked, ...]
    migrations: tuple[Migration, ...]
    migrations_folder: str


def gather(sources: Sources) -> Source:
    """Read everything once.

    Raises:
        UsageError: something is missing, empty, no plain file, not locked, or has a name that it cannot have.
        StateError: something cannot be read.
    """
    files: dict[str, SourceFile] = {}
    for package in sources.packages:
        files |= _package(_inside(sources.root, package))
    lock_file = _inside(sources.root, sources.lock)
    lock = read_file(lock_file, _LOCK_BYTES_MAX)
    try:
        packages = read_lock(lock.decode(), sources.lock)
    except UnicodeDecodeError as error:
        raise UsageError(f"{sources.lock} is not UTF-8", hint="it is a requirements file") from error
    files[LOCK] = SourceFile(lock_file, hashlib.sha256(lock).hexdigest(), executable=False)
    if sources.wheels:
        files |= _wheels(_inside(sources.root, sources.wheels), packages)
    folder = _migrations_folder(sources)
    where = _place(sources, folder) if folder else ""
    if folder and where == MIGRATIONS:
        files |= {f"{MIGRATIONS}/{name}": file for name, file in _below(folder)}
    migrations = _migrations(files, where, re.compile(sources.names)) if where else ()
    return Source(dict(sorted(files.items())), files[LOCK].sha256, packages, migrations, where)


def read_file(path: Path, size_max: int) -> bytes:
    """A plain file's bytes, never through a link.

    Raises:
        UsageError: it is missing, no plain file, or larger than that.
        StateError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UsageError(f"{path} is no plain file", hint="a release holds files alone")
            data = file.read(size_max + 1)
    except FileNotFoundError as error:
        raise UsageError(f"there is no {path}", hint="name it relative to the source's folder") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise UsageError(f"{path} is no plain file", hint="a release holds files alone, no links") from error
        raise StateError(f"{path} cannot be read: {error.strerror}", hint="look at its permissions") from error
    if len(data) > size_max:
        raise UsageError(f"{path} has more than {size_max >> 20} MiB", hint="a release holds a package, not its data")
    return data


def _inside(root: Path, name: str) -> Path:
    above = Path(os.path.abspath(root))  # noqa: PTH100 - as it is written: links are refused where they are read
    path = Path(os.path.normpath(above / name))
    if not name or Path(name).is_absolute() or path == above or not path.is_relative_to(above):
        raise UsageError(f"{name!r} leads out of {root}", hint="everything that is built stands in the source's folder")
    return path


def _package(folder: Path) -> dict[str, SourceFile]:
    if not folder.name.isidentifier():
        raise UsageError(
            f"{folder} is no package: Python cannot import {folder.name!r}", hint="name a package's folder"
        )
    found = {f"{APP}/{folder.name}/{name}": file for name, file in _below(folder)}
    if not any(name.endswith(".py") for name in found):
        raise UsageError(f"{folder} is no package: there is no Python file in it", hint="name a package's folder")
    return found


def _below(folder: Path) -> Iterator[tuple[str, SourceFile]]:
    """All files below a folder but what Python makes of them, by their names in it, in their order."""
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="name it relative to the source's folder")
    count = 0
    for root, folders, names in os.walk(folder, onerror=_refused):
        folders[:] = sorted(name for name in folders if not _LEFT_OUT.fullmatch(name))
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted([*names, *links]):
            if _LEFT_OUT.fullmatch(name):
                continue
            count += 1
            if count > FILES_MAX:
                raise UsageError(f"{folder} has more than {FILES_MAX:,} files", hint="name the package's own folder")
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if trouble := path_trouble(f"{APP}/{relative}"):
                raise UsageError(f"{folder}: {trouble}", hint="rename it")
            yield relative, _source_file(path)


def _source_file(path: Path) -> SourceFile:
    data = read_file(path, FILE_BYTES_MAX)
    return SourceFile(path, hashlib.sha256(data).hexdigest(), bool(path.stat().st_mode & stat.S_IXUSR))


def _refused(error: OSError) -> None:
    raise StateError(f"{error.filename} cannot be read: {error.strerror}", hint="look at its permissions") from error


def _wheels(folder: Path, packages: tuple[Locked, ...]) -> dict[str, SourceFile]:
    """The wheels, each of which must be one that the lock allows: pip would refuse another on the host."""
    allowed = {digest for package in packages for digest in package.sha256}
    found = {}
    for name, file in _below(folder):
        if not _WHEEL.fullmatch(name):
            raise UsageError(f"{folder / name} is no wheel", hint="the folder holds the lock's wheels and nothing else")
        if file.sha256 not in allowed:
            raise UsageError(f"{folder / name} is not in the lock", hint="download it again with --require-hashes")
        found[f"{WHEELS}/{name}"] = file
    return found


def _migrations_folder(sources: Sources) -> Path | None:
    if sources.migrations:
        return _inside(sources.root, sources.migrations)
    usual = _inside(sources.root, sources.packages[0]) / MIGRATIONS
    return usual if usual.is_dir() else None


def _place(sources: Sources, folder: Path) -> str:
    """Where the migrations stand in the artifact: in their package, or in a folder of their own."""
    for name in sources.packages:
        package = _inside(sources.root, name)
        if folder.is_relative_to(package):
            return f"{APP}/{folder.relative_to(package.parent).as_posix()}"
    return MIGRATIONS


def _migrations(files: Mapping[str, SourceFile], folder: str, names: re.Pattern[str]) -> tuple[Migration, ...]:
    numbered: dict[int, Migration] = {}
    for path, file in files.items():
        above, _, name = path.rpartition("/")
        if above != folder or not name.endswith(".sql"):
            continue
        match = names.fullmatch(name)
        if match is None:
            hint = "such as 0008_expand_limits.sql, or 0009_contract_limits.sql for one that removes something"
            raise UsageError(f"the migration {name} does not say its number and whether it expands", hint=hint)
        if (number := int(match["number"])) in numbered:
            raise UsageError(f"{numbered[number].name} and {name} have one number", hint="give the later one the next")
        numbered[number] = Migration(name=name, sha256=file.sha256, contract=match["kind"] == "contract")
    return tuple(numbered[number] for number in sorted(numbered))
