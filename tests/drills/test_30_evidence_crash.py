"""kill -9 between any two writes: no acknowledged entry is lost, none is doubled, and the log still verifies.

Run as a program, this file is the producer that gets killed, and the one that injects a crash at every write.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.adapters.evidence.outbox import create_outbox, drain, enqueue
from nvcops.core.evidence import Entry

NOW = dt.datetime(2026, 1, 5, 13, tzinfo=dt.UTC)
ORIGIN = "bank.example/operations"
PRODUCERS, THREADS, BATCH = 3, 4, 3


def entry(name: str) -> Entry:
    return Entry(id=name, time="2026-01-05T13:00:00Z", kind="step.finished", run="r1", body={"name": name})


def opened(folder: Path) -> EvidenceLog:
    return open_log(folder / "state", origin=ORIGIN, witness=folder / "witness")


# --- several producers, killed at random ---


def produce(folder: Path, producer: str, round_number: int) -> None:
    """Append from several threads for ever, and say on standard output what was acknowledged."""
    log, lock = opened(folder), threading.Lock()

    def append(thread: int) -> None:
        number = 0
        while True:
            names = [f"{producer}.{round_number}.{thread}.{number + offset}" for offset in range(BATCH)]
            log.append([entry(name) for name in names])
            with lock:
                os.write(1, (" ".join(names) + "\n").encode())
            number += BATCH

    threads = [threading.Thread(target=append, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()


def run_and_kill(folder: Path, round_number: int, chance: random.Random) -> set[str]:
    """One round: all producers run, each is killed at its own moment; what they had acknowledged."""
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "produce", str(folder), str(producer), str(round_number)],
            stdout=subprocess.PIPE,
            bufsize=0,  # what readline does not take is left for communicate
        )
        for producer in range(PRODUCERS)
    ]
    acknowledged: set[str] = set()
    try:
        for child in children:
            assert child.stdout is not None
            acknowledged |= set(child.stdout.readline().decode().split())  # it has begun to write
        for child in chance.sample(children, PRODUCERS):
            time.sleep(chance.random() * 0.15)
            child.send_signal(signal.SIGKILL)
    finally:
        for child in children:
            child.kill()
            whole, _, _ = child.communicate(timeout=60)[0].rpartition(b"\n")
            acknowledged |= set(whole.decode().split())
    return acknowledged


def crash_rounds(folder: Path, rounds: int, seed: int) -> None:
    chance, acknowledged = random.Random(seed), set[str]()
    for round_number in range(rounds):
        acknowledged |= run_and_kill(folder, round_number, chance)
        if round_number % 2:
            with opened(folder) as log:
                log.checkpoint(NOW)
    with opened(folder) as log:
        log.fold()
        names = [found.id for _, found in log.entries()]
        assert len(names) == len(set(names)) == log.size()
        assert acknowledged <= set(names)
        assert len(acknowledged) > rounds * PRODUCERS
        for producer in range(PRODUCERS):  # what one thread appended stands in its order, whole batches at a time
            for thread in range(THREADS):
                mine = [name for name in names if name.startswith(f"{producer}.0.{thread}.")]
                assert mine == [f"{producer}.0.{thread}.{number}" for number in range(len(mine))]
                assert len(mine) % BATCH == 0
        log.checkpoint(NOW)
        assert log.audit().problems == ()


@pytest.mark.drill
@pytest.mark.sample
def test_producers_are_killed_at_random(tmp_path: Path) -> None:
    crash_rounds(tmp_path, rounds=3, seed=1)


@pytest.mark.drill
def test_producers_are_killed_at_random_many_times(tmp_path: Path) -> None:
    crash_rounds(tmp_path, rounds=25, seed=2)


# --- a crash at every write ---


class Fuse:
    """Counts the writes of this process and kills it at the n-th, before or after it was done."""

    def __init__(self, blows_at: int) -> None:
        self._left = blows_at

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.burn()
            result = function(*arguments, **options)
            self.burn()
            return result

        return call

    def lay(self) -> None:
        """Into everything with which the log writes."""
        for name in ("write", "fsync", "link", "unlink", "ftruncate"):
            setattr(os, name, self.around(getattr(os, name)))
        Path.unlink = self.around(Path.unlink)  # type: ignore[method-assign]
        fuse, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            """SQLite writes at the end of a transaction."""

            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
                if statement.startswith(("SELECT", "PRAGMA")):
                    return super().execute(statement, *values)
                cursor: sqlite3.Cursor = fuse.around(super().execute)(statement, *values)
                return cursor

        sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Connection, **options)  # type: ignore[assignment]


def scenario(folder: Path, acknowledge: Callable[[str], None]) -> None:
    """A little of everything that writes, in a fixed order; entries are acknowledged one after the other."""
    with opened(folder) as log:
        for name in ("a", "b"):
            log.append([entry(name)])
            acknowledge(name)
        log.checkpoint(NOW)
        other = sqlite3.Connection(log.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for name in ("c", "d"):
            log._sequencer._patience_s = 0.002
            log.append([entry(name)])
            acknowledge(name)
        other.execute("ROLLBACK")
        other.close()
        log.append([entry("e")])
        acknowledge("e")
        records = sqlite3.connect(folder / "records.sqlite")
        create_outbox(records)
        records.commit()
        if not records.execute("SELECT 1 FROM evidence_outbox").fetchone() and not (folder / "drained").exists():
            enqueue(records, entry("f"))
            records.commit()
        acknowledge("f")
        drain(records, log)
        (folder / "drained").touch()
        records.close()
        log.checkpoint(NOW)


def crash_at(folder: Path, write: int) -> bool:
    """Run the scenario in a child that dies at a write; False: it came to its end before."""
    folder.mkdir()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        Fuse(write).lay()
        scenario(folder, lambda name: _tell(writer, name))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        acknowledged = set(pipe.read().split())
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status)
    assert died or os.WEXITSTATUS(status) == 0
    check_after(folder, acknowledged, write)
    return died


def check_after(folder: Path, acknowledged: set[str], write: int) -> None:
    with opened(folder) as log:
        log.fold()
        names = [found.id for _, found in log.entries()]
        report = log.audit()
        assert acknowledged - {"f"} <= set(names), f"write {write}: lost {acknowledged - set(names)}"
        assert len(names) == len(set(names)), f"write {write}: doubled"
        assert report.problems == (), f"write {write}: {report.problems}"
    scenario(folder, lambda _name: None)  # whoever was killed tries again
    with opened(folder) as log:
        assert [found.id for _, found in log.entries()] == list("abcdef"), f"write {write}"
        report = log.audit()
        assert report.problems == (), f"write {write}: {report.problems}"
        assert report.size == log.last_checkpoint().size


def _tell(writer: int, name: str) -> None:
    os.writev(writer, [f"{name} ".encode()])


def inject(folder: Path) -> None:
    """A crash at every write of the scenario, one after the other."""
    write = 1
    while crash_at(folder / str(write), write):
        write += 1
    print(f"{write - 1} crashes")


@pytest.mark.drill
@pytest.mark.sample
def test_a_crash_at_every_write(tmp_path: Path) -> None:
    """In a process of its own: it forks, and puts its own functions in place of the system's."""
    child = subprocess.run(
        [sys.executable, __file__, "inject", str(tmp_path)], capture_output=True, text=True, timeout=250, check=False
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout.split()[0]) > 80


if __name__ == "__main__":
    if sys.argv[1] == "inject":
        inject(Path(sys.argv[2]))
    else:
        produce(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
