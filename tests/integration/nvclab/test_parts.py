"""The real parts on their own: they work, survive, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from nvclab.errors import MissingPart, PartFailed
from nvclab.parts import haproxy, postgres, postgres_binaries, valkey
from nvclab.parts.account import is_root
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import Process, free_ports, port_answers, port_is_free, run_tool


def segments() -> set[str]:
    """Ids of the System V shared memory segments that nobody has attached."""
    table = Path("/proc/sysvipc/shm")
    rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]] if table.exists() else []
    return {row[1] for row in rows if row[6] == "0"}


def server(folder: Path, name: str = "primary", **settings: str) -> Postgres:
    return Postgres(
        name=name,
        data=folder / name / "data",
        logs=folder / name / "logs",
        sockets=folder / name / "sockets",
        port=free_ports(1)[0],
        password="not secret",
        settings={"fsync": "off", "shared_buffers": "16MB", **settings},
    )


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A short path with a space: sockets lie in it."""
    folder = Path(tempfile.gettempdir()) / f"nvc {os.getpid()} {tmp_path.name[-12:]}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def test_a_temporary_server_answers_and_goes_without_a_trace() -> None:
    before = segments()
    with postgres.temporary(settings={"work_mem": "5MB"}) as pg:
        folder = pg.data.parent
        with psycopg.connect(pg.url()) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
            assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(pg.url(password="wrong"))
        port = pg.port
    assert not folder.exists()
    assert not port_answers(port)
    assert segments() <= before


def test_a_killed_server_comes_back_with_its_data_and_leaves_no_memory(short: Path) -> None:
    pg = server(short, fsync="on")
    pg.initialise()
    pg.start()
    try:
        with pg.connect() as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (42)")
        pg.process.kill()
        restart(pg)
        with pg.connect() as connection:
            assert connection.execute("SELECT x FROM kept").fetchone() == (42,)
        pg.process.kill()
        wait_for_backends_to_leave(pg)
    finally:
        pg.stop()
    lines = (pg.data / "postmaster.pid").read_text(encoding="ascii").splitlines()
    assert lines[6].split()[1] not in segments()


def restart(pg: Postgres) -> None:
    """As the keeper does: the dead server's children need a moment to leave."""
    end = time.monotonic() + 20
    while True:
        try:
            return pg.start()
        except PartFailed:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def wait_for_backends_to_leave(pg: Postgres) -> None:
    number = (pg.data / "postmaster.pid").read_text(encoding="ascii").splitlines()[6].split()[1]
    end = time.monotonic() + 20
    while number not in segments() and time.monotonic() < end:
        time.sleep(0.05)


def test_a_half_made_cluster_is_made_again(short: Path) -> None:
    pg = server(short)
    partial = pg.data.with_name("data.partial")
    (partial / "base").mkdir(parents=True)
    (partial / "PG_VERSION").write_text("17\n", encoding="ascii")
    assert pg.initialise()
    assert not partial.exists()
    assert not pg.initialise()
    pg.start()
    pg.stop()


def test_a_standby_streams_from_its_primary(short: Path) -> None:
    primary = server(short)
    primary.initialise()
    primary.start()
    standby = server(short, "standby", primary_conninfo=primary.conninfo(), primary_slot_name="one")
    try:
        with primary.connect() as connection:
            connection.execute("SELECT pg_create_physical_replication_slot('one')")
            connection.execute("CREATE TABLE copied (x int)")
            assert standby.clone(primary, "postgres", primary.password, "one")
            standby.start()
            connection.execute("INSERT INTO copied VALUES (7)")
            row = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert row is not None
        assert replayed(standby, row[0])
        with standby.connect() as connection:
            assert connection.execute("SELECT x, pg_is_in_recovery() FROM copied").fetchone() == (7, True)
    finally:
        standby.stop()
        primary.stop()


