"""kill -9 of the process that runs the morning, after each of its steps: resumed, complete, no step done twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nvclab import running
from nvcops import wiring
from nvcops.core.manifest import Manifest

MORNING = "morning-health-check"
STEPS = 24  # test_the_last_step_is_the_one_before_the_person says when this is no longer so
DEADLINE_S = 60
ENDED = re.compile(r"^ *(\d+)  (concluded|failed|waiting)")


@pytest.fixture(scope="module")
def lab() -> Iterator[running.Lab]:
    with running.temporary(users=20) as lab:
        yield lab


@pytest.fixture
def manifest(lab: running.Lab, tmp_path: Path) -> Iterator[Manifest]:
    """The lab's platform, with a state folder of its own: written beside the lab's file, so that its paths hold."""
    own = lab.folder / f"platform-{tmp_path.name}.toml"
    text = (lab.folder / "platform.toml").read_text(encoding="utf-8")
    own.write_text(re.sub(r'(?m)^state = "[^"]*"', f'state = "{tmp_path}/state"', text), encoding="utf-8")
    witness = tmp_path / "witness"
    witness.mkdir()
    read = wiring.load(own)
    evidence = msgspec.structs.replace(read.evidence, witness=witness / "checkpoints")
    yield msgspec.structs.replace(read, evidence=evidence)
    own.unlink()


def nvcops(*arguments: str, target: Path) -> list[str]:
    return [sys.executable, "-m", "nvcops", *arguments, "--target", str(target)]


def target_of(lab: running.Lab, manifest: Manifest) -> Path:
    return lab.folder / f"platform-{manifest.platform.state.parent.name}.toml"


def run_until(step: int, target: Path) -> int:
    """Run the morning, kill its process when the step has ended; the number of the last step that was seen."""
    seen = 0
    with subprocess.Popen(
        nvcops("run", MORNING, "--no-wait", target=target),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if ended := ENDED.match(line):
                seen = int(ended[1])
                if seen >= step:
                    process.kill()
                    break
        process.wait(DEADLINE_S)
    return seen


def shown(target: Path, run: str) -> dict[str, Any]:
    command = nvcops("show", run, "--json", target=target)
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def finished_entries(manifest: Manifest, run: str) -> Counter[str]:
    with wiring.open_evidence(manifest) as log:
        entries = [entry for _, entry in log.entries() if entry.run == run]
    return Counter(entry.subject for entry in entries if entry.kind == "step.finished")


@pytest.mark.drill
@pytest.mark.parametrize(
    "step", [pytest.param(n, marks=[pytest.mark.sample] if n in {2, 11, 19} else []) for n in range(1, STEPS)]
)
def test_a_killed_morning_is_resumed_and_nothing_is_done_twice(lab: running.Lab, manifest: Manifest, step: int) -> None:
    target = target_of(lab, manifest)
    assert run_until(step, target) == step
    with wiring.open_runs(manifest, notify=print) as runs:
        (record,) = runs.list()
        before = {s.number: (s.started, s.ended) for s in runs.show(record.id).steps if s.ended}
    assert set(range(1, step + 1)) <= set(before), "a step that was said to have ended is in the journal"

    resumed = subprocess.run(
        nvcops("resume", record.id, target=target), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert resumed.returncode == 3, resumed.stderr  # it waits for a person
    note = ("--note", "reviewed", "--as", "dana", "--key", str(lab.folder / "keys" / "dana"))
    subprocess.run(
        nvcops("attest", record.id, "security-alerts-reviewed", *note, target=target),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )

    with wiring.open_runs(manifest, notify=print) as runs:
        whole = runs.show(record.id)
    assert whole.state == "concluded"
    assert [s.number for s in whole.steps] == list(range(1, len(whole.steps) + 1)), "complete"
    after = {s.number: (s.started, s.ended) for s in whole.steps if s.number in before}
    assert after == before, "what had ended was answered from the journal"
    assert set(finished_entries(manifest, record.id).values()) == {1}, "and stands in the evidence once"
    with wiring.open_evidence(manifest) as log:
        assert not log.audit().problems


@pytest.mark.drill
@pytest.mark.sample
def test_the_last_step_is_the_one_before_the_person(lab: running.Lab, manifest: Manifest) -> None:
    """So that the drill above keeps killing after every step when the morning grows."""
    target = target_of(lab, manifest)
    assert run_until(1_000, target) == STEPS
    with wiring.open_runs(manifest, notify=print) as runs:
        (record,) = runs.list()
    assert [s["kind"] for s in shown(target, record.id)["steps"] if s["state"] == "waiting"] == ["attest"]
