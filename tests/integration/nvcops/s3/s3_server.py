"""moto's server as a child: a service that speaks the S3 API, on a free port."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import boto3
import pytest
from botocore.config import Config

START_S = 60
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret-at-all"}


@dataclass
class S3Server:
    """A child that can be killed, and begun again on the same port with nothing in it."""

    port: int
    environment: dict[str, str] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.child = subprocess.Popen(
            command, env=os.environ | self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.child.poll() is None, "the S3 server ended"
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the S3 server did not answer within {START_S} s")

    def kill(self) -> None:
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None


@contextmanager
def running(**environment: str) -> Iterator[S3Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = S3Server(port, environment)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with running() as started:
        yield started


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ours: nothing of the person who runs the tests, and no machine's role."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        **KEYS,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(server: S3Server, credentials: None) -> str:
    del credentials
    return make_bucket(server)


def make_bucket(server: S3Server) -> str:
    name = f"backups-{secrets.token_hex(6)}"
    client = boto3.session.Session().client(
        "s3", endpoint_url=server.url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name
