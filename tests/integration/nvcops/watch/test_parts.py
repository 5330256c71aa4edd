"""Probes of a real cache and proxy, of certificates, disks and processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from watching import PLATFORM, probe, watching

from nvclab.certificates import Authority
from nvclab.parts import valkey
from nvclab.parts.haproxy import HAProxy
from nvclab.parts.process import free_ports
from nvcops.adapters.probes import open_prober
from nvcops.core import manifest
from nvcops.core.schedule import now
from nvcops.core.watch import Look, Probe


def platform(folder: Path, more: str) -> manifest.Manifest:
    return manifest.parse(f"{PLATFORM}\n{more}\n", folder / "platform.toml")


def looked(of: manifest.Manifest, one: Probe) -> Look:
    with watching(open_prober(of, [one])) as watch:
        return watch.next(one.name, 2)[1]


def test_a_cache_that_answers_freezes_and_is_gone(tmp_path: Path) -> None:
    with valkey.temporary() as cache:
        known = platform(tmp_path, f'[cache]\nurl = "{cache.url}"')
        with watching(open_prober(known, [probe("it", "cache", deadline=1.0)])) as watch:
            assert watch.next("it", 3)[2].why == ""
            cache.process.send(signal.SIGSTOP)
            try:
                assert "within 1 s" in watch.until_bad("it")[1].why
            finally:
                cache.process.send(signal.SIGCONT)
            watch.until(lambda: not watch.of("it")[-1].why)
            cache.stop()
            gone = watch.until_bad("it")[1]
            assert gone.known
            cache.start()
            watch.until(lambda: not watch.of("it")[-1].why)


def test_a_cache_s_password_that_we_do_not_have_is_not_its_fault(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("not-in-any-why", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    with valkey.temporary() as cache:
        look = looked(
            platform(tmp_path, f'[cache]\nurl = "{cache.url}"\npassword_file = "password"'), probe("it", "cache")
        )
    assert not look.known
    assert "not-in-any-why" not in look.why


@pytest.fixture(scope="module")
def proxy() -> Iterator[HAProxy]:
    """A proxy in front of a server that is not there yet."""
    with tempfile.TemporaryDirectory(prefix="nvcops-") as name:
        folder = Path(name)
        folder.chmod(0o700)
        authority = Authority(folder)
        authority.prepare(now())
        ports = free_ports(4)
        part = HAProxy(
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


def test_a_backend_without_servers_and_a_proxy_that_is_gone(proxy: HAProxy, tmp_path: Path) -> None:
    there = platform(tmp_path, f'[proxy]\nsocket = "{proxy.socket}"')
    with watching(open_prober(there, [probe("it", "proxy", backend="bank")])) as watch:
        bad = watch.until_bad("it")[1]
        (port,) = proxy.servers.values()
        argv = [sys.executable, str(Path(__file__).with_name("web_server.py")), str(port)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as web:
            try:
                watch.until(lambda: not watch.of("it")[-1].why)
            finally:
                web.kill()
    assert (bad.value, bad.known) == (0, True)
    assert bad.why == "0 of 1 servers of bank are up: web-1 DOWN"
    assert watch.of("it")[-1].why or watch.of("it")[-1].value == 1
    assert "it has none" in looked(there, probe("other", "proxy", backend="shop")).why
    gone = looked(platform(tmp_path, '[proxy]\nsocket = "no.sock"'), probe("it", "proxy", backend="bank"))
    assert gone.known
    assert "no such file" in gone.why


def test_a_certificate_of_the_front_door(proxy: HAProxy, tmp_path: Path) -> None:
    address = f"127.0.0.1:{proxy.https_port}"
    ca_file = str(proxy.certificate.parent / "ca.pem")
    none = platform(tmp_path, "")
    good = looked(none, probe("it", "tls", address=address, name="localhost", ca_file=ca_file))
    assert good.why == ""
    assert 170 < (good.value or 0) < 181
    soon = looked(none, probe("it", "tls", address=address, name="localhost", ca_file=ca_file, days=300))
    assert "less than 300" in soon.why
    assert soon.value == pytest.approx(good.value, abs=1)
    other = looked(none, probe("it", "tls", address=address, name="bank.example.com", ca_file=ca_file))
    assert other.known
    assert "not trusted" in other.why
    assert not looked(none, probe("it", "tls", address="127.0.0.1:1")).known, "nobody showed a certificate"
    missing = looked(none, probe("it", "tls", address=address, ca_file="/nowhere/ca.pem"))
    assert not missing.known


def test_a_server_that_does_not_speak_tls_and_one_that_says_nothing(proxy: HAProxy, tmp_path: Path) -> None:
    none = platform(tmp_path, "")
    plain = looked(none, probe("it", "tls", address=f"127.0.0.1:{proxy.http_port}"))
    assert plain.known
    assert "refused the handshake" in plain.why
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = probe("it", "tls", address=f"127.0.0.1:{server.getsockname()[1]}", deadline=0.5)
        assert not looked(none, silent).known


def test_a_disk_with_a_quota(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    here = platform(tmp_path, '[[disks]]\nname = "archive"\npath = "archive"\nquota = "1 MiB"')
    one = probe("it", "disk", disk="archive", used="50 %")
    with watching(open_prober(here, [one])) as watch:
        assert watch.next("it")[0].why == ""
        (tmp_path / "archive" / "log").write_bytes(b"x" * 700_000)
        bad = watch.until_bad("it")[1]
        (tmp_path / "archive" / "log").unlink()
        watch.until(lambda: not watch.of("it")[-1].why)
        (tmp_path / "archive").rmdir()
        assert "cannot be read" in watch.until_bad("it")[1].why
    assert 0.6 < (bad.value or 0) < 0.75


def test_a_process_by_its_file_and_by_the_platform_s_program(tmp_path: Path) -> None:
    program = f'["{sys.executable}", "-c", "import sys; sys.exit(0 if sys.argv[1] == \'up\' else 3)", "{{name}}"]'
    here = platform(tmp_path, f"[control]\nrunning = {program}")
    assert looked(here, probe("it", "process", part="up")).why == ""
    assert looked(here, probe("it", "process", part="gone")).why == "does not run"
    missing = platform(tmp_path, '[control]\nrunning = ["/nowhere/is-active", "{name}"]')
    assert not looked(missing, probe("it", "process", part="up")).known
    pid_file = tmp_path / "worker.pid"
    one = probe("it", "process", pid_file=str(pid_file))
    assert "there is no" in looked(here, one).why
    pid_file.write_text("not a number")
    assert not looked(here, one).known
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as worker:
        pid_file.write_text(f"{worker.pid}\n")
        assert looked(here, one).why == ""
        worker.kill()
        with watching(open_prober(here, [one])) as watch:
            assert "is gone" in watch.until_bad("it")[1].why, "it was not waited for yet, and yet it runs no more"
