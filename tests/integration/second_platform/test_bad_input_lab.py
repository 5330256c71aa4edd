"""The lab and the bank: a part that is not installed, a port that is taken, a folder that is none."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Nvcops


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(nvcops: Nvcops, module: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command of the lab or the bank, to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=nvcops.folder,
        env=nvcops.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("variable", ["NVC_PG_BIN", "NVC_VALKEY_BIN", "NVC_HAPROXY_BIN"])
def test_a_part_that_is_not_there(nvcops: Nvcops, variable: str) -> None:
    ended = run(nvcops, "nvclab", "up", "--dir", "lab", "--users", 0, "--detach", **{variable: "/nowhere"})
    text = ended.stdout + ended.stderr
    assert ended.returncode == 3, text
    assert "Traceback" not in text
    assert f"{variable} is /nowhere" in text
    assert "unset it, or correct it" in text
    leaves_nothing(nvcops)


def test_a_front_door_that_is_taken(nvcops: Nvcops, taken: int) -> None:
    ended = run(nvcops, "nvclab", "up", "--dir", "lab", "--users", 0, "--detach", "--http-port", taken)
    text = ended.stdout + ended.stderr
    assert ended.returncode == 3, text
    assert "Traceback" not in text
    assert str(taken) in text
    leaves_nothing(nvcops)


def leaves_nothing(nvcops: Nvcops) -> None:
    """After `down`, no process has the lab's folder in its command line."""
    assert run(nvcops, "nvclab", "down", "--dir", "lab").returncode == 0
    folder = str(nvcops.folder / "lab").encode()
    lines = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(place.read_bytes())
        except OSError:  # it ended while we looked
            continue
    assert not [line for line in lines if folder in line]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("up --users many", "many"),
        ("up --dir file", "file"),
        ("status --dir lab", "No lab runs"),
        ("fault no-such-fault --dir lab", "no-such-fault"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_wrong_word_to_the_lab(nvcops: Nvcops, refused: Callable[..., str], words: str, says: str) -> None:
    (nvcops.folder / "file").write_text("mine", encoding="utf-8")
    assert says in refused(run(nvcops, "nvclab", *words.split()))
    assert not (nvcops.folder / "lab").exists()


def test_the_bank_says_which_port_is_taken(nvcops: Nvcops, taken: int) -> None:
    urls = {
        "NVCBANK_DATABASE_URL": "postgresql://nvcbank_service:t0p-secret@127.0.0.1:1/bank",
        "NVCBANK_CACHE_URL": "valkey://127.0.0.1:1/0",
    }
    ended = run(nvcops, "nvcbank", "serve", "--port", taken, **urls)
    text = ended.stdout + ended.stderr
    assert ended.returncode == 3, text
    assert str(taken) in text
    assert "Traceback" not in text
    assert "t0p-secret" not in text


@pytest.mark.parametrize("words", ["serve --port none", "serve --port 8080", "seed --customers -1", "nonsense", ""])
def test_a_wrong_word_to_the_bank(nvcops: Nvcops, words: str) -> None:
    ended = run(nvcops, "nvcbank", *words.split())
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr.startswith("nvcbank")
    assert len(ended.stderr.splitlines()) <= 2, ended.stderr
