"""Everything at once: data directory deleted, cache gone, a bank host gone; the platform comes back, nothing is lost.

Customers pay until the loss, and their own book is compared with the restored ledger afterwards.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nvclab import running
from nvclab.data_centre import DataCentre, Wishes
from nvclab.parts.process import Process
from nvclab.platform_file import SETTLED

SEED = int(os.environ.get("NVC_DRILL_SEED", random.SystemRandom().randrange(1 << 30)))
COMMAND_S = 280
PAID_S = 60.0
KILLS_MAX = 200
ENDED = re.compile(r"^ *(\d+)  (concluded|failed|waiting)")
LOST = {"primary": "db-1", "cache": "cache", "bank-1": "bank-1"}
pytestmark = pytest.mark.drill


@pytest.fixture
def lab() -> Iterator[running.Lab]:
    """A bank with customers whose payments wait for the receiver of the transaction log, and a platform point of it."""
    with running.temporary("--synchronous-backup", users=20, think_s=0.5) as started, receiver(started):
        for backup in ("application-backup", "configuration-backup", "database-backup"):
            done = nvcops(started, "run", backup)
            assert done.returncode in (0, 1), done.stdout + done.stderr
        paid(started, more_than=0)
        yield started


@contextmanager
def receiver(lab: running.Lab) -> Iterator[None]:
    """The receiver of the transaction log, for as long as the block lasts."""
    argv = [sys.executable, "-m", "nvcops", "receive-wal", "--target", str(lab.folder / "platform.toml")]
    process = Process("nvcops receive-wal", argv, lab.folder / "logs" / "receive-wal.log")
    process.start()
    try:
        yield
    finally:
        process.stop(20)


def command(lab: running.Lab, *words: str) -> list[str]:
    return [sys.executable, "-m", "nvcops", *words, "--target", str(lab.folder / "platform.toml")]


def nvcops(lab: running.Lab, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(lab, *words), capture_output=True, text=True, timeout=COMMAND_S, check=False)


def as_person(lab: running.Lab, name: str) -> tuple[str, ...]:
    return ("--as", name, "--key", str(lab.folder / "keys" / name))


def book(lab: running.Lab) -> list[dict[str, Any]]:
    """What customers were told so far; a line that is being written is none yet."""
    lines = (lab.folder / "customers" / "acknowledgements.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def settled(lab: running.Lab) -> set[str]:
    return {line["key"] for line in book(lab) if line["outcome"] == "settled"}


def paid(lab: running.Lab, *, more_than: int) -> None:
    """Wait until more payments than that were acknowledged."""
    end = time.monotonic() + PAID_S
    while len(settled(lab)) <= more_than:
        assert time.monotonic() < end, "customers' payments are not acknowledged"
        time.sleep(0.2)


def missing(lab: running.Lab, keys: set[str]) -> set[str]:
    """The payments that the bank's ledger does not have."""
    centre = DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print)
    with centre.primary.connect("bank") as session:
        rows = session.execute(SETTLED.encode(), {"keys": sorted(keys)}).fetchall()
    return keys - {str(row[0]) for row in rows}


def lose(lab: running.Lab, parts: dict[str, str]) -> None:
    """Kill parts as a dying host does, and keep them down; their data are gone."""
    pids = {part["name"]: part["pid"] for part in lab.status()["parts"]}
    for name in parts:
        os.kill(pids[name], signal.SIGKILL)
    for name in parts.values():
        lab.run("part", "stop", name)
    for name in set(parts) & {"primary", "cache"}:
        shutil.rmtree(lab.folder / "data" / name, ignore_errors=True)


def lose_files(lab: running.Lab) -> list[Path]:
    """The release that the bank runs, and a part of the configuration, are gone; which."""
    backups = tomllib.loads((lab.folder / "platform.toml").read_text(encoding="utf-8"))["backups"]
    release, proxy = lab.folder / backups["application"], lab.folder / "data" / "haproxy.cfg"
    shutil.rmtree(release)
    proxy.unlink()
    return [release, proxy]


