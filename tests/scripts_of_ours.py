"""Executable Python scripts that run where the interpreter's path has a space in it: a #! line cannot say that."""

from __future__ import annotations

import sys
from pathlib import Path


def script(path: Path, body: str, *flags: str) -> Path:
    """Write one: what the shell executes is a text to Python, so that it may be given to either."""
    words = " ".join(f'"{word}"' for word in (sys.executable, *flags))
    path.write_text(f"#!/bin/sh\n'''exec' {words} \"$0\" \"$@\"\n' '''\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
