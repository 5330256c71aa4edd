"""`make demo` as a newcomer sees it: every figure, the run's id, the proof; one changed byte of the proof is found."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 240


@pytest.mark.drill
@pytest.mark.sample
def test_the_demo_ends_well_and_its_proof_holds(tmp_path: Path) -> None:
    folder = tmp_path / "a data centre"
    command = [sys.executable, "-m", "nvclab", "demo", "--once", "--dir", str(folder), "--users", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for figure in ("Availability", "Average response", "Errors", "Payments", "Replication lag", "Sign-in failures"):
        assert re.search(rf"✓ OK +{figure} \(", done.stdout), figure
    for proof in ("Acknowledged work", "Equal to the live data", "Every point in time can be", "Restore drill"):
        assert re.search(rf"✓ OK +{proof}", done.stdout), proof
    assert re.search(r"run (morning-health-check@\S+)", done.stdout)

    assert re.search(r"is paged \d+\.\d s after the command", done.stdout)
    assert re.search(r"^   P[01] #1: .*nvcops ack 1$", done.stdout, re.MULTILINE)
    assert re.search(r"^P[01] +#1 +RESOLVED ", done.stdout, re.MULTILINE)

    offline = re.search(r"^   (\S.*verify_evidence\.py'? .*)$", done.stdout, re.MULTILINE)
    assert offline, "the command that verifies the evidence offline is printed"
    verify = shlex.split(offline[1])
    assert subprocess.run(verify, capture_output=True, timeout=60, check=False, cwd=tmp_path).returncode == 0

    bundle = Path(verify[2])
    sound = bundle.read_bytes()
    for place in random.sample(range(len(sound)), 8):
        bundle.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        changed = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
        assert changed.returncode in (2, 3), f"byte {place} was changed, and the verifier said\n{changed.stdout}"


@pytest.mark.drill
def test_a_killed_demo_leaves_no_watch_and_the_next_one_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    command = [sys.executable, "-m", "nvclab", "demo", "--dir", str(folder), "--users", "50"]
    log = folder / "logs" / "nvcops-serve.log"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as demo:
        end = time.monotonic() + DEADLINE_S
        while not (log.exists() and log.stat().st_size):
            assert time.monotonic() < end
            time.sleep(0.2)
        demo.kill()
    end = time.monotonic() + 10
    while watching := [p.pid for p in psutil.process_iter(["cmdline"]) if _watches(p.info["cmdline"], folder)]:
        assert time.monotonic() < end, watching
        time.sleep(0.2)
    done = subprocess.run([*command, "--once"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _watches(argv: list[str] | None, folder: Path) -> bool:
    return bool(argv) and "serve" in (argv or ()) and any(str(folder) in argument for argument in argv or ())
