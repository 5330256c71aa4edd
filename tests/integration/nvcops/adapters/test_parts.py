"""Cache, proxy, certificates and disks, for real: well, gone, frozen, and not what they should be."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvclab.certificates import Authority
from nvclab.parts import valkey
from nvclab.parts.haproxy import HAProxy as LabProxy
from nvclab.parts.process import free_ports
from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.host import LocalHost
from nvcops.adapters.tls import read_certificate
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable
from nvcops.core.manifest import DiskEntry
from nvcops.core.units import Bytes

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def cache() -> Iterator[valkey.Valkey]:
    with valkey.temporary() as server:
        yield server


def socket_to(cache: valkey.Valkey, **changes: object) -> ValkeyServer:
    known = {"name": "cache", "url": cache.url.replace("redis://", "valkey://"), "deadline_s": 5.0}
    return ValkeyServer(**{**known, **changes})  # type: ignore[arg-type]


def test_a_cache_tells_what_the_check_reads(cache: valkey.Valkey) -> None:
    info = socket_to(cache).info()
    assert {"used_memory", "maxmemory", "evicted_keys", "rdb_last_bgsave_status", "aof_last_write_status"} <= set(info)


def test_a_cache_that_wants_no_password_refuses_one(cache: valkey.Valkey) -> None:
    asked = socket_to(cache, password="not-in-any-error")
    with pytest.raises(Refused) as error:
        asked.info()
    assert "not-in-any-error" not in f"{error.value}{asked!r}"


def test_a_cache_that_is_frozen_and_one_that_is_gone(cache: valkey.Valkey) -> None:
    cache.process.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
            socket_to(cache, deadline_s=0.3).info()
        assert time.monotonic() - began < 5
    finally:
        cache.process.send(signal.SIGCONT)
    with pytest.raises(Unreachable, match="does not answer"):
        socket_to(cache, url="valkey://127.0.0.1:1/0").info()


@pytest.fixture(scope="module")
def proxy() -> Iterator[LabProxy]:
    with tempfile.TemporaryDirectory(prefix="nvcops-") as name:
        folder = Path(name)
        folder.chmod(0o700)
        authority = Authority(folder)
        authority.prepare(NOW)
        ports = free_ports(4)
        part = LabProxy(
            http_port=ports[0],
            https_port=ports[1],
            stats_port=ports[2],
            socket=folder / "haproxy.sock",
            certificate=authority.server_file,
            configuration=folder / "haproxy.cfg",
            log=folder / "haproxy.log",
            servers={"web-1": ports[3]},
        )
        part.start()
        try:
            yield part
        finally:
            part.stop()


def test_a_proxy_shows_its_servers(proxy: LabProxy) -> None:
    asked, deadline = HAProxy(name="proxy", socket=proxy.socket, deadline_s=5), time.monotonic() + 20
    while not (servers := asked.servers()) or not servers[0].status.startswith("DOWN") or "*" in servers[0].check:
        assert time.monotonic() < deadline, servers  # "* L4CON": a check is under way
        time.sleep(0.1)
    assert [(server.backend, server.server) for server in servers] == [("bank", "web-1")]
    assert "refused" in servers[0].check.lower()


def test_a_proxy_that_is_frozen_and_one_that_is_gone(proxy: LabProxy, tmp_path: Path) -> None:
    proxy.process.send(signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceeded):
            HAProxy(name="proxy", socket=proxy.socket, deadline_s=0.3).servers()
    finally:
        proxy.process.send(signal.SIGCONT)
    with pytest.raises(Unreachable, match="no such file"):
        HAProxy(name="proxy", socket=tmp_path / "no.sock", deadline_s=1).servers()


def test_a_certificate_that_is_trusted_and_the_reasons_why_not(proxy: LabProxy) -> None:
    address, authority = f"127.0.0.1:{proxy.https_port}", proxy.certificate.parent / "ca.pem"
    good = read_certificate("localhost", address, authority, 5)
    assert (good.subject, good.key, good.distrust) == ("CN=localhost", "EC secp256r1", "")
    assert good.not_before < NOW < good.not_after
    other_name = read_certificate("bank.example.com", address, authority, 5)
    assert "bank.example.com" in other_name.distrust
    assert other_name.not_after == good.not_after
    assert "issuer" in read_certificate("localhost", address, None, 5).distrust


@contextlib.contextmanager
def listening(context: ssl.SSLContext | None, says: bytes = b"") -> Iterator[str]:
    """A server that shakes hands, or says something else, or nothing."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            kept = []
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    kept.append(connection)
                    connection.settimeout(5)
                    if context is not None:
                        with contextlib.suppress(OSError):
                            kept.append(context.wrap_socket(connection, server_side=True))
                    elif says:
                        connection.sendall(says)
            for connection in kept:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def test_an_expired_certificate_is_described_all_the_same(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.prepare(NOW)
    (tmp_path / "old.pem").write_text(authority.issue(NOW - dt.timedelta(days=9), dt.timedelta(days=8)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "old.pem")
    with listening(context) as address:
        shown = read_certificate("localhost", address, authority.certificate_file, 5)
    assert shown.distrust == "certificate has expired"
    assert shown.not_after < NOW


def test_what_is_not_tls() -> None:
    with listening(None, says=b"SSH-2.0-OpenSSH_9.2\r\n") as address, pytest.raises(Refused, match="handshake"):
        read_certificate("localhost", address, None, 5)
    with listening(None) as address, pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
        read_certificate("localhost", address, None, 0.3)
    with pytest.raises(Unreachable, match="connection refused"):
        read_certificate("localhost", "127.0.0.1:1", None, 1)


def test_disks(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(os.urandom(1 << 20))
    os.truncate(folder / "deep" / "file", 1 << 30)  # a file with a hole counts what it occupies
    (folder / "link").symlink_to("/")
    entries = [
        DiskEntry(name="archive", path=folder, quota=Bytes(4 << 20)),
        DiskEntry(name="system", path=tmp_path),
        DiskEntry(name="gone", path=tmp_path / "gone"),
        DiskEntry(name="gone with quota", path=tmp_path / "gone", quota=Bytes(1)),
    ]
    host = LocalHost(entries, ())
    archive, system = host.disk("archive"), host.disk("system")
    assert archive.size == 4 << 20
    assert 1 << 20 <= archive.used < 2 << 20
    assert 0 < system.used < system.size
    for name in ("gone", "gone with quota"):
        with pytest.raises(Unreachable, match="cannot be read: no such file"):
            host.disk(name)
