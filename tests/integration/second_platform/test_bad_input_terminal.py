"""Whoever reads, or stops reading: a closed pipe, Ctrl-C, an old locale, a narrow terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Nvcops, Quiet

PATIENCE_S = 60
COLUMNS = 20


def in_a_shell(nvcops: Nvcops, script: str) -> subprocess.CompletedProcess[str]:
    """A line as a person types it; "$@" is nvcops."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *nvcops.command],
        cwd=nvcops.folder,
        env=nvcops.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('"$@" list | true', 141),
        ('"$@" run daily-health-check | true', 141),
        ('"$@" run daily-health-check --json | true', 141),
        ('"$@" run daily-health-check >&-', 2),
        ('"$@" run daily-health-check 2>&-', 2),
        ('"$@" run daily-health-check <&- >&- 2>&-', 2),
        ('"$@" run daily-health-check > /dev/full', 3),
        ('"$@" run daily-health-check 2> /dev/full', 2),
        ('"$@" run no-such-procedure 2> /dev/full', 3),
        ('timeout 6 "$@" serve > /dev/full', 124),
    ],
)
def test_a_reader_that_goes_away(quiet: Quiet, line: str, code: int) -> None:
    """A verdict that nobody could read is no OK."""
    ended = in_a_shell(quiet.nvcops, line)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "Exception ignored" not in ended.stderr, ended.stderr


def test_ctrl_c_leaves_a_run_that_goes_on(quiet: Quiet, hostile: Callable[[str], int]) -> None:
    port = hostile("silence")
    quiet.write(("[database]", 'deadline = "20 s"\n\n[database]'), service=port)
    began = time.monotonic()
    process = subprocess.Popen(
        # As from a terminal, also where these tests run in the background, which ignores Ctrl-C.
        ["env", "--default-signal=INT", *quiet.nvcops.command, "run", "daily-health-check"],
        cwd=quiet.nvcops.folder,
        env=quiet.nvcops.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not runs(quiet.nvcops):
        assert time.monotonic() - began < PATIENCE_S
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert "interrupted" in err
    quiet.audit()
    (run,) = runs(quiet.nvcops)
    quiet.write()  # the service is simply down now: the resumed run need not wait for it
    resumed = quiet.nvcops("resume", run["id"])
    assert resumed.returncode == 2, resumed.stdout + resumed.stderr


def runs(nvcops: Nvcops) -> list[dict[str, object]]:
    """All runs, as the command line lists them."""
    ended = nvcops("runs", "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "no_SUCH.locale"},
    ],
    ids=lambda locale: " ".join(f"{name}={value}" for name, value in locale.items()),
)
def test_a_locale_without_our_letters(quiet: Quiet, locale: dict[str, str]) -> None:
    quiet.nvcops.extra = locale
    ended = quiet.nvcops("run", "daily-health-check")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "CRITICAL" in ended.stdout


@pytest.mark.parametrize("command", ["list", "run daily-health-check", "run --help"])
def test_a_terminal_of_20_columns(quiet: Quiet, command: str) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [*quiet.nvcops.command, *command.split()],
        cwd=quiet.nvcops.folder,
        env=quiet.nvcops.environment | {"TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    text = read_to_the_end(master)
    assert process.wait(PATIENCE_S) == (2 if "daily" in command else 0), text
    assert "Traceback" not in text
    living = re.findall(r"\r\x1b\[2K([^\r\n]*)", text)
    assert all(len(line) < COLUMNS for line in living if line.startswith("…")), living


def read_to_the_end(master: int) -> str:
    """What was written to a terminal until nobody held it any more."""
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the last writer is gone
            break
        if not piece:
            break
        text += piece
    os.close(master)
    return text.decode(errors="replace")