def replayed(standby: Postgres, position: str) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with standby.connect() as connection:
            row = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]).fetchone()
        if row == (True,):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not is_root(), reason="only root changes the account")
def test_root_runs_it_from_a_folder_that_only_root_may_enter(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = postgres_binaries.find_binaries()
    shutil.copytree(found.folder.parent, short / "own copy", symlinks=True)
    monkeypatch.setenv("NVC_PG_BIN", str(short / "own copy" / "bin"))
    pg = server(short)
    pg.initialise()
    pg.start()
    try:
        assert Path(f"/proc/{pg.process.pid}").stat().st_uid != 0
        assert pg.binaries.folder == short / "own copy" / "bin"
    finally:
        pg.stop()


def test_the_cache_answers_and_goes() -> None:
    with valkey.temporary() as cache:
        assert cache.ready()
        assert cache.url == f"redis://127.0.0.1:{cache.port}/0"
        folder = cache.folder
    assert not folder.exists()
    assert not port_answers(cache.port)


@pytest.mark.parametrize(
    ("variable", "find"),
    [
        ("NVC_PG_BIN", postgres_binaries.find_binaries),
        ("NVC_VALKEY_BIN", valkey.find_server),
        ("NVC_HAPROXY_BIN", haproxy.find_program),
    ],
)
def test_a_wrongly_configured_part_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, find: object) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    with pytest.raises(MissingPart, match=f"{variable} is /nowhere"):
        find()  # type: ignore[operator]


@pytest.mark.parametrize("find", [valkey.find_server, haproxy.find_program])
def test_a_missing_part_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, find: object
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPart) as raised:
        find()  # type: ignore[operator]
    assert raised.value.hint.startswith("pip install ")


def test_a_program_that_fails_is_told_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match="sh ended with 7") as raised:
        run_tool(["/bin/sh", "-c", "echo because >&2; exit 7"])
    assert raised.value.hint == "because"
    with pytest.raises(PartFailed, match="did not end within"):
        run_tool(["/bin/sleep", "10"], deadline_s=0.2)
    with pytest.raises(PartFailed, match="The disk is full"):
        run_tool(["/bin/sh", "-c", "cat /proc/self/status > /dev/full"])
    process = Process("sleeper", ["/bin/sh", "-c", "echo no; exit 3"], tmp_path / "log")
    process.start()
    with pytest.raises(PartFailed, match="sleeper ended with 3 instead of starting") as raised:
        process.wait_until(lambda: False, 10)
    assert raised.value.hint.endswith("no")


def test_a_frozen_process_can_be_stopped(tmp_path: Path) -> None:
    process = Process("sleeper", ["/bin/sleep", "60"], tmp_path / "log")
    process.start()
    process.send(signal.SIGSTOP)
    process.stop(deadline_s=10)
    assert process.pid is None
    assert process.exit_code == -signal.SIGTERM


def test_children_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    """A killed parent takes its parts along, PostgreSQL under its other account included."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            sleeper = Process("sleeper", ["/bin/sleep", "60"], tmp_path / "log")
            other = Process("other", ["/bin/sleep", "60"], tmp_path / "log", as_database_owner=True)
            sleeper.start()
            other.start()
            time.sleep(0.3)  # both are past the exec that asks for the signal
            (tmp_path / "pids.new").write_text(f"{sleeper.pid} {other.pid}", encoding="ascii")
            (tmp_path / "pids.new").rename(tmp_path / "pids")
            time.sleep(60)
        os._exit(1)
    end = time.monotonic() + 20
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.02)
    children = [int(word) for word in (tmp_path / "pids").read_text(encoding="ascii").split()]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while any(alive(child) for child in children) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(alive(child) for child in children)


def alive(pid: int) -> bool:
    """Whether a process lives; one that waits for its burial does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_free_ports_are_free_and_all_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port_is_free(port) for port in ports)
    assert set(free_ports(5, avoid=ports)).isdisjoint(ports)
