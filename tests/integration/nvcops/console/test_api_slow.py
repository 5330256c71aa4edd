"""Clients that connect and say nothing, say it slowly, or never end: they hold nobody up, and fill nothing."""

from __future__ import annotations

import socket
import time

import pytest
from api_door import Door, Opened

from nvcops.console import connections

SOON_S = 20


def connected(door: Door) -> socket.socket:
    host, _, port = str(door.manifest.alerts.listen).rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SOON_S)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1 << 16) == b""
    except ConnectionResetError:
        return True


def test_those_who_say_nothing_keep_no_alert_out(opened: Opened) -> None:
    door = opened()
    silent = [connected(door) for _ in range(300)]
    try:
        for _ in range(3):
            answer = door.client.post("/v1/alerts", json={"name": "DiskFull"})
            assert answer.status_code == 200, answer.text
    finally:
        for client in silent:
            client.close()
    assert len(door.taken) == 3


def test_who_is_slow_is_left(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S_MAX", 0.5)
    door = opened()
    with connected(door) as client, connected(door) as mute:
        client.sendall(b"POST /v1/alerts HTTP/1.1\r\n")
        end = time.monotonic() + SOON_S
        try:
            while time.monotonic() < end:  # a letter now and then, for ever
                client.sendall(b"x")
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert time.monotonic() < end
        assert ended(mute)


def test_a_head_without_an_end_is_not_kept(opened: Opened) -> None:
    door = opened()
    with connected(door) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(b"y" * (64 << 20))
    assert door.client.get("/healthz").status_code == 200


def test_who_never_ends_a_body_is_left(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S_MAX", 0.5)
    monkeypatch.setattr(connections, "SENDING_S_MAX", 0.5)
    door = opened()
    with connected(door) as client:
        client.sendall(b"POST /v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert ended(client)
    assert not door.taken


def test_a_connection_is_used_again(opened: Opened) -> None:
    door = opened()
    with connected(door) as client:
        for _ in range(3):
            client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
