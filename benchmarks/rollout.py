"""What a deployment and its rollback cost: customers' failed requests, and seconds, per cycle under load.

A lab whose bank serves customers. Each cycle deploys another version (rehearsed rollback, 10 %, 50 %, all) and puts
the one before back. The bank's requests do not fail by themselves, so each request that fails is the rollout's doing.

    rollout.py [--quick] [--json] [--cycles N]
                    ends with 0, or with 2 when a request failed or a cycle did not end as it must
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from _rollouts import Delivered, delivered

BOUND_FAILED = 0
VERSIONS = ("1.0.0", "1.1.0")


def cycle(bank: Delivered, version: str, digest: str) -> dict[str, Any]:
    """One deployment and one rollback: how long each took, and what customers saw meanwhile."""
    before, served = bank.customers(), bank.serving()
    deployed = bank.deploy(version)
    during = bank.serving()
    back = bank.rollback()
    seen = bank.customers().since(before)
    good = deployed.code == 0 and back.code == 0 and during == {digest} and bank.serving() == served
    return {
        "deploy_s": deployed.seconds,
        "rollback_s": back.seconds,
        "rehearsed_s": bank.last().get("rollback_s"),
        "requests": seen.requests,
        "failed": seen.failed,
        "good": good,
        "wrong": "" if good else f": NOT GOOD, {deployed.said}; {back.said}",
    }


def measure(cycles: int, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All cycles, on one lab."""
    runs = []
    with delivered() as bank:
        digests = {version: bank.build("good", version=version) for version in VERSIONS}
        for number in range(cycles):
            version = VERSIONS[number % len(VERSIONS)]
            runs.append(cycle(bank, version, digests[version]))
            say(runs[-1])
    failed = sum(sum(run["failed"].values()) for run in runs)
    seconds = [run["deploy_s"] + run["rollback_s"] for run in runs]
    return {
        "figure": failed,
        "unit": "failed requests",
        "bound": BOUND_FAILED,
        "ratio": failed / max(sum(run["requests"] for run in runs), 1),
        "cycles": cycles,
        "requests": sum(run["requests"] for run in runs),
        "cycle_s": {"median": statistics.median(seconds), "max": max(seconds)},
        "deploy_s": statistics.median(run["deploy_s"] for run in runs),
        "rollback_s": statistics.median(run["rollback_s"] for run in runs),
        "not_as_they_must": sum(not run["good"] for run in runs),
        "runs": runs,
    }


def main() -> int:
    """Measure, print the figures beside their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one cycle")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cycles", type=int, default=0, help="default 20, with --quick 1")
    options = parser.parse_args()

    def say(run: dict[str, Any]) -> None:
        if not options.json:
            print(
                f"  deployed in {run['deploy_s']:.0f} s, back in {run['rollback_s']:.0f} s; of {run['requests']:,}"
                f" requests failed {run['failed'] or 'none'}{run['wrong']}",
                flush=True,
            )

    result = measure(options.cycles or (1 if options.quick else 20), say)
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        print(
            f"rollout: {result['figure']} of {result['requests']:,} requests failed in {result['cycles']} cycles of"
            f" deployment and rollback (bound {BOUND_FAILED}); {result['not_as_they_must']} did not end as they must"
        )
        print(
            f"rollout: a cycle takes {result['cycle_s']['median']:.0f} s, {result['cycle_s']['max']:.0f} s at most:"
            f" {result['deploy_s']:.0f} s to deploy with the rehearsal, {result['rollback_s']:.0f} s to go back"
        )
    return 0 if result["figure"] <= BOUND_FAILED and not result["not_as_they_must"] else 2


if __name__ == "__main__":
    sys.exit(main())
