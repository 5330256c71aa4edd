"""One lab from start to end: what it promises while it runs, and that nothing remains of it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from nvclab import leftovers, running
from nvclab.customers.acknowledgements import read
from nvclab.data_centre import DataCentre, Wishes
from nvclab.layout import OPERATIONS
from nvclab.parts.process import port_answers

PARTS = ["primary", "standby", "cache", "bank-1", "bank-2", "proxy", "pager", "customers"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Lab]:
    with running.temporary(users=30, think_s=1.0, folder=tmp_path_factory.mktemp("a lab") / "with a space") as lab:
        yield lab


def wait_until(holds: Callable[[], object], deadline_s: float = 30.0) -> bool:
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def living(lab: running.Lab, marker: str) -> list[int]:
    """The lab's processes that are not waiting for their burial."""
    found = list(leftovers.processes(lab.layout, marker))
    return [pid for pid in found if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_everything_is_ready_and_says_so(lab: running.Lab) -> None:
    status = lab.status()
    assert [part["name"] for part in status["parts"]] == PARTS
    assert {part["state"] for part in status["parts"]} == {"ready"}
    assert status["faults"] == []
    for name in PARTS:
        assert name in lab.run("status").stdout


def test_the_front_door_is_open_with_a_certificate_that_customers_can_check(lab: running.Lab) -> None:
    trust = ssl.create_default_context(cafile=str(lab.folder / "tls" / "ca.pem"))
    with urllib.request.urlopen(f"{lab.status()['https_url']}/readyz", context=trust, timeout=10) as answer:  # noqa: S310 - our own
        assert answer.status == 200


def test_everything_listens_on_loopback_only(lab: running.Lab) -> None:
    pids = living(lab, lab.layout.record().id)
    listening = [
        connection.laddr
        for pid in pids
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(lab.layout.record().ports.values()) - {
        lab.layout.record().ports[OPERATIONS]
    }


def test_a_second_up_in_the_same_folder_is_refused_and_harms_nobody(lab: running.Lab) -> None:
    refused = lab.run("up", check=False)
    assert refused.returncode == 3
    assert "already runs" in refused.stderr
    assert {part["state"] for part in lab.status()["parts"]} == {"ready"}


def test_another_lab_lives_beside_it(lab: running.Lab) -> None:
    with running.temporary(users=0) as other:
        mine, others = lab.layout.record(), other.layout.record()
        assert set(mine.ports.values()).isdisjoint(others.ports.values())
        assert {part["state"] for part in other.status()["parts"] if part["name"] != "customers"} == {"ready"}
    assert {part["state"] for part in lab.status()["parts"]} == {"ready"}
    assert not Path(others.runtime).exists()


@pytest.mark.parametrize("name", ["bank-1", "cache", "primary", "proxy", "pager", "customers"])
def test_a_part_that_dies_is_started_again(lab: running.Lab, name: str) -> None:
    before = lab.part(name)
    os.kill(before["pid"], signal.SIGKILL)
    assert wait_until(lambda: lab.part(name)["restarts"] > before["restarts"])
    assert wait_until(lambda: {part["state"] for part in lab.status()["parts"]} == {"ready"})
    assert lab.part(name)["pid"] != before["pid"]


def test_operations_may_look_and_may_not_touch(lab: running.Lab) -> None:
    record = lab.layout.record()
    server = DataCentre(lab.layout, record, Wishes(0), print, print).primary
    url = server.url("bank", user="nvcops", password=lab.layout.secret("operations"))
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM pg_stat_statements").fetchone() == (True,)
        for statement in ("SELECT * FROM bank.customer", "CREATE TABLE mine (x int)", "CREATE ROLE me"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_database_log_is_json_and_holds_no_password(lab: running.Lab) -> None:
    lines = (lab.folder / "logs" / "primary" / "postgresql.json").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert any("connection authorized" in event["message"] for event in events)
    text = "\n".join(path.read_text(errors="replace") for path in lab.folder.glob("logs/**/*.*"))
    secrets = [lab.layout.secret(name) for name in ("administrator", "operations", "replication", "service", "owner")]
    assert not [secret for secret in [*secrets, lab.layout.secret("customers")] if secret in text]


def test_the_customers_own_book_agrees_with_the_banks(lab: running.Lab) -> None:
    """Every payment that a customer saw settled is there, with the verdict that they saw, and no key has two."""
    assert wait_until(lambda: sum(1 for _ in read(lab.folder / "customers" / "acknowledgements.jsonl")) > 40, 90)
    told: dict[str, str] = {}
    for entry in read(lab.folder / "customers" / "acknowledgements.jsonl"):
        if entry.payment is not None:
            assert told.setdefault(entry.payment, entry.outcome) == entry.outcome
    with DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print).primary.connect("bank") as connection:
        rows = connection.execute("SELECT id::text, outcome::text FROM bank.transfer WHERE kind = 'payment'").fetchall()
    known = {str(number): str(outcome) for number, outcome in rows}
    assert {number: known.get(number) for number in told} == told
    assert "settled" in told.values()


def test_the_bank_counts_what_the_customers_count(lab: running.Lab) -> None:
    assert wait_until(lambda: lab.status()["customers"]["users"] == 30, 60)
    assert wait_until(lambda: lab.status()["customers"]["window_requests"] >= 20)
    kinds = {"balance", "entries", "payment", "sign-in"}
    assert wait_until(lambda: set(lab.status()["customers"]["kinds"]) >= kinds, 60)


def test_the_pager_takes_pages_until_it_is_told_otherwise(lab: running.Lab) -> None:
    push = f"http://127.0.0.1:{lab.layout.record().ports['pager']}/dana/push"

    def page(title: str) -> int:
        body = json.dumps({"title": title, "message": "since 03:00"}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(push, body), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            refused.close()
            return refused.code

    assert page("the bank is down") == 200
    assert "refuse" in lab.run("pager", "refuse", "--only", "/dana/push").stdout
    assert page("the bank is still down") == 500
    lab.run("pager", "take")
    lab.run("part", "stop", "pager")
    with pytest.raises(OSError, match="refused"):
        page("nobody hears")
    lab.run("part", "start", "pager")
    assert page("the bank is up") == 200
    listed = json.loads(lab.run("pages", "--json").stdout)
    assert [(one["body"]["title"], one["status"]) for one in listed if one["path"] == "/dana/push"] == [
        ("the bank is down", 200),
        ("the bank is still down", 500),
        ("the bank is up", 200),
    ]
    assert "the bank is still down" in lab.run("pages").stdout


def test_after_down_nothing_is_left(tmp_path: Path) -> None:
    with running.temporary(users=5, folder=tmp_path / "lab") as lab:
        record = lab.layout.record()
        assert len(living(lab, record.id)) > 8
        lab.run("down")
        gone(lab, record.id, record.runtime, list(record.ports.values()))
        assert lab.run("status", check=False).returncode == 3
        assert lab.run("down").returncode == 0
        lab.run("up", "--detach", "--no-delivery", "--users", "5")  # the same data, again
        assert {part["state"] for part in lab.status()["parts"]} == {"ready"}


def test_after_kill_9_of_the_supervisor_nothing_lives_and_the_next_up_works(tmp_path: Path) -> None:
    with running.temporary(users=5, folder=tmp_path / "lab") as lab:
        record = lab.layout.record()
        segment = (
            (lab.folder / "data" / "primary" / "postmaster.pid").read_text(encoding="ascii").split("\n")[6].split()
        )
        os.kill(record.pid, signal.SIGKILL)
        assert wait_until(lambda: not living(lab, record.id))
        assert wait_until(lambda: not [port for port in record.ports.values() if port_answers(port)])
        assert "No lab runs" in lab.run("status", check=False).stderr
        lab.run("down")
        gone(lab, record.id, record.runtime, list(record.ports.values()))
        assert segment[1] not in Path("/proc/sysvipc/shm").read_text(encoding="ascii").split()
        lab.run("up", "--detach", "--no-delivery", "--users", "5")
        os.kill(lab.layout.record().pid, signal.SIGKILL)
        lab.run("up", "--detach", "--no-delivery", "--users", "5")  # at once, without a down
        assert {part["state"] for part in lab.status()["parts"]} == {"ready"}


def gone(lab: running.Lab, marker: str, runtime: str, ports: list[int]) -> None:
    assert not living(lab, marker)
    assert not Path(runtime).exists()
    assert not [port for port in ports if port_answers(port)]
    assert not (lab.folder / "lab.json").exists()


def test_without_detach_it_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    lab = running.Lab(tmp_path / "lab")
    argv = [sys.executable, "-m", "nvclab", "up", "--users", "0", "--dir", str(lab.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                break
        record = lab.layout.record()
        assert record.pid == process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert any("bank instances" in line for line in lines)
    gone(lab, record.id, record.runtime, list(record.ports.values()))
