"""A database server, a cache and banks on them, for tests and drills; nothing remains when the block ends."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from nvclab.parts import bank, postgres, valkey
from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvclab.parts.valkey import Valkey

PASSWORD = "correct horse battery staple"
ROLE_PASSWORD = secrets.token_hex(8)
CUSTOMERS = 12
ROLES = ("owner", "service", "readonly", "auditor")


class World:
    """Makes databases (from a template that is migrated and seeded once) and banks."""

    def __init__(self, server: Postgres, cache: Valkey, folder: Path) -> None:
        self.server, self.cache, self.folder = server, cache, folder
        self._made = 0
        self._template = self.empty_database()
        self.tool(self._template, "migrate")
        self.tool(self._template, "seed", "--customers", str(CUSTOMERS))

    def empty_database(self) -> str:
        self._made += 1
        name = f"bank_{self._made}"
        with self.server.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def database(self) -> str:
        """A database of one's own: seeded, and nobody else's."""
        self._made += 1
        name = f"bank_{self._made}"
        with self.server.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}".encode())
            # A copied sequence hands out its next values without logging them until a checkpoint has passed: after a
            # kill -9 it would give them again.
            connection.execute("CHECKPOINT")
        return name

    def connect(self, database: str, role: str | None = None) -> psycopg.Connection[Any]:
        """An autocommitting connection of a role of the bank, or of the administrator."""
        url = self.server.url(database) if role is None else self.url(database, role)
        return psycopg.connect(url, autocommit=True, connect_timeout=10)

    def url(self, database: str, role: str) -> str:
        return self.server.url(database, user=f"nvcbank_{role}", password=ROLE_PASSWORD)

    def environment(self, database: str, **more: str) -> dict[str, str]:
        roles = {f"NVCBANK_{role.upper()}_PASSWORD": ROLE_PASSWORD for role in ROLES}
        return {
            "NVCBANK_ADMIN_URL": self.server.url(database),
            "NVCBANK_DATABASE_URL": self.url(database, "service"),
            "NVCBANK_CACHE_URL": self.cache.url,
            "NVCBANK_SEED_PASSWORD": PASSWORD,
            "NVCBANK_DRAIN_S": "0.2",
            **roles,
            **more,
        }

    def tool(self, database: str, *arguments: str) -> str:
        """Run a command of the bank that must succeed."""
        return bank.run(*arguments, env=self.environment(database))

    def run(self, database: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the bank that may fail."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NVCBANK_")}
        return subprocess.run(
            [sys.executable, "-m", "nvcbank", *arguments],
            env={**kept, **self.environment(database, **more)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def bank(self, database: str, instance: str = "bank-a", **more: str) -> Iterator[Bank]:
        """A serving bank, ready; it is killed at the end if it still lives."""
        running = Bank(self, database, instance, more)
        try:
            running.start()
            yield running
        finally:
            running.client.close()
            running.process.kill()


class Bank:
    """One instance on a free port, with a client for it."""

    def __init__(self, world: World, database: str, instance: str, more: dict[str, str]) -> None:
        self.world, self.database, self.name = world, database, instance
        self.port = free_ports(1)[0]
        self.log = world.folder / f"{database}-{instance}-{self.port}.jsonl"
        env = world.environment(database, NVCBANK_INSTANCE=instance, NVCBANK_LOG=str(self.log), **more)
        offset_s = float(more.get("NVCBANK_CLOCK_OFFSET_S", "0"))
        self._instance = bank.Instance(instance, self.port, self.log.with_suffix(".out"), env, offset_s)
        self.process = self._instance.process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10, trust_env=False)

    def start(self) -> None:
        self._instance.launch()
        self.process.wait_until(self._instance.ready, 20)

    def sign_in(self, number: int = 1, *, staff: str = "") -> dict[str, str]:
        """The header of a seeded customer, or of a staff user by role."""
        login = f"{staff}-01@nvcbank.example" if staff else f"customer-{number:06d}@nvcbank.example"
        path = "/v1/staff/sessions" if staff else "/v1/sessions"
        answer = self.client.post(path, json={"login": login, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def account(self, who: dict[str, str]) -> int:
        """The customer's first account."""
        number: int = self.client.get("/v1/accounts", headers=who).json()["accounts"][0]["id"]
        return number

    def pay(self, who: dict[str, str], key: str, **body: Any) -> httpx.Response:
        return self.client.post(
            "/v1/payments", headers={**who, "Idempotency-Key": key}, json={"currency": "EUR", "amount": 100, **body}
        )

    def lines(self) -> list[str]:
        """The log, once what was asked before has been flushed."""
        time.sleep(0.2)
        return self.log.read_text(encoding="utf-8").splitlines()

    def metric(self, sample: str) -> float:
        """A sample of /metrics by its full name with labels; 0 when it is not there."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.rpartition(" ")[0] == sample:
                return float(line.rpartition(" ")[2])
        return 0.0


def wait_for(condition: Any, deadline_s: float = 20.0) -> None:
    """Wait until something is so, or fail."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.05)


@contextmanager
def world(folder: Path, *, durable: bool = False) -> Iterator[World]:
    """Start the real parts."""
    with postgres.temporary(durable=durable) as server, valkey.temporary() as cache:
        yield World(server, cache, folder)
