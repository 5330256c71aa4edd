"""A lab that is killed at any moment, of its first start or later, starts again and has lost nothing that was told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nvclab import leftovers, running
from nvclab.customers.acknowledgements import read
from nvclab.data_centre import DataCentre, Wishes
from nvclab.layout import Layout

# From "nothing is made yet" to "almost ready"; beside them a random one.
MOMENTS_S = [0.25, 0.5, 0.8, 1.2, 1.7, 2.5]


def wait_until(holds: Callable[[], object], deadline_s: float = 30.0) -> bool:
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def living(layout: Layout) -> list[int]:
    found = leftovers.processes(layout, None)
    return [pid for pid in found if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.mark.drill
@pytest.mark.parametrize(
    "moment_s",
    [*(pytest.param(s, marks=[pytest.mark.sample] if s == 0.8 else []) for s in MOMENTS_S), random.uniform(0.2, 3)],
    ids=lambda value: "" if isinstance(value, float) and value not in MOMENTS_S else str(value),
)
def test_killed_in_the_middle_of_the_first_start(tmp_path: Path, moment_s: float) -> None:
    print(f"killed after {moment_s:.2f} s")
    lab = running.Lab(tmp_path / "a lab")
    argv = [sys.executable, "-m", "nvclab", "up", "--users", "3", "--dir", str(lab.folder)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(moment_s)
        process.kill()
    with running.temporary(users=3, folder=lab.folder) as again:
        assert {part["state"] for part in again.status()["parts"]} == {"ready"}
    assert wait_until(lambda: not living(lab.layout))


@pytest.mark.drill
def test_whoever_starts_it_is_killed_while_it_starts(tmp_path: Path) -> None:
    """`up --detach` is killed before the lab is ready: the lab ends by itself, and the next start is a start."""
    lab = running.Lab(tmp_path / "lab")
    argv = [sys.executable, "-m", "nvclab", "up", "--detach", "--users", "0", "--dir", str(lab.folder)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert wait_until((lab.folder / "lab.json").exists)
        process.kill()
    assert wait_until(lambda: not (lab.folder / "lab.json").exists())
    with running.temporary(users=0, folder=lab.folder) as again:
        assert again.part("bank-1")["state"] == "ready"


@pytest.mark.drill
def test_down_in_the_middle_of_the_start(tmp_path: Path) -> None:
    lab = running.Lab(tmp_path / "lab")
    argv = [sys.executable, "-m", "nvclab", "up", "--users", "0", "--dir", str(lab.folder)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert wait_until((lab.folder / "lab.json").exists)
        time.sleep(0.3)
        assert lab.run("down").returncode == 0
        assert process.wait(30) == 0
    assert not living(lab.layout)


@pytest.mark.drill
def test_nothing_that_a_customer_was_told_is_lost(tmp_path: Path) -> None:
    """Customers pay without a pause while servers and instances are killed: their book agrees with the bank's."""
    with running.temporary(users=60, think_s=0.5, folder=tmp_path / "lab") as lab:
        assert wait_until(lambda: lab.status()["customers"].get("users") == 60, 90)
        for victim in ("bank-1", "primary", "bank-2", "proxy", "primary", "cache"):
            os.kill(lab.part(victim)["pid"], signal.SIGKILL)
            assert wait_until(lambda: {part["state"] for part in lab.status()["parts"]} == {"ready"}, 60)
            time.sleep(2)
        lab.run("fault", "freeze-instance")
        time.sleep(5)
        lab.run("heal", "--all")
        time.sleep(8)  # longer than the customers' pauses between two tries of the same payment
        told, seen = told_by(lab), booked_by(lab)
    wrong = {key: (outcome, seen.get(key)) for key, outcome in told.items() if seen.get(key) != outcome}
    print(f"{len(told)} payments were told to customers")
    assert len(told) > 200
    assert not wrong


def told_by(lab: running.Lab) -> dict[str, str]:
    """Number of a payment -> what the customer was told; one payment is never told in two ways."""
    told: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for entry in read(lab.folder / "customers" / "acknowledgements.jsonl"):
        if entry.payment is not None:
            assert numbers.setdefault(entry.key, entry.payment) == entry.payment, "one key, two payments"
            assert told.setdefault(entry.payment, entry.outcome) == entry.outcome
    return told


def booked_by(lab: running.Lab) -> dict[str, str]:
    """Number of a payment -> the bank's verdict."""
    server = DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print).primary
    with server.connect("bank") as connection:
        rows = connection.execute("SELECT id::text, outcome::text FROM bank.transfer WHERE kind = 'payment'").fetchall()
    return {str(number): str(outcome) for number, outcome in rows}
