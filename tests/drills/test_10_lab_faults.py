"""Every fault of the lab changes what it says it changes, seen without operations' eyes; and healing undoes it."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509

from nvclab import running
from nvclab.data_centre import DataCentre, Wishes
from nvclab.faults import catalogue

SEEN_S = 30.0
SAMPLE = {"stop-instance", "pause-replay", "drop-index"}


class Eyes:
    """Looks at a running lab directly: SQL, runtime socket, HTTP, TLS, files."""

    def __init__(self, lab: running.Lab) -> None:
        self.lab = lab
        self.centre = DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print)

    def sql(self, question: str, *, standby: bool = False) -> object:
        server = self.centre.standby if standby else self.centre.primary
        with server.connect("bank") as connection:
            row = connection.execute(question.encode()).fetchone()
        assert row is not None
        return row[0]

    def proxy_says(self, instance: str) -> str:
        return self.centre.proxy.server_states()[instance]

    def get(self, port: int, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def port(self, name: str) -> int:
        return self.lab.layout.record().ports[name]

    def errors_of_customers(self) -> int:
        """Answers of 5xx that the instances have counted, by their own metrics."""
        total = 0
        for name in ("bank-1", "bank-2"):
            _, text = self.get(self.port(name), "/metrics")
            lines = [line for line in text.decode().splitlines() if "requests_total" in line and 'status="5' in line]
            total += sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)
        return total

    def certificate_days_left(self) -> float:
        context = ssl.create_default_context(cafile=str(self.centre.authority.certificate_file))
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port("https")), 5) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der is not None
        ends = x509.load_der_x509_certificate(der).not_valid_after_utc
        return (ends - dt.datetime.now(dt.UTC)).total_seconds() / 86400

    def clock_offset_s(self, instance: str) -> float:
        said = json.loads(self.get(self.port(instance), "/version")[1])["now"]
        return (dt.datetime.fromisoformat(said) - dt.datetime.now(dt.UTC)).total_seconds()

    def answers_slowly(self, instance: str) -> bool:
        """Whether an answer that costs nothing took long, within a second and a half of asking."""
        end, longest_s = time.monotonic() + 1.5, 0.0
        while time.monotonic() < end:
            begin = time.monotonic()
            self.get(self.port(instance), "/healthz")
            longest_s = max(longest_s, time.monotonic() - begin)
            time.sleep(0.02)
        return longest_s > 0.5

    def failed_sign_ins(self) -> int:
        lines = self.lab.layout.application_log.read_text(encoding="utf-8").splitlines()
        return sum("session_failed" in line or "failed" in json.loads(line)["event"] for line in lines)

    def no_ordinary_connection_is_left(self) -> bool:
        layout = self.lab.layout
        url = self.centre.primary.url("bank", user="nvcbank_readonly", password=layout.secret("readonly"))
        try:
            psycopg.connect(url, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            return "reserved" in str(error) or "too many clients" in str(error)
        return False

    def operations_can_look(self) -> bool:
        url = self.centre.primary.url("bank", user="nvcops", password=self.lab.layout.secret("operations"))
        psycopg.connect(url, connect_timeout=3).close()
        return True


def grows(read: Callable[[], int]) -> bool:
    """Whether a count goes up within a moment."""
    before = read()
    time.sleep(1.5)
    return read() > before


WAITING = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
IDLE = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL"
SLOW = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND application_name = 'nvclab slow report'"
INDEX = "SELECT to_regclass('bank.account_customer') IS NULL"
STREAMING = "SELECT count(*) = 0 FROM pg_stat_replication WHERE state = 'streaming'"

# What is different while the fault is active: true then, false before and after.
SEEN: dict[str, Callable[[Eyes], object]] = {
    "stop-instance": lambda eyes: eyes.proxy_says("bank-1").startswith("DOWN"),
    "freeze-instance": lambda eyes: eyes.proxy_says("bank-1").startswith("DOWN"),
    "slow-instance": lambda eyes: eyes.answers_slowly("bank-1"),
    "stop-standby": lambda eyes: eyes.sql(STREAMING),
    "stop-cache": lambda eyes: eyes.get(eyes.port("bank-1"), "/readyz")[0] == 503,
    "skew-clock": lambda eyes: abs(eyes.clock_offset_s("bank-1")) > 200,
    "pause-replay": lambda eyes: eyes.sql("SELECT pg_is_wal_replay_paused()", standby=True),
    "stop-wal-receiver": lambda eyes: eyes.sql("SELECT count(*) = 0 FROM pg_stat_wal_receiver", standby=True),
    "hold-lock": lambda eyes: eyes.sql(WAITING),
    "idle-in-transaction": lambda eyes: eyes.sql(IDLE),
    "exhaust-connections": lambda eyes: eyes.no_ordinary_connection_is_left() and eyes.operations_can_look(),
    "slow-query": lambda eyes: eyes.sql(SLOW),
    "drop-index": lambda eyes: eyes.sql(INDEX),
    "raise-error-rate": lambda eyes: grows(eyes.errors_of_customers),
    "fill-disk": lambda eyes: sum(file.stat().st_size for file in eyes.lab.layout.archive.iterdir()) > 60 << 20,
    "expire-certificate": lambda eyes: eyes.certificate_days_left() < 0,
    "flood-sign-ins": lambda eyes: grows(eyes.failed_sign_ins),
}


@pytest.fixture(scope="module")
def eyes() -> Iterator[Eyes]:
    with running.temporary(users=40) as lab:
        yield Eyes(lab)


def wait_for(eyes: Eyes, name: str, *, seen: bool) -> bool:
    """Look until it is so; two looks in a row, because some of it comes and goes."""
    end = time.monotonic() + SEEN_S
    while time.monotonic() < end:
        if bool(SEEN[name](eyes)) is seen and bool(SEEN[name](eyes)) is seen:
            return True
        time.sleep(0.2)
    return False


def test_every_fault_has_somebody_who_looks() -> None:
    assert set(SEEN) == set(catalogue.KINDS)


@pytest.mark.drill
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.sample] if name in SAMPLE else []) for name in SEEN]
)
def test_a_fault_is_seen_and_healed(eyes: Eyes, name: str) -> None:
    assert wait_for(eyes, name, seen=False), "it is there before it is made"
    assert name in eyes.lab.run("fault", name).stdout
    try:
        assert [fault["name"] for fault in eyes.lab.status()["faults"]] == [name]
        assert wait_for(eyes, name, seen=True), "nothing is to be seen of it"
        assert eyes.lab.run("fault", name, check=False).returncode == 3
    finally:
        eyes.lab.run("heal", name)
    assert eyes.lab.status()["faults"] == []
    assert wait_for(eyes, name, seen=False), "it is still there"
    assert {part["state"] for part in eyes.lab.status()["parts"]} == {"ready"}
    assert eyes.lab.run("heal", name, check=False).returncode == 3


@pytest.mark.drill
def test_faults_of_a_killed_lab_are_undone_by_the_next_one(tmp_path: Path) -> None:
    with running.temporary(users=0, folder=tmp_path / "lab") as lab:
        for name in ("drop-index", "raise-error-rate", "fill-disk"):
            lab.run("fault", name)
        os.kill(lab.status()["pid"], signal.SIGKILL)
        lab.run("up", "--detach", "--users", "0")
        eyes = Eyes(lab)
        assert not SEEN["drop-index"](eyes)
        assert not SEEN["fill-disk"](eyes)
        privilege = "SELECT has_table_privilege('nvcbank_service', 'bank.entry', 'SELECT')"
        assert eyes.sql(privilege)
