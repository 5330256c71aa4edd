from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvclab.control import Answer, Server, ask
from nvclab.errors import LabError, NotRunning


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="nvclab-test-") as folder:
        yield Path(folder) / "control.sock"


def answer(question: Answer) -> Answer:
    if question["command"] == "refuse":
        raise LabError("No.", hint="ask something else")
    return {"ok": True, "asked": question}


def test_a_question_is_answered(path: Path) -> None:
    Server(path, answer)
    for number in range(40):  # more than it answers at the same time
        assert ask(path, {"command": "say", "number": number})["asked"]["number"] == number


def test_a_refusal_keeps_its_sentence_and_its_hint(path: Path) -> None:
    Server(path, answer)
    with pytest.raises(LabError, match="No") as raised:
        ask(path, {"command": "refuse"})
    assert raised.value.hint == "ask something else"


def test_nonsense_is_refused_and_the_next_one_is_answered(path: Path) -> None:
    Server(path, answer)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"nonsense\n")
        assert b'"ok": false' in connection.recv(4096)
    assert ask(path, {"command": "say"})["ok"]


def test_nobody_there(path: Path) -> None:
    with pytest.raises(NotRunning):
        ask(path, {"command": "status"})


def test_only_the_owner_may_ask(path: Path) -> None:
    Server(path, answer)
    assert path.stat().st_mode & 0o777 == 0o600
