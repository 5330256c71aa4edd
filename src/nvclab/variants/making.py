"""Making a variant: a copy of the bank's source, changed, and built like any release."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nvclab.delivery import LOCK, PACKAGE, SOURCE, Built, Delivery, say_version, version_of
from nvclab.errors import LabError
from nvclab.variants import spoiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvclab.variants.catalogue import Variant

_MAIN = """\
import sys

from nvcbank.cli import main
from nvcbank.metrics import Metrics
from nvcbank.spoiled import Spoiler
from nvcbank.web.router import Router

Spoiler(**{spoiler!r}).take(Router, Metrics)
sys.exit(main())
"""


def make(delivery: Delivery, variant: Variant, written: Sequence[str], version: str = "", base: str = "") -> Built:
    """Build a variant of the checkout's bank, or of the release `base` (a digest).

    LabError: an option is wrong, or `nvcops release build` refuses.
    """
    options = variant.read(written)
    if not delivery.key.exists():
        raise LabError(f"There are no slots in {delivery.layout.folder}.", hint="nvclab up --delivery")
    with tempfile.TemporaryDirectory(prefix="source-", dir=delivery.root) as folder:
        source = Path(folder)
        _copy(delivery, source, base)
        package = source / PACKAGE
        variant.edit(package)
        shutil.copyfile(str(spoiled.__file__), package / "spoiled.py")
        text = _MAIN.format(spoiler=variant.spoiler(options))
        (package / "__main__.py").write_text(text, encoding="utf-8")
        say_version(source, version or f"{version_of(source).partition('+')[0]}+{variant.name}")
        return delivery.build(source)


def _copy(delivery: Delivery, source: Path, base: str) -> None:
    """A tree like the checkout's, of the checkout or of what a release holds."""
    release = delivery.unpack(base) if base else None
    package = release / "app" / PACKAGE.name if release else SOURCE / PACKAGE
    lock = release / "requirements.txt" if release else SOURCE / LOCK
    shutil.copytree(package, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (source / LOCK).parent.mkdir(parents=True)
    shutil.copyfile(lock, source / LOCK)
