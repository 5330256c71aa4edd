"""Entries per second that the verifier in the bundle verifies, its own start included: a bundle of 100,000 entries.

Beside it, in the same run: SHA-256 alone over the same entries, one after the other. The bound is a share of that.

    evidence_verify.py [--quick] [--json]      ends with 0, or with 2 when the bound is missed
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from nvcops.adapters.evidence.log import open_log
from nvcops.core.evidence import Entry

SIZE = 100_000
BATCH = 10_000
HASH_ROUNDS = 5  # one is over in a tenth of a second
BOUND_SHARE = 0.04  # of SHA-256 alone: 25 times its time for tree, JSON, ids, seal and the interpreter's start
DEADLINE_S = 300.0


def export(folder: Path) -> tuple[Path, str]:
    """A bundle of a log with a checkpoint after every batch, and the log's key."""
    body = {"step": "vacuum", "result": {"table": "transfers", "dead_ratio": 0.031, "seconds": 4.2}, "note": "x" * 150}
    with open_log(folder, origin="bench.example/log") as log:
        for start in range(0, SIZE, BATCH):
            log.append(
                [
                    Entry(id=f"e{number}", time="2026-01-05T13:00:00Z", kind="step.finished", run="r1", body=body)
                    for number in range(start, start + BATCH)
                ]
            )
            log.checkpoint(dt.datetime(2026, 1, 5, 13, tzinfo=dt.UTC))
        log.export(0, SIZE, folder / "bundle")
        return folder / "bundle", log.vkey


def verify_s(folder: Path, bundle: Path, vkey: str) -> float:
    """The time of the verifier, as an auditor starts it."""
    began = time.monotonic()
    command = [sys.executable, "-I", str(folder / "verify_evidence.py"), str(bundle), "--key", vkey]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if ended.returncode != 0:
        sys.exit(f"evidence_verify: the bundle does not verify:\n{ended.stdout}{ended.stderr}")
    return time.monotonic() - began


def hash_s(lines: list[bytes]) -> float:
    """The time of SHA-256 alone."""
    began = time.perf_counter()
    for _ in range(HASH_ROUNDS):
        for line in lines:
            hashlib.sha256(line).digest()
    return (time.perf_counter() - began) / HASH_ROUNDS


def measure(runs: int) -> tuple[list[float], list[float]]:
    """Entries per second: verified, and hashed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, vkey = export(folder)
        with tarfile.open(bundle) as tar:
            verifier, entries = tar.extractfile("verify_evidence.py"), tar.extractfile("entries.jsonl")
            if verifier is None or entries is None:
                sys.exit("evidence_verify: the bundle has no entries or no verifier")
            (folder / "verify_evidence.py").write_bytes(verifier.read())
            lines = entries.read().split(b"\n")[:-1]
        pairs = [(SIZE / verify_s(folder, bundle, vkey), SIZE / hash_s(lines)) for _ in range(runs)]
    return [verified for verified, _ in pairs], [hashed for _, hashed in pairs]


def main() -> int:
    """Measure, print figure beside bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    verified, hashed = measure(1 if options.quick else 5)
    middle = sorted(range(len(verified)), key=lambda run: verified[run] / hashed[run])[len(verified) // 2]
    figure, bound = verified[middle], BOUND_SHARE * hashed[middle]
    if options.json:
        found = {"figure": figure, "unit": "entries/s", "bound": bound, "ratio": figure / bound}
        print(json.dumps({**found, "runs": verified, "hashed": hashed}))
    else:
        print(f"evidence_verify: {SIZE:,} entries in one bundle, by the verifier alone")
        print(f"  verified  {figure:10,.0f} entries/s   bound >= {bound:,.0f}   ratio {figure / bound:.2f}")
        for one, other in zip(verified, hashed, strict=True):
            print(f"  run       {one:10,.0f} entries/s   {one / other:.3f} of SHA-256 alone ({other:,.0f}/s)")
    return 0 if figure >= bound else 2


if __name__ == "__main__":
    sys.exit(main())
