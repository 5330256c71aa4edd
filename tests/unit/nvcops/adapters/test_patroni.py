"""A switchover whose answer says nothing: what came of it is looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nvcops.adapters.patroni import Patroni
from nvcops.core.errors import DeadlineExceeded, Refused
from nvcops.core.manifest import ClusterEntry, ClusterMember
from nvcops.core.units import Seconds


class Member(ThreadingHTTPServer):
    """The REST API of the two members of a cluster, which answers a switchover as it is told to."""

    leader = "db-1"
    status = 200
    text = ""
    hands_over = True
    cuts = False


class Answers(BaseHTTPRequestHandler):
    server: Member

    def do_GET(self) -> None:
        roles = {name: "leader" if name == self.server.leader else "sync_standby" for name in ("db-1", "db-2")}
        members = [{"name": name, "role": role, "state": "running", "timeline": 1} for name, role in roles.items()]
        self._answer(200, json.dumps({"members": members} if self.path == "/cluster" else {"ttl": 30}))

    def do_POST(self) -> None:
        wish = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert wish == {"leader": "db-1", "candidate": "db-2"}
        if self.server.hands_over:
            self.server.leader = "db-2"
        if not self.server.cuts:
            self._answer(self.server.status, self.server.text)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def member() -> Iterator[Member]:
    server = Member(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def patroni(member: Member, monkeypatch: pytest.MonkeyPatch) -> Patroni:
    monkeypatch.setattr("nvcops.adapters.patroni._HAND_OVER_S", 1.5)
    url = f"http://127.0.0.1:{member.server_address[1]}"
    members = (ClusterMember(name="db-1", url=url), ClusterMember(name="db-2", url=url))
    return Patroni(ClusterEntry(scope="bank", members=members, etcd=(url,), deadline=Seconds(2)))


def test_an_answer_that_knows_nothing_is_no_failure(member: Member, patroni: Patroni) -> None:
    member.status, member.text = 503, "Switchover status unknown"
    patroni.switch_over("db-2")
    assert patroni.state().leader == "db-2"


def test_an_answer_that_is_lost_is_no_failure(member: Member, patroni: Patroni) -> None:
    member.cuts = True
    patroni.switch_over("db-2")
    assert patroni.state().leader == "db-2"


def test_what_did_not_come_about_is_said_with_patronis_words(member: Member, patroni: Patroni) -> None:
    member.status, member.text, member.hands_over = 503, "Switchover failed", False
    with pytest.raises(DeadlineExceeded, match=r"db-2 is not primary .*: Switchover failed"):
        patroni.switch_over("db-2")


def test_a_refusal_is_one(member: Member, patroni: Patroni) -> None:
    member.status, member.text, member.hands_over = 412, "candidate is not synchronous", False
    with pytest.raises(Refused, match="candidate is not synchronous"):
        patroni.switch_over("db-2")
