"""Slots and releases in a lab: what runs in a slot, and how the first release comes into it.

    D/delivery/store                  artifacts and their statements, as `nvcops release build` makes them
    D/delivery/releases/<digest>      an artifact unpacked
    D/delivery/slots/<slot>/current   -> ../../releases/<digest>
    D/delivery/environments/<lock>    the interpreter with the packages of a lock: here the one that the lab runs in

A slot without a `current` runs the checkout. What is in a slot stays there when the lab ends and starts again: only a
rollout changes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from nvclab.errors import LabError, PartFailed
from nvclab.parts.bank import Program
from nvclab.parts.process import run_tool
from nvclab.roster import public_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvclab.layout import Layout

BUILDER = "builder"
SOURCE = Path(__file__).parents[2]
PACKAGE, LOCK = Path("src", "nvcbank"), Path("requirements", "run.txt")
ALONE = ("-B", "-P")  # nothing is written into a release, and nothing is imported from where one happens to stand
_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
_BUILD_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Built:
    """A release by its digest, and the version that the service will say."""

    digest: str
    version: str


@dataclass(frozen=True)
class Delivery:
    """Where releases and slots of one lab lie."""

    layout: Layout

    @property
    def root(self) -> Path:
        """The folder of releases and slots."""
        return self.layout.at("delivery")

    @property
    def store(self) -> Path:
        """The folder of artifacts."""
        return self.root / "store"

    @property
    def environments(self) -> Path:
        """The folder of interpreters, one for each lock."""
        return self.root / "environments"

    @property
    def key(self) -> Path:
        """The private key with which the lab signs for what it builds."""
        return self.layout.at("keys", BUILDER)

    def prepare(self) -> None:
        """Make the folders, the builder's key, and the environment of the checkout's own lock."""
        for folder in (self.store, self.root / "releases", self.root / "slots", self.environments):
            folder.mkdir(parents=True, exist_ok=True)
        self.builder()
        environment = self.environments / lock_of(SOURCE / LOCK)
        fresh = environment.with_name(f"{environment.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(sys.prefix)
        fresh.replace(environment)

    def builder(self) -> str:
        """The public key of the builder, one line; makes the pair where it is missing."""
        return public_key(self.layout.at("keys"), BUILDER)

    def current(self, slot: str) -> Path:
        """The link to what is to run in a slot."""
        return self.root / "slots" / slot / "current"

    def program(self, slot: str) -> Program:
        """How what is in a slot is started; PartFailed when it is not whole."""
        current = self.current(slot)
        if not current.is_symlink():
            return Program()
        release = current.resolve()
        lock = release / LOCK.with_name("requirements.txt").name
        if not (release / "app").is_dir() or not lock.is_file():
            raise PartFailed(f"There is no release in {release}, where {slot} has its own.", hint="deploy one")
        python = self.environments / lock_of(lock) / "bin" / "python"
        if not os.access(python, os.X_OK):
            raise PartFailed(f"There is no environment for {release.name}: {python}.", hint="nvcops makes it")
        env = {"PYTHONPATH": str(release / "app"), "NVCBANK_RELEASE": release.name}
        return Program((str(python), *ALONE, "-m", "nvcbank"), env)

    def build(self, source: Path = SOURCE) -> Built:
        """Build a release of the bank in `source`, a tree like the checkout's, with the version that it says it is."""
        words = [source, "--version", version_of(source), "--package", PACKAGE, "--lock", LOCK, "--key", self.key]
        words += ["--target", self.layout.at("platform.toml"), "--json"]
        argv = [sys.executable, "-m", "nvcops", "release", "build", *map(str, words)]
        said = run_tool(argv, deadline_s=_BUILD_DEADLINE_S, name="nvcops release build")
        try:
            release = json.loads(said)["release"]
            return Built(release["digest"], release["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise LabError("nvcops release build does not say what it built.", hint=said[:400]) from error

    def unpack(self, digest: str) -> Path:
        """Unpack an artifact of the store, whole or not at all; fine when it is there."""
        folder = self.root / "releases" / digest
        if folder.is_dir():
            return folder
        fresh = folder.with_name(f".{digest}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        artifact = self.store / f"{digest}.tar.zst"
        if not artifact.exists():
            raise LabError(f"{self.store} has no artifact {digest}.", hint="nvcops release list")
        with (
            artifact.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed) as plain,
            tarfile.open(fileobj=plain, mode="r|") as archive,
        ):
            for member in archive:
                _write(archive, member, fresh)
        fresh.replace(folder)
        return folder

    def occupy(self, slots: Iterable[str], digest: str) -> None:
        """Point slots at a release, each in one step."""
        self.unpack(digest)
        for slot in slots:
            current = self.current(slot)
            current.parent.mkdir(parents=True, exist_ok=True)
            fresh = current.with_name("current.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(Path("..", "..", "releases", digest))
            fresh.replace(current)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One file of an artifact, which holds nothing but files below its own folder."""
    path = folder / member.name
    content = archive.extractfile(member) if member.isfile() else None
    if content is None or ".." in path.parts or not path.is_relative_to(folder):
        raise LabError(f"{member.name!r} has no place in an artifact.", hint="nvcops release verify")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.read())


def version_of(source: Path) -> str:
    """The version that the package in a source says of itself."""
    about = source / PACKAGE / "__init__.py"
    found = _VERSION.search(about.read_text(encoding="utf-8"))
    if found is None:
        raise LabError(f"{about} does not say its version.", hint='__version__ = "1.2.3"')
    return found[1]


def say_version(source: Path, version: str) -> None:
    """Let the package in a source say another version of itself."""
    about = source / PACKAGE / "__init__.py"
    text = _VERSION.sub(f'__version__ = "{version}"', about.read_text(encoding="utf-8"))
    about.write_text(text, encoding="utf-8")


def lock_of(requirements: Path) -> str:
    """The name of a lock: the SHA-256 of its file."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()
