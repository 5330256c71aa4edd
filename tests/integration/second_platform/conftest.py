"""Somebody else's platform: a ticket shop and its PostgreSQL. We know its addresses, and nothing of its code."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import Process, free_ports, port_answers
from nvclab.roster import public_key

SHOP = Path(__file__).with_name("ticket_shop.py")
HOSTILE = Path(__file__).with_name("hostile.py")
WATCHER, WATCHER_PASSWORD = "watcher", "watcher-t0p-secret"
PATIENCE_S = 60
SETTINGS = {
    "max_connections": "20",
    "superuser_reserved_connections": "3",
    "shared_preload_libraries": "pg_stat_statements",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_filename": "postgresql.log",
    "log_statement": "ddl",
}

QUIET = """\
[platform]
name = "quiet"
title = "Quiet"
state = "state"

[[services]]
name = "quiet"
url = "http://127.0.0.1:{service}"

[database]
port = {server}
name = "quiet"
user = "watcher"
primary = {{ name = "db-1", host = "127.0.0.1" }}

[[people]]
name = "dana"
full_name = "Dana"
roles = ["operator"]
ssh_keys = ["{key}"]

[evidence]
origin = "test/quiet"
"""


@dataclass
class Nvcops:
    """The real command line, as a program of its own with a home of its own."""

    folder: Path
    home: Path
    extra: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What the program may know; nothing of whoever runs the tests."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        own = {"HOME": str(self.home), "TMPDIR": str(self.folder / "tmp"), "USER": "dana", "LOGNAME": "dana"}
        return kept | own | self.extra

    def __call__(self, *arguments: object, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [*self.prefix, sys.executable, "-m", "nvcops"]


@dataclass
class Quiet:
    """A platform on which nothing answers: all that our own mistakes need."""

    nvcops: Nvcops

    @property
    def manifest(self) -> Path:
        """Its platform.toml."""
        return self.nvcops.folder / "platform.toml"

    @property
    def state(self) -> Path:
        """Where nvcops keeps its own files of it."""
        return self.nvcops.folder / "state"

    def write(self, *changes: tuple[str, str], service: int = 0, server: int = 0) -> None:
        """Write platform.toml, with the ports of a service and a database server; a change is (old text, new text)."""
        ports = {"service": service or free_ports(1)[0], "server": server or free_ports(1)[0]}
        key = (self.nvcops.home / ".ssh" / "id_ed25519.pub").read_text(encoding="utf-8").strip()
        text = QUIET.format(key=key, **ports)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.manifest.write_text(text, encoding="utf-8")

    def audit(self) -> None:
        """The evidence is whole: nothing was half-written."""
        if self.state.exists():
            ended = self.nvcops("evidence", "audit")
            assert ended.returncode == 0, ended.stdout + ended.stderr


@dataclass
class Shop:
    """The shop, its database, and where its platform.toml will be."""

    folder: Path
    database: Postgres
    nvcops: Nvcops
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        conninfo = self.database.conninfo(user="shop", password="shop-pw", dbname="tickets")
        argv = [sys.executable, str(SHOP), str(self.port), conninfo, str(self.log)]
        self.process = Process("ticket-shop", argv, self.folder / "shop.out")

    @property
    def url(self) -> str:
        """Where customers find it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it writes down."""
        return self.folder / "shop.log"

    @property
    def manifest(self) -> Path:
        """The file that `nvcops init` writes."""
        return self.folder / "platform.toml"

    def open(self) -> None:
        """Begin, or begin again after a stop."""
        self.process.start()
        self.process.wait_until(lambda: port_answers(self.port), PATIENCE_S)

    def ask(self, path: str, body: bytes | None = None) -> int:
        """One customer's request: its status."""
        try:
            with urllib.request.urlopen(self.url + path, body, timeout=10) as answer:  # noqa: S310 - it is our http
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def customers(self, count: int = 40) -> None:
        """Some customers look around, and half of them buy."""
        for number in range(count):
            self.ask("/buy", b"customer-%d" % number) if number % 2 else self.ask("/health")

    def init(self, *flags: object) -> subprocess.CompletedProcess[str]:
        """`nvcops init` of the whole shop."""
        where = f"postgresql://{WATCHER}@127.0.0.1:{self.database.port}/tickets"
        password = ("--database-password-file", secret_file(self.folder / "watcher.password"))
        return self.nvcops("init", "--service", self.url, "--database", where, *password, "--log", self.log, *flags)

    def sql(self, statement: str) -> None:
        """Something that the shop's administrator does."""
        with self.database.connect("tickets") as connection:
            connection.execute(statement)


