"""Probes of a real PostgreSQL: role, figures, slots; and what is ours and not the server's when it says no."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from watching import PLATFORM, probe, watching

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvcops.adapters.probes import open_prober
from nvcops.core import manifest
from nvcops.core.watch import Look, ProbeKind

PASSWORD = "not-in-any-why"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres.temporary(settings={"max_connections": "12", "reserved_connections": "2"}) as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
            connection.execute("GRANT pg_use_reserved_connections TO nvcops")
            connection.execute("CREATE ROLE customer LOGIN PASSWORD 'x'")
            connection.execute("SELECT pg_create_physical_replication_slot('kept', true)")
        yield server


@pytest.fixture
def platform(server: Postgres, tmp_path: Path) -> manifest.Manifest:
    return platform_of(server, tmp_path, PASSWORD)


def platform_of(server: Postgres, folder: Path, password: str, port: int = 0) -> manifest.Manifest:
    secret = folder / "password"
    secret.write_text(password, encoding="utf-8")
    secret.chmod(0o600)
    database = (
        f'[database]\nport = {port or server.port}\nname = "postgres"\nuser = "nvcops"\npassword_file = "password"'
    )
    primary = 'primary = { name = "db-1", host = "127.0.0.1" }'
    return manifest.parse(f"{PLATFORM}\n{database}\n{primary}\n", folder / "platform.toml")


def looked(platform: manifest.Manifest, kind: ProbeKind, **options: Any) -> Look:
    """The second look, so that what is kept is used."""
    with watching(open_prober(platform, [probe("it", kind, **options)])) as watch:
        return watch.next("it", 2)[1]


def test_a_server_answers_in_its_role(platform: manifest.Manifest) -> None:
    assert looked(platform, "sql", role="primary").why == ""
    assert looked(platform, "sql").why == ""
    wrong = looked(platform, "sql", role="standby")
    assert (wrong.why, wrong.known) == ("db-1 answers, but is a primary now", True)


def test_a_figure_within_its_limits_and_beyond(platform: manifest.Manifest) -> None:
    good = looked(platform, "sql", query="SELECT 41 + 1", at_most=42, at_least=42)
    assert (good.why, good.value) == ("", 42)
    beyond = looked(platform, "queue", query="SELECT count(*) FROM generate_series(1, 7)", at_most=5)
    assert (beyond.why, beyond.value, beyond.known) == ("7, more than 5", 7, True)
    below = looked(platform, "sql", query="SELECT 1.5", at_least=2)
    assert (below.why, below.value) == ("1.5, less than 2", 1.5)


@pytest.mark.parametrize("query", ["SELECT 'many'", "SELECT 1 WHERE false", "SELECT NULL", "SELECT * FROM pg_authid"])
def test_a_query_that_answers_no_number_says_nothing_of_the_server(platform: manifest.Manifest, query: str) -> None:
    assert not looked(platform, "sql", query=query, at_most=5).known


def test_a_password_of_ours_that_is_wrong_is_not_the_server_s_fault(server: Postgres, tmp_path: Path) -> None:
    look = looked(platform_of(server, tmp_path, "another"), "sql", role="primary")
    assert not look.known
    assert "password authentication failed" in look.why
    assert PASSWORD not in look.why


def test_nobody_listens(server: Postgres, tmp_path: Path) -> None:
    nobody = platform_of(server, tmp_path, PASSWORD, port=1)
    look = looked(nobody, "sql", role="primary")
    assert look.known
    assert "does not answer" in look.why
    figure = looked(nobody, "sql", query="SELECT 1", at_most=5)
    assert not figure.known, "that the server is gone is what its own probe says"


def test_a_server_that_is_frozen_is_found_out_and_comes_back(server: Postgres, platform: manifest.Manifest) -> None:
    frozen = probe("it", "sql", interval=0.3, deadline=1.5, role="primary")
    with watching(open_prober(platform, [frozen])) as watch:
        watch.next("it", 2)
        pids = family(server)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            first, second = watch.until_bad("it")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert (second.time - first.time).total_seconds() < 1.5, "the second waited for the end of the first"
        watch.until(lambda: not watch.of("it")[-1].why)


def family(server: Postgres) -> list[int]:
    """The postmaster and all that it started."""
    with server.connect() as connection:
        pids = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")]
    return [int((server.data / "postmaster.pid").read_text().split()[0]), *pids]


def test_a_server_without_room_for_customers_is_seen_by_its_figure(
    server: Postgres, platform: manifest.Manifest
) -> None:
    from nvcops.health.watch import _CONNECTIONS

    def customers() -> list[psycopg.Connection]:
        taken: list[psycopg.Connection] = []
        try:
            while len(taken) < 20:
                taken.append(
                    psycopg.connect(
                        host="127.0.0.1", port=server.port, user="customer", password="x", dbname="postgres"
                    )
                )
        except psycopg.OperationalError:
            return taken
        raise AssertionError("there is room for everybody")

    with watching(open_prober(platform, [probe("it", "sql", query=_CONNECTIONS.strip(), at_most=0.95)])) as watch:
        assert watch.next("it")[0].why == ""
        taken = customers()
        try:
            bad = watch.until_bad("it")
        finally:
            for connection in taken:
                connection.close()
    assert (bad[1].value or 0) >= 0.95


def test_slots(platform: manifest.Manifest) -> None:
    missing = looked(platform, "replication", slot="none")
    assert "there is no slot 'none'" in missing.why
    idle = looked(platform, "replication", slot="kept")
    assert idle.why == "nobody receives from it"
    assert idle.value is not None
    full = looked(platform, "replication", slot="kept", retained="0 B")
    assert "the limit is 0 B" in full.why
    assert looked(platform, "replication", standby="db-1").value == 0, "who is primary is behind nobody"


def test_whoever_is_primary_is_found_beside_a_server_that_is_silent(server: Postgres, tmp_path: Path) -> None:
    """The first one accepts connections and never answers: only the first look waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both = platform_of(server, tmp_path, PASSWORD)
        assert both.database
        names = msgspec.structs.replace(both.database.primary, name="silent", port=silent.getsockname()[1])
        database = msgspec.structs.replace(both.database, primary=names, standbys=(both.database.primary,))
        both = msgspec.structs.replace(both, database=database)
        one = probe("it", "sql", interval=0.5, deadline=1.0, servers=["silent", "db-1"], role="primary")
        with watching(open_prober(both, [one])) as watch:
            watch.until(lambda: any(not look.why for look in watch.looks))
            assert [look.why for look in watch.next("it", 6)[2:]] == [""] * 4
