"""kill -9 of the engine at every statement from an alert to a message: nothing is lost, and nobody is told thrice.

The records are in a file or on a server; the server is killed in the middle, too.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration/nvcops/outbox"))

from page_path import FAULT, decide, manifest_of
from receivers import Receiver, receiver, sending

from nvclab.parts import postgres
from nvcops.adapters.evidence.log import open_log
from nvcops.adapters.records import open_records
from nvcops.alerts import desk as alerts
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import Said
from nvcops.core.alerts import Alert
from nvcops.core.errors import StateError
from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.core.records import Records
from nvcops.oncall import paging

KILLED = -9
LEASE_S = 120.0
UNANSWERED_S = 330.0  # a critical page asks the next after five minutes
ENGINE_S_MAX = 90.0
POINTS_MAX = 400
SAMPLE = (4, 21, 40, 58, 70, 76, 82, 88, 94)


@pytest.fixture(scope="module")
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.temporary() as running:
        yield running


def database_of(server: postgres.Postgres, folder: Path, name: str) -> dict[str, Any]:
    with server.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(server.password)
    return {"host": "127.0.0.1", "port": server.port, "name": name, "user": "postgres", "password_file": str(password)}


class Path60:
    """The page path in a folder of its own, with receivers of its own."""

    def __init__(self, folder: Path, there: Receiver, how: str, database: dict[str, Any] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.there, self.database = folder, there, database
        self.deadline_s = 20.0 if how == "ok" else 2.0
        self.ways = [there.apprise(f"{how}/{folder.name}"), there.apprise(f"ok/{folder.name}")]

    def engine(self, die_at: int, late_s: float) -> int:
        """Let one live, until it dies or nothing is left; how it ended."""
        told = {"state": str(self.folder / "state"), "database": self.database, "ways": self.ways}
        told |= {"deadline_s": self.deadline_s, "die_at": die_at, "late_s": late_s, "trace": str(self.folder / "trace")}
        file = self.folder / "told"
        file.write_text(json.dumps(told))
        command = [sys.executable, str(Path(__file__).with_name("page_path.py")), str(file)]
        return subprocess.run(command, timeout=ENGINE_S_MAX, check=False, capture_output=True).returncode

    def manifest(self) -> Manifest:
        return manifest_of(self.folder / "state", self.database, self.ways)

    def check(self, asked: int = 1) -> None:
        """One incident, one page, every message at its end, each received once or twice, its evidence once."""
        records = open_records(self.manifest())
        try:
            with records.reading() as reading:
                (incident,), (page,) = reading.find(Incident), reading.find(Page)
                messages, firing = reading.find(Message), reading.find(Alert)
            with open_log(self.folder / "evidence", origin="t.example.com/o") as log:
                records.drain(log)
                kept = Counter(entry.kind for _, entry in log.entries(0, log.size()))
        finally:
            records.close()
        assert [one.name for one in firing] == ["BankDown"]
        assert (page.incident, page.acknowledged) == (incident.number, None)
        states = Counter(message.state for message in messages)
        assert set(states) <= {MessageState.SENT, MessageState.FALLEN_BACK}, states
        assert kept["message.sent"] == states[MessageState.SENT] >= 1
        assert kept["page.asked"] == asked == page.step + 1
        received = Counter(one.id for one in self.there.taken if one.path.startswith(f"/ok/{self.folder.name}/"))
        sent = {message.id for message in messages if message.state is MessageState.SENT}
        assert set(received) == sent
        assert max(received.values()) <= 2, received
        assert sum(received.values()) <= len(sent) + 2, received  # those that were underway when it was killed


def killed_at(path: Path60, point: int, late_s: float = 0.0, asked: int = 1) -> bool:
    """Kill one engine at a point, let another finish, and look; False where there is no such point."""
    ended = path.engine(point, late_s)
    if ended == 0:
        return False
    assert ended == KILLED, ended
    assert path.engine(0, late_s + LEASE_S) == 0
    path.check(asked)
    return True


@pytest.mark.drill
@pytest.mark.sample
def test_a_sample_of_the_points_with_a_file(tmp_path: Path, there: Receiver) -> None:
    killed = [killed_at(Path60(tmp_path / f"file-{point}", there, "ok"), point) for point in SAMPLE]
    assert sum(killed) > len(SAMPLE) // 2  # the last points are there only where nobody was quick


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_every_point_with_a_file(tmp_path: Path, there: Receiver) -> None:
    points = 1
    while killed_at(Path60(tmp_path / f"every-file-{points}", there, "ok"), points):
        points += 1
        assert points < POINTS_MAX
    print(f"killed at {points - 1} points")
    assert points > 60


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_every_point_with_a_server(tmp_path: Path, there: Receiver, server: postgres.Postgres) -> None:
    points = 1
    while True:
        database = database_of(server, tmp_path, f"every_{points}")
        folder = tmp_path / f"every-server-{points}"
        if not killed_at(Path60(folder, there, "ok", database), points):
            break
        points += 1
        assert points < POINTS_MAX
    print(f"killed at {points - 1} points")
    assert points > 60


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_nobody_acknowledges_and_the_engine_is_killed_as_it_asks_the_next(tmp_path: Path, there: Receiver) -> None:
    killed = 0
    for point in range(1, POINTS_MAX, 5):
        path = Path60(tmp_path / f"escalates-{point}", there, "ok")
        assert path.engine(0, 0.0) == 0
        if not killed_at(path, point, UNANSWERED_S, asked=2):
            break
        killed += 1
    print(f"killed at {killed} points")
    assert killed > 5


@pytest.mark.drill
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["500", "hang", "drip", "close"])
def test_the_receiver_fails_and_the_engine_is_killed(tmp_path: Path, there: Receiver, how: str) -> None:
    killed = 0
    for point in range(50, POINTS_MAX, 11):
        if not killed_at(Path60(tmp_path / f"{how}-{point}", there, how), point):
            break
        killed += 1
    print(f"killed at {killed} points")
    assert killed > 3


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def take(records: Records, manifest: Manifest, number: int) -> None:
    """One alert, as an engine takes it, and a word to somebody: again, until it is written."""
    said = Said(
        labels={"alertname": f"Down{number}", "severity": "critical", "service": f"s{number}"},
        starts=FAULT,
        source="drill",
    )
    at, end = dt.datetime.now(dt.UTC), time.monotonic() + 60
    while True:
        try:
            with records.changing() as desk:
                alerts.take(desk, [said], at, manifest=manifest, routing=default_routing(manifest))
                alerts.tick(desk, at, manifest=manifest, routing=default_routing(manifest))
                cause = f"told/{number}"
                paging.tell(
                    desk, manifest=manifest, to="dana", subject=cause, body="", purpose="update", cause=cause, at=at
                )
        except StateError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            return


@pytest.mark.drill
@pytest.mark.sample
def test_the_server_of_the_records_is_killed_in_the_middle(tmp_path: Path, there: Receiver) -> None:
    with postgres.temporary(durable=True) as own:
        path = Path60(tmp_path / "restart", there, "ok", database_of(own, tmp_path, "restart"))
        manifest = path.manifest()
        records = open_records(manifest)

        def quiet() -> bool:
            try:
                with records.reading() as reading:
                    return reading.count(Message, state__in=["waiting", "sending"]) == 0
            except StateError:
                return False

        try:
            with sending(records, manifest), ThreadPoolExecutor(1) as pool:
                taken = [pool.submit(take, records, manifest, number) for number in range(30)]
                until(lambda: len(there.ids("ok/restart")) >= 3)
                own.power_off()
                time.sleep(1.0)
                own.start()
                for one in taken:
                    one.result(timeout=60)
                until(quiet)
            with records.reading() as reading:
                messages = {one.id: one for one in reading.find(Message)}
                assert reading.count(Alert) == 30
                assert len(messages) > 30
        finally:
            records.close()
    print(f"{len(messages)} messages, {len(there.ids('ok/restart'))} received")
    assert {message.state for message in messages.values()} == {MessageState.SENT}
    received = Counter(one.id for one in there.taken if one.path.startswith("/ok/restart/"))
    assert set(received) == set(messages)
    assert max(received.values()) <= 2


def test_the_engine_of_the_drill_decides_what_a_real_one_does(tmp_path: Path, there: Receiver) -> None:
    manifest = manifest_of(tmp_path / "state", None, [there.apprise("ok")])
    records = open_records(manifest)
    try:
        with records.changing() as desk:
            decide(manifest, FAULT, desk)
            assert desk.count(Incident) == desk.count(Page) == desk.count(Message) == 1
    finally:
        records.close()
