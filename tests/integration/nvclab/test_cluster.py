"""The lab with --ha: who runs it, what a lost host does, and that nothing remains of it."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator

import psutil
import pytest

from nvclab import leftovers, running
from nvclab.customers.acknowledgements import read
from nvclab.data_centre import DataCentre, Wishes
from nvclab.parts.account import database_owner
from nvclab.parts.process import port_answers
from nvcops.core.manifest import parse


@pytest.fixture
def lab() -> Iterator[running.Lab]:
    with running.temporary("--ha", users=20, think_s=0.5) as lab:
        yield lab


def wait_until(holds: Callable[[], object], deadline_s: float = 90.0) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.2)


def primaries(lab: running.Lab) -> list[str]:
    return [name for name, seen in lab.status()["cluster"].items() if seen["role"] == "primary"]


def has_synchronous_standby(lab: running.Lab) -> bool:
    url = f"http://127.0.0.1:{lab.layout.record().ports['db-1 rest']}/cluster"
    with urllib.request.urlopen(url, timeout=5) as answer:
        members = json.loads(answer.read())["members"]
    return any(member["role"] == "sync_standby" for member in members)


def revoke_lease(lab: running.Lab) -> None:
    """What is done once a host is certainly off: the leader's lease is taken away, so that nobody waits for its end."""
    key = base64.b64encode(b"/service/bank/leader").decode()
    url = f"http://127.0.0.1:{lab.layout.record().ports['etcd']}/v3/kv/deleterange"
    request = urllib.request.Request(url, json.dumps({"key": key}).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own
        assert json.loads(answer.read())["deleted"] == "1"


def settled(lab: running.Lab) -> list[float]:
    """When customers saw payments settled."""
    journal = lab.folder / "customers" / "acknowledgements.jsonl"
    return [entry.time for entry in read(journal) if entry.outcome == "settled"] if journal.exists() else []


def test_a_host_is_lost_the_other_goes_on_and_nothing_acknowledged_is_missing(lab: running.Lab) -> None:
    path = lab.folder / "platform.toml"
    manifest = parse(path.read_text(encoding="utf-8"), path)
    assert manifest.cluster is not None
    assert [member.name for member in manifest.cluster.members] == ["db-1", "db-2"]
    centre = DataCentre(lab.layout, lab.layout.record(), Wishes(0, ha=True), print, print)
    hosts = {name: lab.folder / "data" / name for name in ("db-1", "db-2")}
    for folder in hosts.values():
        owners = {psutil.Process(pid).uids().real for pid in leftovers.working_in(folder)}
        assert owners == {database_owner()}
    wait_until(lambda: has_synchronous_standby(lab) and len(settled(lab)) > 5)
    (lost,) = primaries(lab)
    (other,) = {*hosts} - {lost}
    lab.run("host", "crash", lost)
    lab.run("host", "fence", lost)
    assert not list(leftovers.working_in(hosts[lost]))
    revoke_lease(lab)
    off = time.time()
    wait_until(lambda: primaries(lab) == [other])
    wait_until(lambda: settled(lab)[-1] > off + 1)
    assert not list(leftovers.working_in(hosts[lost])), "it stays down"
    lab.run("host", "mend", lost)
    assert primaries(lab) == [other]
    assert manifest.recovery.acknowledgements is not None
    told = {entry.key for entry in read(manifest.recovery.acknowledgements.journal) if entry.outcome == "settled"}
    with centre.primary.connect("bank") as connection:
        found = connection.execute(manifest.recovery.acknowledgements.query.encode(), {"keys": [*told]}).fetchall()
    assert {str(row[0]) for row in found} == told


def test_a_frozen_host_goes_on_a_standby_is_made_anew_and_a_killed_supervisor_leaves_nothing(lab: running.Lab) -> None:
    record = lab.layout.record()
    (leader,) = primaries(lab)
    (other,) = {"db-1", "db-2"} - {leader}
    lab.run("host", "freeze", other)
    states = {psutil.Process(pid).status() for pid in leftovers.working_in(lab.folder / "data" / other / "data")}
    assert states == {psutil.STATUS_STOPPED}
    lab.run("host", "mend", other)
    lab.run("part", "rebuild", other)
    assert primaries(lab) == [leader]
    assert lab.run("part", "rebuild", leader, check=False).returncode == 3
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: not list(leftovers.processes(lab.layout, record.id)))
    wait_until(lambda: not [port for port in record.ports.values() if port_answers(port)])
    assert "removed" in lab.run("down").stdout
