"""The morning of a shop that is not ours, by the platform.toml that `nvcops init` wrote, and by nothing else."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Shop

OK, WARNING, CRITICAL = 0, 1, 2
# What its operator adds to the written file: there are no backups yet, and the figures are of seconds, not of a day.
ADDED = """
[metrics]
interval = "1 s"

[objectives]
window = "8 s"

[limits]
recent_window = "4 s"
recent_requests_min = 5

[[exceptions]]
check = "recovery.backups"
reason = "backups are being set up"
owner = "dana"
until = 2099-12-31
"""


@pytest.fixture
def operated(shop: Shop) -> Iterator[Shop]:
    """The shop with customers, operated by `nvcops serve`."""
    ended = shop.init("--name", "tickets")
    assert ended.returncode == 0, ended.stderr
    text = shop.manifest.read_text(encoding="utf-8").replace("# required_indexes", "required_indexes")
    shop.manifest.write_text(text + ADDED, encoding="utf-8")
    serve = subprocess.Popen(
        [*shop.nvcops.command, "serve", "--quiet"],
        cwd=shop.folder,
        env=shop.nvcops.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    closed = threading.Event()
    crowd = threading.Thread(target=come_and_go, args=(shop, closed))
    crowd.start()
    yield shop
    closed.set()
    crowd.join()
    serve.terminate()
    assert serve.wait(60) == 0


def come_and_go(shop: Shop, closed: threading.Event) -> None:
    """Customers until the doors close; those who find nobody come again later."""
    while not closed.wait(0.1):
        try:
            shop.customers(4)
        except OSError:
            closed.wait(0.5)


def run(shop: Shop, procedure: str) -> tuple[int, set[str]]:
    """A procedure's exit code, and which of its checks are CRITICAL."""
    ended = shop.nvcops("run", procedure, "--json")
    findings = json.loads(ended.stdout)["findings"]
    return ended.returncode, {finding["check"] for finding in findings if finding["verdict"] == CRITICAL}


def troubles(shop: Shop, procedure: str) -> list[str]:
    """What is not OK, in words."""
    findings = json.loads(shop.nvcops("run", procedure, "--json").stdout)["findings"]
    return [f"{finding['check']}: {finding['observed']}" for finding in findings if finding["verdict"] != OK]


@contextmanager
def service_stopped(shop: Shop) -> Iterator[None]:
    shop.process.stop()
    yield
    shop.open()


@contextmanager
def database_stopped(shop: Shop) -> Iterator[None]:
    shop.database.stop()
    yield
    shop.database.start()


@contextmanager
def errors_raised(shop: Shop) -> Iterator[None]:
    stop = threading.Event()

    def break_things() -> None:
        while not stop.wait(0.05):
            assert shop.ask("/broken") == 500

    breaker = threading.Thread(target=break_things)
    breaker.start()
    yield
    stop.set()
    breaker.join()


@contextmanager
def connections_exhausted(shop: Shop) -> Iterator[None]:
    with ExitStack() as stack:
        conninfo = shop.database.conninfo(user="shop", password="shop-pw", dbname="tickets")
        with suppress(psycopg.OperationalError):  # no more of them: that is what we want
            for _ in range(100):
                stack.callback(psycopg.connect(conninfo).close)
        yield


@contextmanager
def index_dropped(shop: Shop) -> Iterator[None]:
    shop.sql("DROP INDEX orders_by_buyer")
    yield
    shop.sql("CREATE INDEX orders_by_buyer ON orders (buyer)")


FAULTS = [
    (service_stopped, "daily-health-check", "service.front"),
    (database_stopped, "daily-health-check", "database.server"),
    (errors_raised, "daily-health-check", "kpi.errors_now"),
    (connections_exhausted, "daily-health-check", "database.connections"),
    (index_dropped, "db-performance-check", "performance.required_indexes"),
]


def test_each_fault_turns_its_line_and_healing_turns_it_back(
    operated: Shop, eventually: Callable[[Callable[[], object]], object]
) -> None:
    """One shop, one fault after the other: what is not broken yet passes, what is healed passes again."""
    eventually(lambda: run(operated, "daily-health-check")[0] == OK)
    assert troubles(operated, "db-performance-check") == []
    for fault, procedure, check in FAULTS:
        with fault(operated):
            eventually(lambda name=procedure, line=check: line in run(operated, name)[1])
            assert run(operated, procedure)[0] == CRITICAL, fault.__name__
        eventually(lambda name=procedure, line=check: line not in run(operated, name)[1])
    eventually(lambda: run(operated, "daily-health-check")[0] == OK)
    assert troubles(operated, "db-performance-check") == []


def test_the_whole_morning_passes_with_a_persons_word(
    operated: Shop, eventually: Callable[[Callable[[], object]], object]
) -> None:
    eventually(lambda: run(operated, "daily-health-check")[0] == OK)
    nvcops = operated.nvcops
    waiting = json.loads(nvcops("run", "morning-health-check", "--json").stdout)
    assert waiting["state"] == "waiting"
    morning = waiting["id"]
    attested = nvcops("attest", morning, "security-alerts-reviewed", "--note", "nothing new", "--json")
    assert attested.returncode == OK, attested.stdout + attested.stderr
    shown = json.loads(nvcops("show", morning, "--json").stdout)
    assert shown["verdict"] == OK, shown
    assert "reviewed by dana: nothing new" in shown["summary"]
    exported = nvcops("evidence", "export", "--run", morning, "--output", "bundle")
    assert exported.returncode == OK, exported.stderr
    assert nvcops("evidence", "verify", "bundle").returncode == OK
    assert nvcops("evidence", "audit").returncode == OK
    assert b"t0p-secret" not in (operated.folder / "bundle").read_bytes()
