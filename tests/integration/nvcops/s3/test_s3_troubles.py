"""A bucket that cannot be reached, refuses, breaks off, or does not do what a repository needs."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config
from s3_server import KEYS, S3Server, make_bucket, running

from nvcops.adapters.backup import s3
from nvcops.adapters.backup.s3 import S3Store
from nvcops.core.errors import LockHeld, NvcopsError, Refused, StateError, Unreachable

Opened = Callable[..., S3Store]
DATA = os.urandom(3 << 20)


@pytest.fixture
def opened(credentials: None) -> Iterator[Opened]:
    """Stores with short deadlines, closed at the end."""
    del credentials
    with contextlib.ExitStack() as stack:

        def make(bucket: str, url: str, prefix: str = "nvc") -> S3Store:
            store = S3Store(bucket, prefix, url, "us-east-1", connect_s=2, read_s=2)
            stack.callback(store.close)
            return store

        yield make


class Wire:
    """A wire to a server that can be cut: after so many bytes of an answer, for the next connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts: list[int] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                customer, _ = self._listener.accept()
                self.connections += 1
                left = self.cuts.pop(0) if self.cuts else None
                server = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=_pump, args=(customer, server, None), daemon=True).start()
                threading.Thread(target=_pump, args=(server, customer, left), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    with contextlib.suppress(OSError):
        while (data := source.recv(1 << 16)) and (left is None or left > 0):
            sink.sendall(data if left is None else data[:left])
            left = None if left is None else left - len(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def wire(server: S3Server) -> Iterator[Wire]:
    between = Wire(server.port)
    yield between
    between.close()


def test_nobody_listens(opened: Opened) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = opened("backups", f"http://127.0.0.1:{free.getsockname()[1]}")
        for call in (lambda: store.put("a", [b"."]), lambda: store.read("a"), lambda: list(store.list(""))):
            with pytest.raises(Unreachable, match=r"s3://backups/nvc cannot be reached at 127\.0\.0\.1:\d+") as caught:
                call()
            assert "endpoint" in caught.value.hint


def test_somebody_listens_and_never_answers(opened: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = opened("backups", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unreachable, match="read timeout"):
            store.read("a")


def test_the_server_dies_in_the_middle(opened: Opened) -> None:
    with running() as server:
        store = opened(make_bucket(server), server.url)
        store.put("before", [b"there"])

        def chunks() -> Iterator[bytes]:
            yield bytes(17 << 20)
            server.kill()
            yield bytes(17 << 20)

        with pytest.raises(Unreachable):
            store.put("during", chunks())
        with pytest.raises(Unreachable):
            store.read("before")


def test_the_server_dies_while_it_is_read(opened: Opened) -> None:
    with running() as server:
        store = opened(make_bucket(server), server.url)
        store.put("big", [bytes(24 << 20)])
        with store.open("big") as stream:
            assert len(stream.read(1 << 20)) == 1 << 20
            server.kill()
            with pytest.raises(Unreachable):
                stream.read()


def test_there_is_no_such_bucket(server: S3Server, opened: Opened) -> None:
    store = opened("nobodys-bucket", server.url)
    for call in (lambda: store.put("a", [b"."]), lambda: store.read("a"), lambda: list(store.list(""))):
        with pytest.raises(Unreachable, match=f"there is no bucket nobodys-bucket at 127.0.0.1:{server.port}"):
            call()


def test_credentials_that_nobody_knows(opened: Opened) -> None:
    with running(INITIAL_NO_AUTH_ACTION_COUNT="0") as server:
        store = opened("backups", server.url)
        for call in (lambda: store.put("a", [b"."]), lambda: store.read("a"), lambda: list(store.list(""))):
            with pytest.raises(Refused, match="does not accept the credentials") as caught:
                call()
            check_silence(caught.value)


def test_no_credentials_at_all(server: S3Server, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    store = opened("backups", server.url)
    with pytest.raises(Refused, match="no complete credentials for s3://backups/nvc") as caught:
        store.read("a")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def check_silence(error: NvcopsError) -> None:
    """Neither the error nor what it came from tells a secret, or a request's signature."""
    said = f"{error} {error.hint} {error.__cause__!r}"
    assert not any(secret in said for secret in KEYS.values())
    assert "Signature=" not in said
    assert error.__suppress_context__


def test_an_address_with_a_secret_is_not_repeated(opened: Opened) -> None:
    with pytest.raises(Unreachable) as caught:
        opened("backups", "http://user:hunter2@127.0.0.1:9").read("a")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_an_object_whose_connection_breaks_is_gone_on_with(wire: Wire, bucket: str, opened: Opened) -> None:
    store = opened(bucket, wire.url)
    store.put("big", [DATA])
    store.close()
    wire.cuts = [1 << 20, 1 << 20]
    with store.open("big") as stream:
        assert stream.read() == DATA
    assert wire.cuts == []


def test_an_object_that_was_replaced_meanwhile_is_not_mixed(wire: Wire, bucket: str, opened: Opened) -> None:
    store = opened(bucket, wire.url)
    store.put("big", [DATA])
    store.close()
    wire.cuts = [1 << 20]
    with store.open("big") as stream:
        stream.read(1000)
        opened(bucket, wire.url).put("big", [bytes(len(DATA))])
        with pytest.raises(Unreachable, match="big was replaced while it was read"):
            stream.read()


def test_an_answer_that_is_lost_is_no_loss(wire: Wire, bucket: str, opened: Opened) -> None:
    store = opened(bucket, wire.url)
    store.put("warm", [b"."], exclusive=True)
    store.close()
    wire.cuts = [0]
    assert store.put("catalogue/00000001.json", [b"mine"], exclusive=True) == 4
    assert wire.cuts == []
    assert store.read("catalogue/00000001.json") == b"mine"
    wire.cuts = [0]
    store.close()
    with pytest.raises(LockHeld):
        store.put("catalogue/00000001.json", [b"not mine"], exclusive=True)


class Careless(BaseHTTPRequestHandler):
    """A service that says yes to every put, whatever its conditions are."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_a_service_that_overwrites_is_refused(opened: Opened) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as careless:
        threading.Thread(target=careless.serve_forever, daemon=True).start()
        store = opened("backups", f"http://127.0.0.1:{careless.server_port}")
        with pytest.raises(Refused, match="overwrites an object that must not be overwritten"):
            store.put("catalogue/00000001.json", [b"."], exclusive=True)
        assert store.put("backups/a", [b"."]) == 1
        store.close()
        careless.shutdown()


def test_two_prefixes_do_not_see_each_other(server: S3Server, bucket: str, opened: Opened) -> None:
    one, two, whole = (opened(bucket, server.url, prefix) for prefix in ("one", "one-more", ""))
    one.put("a", [b"1"], exclusive=True)
    two.put("a", [b"2"])
    assert [file.key for file in one.list("")] == ["a"]
    assert [file.key for file in whole.list("")] == ["one-more/a", "one/a"]
    assert (one.read("a"), two.read("a"), whole.name) == (b"1", b"2", f"s3://{bucket}")


def test_an_upload_that_was_left_is_swept(
    server: S3Server, bucket: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.session.Session().client(
        "s3", endpoint_url=server.url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    client.create_multipart_upload(Bucket=bucket, Key="nvc/backups/half")
    client.create_multipart_upload(Bucket=bucket, Key="others/half")
    store = opened(bucket, server.url)
    with monkeypatch.context() as patched:  # the server says of every upload that it began in 2010
        patched.setattr(s3, "_ABANDONED_AFTER", dt.timedelta(days=365 * 200))
        assert store.sweep() == 0, "its writer may live"
    assert store.sweep() == 1
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["others/half"]
    client.close()


def test_too_large_for_one_read(server: S3Server, bucket: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_READ_MAX", 10)
    store = opened(bucket, server.url)
    store.put("a", [b"0123456789"])
    store.put("b", [b"0123456789+"])
    assert store.read("a") == b"0123456789"
    with pytest.raises(StateError, match=re.escape(f"b in s3://{bucket}/nvc is larger")):
        store.read("b")
