"""The bank's current release, laid where a deployment would take it from."""

from __future__ import annotations

import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHECKOUT = Path(__file__).parents[2]
_LOCK = _CHECKOUT / "requirements" / "run.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the archive depends on its contents alone


def lay(releases: Path) -> Path:
    """Write releases/nvcbank-VERSION.zip, the lock of its requirements and a file VERSION; returns the archive's path.

    LabError outside of a checkout.
    """
    if not _LOCK.exists():
        raise LabError(f"{_LOCK} is missing.", hint="run the lab from a checkout of the repository")
    number = version("nvcops")
    releases.mkdir(exist_ok=True)
    path = releases / f"nvcbank-{number}.zip"
    fresh = path.with_suffix(".new")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _package():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    fresh.replace(path)
    shutil.copyfile(_LOCK, releases / "requirements.txt")
    releases.joinpath("VERSION").write_text(f"{number}\n", encoding="ascii")
    return path


def _package() -> Iterator[tuple[str, bytes]]:
    """The package's files in order, without what Python makes of them."""
    folder = _CHECKOUT / "src" / "nvcbank"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(folder.parent)), path.read_bytes()
