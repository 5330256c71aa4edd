"""From a fault to the first page, in seconds: p95 over every fault of the lab that stops customers.

A lab with customers, `nvcops serve` beside it with the runbook's settings but for the objectives, and the lab's pager
in everybody's pocket. Each round breaks something, waits for the first page to whoever is on call, heals it, and waits
until nothing fires. The clock begins just before the command that breaks, and ends when the whole page has arrived.

    detection.py [--quick] [--json] [--rounds N] [--faults stop-cache,...]
                    ends with 0, or with 2 when the bound is missed or a fault is not paged at all
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from typing import Any

from _watched import FAULTS, Fault, Watched, broken, closed, healed, until, watched

BOUND_S = 5.0
PAGED_S = 60.0
ROUNDS, ROUNDS_QUICK = 5, 1


def round_of(watch: Watched, fault: Fault) -> dict[str, Any]:
    """One fault, from its command to its end; `seconds` is None where nobody was paged."""
    time.sleep(random.random() * 2)  # so that it falls anywhere between two looks
    moment = broken(watch, fault)
    try:
        first = until(lambda: watch.pages(moment), PAGED_S, "a page")[0]
    except TimeoutError:
        first = None
    healed(watch, fault)
    closed(watch)
    return {
        "fault": fault.name,
        "seconds": first.time - moment if first else None,
        "page": first.title if first else "",
    }


def p95(values: list[float]) -> float:
    """The smallest value that 95 % of them do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]


def measure(faults: list[Fault], rounds: int, say: Any) -> dict[str, Any]:
    """All rounds, in an order of chance."""
    runs: list[dict[str, Any]] = []
    with watched(objectives=False) as watch:
        for _ in range(rounds):
            for fault in random.sample(faults, len(faults)):
                runs.append(round_of(watch, fault))
                say(runs[-1])
    seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
    figure = p95(seconds) if seconds else PAGED_S
    of = {fault.name: [run["seconds"] or PAGED_S for run in runs if run["fault"] == fault.name] for fault in faults}
    return {
        "figure": figure,
        "unit": "s",
        "bound": BOUND_S,
        "ratio": figure / BOUND_S,
        "faults": {name: {"p95_s": p95(seen), "rounds": len(seen)} for name, seen in of.items()},
        "not_paged": [run["fault"] for run in runs if run["seconds"] is None],
        "runs": runs,
    }


def main() -> int:
    """Measure, print figure beside bound."""
    names = {fault.name: fault for fault in FAULTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{ROUNDS_QUICK} round of each instead of {ROUNDS}")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rounds", type=int, default=0, help="of each fault")
    parser.add_argument("--faults", default="", help=f"of: {', '.join(names)}")
    options = parser.parse_args()
    chosen = options.faults.split(",") if options.faults else list(names)
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown faults: {', '.join(unknown)}")

    def say(run: dict[str, Any]) -> None:
        if not options.json:
            took = f"{run['seconds']:.2f} s" if run["seconds"] is not None else "no page"
            print(f"  {run['fault']:<26}{took:<10}{run['page']}", flush=True)

    rounds = options.rounds or (ROUNDS_QUICK if options.quick else ROUNDS)
    result = measure([names[name] for name in chosen], rounds, say)
    if options.json:
        print(json.dumps(result))
    else:
        for name, one in result["faults"].items():
            print(f"detection: {name:<26}p95 {one['p95_s']:.2f} s of {one['rounds']}: {names[name].why}")
        figure = result["figure"]
        print(f"detection: p95 {figure:.2f} s   bound <= {BOUND_S:g} s   ratio {figure / BOUND_S:.2f}")
        if result["not_paged"]:
            print(f"detection: nobody was paged for: {', '.join(result['not_paged'])}")
    return 0 if result["figure"] <= BOUND_S and not result["not_paged"] else 2


if __name__ == "__main__":
    sys.exit(main())
