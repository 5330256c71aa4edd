"""The supervisor: one process that starts the parts, keeps them alive, and obeys the control socket.

All parts are its direct children, started by its main thread, and die with it. It waits without polling: for a child's
end (SIGCHLD), a command, or the moment at which a part is to be started again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import queue
import shutil
import signal
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvclab import cluster, leftovers, status
from nvclab.control import Answer, Server
from nvclab.data_centre import DataCentre, Wishes
from nvclab.errors import LabError, explained
from nvclab.faults.board import FaultBoard
from nvclab.host_control import HostControl
from nvclab.layout import PORT_NAMES, SPARE, Layout, make_runtime, new_record
from nvclab.part_control import PartControl
from nvclab.parts.process import free_ports, port_is_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND_DEADLINE_S = 110.0
ROOM_MIB = 500  # two databases with their WAL, and the logs of a day


class Cancelled(BaseException):
    """Somebody wants the lab to end while it is still starting."""


@dataclass(frozen=True)
class _Command:
    question: Answer
    answer: Future[Answer]


@dataclass
class Supervisor:
    """One lab from start to end. `say` gets a line of progress for each part."""

    layout: Layout
    wishes: Wishes
    say: Callable[[str], None]
    _events: queue.SimpleQueue[_Command | None] = field(default_factory=queue.SimpleQueue)
    _ending: bool = False
    _starting: bool = True

    def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start the lab, call `ready` with its status, serve until it is told to end, and leave nothing behind."""
        self.layout.folder.mkdir(parents=True, exist_ok=True)
        with self.layout.locked(), self._signals():
            leftovers.clean(self.layout)
            self._look_for_room()
            record = new_record(self._ports())
            self.layout.prepare()
            self.layout.write_record(record)
            make_runtime(record, self.layout)
            centre = DataCentre(self.layout, record, self.wishes, self.say, self._log)
            try:
                self._serve(centre, ready)
            finally:
                centre.stop()
                self.layout.at("lab.json").unlink(missing_ok=True)

    def _serve(self, centre: DataCentre, ready: Callable[[dict[str, Any]], None]) -> None:
        board = FaultBoard(centre)
        Server(centre.record.control, lambda question: self._answer(question, centre, board))
        try:
            centre.start(board.heal_remembered)
            self._starting = False
            ready(status.of(centre, board))
            self._log("ready")
            self._loop(centre, board)
        except Cancelled:
            self._log("cancelled while starting")
        finally:
            self._forget(board)

    def _loop(self, centre: DataCentre, board: FaultBoard) -> None:
        while not self._ending:
            try:
                command = self._events.get(timeout=centre.keeper.wait_s())
            except queue.Empty:
                command = None
            if command is not None:
                self._obey(command, centre, board)
            centre.keeper.look()

    def _answer(self, question: Answer, centre: DataCentre, board: FaultBoard) -> Answer:
        """On the control threads: status at once, the rest on the main thread."""
        name = question.get("command")
        if name == "status":
            return {"ok": True, "status": status.of(centre, board)}
        if name == "down":
            os.kill(os.getpid(), signal.SIGTERM)  # the main thread may be in the middle of the start
            return {"ok": True}
        if name not in _ACTS:
            raise LabError(f"The supervisor knows no command {name!r}.", hint=f"status, down, {', '.join(_ACTS)}")
        if self._starting:
            raise LabError("The lab is still starting.", hint="nvclab status shows when it is ready")
        if (answer := _at_once(centre, question)) is not None:
            return answer
        command = _Command(question, Future())
        self._events.put(command)
        try:
            return command.answer.result(COMMAND_DEADLINE_S)
        except FutureTimeoutError as error:
            raise LabError(f"{name} did not end within {COMMAND_DEADLINE_S:g} s.") from error

    def _obey(self, command: _Command, centre: DataCentre, board: FaultBoard) -> None:
        question = command.question
        try:
            said = _ACTS[str(question["command"])](centre, board, question)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, whoever asked is told, and the lab lives on
            command.answer.set_exception(error if isinstance(error, LabError) else LabError(f"It failed: {error}"))
            self._log(f"{question['command']} failed: {error!r}")
            return
        for sentence in said:
            self._log(sentence)
        command.answer.set_result({"ok": True, "said": said})

    def _forget(self, board: FaultBoard) -> None:
        try:
            board.forget_at_end()
        except LabError as error:  # remembered in D/faults.json, and undone at the next start
            self._log(f"not undone: {error.sentence}")

    def _look_for_room(self) -> None:
        free_mib = shutil.disk_usage(self.layout.folder).free >> 20
        if free_mib < ROOM_MIB:
            sentence = f"The disk is full: {self.layout.folder} has {free_mib} MiB left, a lab needs {ROOM_MIB} MiB."
            raise LabError(sentence, hint="make room, or choose another --dir")

    def _ports(self) -> dict[str, int]:
        chosen: dict[str, int] = {}
        if wished := self.wishes.http_port:
            if not port_is_free(wished):
                raise LabError(f"Port {wished} is taken.", hint="leave --http-port out, or choose another")
            chosen["http"] = wished
        names = [*PORT_NAMES, *(cluster.PORT_NAMES if self.wishes.ha else ())]
        names += SPARE if self.wishes.delivery else ()
        rest = [name for name in names if name not in chosen]
        return {**chosen, **dict(zip(rest, free_ports(len(rest), avoid=chosen.values()), strict=True))}

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = [signal.getsignal(number) for number in numbers]
        signal.signal(signal.SIGCHLD, lambda *_: self._events.put(None))
        for number in numbers[1:]:
            signal.signal(number, lambda *_: self._end())
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _end(self) -> None:
        already, self._ending = self._ending, True
        self._events.put(None)
        if self._starting and not already:
            raise Cancelled

    def _log(self, sentence: str) -> None:
        stamp = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        with self.layout.log("supervisor").open("a", encoding="utf-8") as log:
            log.write(f"{stamp} {sentence}\n")


