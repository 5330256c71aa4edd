"""The synthetic payment against a service that counts: a new key each time, one session, and what a bad answer says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from watching import WAIT_S, probe, watching

from nvcops.adapters.probes import open_prober
from nvcops.core import manifest
from nvcops.core.watch import Look

PASSWORD = "not-in-any-why"


class Shop(ThreadingHTTPServer):
    """A service with sessions and payments, which remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Counter)
        self.keys: list[str] = []
        self.sessions: list[str] = []
        self.reads = 0
        self.outcome: dict[str, Any] = {"status": "settled"}
        self.password = PASSWORD

    def post(self, path: str, body: Any, token: str, key: str) -> tuple[int, Any]:
        if path == "/sessions":
            if body != {"login": "house", "password": self.password}:
                return 401, {"detail": "the login or the password is wrong"}
            self.sessions.append(f"token-{len(self.sessions)}")
            return 201, {"token": self.sessions[-1]}
        if not self.sessions or token != f"Bearer {self.sessions[-1]}":
            return 401, {"detail": "sign in first"}
        self.keys.append(key)
        return 201, self.outcome


class Counter(BaseHTTPRequestHandler):
    """One request after the other of a kept connection."""

    protocol_version = "HTTP/1.1"
    server: Shop

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token, key = self.headers.get("Authorization", ""), self.headers.get("Idempotency-Key", "")
        self.answer(*self.server.post(self.path, body, token, key))

    def do_GET(self) -> None:
        self.server.reads += 1
        self.answer(200, {"entries": []})

    def answer(self, status: int, said: Any) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join(WAIT_S)
    server.server_close()


@pytest.fixture
def options(shop: Shop, tmp_path: Path) -> dict[str, Any]:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    secret.chmod(0o600)
    return {
        "url": f"http://127.0.0.1:{shop.server_port}",
        "password_file": str(secret),
        "sign_in": {"path": "/sessions", "body": {"login": "house", "password": "{password}"}, "expect": 201},
        "steps": [
            {"path": "/payments", "body": {"amount": 1}, "expect": 201, "answer": {"status": "settled"}, "every": 3},
            {"path": "/entries"},
        ],
    }


def whys(looks: Sequence[Look]) -> set[str]:
    """What looks say, but that this machine was busy."""
    return {look.why for look in looks if "stood still" not in look.why}


def test_it_signs_in_once_and_pays_with_a_new_key_each_third_time(
    shop: Shop, options: dict[str, Any], platform: manifest.Manifest
) -> None:
    with watching(open_prober(platform, [probe("pay", "payment", interval=0.05, **options)])) as watch:
        looks = watch.next("pay", 9)
    assert whys(looks) == {""}
    assert len(shop.sessions) == 1
    assert len(shop.keys) == len(set(shop.keys))
    assert all(shop.keys)
    assert len(shop.keys) == -(-shop.reads // 3) or len(shop.keys) == -(-(shop.reads + 1) // 3)


def test_a_session_that_ended_is_begun_anew_in_the_same_look(
    shop: Shop, options: dict[str, Any], platform: manifest.Manifest
) -> None:
    options["steps"][0]["every"] = 1
    with watching(open_prober(platform, [probe("pay", "payment", interval=0.05, **options)])) as watch:
        watch.next("pay", 2)
        shop.sessions.append("somebody else's")
        watch.until(lambda: len(shop.sessions) == 3)
        assert {look.why for look in watch.next("pay", 2)} == {""}
    assert whys(watch.looks) == {""}


def test_a_payment_that_is_declined_is_made_again_until_it_is_good(
    shop: Shop, options: dict[str, Any], platform: manifest.Manifest
) -> None:
    shop.outcome = {"status": "declined", "reason": "limit"}
    with watching(open_prober(platform, [probe("pay", "payment", interval=0.05, **options)])) as watch:
        bad = watch.until_bad("pay", 4)
        shop.outcome = {"status": "settled"}
        watch.until(lambda: not watch.of("pay")[-1].why)
    assert {look.why for look in bad} == {"/payments answers status 'declined' (limit) instead of 'settled'"}


def test_a_password_of_ours_that_is_wrong_says_nothing_about_the_service(
    shop: Shop, options: dict[str, Any], platform: manifest.Manifest
) -> None:
    shop.password = "changed"
    with watching(open_prober(platform, [probe("pay", "payment", interval=0.05, **options)])) as watch:
        (look,) = watch.next("pay")
    assert not look.known
    assert "the login or the password is wrong" in look.why
    assert PASSWORD not in look.why


def test_an_answer_of_another_status_and_one_without_a_token(
    shop: Shop, options: dict[str, Any], platform: manifest.Manifest
) -> None:
    probes = [
        probe("status", "payment", **{**options, "steps": [{"path": "/entries", "expect": 204}]}),
        probe("token", "payment", **{**options, "token": "access"}),
        probe("gone", "payment", **{**options, "url": "http://127.0.0.1:1"}),
    ]
    with watching(open_prober(platform, probes)) as watch:
        said = {one.name: watch.next(one.name)[0] for one in probes}
    assert said["status"].why == "/entries answers 200 instead of 204"
    assert said["token"].why == "/sessions answers without 'access'"
    assert "connection refused" in said["gone"].why
    assert all(look.known for look in said.values())
    assert shop.sessions
