"""The supervisor's control socket: one JSON line asks, one JSON line answers.

Asked: {"command": "status" | "fault" | "heal" | "down", ...}. Answered: {"ok": true, ...} or {"ok": false,
"sentence": ..., "hint": ...}. Only the lab's owner (and root) can open the socket.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

from nvclab.errors import LabError, NotRunning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Answer = dict[str, Any]
_LINE_BYTES_MAX = 1 << 20
_ASK_TIMEOUT_S = 5.0
_CONNECTIONS_MAX = 16


class Server:
    """Answers on a thread of its own per connection, so that `status` works while the supervisor is busy."""

    def __init__(self, path: Path, answer: Callable[[Answer], Answer]) -> None:
        self._answer = answer
        self._slots = threading.BoundedSemaphore(_CONNECTIONS_MAX)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(_CONNECTIONS_MAX)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self._slots.acquire()  # the thread that answers releases it
            threading.Thread(target=self._serve, args=(connection,), name="command", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_ASK_TIMEOUT_S)
                connection.sendall(json.dumps(self._answered(connection)).encode() + b"\n")
        except OSError:
            return  # whoever asked has gone, and the answer with them
        finally:
            self._slots.release()

    def _answered(self, connection: socket.socket) -> Answer:
        try:
            return self._answer(json.loads(_read_line(connection)))
        except LabError as error:
            return {"ok": False, "sentence": error.sentence, "hint": error.hint}
        except ValueError as error:
            return {"ok": False, "sentence": f"The question was not understood: {error}.", "hint": ""}


def ask(path: Path, question: Answer, timeout_s: float = 120.0) -> Answer:
    """Ask the supervisor; NotRunning when nobody listens, LabError when it says no or not in time."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(json.dumps(question).encode() + b"\n")
            answer: Answer = json.loads(_read_line(connection))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning("The lab's supervisor is gone.", hint="nvclab down cleans up, nvclab up starts it") from error
    except TimeoutError as error:
        raise LabError(
            f"The supervisor did not answer within {timeout_s:g} s.", hint="nvclab logs shows why"
        ) from error
    except (OSError, ValueError) as error:
        raise LabError(f"The supervisor did not answer: {error}.", hint="nvclab logs shows why") from error
    if not answer.get("ok"):
        raise LabError(answer.get("sentence", "The supervisor refused."), hint=answer.get("hint", ""))
    return answer


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            raise ValueError("the connection ended in the middle of a line")
        line += chunk
        if len(line) > _LINE_BYTES_MAX:
            raise ValueError(f"a line of more than {_LINE_BYTES_MAX} bytes")
    return bytes(line)
