"""`db-diagnostics --watch` on a terminal: a look, and another one, until Ctrl-C; elsewhere it says what it needs."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

TEXT = """
[platform]
name = "shop"
title = "The Shop"
state = "state"

[database]
port = 1
name = "shop"
user = "nvcops"
primary = { name = "db-1", host = "127.0.0.1" }

[evidence]
origin = "shop.example.com/operations"
"""
DEADLINE_S = 120.0
CTRL_C = b"\x03"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    path = tmp_path / "platform.toml"
    path.write_text(TEXT, encoding="utf-8")
    return [sys.executable, "-m", "nvcops", "run", "db-diagnostics", "--watch", "--target", str(path)]


def test_it_looks_again_until_ctrl_c(command: list[str]) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=_own,  # noqa: PLW1509 - it is one call of the system
    )
    os.close(theirs)
    said = b""
    try:
        end = time.monotonic() + DEADLINE_S
        while said.count(b"run db-diagnostics@") < 2:
            assert time.monotonic() < end, said
            said += os.read(ours, 65_536)
        os.write(ours, CTRL_C)
        code = process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert code == 2, said
    assert b"db-1 cannot be asked" in said
    assert len({line for line in said.split() if line.startswith(b"db-diagnostics@")}) >= 2, "each look is a run"


def _own() -> None:
    """Make the terminal the process's own, so that Ctrl-C reaches it, also where these tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_without_a_terminal_it_says_so(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 3
    assert "--watch looks again until Ctrl-C: it needs a terminal" in done.stderr
