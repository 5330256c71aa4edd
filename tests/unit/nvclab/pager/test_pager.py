"""The pager as what sends to it sees it: a real process, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apprise
import pytest

from nvclab.errors import PartFailed
from nvclab.pager.pages import Behaviour, Way, read
from nvclab.pager.part import Pager, ask, behave
from nvclab.parts.process import free_ports


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pager]:
    folder = tmp_path_factory.mktemp("pager")
    pager = Pager(free_ports(1)[0], folder / "pages.jsonl", folder / "pager.log")
    pager.launch()
    try:
        pager.process.wait_until(pager.ready, 30)
        yield pager
    finally:
        pager.stop()


@pytest.fixture
def pager(running: Pager) -> Iterator[Pager]:
    behave(running.port, Behaviour())
    yield running
    behave(running.port, Behaviour())


def post(pager: Pager, path: str, body: Any, timeout_s: float = 10.0, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", pager.port, timeout=timeout_s)
    try:
        connection.request("POST", path, body if isinstance(body, str) else json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    return answer.status


def wait_until(holds: Callable[[], object], deadline_s: float = 10.0) -> bool:
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")  # apprise imports it
def test_what_apprise_sends_is_kept_with_its_time_person_and_channel(pager: Pager) -> None:
    before = time.time()
    sent = apprise.Apprise()
    sent.add(f"json://127.0.0.1:{pager.port}/dana/push")
    assert sent.notify(title="P0: the bank is down", body="since 03:00")
    (page,) = read(pager.pages, since=before)
    assert (page.person, page.channel, page.status) == ("dana", "push", 200)
    assert (page.title, page.message) == ("P0: the bank is down", "since 03:00")
    assert before <= page.time <= time.time()


def test_what_a_webhook_sends_is_kept_whole(pager: Pager) -> None:
    before = time.time()
    body = {"version": "4", "alerts": [{"status": "firing"}]}
    assert post(pager, "/receiver", body, **{"Idempotency-Key": "one"}) == 200
    (page,) = read(pager.pages, since=before)
    assert (page.person, page.channel, page.title, page.key, page.body) == ("receiver", "", "", "one", body)


def test_it_refuses_whom_it_is_told_to_refuse(pager: Pager) -> None:
    before = time.time()
    behave(pager.port, Behaviour(Way.REFUSE, only="/dana/push"))
    assert post(pager, "/dana/push", {}) == 500
    assert post(pager, "/dana/email", {}) == 200
    assert [(page.way, page.status) for page in read(pager.pages, since=before)] == [("refuse", 500), ("take", 200)]


def test_it_is_slow(pager: Pager) -> None:
    behave(pager.port, Behaviour(Way.SLOW, seconds=0.5))
    began = time.monotonic()
    assert post(pager, "/dana/push", {}) == 200
    assert time.monotonic() - began >= 0.5


def test_it_hangs_up_on_what_it_has_kept(pager: Pager) -> None:
    before = time.time()
    behave(pager.port, Behaviour(Way.CLOSE))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        post(pager, "/dana/push", {})
    assert [(page.way, page.status) for page in read(pager.pages, since=before)] == [("close", None)]


def test_it_hangs_until_it_is_told_otherwise_and_takes_others_meanwhile(pager: Pager) -> None:
    before = time.time()
    behave(pager.port, Behaviour(Way.HANG, only="/dana"))
    ended = threading.Event()

    def wait() -> None:
        try:
            post(pager, "/dana/push", {}, timeout_s=60)
        except (http.client.HTTPException, ConnectionError):
            ended.set()

    hanging = threading.Thread(target=wait)
    hanging.start()
    assert wait_until(lambda: read(pager.pages, since=before))
    assert post(pager, "/omar/push", {}) == 200
    assert not ended.is_set()
    behave(pager.port, Behaviour())
    hanging.join(10)
    assert ended.is_set()


@pytest.mark.parametrize(("path", "body", "status"), [("/dana", "no JSON", 400), ("/dana", "x" * ((1 << 20) + 1), 413)])
def test_what_is_no_page_is_not_kept(pager: Pager, path: str, body: str, status: int) -> None:
    before = time.time()
    try:
        assert post(pager, path, body) == status
    except ConnectionError:  # it was refused before all of it had been sent
        assert status == 413
    assert not read(pager.pages, since=before)


def test_it_says_how_it_behaves_and_refuses_what_it_does_not_know(pager: Pager) -> None:
    behave(pager.port, Behaviour(Way.SLOW, seconds=1.5, only="/omar"))
    assert ask(pager.port, "GET") == Behaviour(Way.SLOW, seconds=1.5, only="/omar")
    connection = http.client.HTTPConnection("127.0.0.1", pager.port, timeout=10)
    connection.request("PUT", "/-/behaviour", json.dumps({"way": "explode"}))
    assert connection.getresponse().status == 400
    connection.close()
    with pytest.raises(PartFailed):
        ask(free_ports(1)[0], "GET")


def test_nothing_arrived_where_there_is_no_file(tmp_path: Path) -> None:
    assert read(tmp_path / "pages.jsonl") == []
