"""Releases are rolled out on a live bank under load: good ones arrive, bad ones are stopped and taken back.

No customer's request fails by a deployment or a rollback. What is more than a sample is as long as one likes:
NVC_ROLLOUT_CYCLES deployments with their rollbacks, NVC_ROLLOUT_TRIALS canaries that are as good as what they replace.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its lab that is delivered to

from _rollouts import COMPARED, SWIFT, Delivered, Ended, delivered, going_on
from nvclab.layout import INSTANCES
from rollout import VERSIONS, cycle

CYCLES = int(os.environ.get("NVC_ROLLOUT_CYCLES", "10"))
TRIALS = int(os.environ.get("NVC_ROLLOUT_TRIALS", "5"))
USUAL = "errors=0.05"  # of both releases, where the verdict is a comparison
OK, CRITICAL = 0, 2
pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def bank() -> Iterator[Delivered]:
    """A bank whose requests do not fail by themselves."""
    with delivered() as made:
        yield made


@pytest.fixture(scope="module")
def failing_bank() -> Iterator[Delivered]:
    """A bank of which a few requests fail, as those of most do: a canary can be compared with it."""
    edges = ["0.05", "0.075", "0.1"]
    with delivered(users=40, think_s=0.5, margin=3.0, edges=edges, prove=["0.075"]) as made:
        made.build("good", USUAL, "pace_ms=60", version="1.0.0")
        assert made.deploy("1.0.0").code == OK
        yield made


def cycles(bank: Delivered, count: int) -> None:
    digests = {version: bank.build("good", version=version) for version in VERSIONS}
    requests = 0
    for number in range(count):
        version = VERSIONS[number % len(VERSIONS)]
        seen = cycle(bank, version, digests[version])
        assert seen["good"], seen["wrong"]
        assert seen["failed"] == {}, f"in cycle {number}"
        requests += int(seen["requests"])
    print(f"{count} cycles of deployment and rollback, {requests} requests, none failed")
    assert requests > 100 * count


def taken_back(bank: Delivered, ended: Ended, before: set[str]) -> None:
    """It was stopped, and what served before serves everywhere."""
    assert ended.code == CRITICAL, ended.findings
    assert bank.last()["phase"] == "rolled back", bank.last()
    assert bank.serving() == before
    whole(bank)


def whole(bank: Delivered) -> None:
    """One release serves, in all main slots, and they say that they run it."""
    slots = bank.status()
    assert len({slots[name]["release"] for name in INSTANCES}) == 1, slots
    assert all(slots[name]["weight"] and not slots[name]["trouble"] for name in INSTANCES), slots


@pytest.mark.sample
@pytest.mark.timeout(900)
def test_a_deployment_and_its_rollback_fail_no_request(bank: Delivered) -> None:
    cycles(bank, 1)


@pytest.mark.timeout(600 * CYCLES)
def test_many_deployments_and_rollbacks_fail_no_request(bank: Delivered) -> None:
    cycles(bank, CYCLES)


@pytest.mark.timeout(900)
def test_the_schema_moves_with_its_release(bank: Delivered) -> None:
    """A release that expands the schema arrives, and goes back; the one before works on the schema that is ahead."""
    before, served = bank.customers(), bank.serving()
    bank.build("expand", version="1.2.0+expand")
    assert bank.deploy("1.2.0+expand").code == OK
    assert bank.rollback().code == OK
    assert bank.serving() == served
    assert bank.customers().since(before).failed == {}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("failing-migration", ()),
        ("never-ready", ()),
        ("missing-column", ()),
        ("crash", ("crash_s=6",)),
    ],
)
@pytest.mark.timeout(900)
def test_what_is_bad_before_customers_see_it_costs_them_nothing(
    bank: Delivered, name: str, options: tuple[str, ...]
) -> None:
    """A release that crashes does so where it serves already: what it was asked then is asked of another."""
    before, served = bank.customers(), bank.serving()
    bank.build(name, *options, version=f"2.0.0+{name}")
    taken_back(bank, bank.deploy(f"2.0.0+{name}"), served)
    failed = bank.customers().since(before).failed
    print(f"{name}: customers saw {failed or 'nothing'}")
    if name != "crash":
        assert failed == {}


@pytest.mark.parametrize("strategy", ["canary", "blue-green", "rolling"])
@pytest.mark.timeout(900)
def test_a_good_release_arrives_by_each_strategy(failing_bank: Delivered, strategy: str) -> None:
    version = f"1.1.0+{strategy}"
    digest = failing_bank.build("good", USUAL, "pace_ms=60", version=version)
    ended = failing_bank.deploy(version, strategy)
    assert ended.code == OK, ended.findings
    assert failing_bank.serving() == {digest}
    whole(failing_bank)


@pytest.mark.timeout(600 * TRIALS)
def test_canaries_that_are_as_good_as_the_others_are_let_pass(failing_bank: Delivered) -> None:
    aborted = []
    for number in range(TRIALS):
        version = f"1.3.{number}"
        failing_bank.build("good", USUAL, "pace_ms=60", version=version)
        ended = failing_bank.deploy(version, COMPARED)
        if ended.code != OK:
            aborted.append(ended.said)
    print(f"{TRIALS} trials of canaries that were as good: {len(aborted)} taken back: {aborted}")
    assert sum("FAIL" in said for said in aborted) <= max(1, TRIALS // 100)


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("errors", (USUAL, "pace_ms=60"), "FAIL"),
        ("slow", (USUAL, "pace_ms=60"), "FAIL"),
        ("failing", (USUAL, "pace_ms=60", "after=30"), "FAIL"),
        ("leak", (USUAL, "pace_ms=60", "leak_mib_per_s=30"), "FAIL"),
        ("no-metrics", (USUAL, "pace_ms=60"), ""),
        ("renamed-metrics", (USUAL, "pace_ms=60"), ""),
    ],
)
@pytest.mark.timeout(900)
def test_what_only_customers_see_is_stopped_by_its_verdict(
    failing_bank: Delivered, name: str, options: tuple[str, ...], found: str
) -> None:
    served = failing_bank.serving()
    failing_bank.build(name, *options, version=f"2.0.0+{name}")
    ended = failing_bank.deploy(f"2.0.0+{name}", COMPARED)
    print(f"{name}: {ended.seconds:.0f} s, {ended.said}")
    taken_back(failing_bank, ended, served)
    assert found in ended.said


@pytest.mark.timeout(1800)
def test_the_deployer_is_killed_at_every_transition(bank: Delivered) -> None:
    """After each of its steps; the run that is resumed goes on, and ends with one release everywhere."""
    before = bank.customers()
    digest = bank.build("good", version="3.0.0")
    run = bank.requested("3.0.0")["id"]
    kills, argv = 0, bank.approval(run)
    while True:
        with going_on(argv) as deployer:
            assert deployer.stderr is not None
            line = next((line for line in deployer.stderr if line.split()[1:2] == ["concluded"]), "")
            if not line and deployer.wait(60) is not None:
                break
            time.sleep(0.05 * (kills % 5))
            deployer.send_signal(signal.SIGKILL)
            deployer.wait()
        kills += 1
        assert kills < 200, "it does not get on"
        argv = bank.argv("resume", run)
    print(f"killed {kills} times; the last step was {line!r}")
    assert kills > 20
    assert bank.ended(run, time.monotonic()).code == OK
    assert bank.serving() == {digest}
    whole(bank)
    assert bank.customers().since(before).failed == {}


def midway(bank: Delivered, version: str, strategy: str) -> tuple[str, list[str]]:
    """A rollout that is about to be carried out: its run, and the command that does it."""
    bank.build("good", version=version)
    run = bank.requested(version, strategy)["id"]
    return run, bank.approval(run)


def at(bank: Delivered, weight: int) -> bool:
    return bool(bank.last()["weight"] == weight)


@pytest.mark.timeout(900)
def test_the_proxy_is_killed_in_a_rollout_and_keeps_its_weights(bank: Delivered) -> None:
    run, argv = midway(bank, "3.1.0", SWIFT)
    with going_on(argv) as deployer:
        bank.wait_until(lambda: at(bank, 10), "the first weight was not set", 300)
        os.kill(bank.lab.part("proxy")["pid"], signal.SIGKILL)
        assert deployer.communicate(timeout=600)
    ended = bank.ended(run, time.monotonic())
    print(f"proxy killed at 10 %: {ended.said}")
    assert ended.code in (OK, CRITICAL)
    assert bank.last()["phase"] == ("healthy" if ended.code == OK else "rolled back")
    whole(bank)


@pytest.mark.parametrize("slot", ["bank-1", "bank-3"])
@pytest.mark.timeout(900)
def test_an_instance_dies_in_a_rollout(bank: Delivered, slot: str) -> None:
    """One of the old release, or one of the new: afterwards one release serves everywhere."""
    run, argv = midway(bank, f"3.2.0+{slot}", SWIFT)
    with going_on(argv) as deployer:
        bank.wait_until(lambda: at(bank, 50), "half of the traffic was not set", 300)
        os.kill(bank.lab.part(slot)["pid"], signal.SIGKILL)
        assert deployer.communicate(timeout=600)
    ended = bank.ended(run, time.monotonic())
    print(f"{slot} killed at 50 %: {ended.said}")
    assert bank.last()["phase"] == ("healthy" if ended.code == OK else "rolled back")
    whole(bank)


@pytest.mark.timeout(900)
def test_of_two_deployments_at_once_one_goes_on(bank: Delivered) -> None:
    run, argv = midway(bank, "3.3.0", SWIFT)
    digest = bank.build("good", version="3.4.0")
    with going_on(argv) as deployer:
        bank.wait_until(lambda: bank.last()["version"] == "3.3.0", "it did not begin", 120)
        second = bank.nvcops("release", "deploy", "3.4.0", "--no-wait", *bank.person("omar"))
        assert second.returncode != OK
        assert run in second.stderr + second.stdout, "who is in the way is named"
        assert deployer.communicate(timeout=600)
    assert bank.ended(run, time.monotonic()).code == OK
    assert digest not in bank.serving()
    whole(bank)


def test_what_cannot_be_deployed_is_refused_in_a_sentence(bank: Delivered) -> None:
    served = bank.serving()
    digest = bank.build("good", version="4.0.0")
    for words, said in (
        (("9.9.9",), "9.9.9"),
        (("4.0.0", "--strategy", "hopeful"), "hopeful"),
    ):
        refused = bank.nvcops("release", "deploy", *words, "--no-wait", *bank.person("dana"))
        assert refused.returncode == 3
        assert said in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr
    artifact = bank.lab.folder / "delivery" / "store" / f"{digest}.tar.zst"
    subprocess.run(["truncate", "-s", "-10", artifact], check=True)
    damaged = bank.nvcops("release", "deploy", "4.0.0", "--no-wait", *bank.person("dana"))
    assert damaged.returncode == 3
    assert digest[:8] in damaged.stdout + damaged.stderr
    artifact.unlink()
    assert bank.serving() == served