def shown(lab: running.Lab, run: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(nvcops(lab, "show", run, "--json").stdout)
    return answer


def requested(lab: running.Lab, *options: str) -> dict[str, Any]:
    """Ask for the recovery, as Dana; it waits for Omar."""
    done = nvcops(lab, "run", "disaster-recovery", *options, *as_person(lab, "dana"), "--no-wait", "--json")
    assert done.returncode == 3, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    assert [step["kind"] for step in run["steps"] if step["state"] == "waiting"] == ["approve"]
    return run


def approved(lab: running.Lab, run: str) -> dict[str, Any]:
    done = nvcops(lab, "approve", run, "recover", "--note", "go", *as_person(lab, "omar"))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return shown(lab, run)


def lines(run: dict[str, Any], check: str) -> list[dict[str, Any]]:
    return [finding for finding in run["findings"] if finding["check"] == check]


def serves_as_before(lab: running.Lab, acknowledged: set[str]) -> None:
    """Every part runs, nothing that a customer was told is missing, new payments are acknowledged, backups go on."""
    assert missing(lab, acknowledged) == set()
    paid(lab, more_than=len(settled(lab)))
    assert {part["state"] for part in lab.status()["parts"]} == {"ready"}
    assert not list((lab.folder / "data").glob("*.restoring-*")), "no folder of work is left"


@pytest.mark.sample
def test_everything_is_lost_and_nothing_that_was_acknowledged(lab: running.Lab) -> None:
    lose(lab, LOST)
    gone = lose_files(lab)
    acknowledged = settled(lab)
    run = requested(lab)
    assert "db-1 does not run; cache does not run; bank-1 does not run" in json.dumps(run)
    own = nvcops(lab, "approve", run["id"], "recover", "--note", "go", *as_person(lab, "dana"))
    assert own.returncode == 3, "who asked for it cannot approve it"
    run = approved(lab, run["id"])
    assert run["verdict"] in (0, 1), [f for f in run["findings"] if f.get("verdict")]
    assert lines(run, "disaster.lost")[0]["verdict"] == 0
    assert lines(run, "disaster.lost")[0]["observed"].startswith("0 of ")
    assert lines(run, "disaster.time")[0]["verdict"] == 0
    assert "timeline 2" in lines(run, "disaster.backup")[0]["observed"]
    print(run["summary"], *(f"{step['subject']}: {step['observed']}" for step in lines(run, "disaster.step")), sep="\n")
    assert all(path.exists() for path in gone)
    assert lines(run, "disaster.files")[0]["verdict"] == 0, lines(run, "disaster.files")
    serves_as_before(lab, acknowledged)
    again = nvcops(lab, "run", "disaster-recovery", *as_person(lab, "dana"), "--no-wait", "--json")
    assert json.loads(again.stdout)["summary"] == "Nothing is lost.", "and there is nothing left to recover"


def test_a_platform_with_a_point_and_two_people_could_be_brought_back(lab: running.Lab) -> None:
    done = nvcops(lab, "run", "disaster-recovery-test", "--json")
    run = json.loads(done.stdout)
    assert run["verdict"] in (0, 3), run["findings"]  # no restore was drilled yet
    assert [line["check"] for line in run["findings"] if line["verdict"]] == ["recovery.restore_drill"]


def test_a_live_database_is_not_restored_when_only_others_are_lost(lab: running.Lab) -> None:
    lose(lab, {name: part for name, part in LOST.items() if name != "primary"})
    acknowledged = settled(lab)
    run = approved(lab, requested(lab)["id"])
    assert run["verdict"] in (0, 1)
    assert not any(step["name"] in {"unpack", "deliver"} for step in run["steps"])
    serves_as_before(lab, acknowledged)


def test_a_primary_that_only_stopped_is_started_and_not_restored(lab: running.Lab) -> None:
    lab.run("part", "stop", "db-1")
    lab.run("part", "stop", "bank-2")
    acknowledged = settled(lab)
    run = approved(lab, requested(lab)["id"])
    assert run["verdict"] in (0, 1)
    assert not any(step["name"] in {"unpack", "deliver"} for step in run["steps"])
    serves_as_before(lab, acknowledged)


def test_a_dry_run_touches_nothing(lab: running.Lab) -> None:
    lose(lab, LOST)
    done = nvcops(lab, "run", "disaster-recovery", "--dry-run", *as_person(lab, "dana"), "--no-wait", "--json")
    run = json.loads(done.stdout)
    assert run["state"] == "concluded", done.stderr
    assert any(step["title"].startswith("would put the restored data into") for step in run["steps"])
    assert not (lab.folder / "data" / "primary").exists()
    assert {part["state"] for part in lab.status()["parts"] if part["name"] in LOST} == {"stopped"}


def kill_in_the_next_step(argv: list[str], chance: random.Random) -> int | None:
    """Go on with a run, and kill its process soon after its next step has ended; None: it came to its end before."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if ended := ENDED.match(line):
                time.sleep(chance.choice((0, chance.uniform(0, 0.4))))
                process.kill()
                process.wait()
                return int(ended[1])
        process.wait(COMMAND_S)
        return None


@pytest.mark.timeout(900)
def test_killed_at_every_step_it_goes_on_to_the_end(lab: running.Lab) -> None:
    """kill -9 of nvcops after each step, and somewhere in the act that follows it."""
    print(f"NVC_DRILL_SEED={SEED}")
    chance = random.Random(SEED)
    lose(lab, LOST)
    acknowledged = settled(lab)
    run = requested(lab)["id"]
    argv = command(lab, "approve", run, "recover", "--note", "go", *as_person(lab, "omar"))
    killed = []
    for _ in range(KILLS_MAX):
        step = kill_in_the_next_step(argv, chance)
        if step is None:
            break
        killed.append(step)
        argv = command(lab, "resume", run)
    whole = shown(lab, run)
    print(f"killed {len(killed)} times, after the steps {killed}")
    assert whole["state"] == "concluded", whole["error"]
    assert len(set(killed)) > len(whole["steps"]) // 2
    assert whole["verdict"] in (0, 1), [f for f in whole["findings"] if f.get("verdict")]
    serves_as_before(lab, acknowledged)