def _inject(_: DataCentre, board: FaultBoard, question: Answer) -> list[str]:
    return [board.inject(str(question["name"]), dict(question.get("options", {})))]


def _heal(_: DataCentre, board: FaultBoard, question: Answer) -> list[str]:
    return board.heal_all() if question.get("all") else [board.heal(str(question["name"]))]


def _part(centre: DataCentre, _: FaultBoard, question: Answer) -> list[str]:
    control = PartControl(centre)
    verbs = {"start": control.start, "stop": control.stop, "rebuild": control.rebuild}
    return [verbs[str(question["verb"])](str(question["name"]))]


def _mend(centre: DataCentre, _: FaultBoard, question: Answer) -> list[str]:
    return [HostControl(centre).mend(str(question["name"]))]


# What cannot wait until the main thread has time, and does not need it.
_HOST_VERBS: dict[str, Callable[[HostControl, str], str]] = {
    "crash": HostControl.crash,
    "postmaster": HostControl.postmaster,
    "freeze": HostControl.freeze,
    "partition": HostControl.partition,
    "fence": HostControl.fence,
}


def _at_once(centre: DataCentre, question: Answer) -> Answer | None:
    """The answer to what is done on the control threads; None for the rest."""
    verb, name = question.get("verb"), str(question.get("name"))
    match question.get("command"):
        case "part" if verb == "running":
            return {"ok": True, "running": PartControl(centre).running(name)}
        case "host" if verb in _HOST_VERBS:
            return {"ok": True, "said": [_HOST_VERBS[verb](HostControl(centre), name)]}
        case _:
            return None


# What takes time, or changes something: done one after the other on the main thread.
_ACTS = {"fault": _inject, "heal": _heal, "part": _part, "host": _mend}


def main(folder: Path, wishes: Wishes, progress: Callable[[dict[str, Any]], None]) -> int:
    """Run a supervisor that tells its progress as objects: {"say"}, {"ready"}, or {"sentence", "hint"} at the end."""
    begin = time.monotonic()
    try:
        supervisor = Supervisor(Layout(folder), wishes, lambda line: progress({"say": line}))
        supervisor.run(lambda found: progress({"ready": found, "seconds": time.monotonic() - begin}))
    except LabError as error:
        progress({"sentence": error.sentence, "hint": error.hint})
        return error.exit_code
    except OSError as error:
        said = explained(error)
        progress({"sentence": said.sentence, "hint": said.hint})
        return said.exit_code
    return 0
