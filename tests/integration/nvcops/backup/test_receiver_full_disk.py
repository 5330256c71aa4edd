"""The repository's disk is really full: what was acknowledged is there, what is not there was not acknowledged.

The disk is a small one of our own, in a mount namespace that ends with the receiver; it is seen through /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import backup_world
from backup_world import FULL, World

from nvcops.adapters.backup import spool
from nvcops.adapters.backup.repository import open_repository
from nvcops.core.manifest import parse

_SIZE = "96m"
_MOUNTED = 'mount -t tmpfs -o "size=$2,mode=0700" small "$1" || exit 77; shift 2; exec "$@"'
_NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A server whose log is received onto a small disk, by a process of its own; commits wait for it."""
    with backup_world.world(tmp_path) as world:
        folder = tmp_path / "repository"
        folder.mkdir(mode=0o700)
        receive = [sys.executable, "-m", "nvcops", "receive-wal", "--target", str(tmp_path / "platform.toml")]
        argv = [*_NAMESPACE, "sh", "-c", _MOUNTED, "sh", str(folder), _SIZE, *receive]
        receiver = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            inside = Path(f"/proc/{receiver.pid}/root{folder}")
            _wait_for_mount(receiver, inside)
            text = (tmp_path / "platform.toml").read_text().replace(f'"{folder}"', f'"{inside}"')
            world.repository = open_repository(parse(text, tmp_path / "platform.toml"))
            world.backups.back_up(FULL, full=True)
            world.execute("CREATE TABLE t (n int, text text)")
            world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
            world.wait(lambda: world.backups.receiver().synchronous)
            yield world
        finally:
            receiver.terminate()
            receiver.communicate(timeout=30)


def _wait_for_mount(receiver: subprocess.Popen[bytes], inside: Path) -> None:
    end = time.monotonic() + 30
    while not (inside / "spool" / spool.LOCK).exists():
        if receiver.poll() in (1, 77) and receiver.stderr:
            pytest.skip(f"no disk of our own can be mounted here: {receiver.stderr.read().decode(errors='replace')}")
        assert receiver.poll() is None, "the receiver ended"
        assert time.monotonic() < end, "the receiver did not begin"
        time.sleep(0.05)


def fill(file: Path) -> None:
    """Leave room for a third of a segment: whoever begins one comes to the end in its middle."""
    with file.open("wb", buffering=0) as out:
        try:
            while out.write(bytes(1 << 16)):
                pass
        except OSError:
            os.truncate(file, file.stat().st_size - (5 << 20))


class Customer:
    """Commits rows one after the other, and knows which were acknowledged."""

    def __init__(self, world: World) -> None:
        self.acknowledged: list[int] = []
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def stalls(self) -> bool:
        before = len(self.acknowledged)
        time.sleep(3)
        return len(self.acknowledged) == before

    def stop(self) -> list[int]:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.acknowledged

    def _write(self) -> None:
        text = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 10000))"
        try:
            with self._world.server.connect() as connection:
                connection.autocommit = True
                for number in range(10_000):
                    if self._stop.is_set():
                        return
                    connection.execute(f"INSERT INTO t VALUES ({number}, {text})".encode())  # noqa: S608 - ours
                    self.acknowledged.append(number)
        except psycopg.OperationalError:
            return  # its server died: the last one is unknown


@pytest.mark.parametrize("ends", ["room is made", "the primary dies"])
def test_a_full_disk_holds_commits_up_and_loses_none(small: World, ends: str) -> None:
    filler = Path(small.repository.store.name) / "filler"
    fill(filler)
    customer = Customer(small)
    try:
        small.wait(customer.stalls, 60)
        held_up = len(customer.acknowledged)
        trouble = small.backups.receiver().trouble
        assert "full" in trouble or "No space left on device" in trouble
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        assert small.execute(waiting) == [(1,)]
        if ends == "room is made":
            filler.unlink()
            small.wait(lambda: len(customer.acknowledged) > held_up + 5, 60)
            small.wait(lambda: not small.backups.receiver().trouble)
            customer.stop()
    finally:
        small.server.process.kill()
        customer.stop()
    with small.restored() as copy, copy.connect() as connection:
        there = {number for (number,) in connection.execute("SELECT n FROM t")}
    assert there >= set(customer.acknowledged)
    assert len(customer.acknowledged) >= held_up
