"""What answers may be anything: the answer of nvcops is a verdict, in time, and in one sentence."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Nvcops, Quiet

KINDS = ["garbage", "silence", "cut", "slow", "headers", "body", "half"]
# Far above the sum of the deadlines, far below for ever: it tells a hang from an answer on any machine.
HANG_S = 60
OUTPUT_BYTES_MAX = 10_000


def said(ended: subprocess.CompletedProcess[str]) -> str:
    """All that was printed: readable, short, no traceback."""
    text = ended.stdout + ended.stderr
    assert "Traceback" not in text, text
    assert len(text) < OUTPUT_BYTES_MAX
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_init_is_not_held_up(hostile: Callable[[str], int], nvcops: Nvcops, kind: str) -> None:
    port = hostile(kind)
    began = time.monotonic()
    ended = nvcops("init", "--service", f"http://127.0.0.1:{port}", timeout_s=HANG_S)
    assert ended.returncode == 3
    assert "neither a service nor a database answered" in said(ended)
    assert not list(nvcops.folder.glob("*.toml"))
    assert time.monotonic() - began < HANG_S


@pytest.mark.parametrize("kind", KINDS)
def test_init_is_not_held_up_by_what_is_no_postgresql(hostile: Callable[[str], int], nvcops: Nvcops, kind: str) -> None:
    ended = nvcops("init", "--database", f"postgresql://watcher@127.0.0.1:{hostile(kind)}/tickets", timeout_s=HANG_S)
    assert ended.returncode == 3
    assert "nor a database answered" in said(ended)


@pytest.mark.parametrize("kind", [*KINDS, "escape"])
def test_the_health_check_comes_to_a_verdict(hostile: Callable[[str], int], quiet: Quiet, kind: str) -> None:
    port = hostile(kind)
    quiet.write(service=port, server=port)
    ended = quiet.nvcops("run", "daily-health-check", timeout_s=HANG_S)
    assert ended.returncode == 2, said(ended)
    assert "CRITICAL" in said(ended)
    assert f"127.0.0.1:{port}" in said(ended)