def secret_file(path: Path, secret: str = WATCHER_PASSWORD) -> Path:
    """A file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(secret + "\n", encoding="utf-8")
    return path


@pytest.fixture
def nvcops(tmp_path: Path) -> Nvcops:
    """The command line of Dana, who has an SSH key."""
    ssh = tmp_path / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    public_key(ssh, "id_ed25519")
    (tmp_path / "tmp").mkdir()
    return Nvcops(tmp_path, tmp_path / "home")


@pytest.fixture
def quiet(nvcops: Nvcops) -> Iterator[Quiet]:
    """A platform on which nothing answers; whatever was done to it, its evidence is whole afterwards."""
    quiet = Quiet(nvcops)
    quiet.write()
    yield quiet
    quiet.nvcops = Nvcops(nvcops.folder, nvcops.home)
    quiet.write()
    quiet.audit()


@pytest.fixture
def refused() -> Callable[..., str]:
    """That a command ended with a code and one clear sentence, with a hint at most: what it said."""

    def check(ended: subprocess.CompletedProcess[str], code: int = 3) -> str:
        text = ended.stdout + ended.stderr
        assert "Traceback" not in text, text
        assert ended.returncode == code, text
        assert "t0p-secret" not in text
        sentence, *hints = ended.stderr.splitlines()
        assert sentence.startswith(("nvcops: ", "nvclab: ", "nvcbank: ")), text
        assert len(hints) <= 1, text
        assert not ended.stdout, ended.stdout
        return ended.stderr

    return check


@pytest.fixture
def database() -> Iterator[Postgres]:
    """PostgreSQL as the shop's administrator made it, with a user for watching."""
    with postgres.temporary(durable=True, settings=SETTINGS) as server:
        with server.connect() as connection:
            connection.execute("CREATE ROLE shop LOGIN PASSWORD 'shop-pw'")
            # The shop opens a session for each request: a role without deadlines is seen or not, by luck.
            connection.execute("ALTER ROLE shop SET statement_timeout = '30s'")
            connection.execute("ALTER ROLE shop SET idle_in_transaction_session_timeout = '60s'")
            connection.execute(f"CREATE ROLE {WATCHER} LOGIN PASSWORD '{WATCHER_PASSWORD}' IN ROLE pg_monitor")
            connection.execute("CREATE DATABASE tickets OWNER shop")
        with server.connect("tickets") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        yield server


@pytest.fixture
def shop(tmp_path: Path, database: Postgres, nvcops: Nvcops) -> Iterator[Shop]:
    """The shop, open, with customers who were there."""
    shop = Shop(tmp_path, database, nvcops)
    try:
        shop.open()
        shop.ask("/login", b"forgetful")
        shop.customers()
        yield shop
    finally:
        shop.process.stop()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], object]:
    """Ask again until the answer is true; fails with the last answer when patience ends."""

    def ask(question: Callable[[], object]) -> object:
        end = time.monotonic() + PATIENCE_S
        while not (answer := question()):
            assert time.monotonic() < end, f"still {answer!r} after {PATIENCE_S} s"
            time.sleep(0.2)
        return answer

    return ask


@pytest.fixture
def silent_shop() -> Iterator[str]:
    """The address of the least service that there is: it answers 200 to everything, with nothing."""

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def hostile() -> Iterator[Callable[[str], int]]:
    """Start a server that misbehaves in a way; its port."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str) -> int:
        server = subprocess.Popen([sys.executable, str(HOSTILE), kind], stdout=subprocess.PIPE, text=True)
        started.append(server)
        assert server.stdout
        return int(server.stdout.readline())

    yield start
    for server in started:
        server.kill()
        server.wait()
        assert server.stdout
        server.stdout.close()
