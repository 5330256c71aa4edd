"""Who backs up is killed with -9 at many moments, and so is the receiver: nothing is half, and nothing is lost.

After each kill of a backup the catalogue is whole, and the next backup leaves no object without an entry, no temporary
file and no replication slot behind. After each kill of a receiver the next one goes on, and everything that was
committed synchronously is in the repository.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcops" / "backup"))  # its server and repository

import backup_world
from backup_world import World

from nvcops.adapters.backup import spool
from nvcops.core.catalogue import present
from nvcops.core.errors import LockHeld

SEED = int(os.environ.get("NVC_DRILL_SEED", random.SystemRandom().randrange(1 << 30)))
RUNNING: list[subprocess.Popen[bytes]] = []
_PROGRAM = """
import sys, threading
from pathlib import Path
from nvcops.adapters.backup.native import back_up
from nvcops.adapters.backup.receiver import Receiver
from nvcops.adapters.backup.repository import open_repository
from nvcops.core.manifest import parse
what, file, id = sys.argv[1:]
repository = open_repository(parse(Path(file).read_text(), Path(file)))
print("ready", flush=True)
if what == "receive":
    Receiver(repository).run(threading.Event())
else:
    back_up(repository, id, full=id.endswith("F"))
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backup_world.world(tmp_path, durable=True) as started:
        started.execute("CREATE TABLE t AS SELECT generate_series(1, 300000) AS a")
        try:
            yield started
        finally:
            while RUNNING:
                kill(RUNNING[-1])


def start(world: World, what: str, number: str = "-") -> subprocess.Popen[bytes]:
    """A process of its own that backs up or receives; it has begun when this returns."""
    argv = [sys.executable, "-c", _PROGRAM, what, str(world.folder / "platform.toml"), number]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    RUNNING.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    RUNNING.remove(process)


def back_up_and_kill(world: World, kills: int) -> None:
    chance = random.Random(SEED)
    print(f"NVC_DRILL_SEED={SEED}")
    began = time.monotonic()
    world.backups.back_up("20261101T000000Z-F", full=True)
    takes_s = time.monotonic() - began
    interrupted = 0
    for count in range(kills):
        number = f"20261102T{count:06d}Z-{chance.choice('FI')}"
        world.execute("UPDATE t SET a = a + 1 WHERE a % 100 = 0")
        process = start(world, "back-up", number)
        time.sleep(chance.uniform(0, 1.5 * takes_s))
        kill(process)
        entries = world.backups.catalogue()  # whole after every kill, or this raises
        interrupted += number not in {entry.id for entry in entries}
        if chance.random() < 0.5:  # the same one again, as a resumed run does; else another
            assert_nothing_half(world, number)
    assert_nothing_half(world, "20261103T000000Z-I")
    assert interrupted > 0, "no backup was interrupted: the drill proves nothing"
    print(f"{kills} kills, {interrupted} backups interrupted")


def assert_nothing_half(world: World, number: str) -> None:
    """After one more backup everything that is there belongs to an entry, and every entry has everything."""
    world.wait(lambda: not world.execute("SELECT 1 FROM pg_stat_progress_basebackup"))  # of the killed one
    world.backups.back_up(number, full=number.endswith("F"))
    entries = [entry for entry in present(world.backups.catalogue()) if entry.kind.of_database]
    named = {stored.key: stored.bytes for entry in entries for stored in entry.objects}
    there = {file.key: file.bytes for file in world.repository.store.list("backups/")}
    assert there == named
    assert list((world.folder / "repository" / ".partial").iterdir()) == []
    assert world.execute("SELECT slot_name FROM pg_replication_slots") == []


@pytest.mark.drill
@pytest.mark.sample
def test_a_few_killed_backups_leave_nothing(world: World) -> None:
    back_up_and_kill(world, 6)


@pytest.mark.drill
@pytest.mark.timeout(1200)
def test_many_killed_backups_leave_nothing(world: World) -> None:
    back_up_and_kill(world, 60)
    with world.receiving():
        world.backups.back_up("20261104T000000Z-F", full=True)
        world.execute("SELECT pg_switch_wal()")
    with world.restored() as copy, copy.connect() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (300000,)


def receive_and_kill(world: World, kills: int) -> None:
    """Commits go on while receivers are killed; the last number that was acknowledged is in the copy."""
    chance = random.Random(SEED)
    print(f"NVC_DRILL_SEED={SEED}")
    acknowledged = 0
    world.execute("CREATE TABLE acknowledged (n int)")
    process = start(world, "receive")
    world.wait(lambda: world.backups.receiver().slot_active)
    world.backups.back_up("20261101T000000Z-F", full=True)
    world.server.reload(synchronous_standby_names=spool.STANDBY_NAME)
    world.wait(lambda: world.backups.receiver().synchronous)
    for _ in range(kills):
        end = time.monotonic() + chance.uniform(0.05, 1.5)
        with world.server.connect() as connection:
            while time.monotonic() < end:
                connection.execute("INSERT INTO acknowledged VALUES (%s)", (acknowledged + 1,))
                acknowledged += 1
                if chance.random() < 0.02:
                    connection.execute("SELECT pg_switch_wal()")
        kill(process)
        process = start(world, "receive")
        world.wait(lambda: world.backups.receiver().synchronous)
    kill(process)
    world.server.process.kill()
    with world.restored() as copy, copy.connect() as connection:
        found = connection.execute("SELECT count(DISTINCT n), max(n) FROM acknowledged").fetchone()
    print(f"{kills} kills, {acknowledged} acknowledged, in the copy: {found}")
    assert acknowledged > 10 * kills
    assert found == (acknowledged, acknowledged)


@pytest.mark.drill
@pytest.mark.sample
def test_a_few_killed_receivers_lose_nothing(world: World) -> None:
    receive_and_kill(world, 4)


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_many_killed_receivers_lose_nothing(world: World) -> None:
    receive_and_kill(world, 40)


@pytest.mark.drill
@pytest.mark.sample
def test_a_backup_during_a_backup_is_refused_and_takes_nothing_away(world: World) -> None:
    backup_world.repository_of(world.server, world.folder, more='rate_max = "4 MiB"')  # long enough to be met
    process = start(world, "back-up", "20261102T000000Z-F")
    world.wait(lambda: world.execute("SELECT 1 FROM pg_stat_progress_basebackup"))
    with pytest.raises(LockHeld, match="is held by"):
        world.backups.back_up("20261102T000001Z-F", full=True)
    assert process.wait() == 0
    assert [entry.id for entry in world.backups.catalogue()] == ["20261102T000000Z-F"]
