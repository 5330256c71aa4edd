"""Executable Python scripts that run where the interpreter's path has a space in it: a #! line cannot say that."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def script(path: Path, body: str, *flags: str) -> Path:
    """Write one: a line of shell, and the text beside it."""
    beside = path.with_name(f"{path.name}.py")
    beside.write_text(body, encoding="utf-8")
    words = shlex.join([sys.executable, *flags, str(beside)])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path
