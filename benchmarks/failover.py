"""How long customers cannot write when the primary fails: the longest gap between two acknowledged payments.

A lab with a cluster, its customers paying, `nvcops serve` with its guard. Each round breaks the primary's host (or
hands over), waits until another is primary and writes go on, mends the host, waits until the pair is whole, and looks
for every acknowledged payment in the new primary: one that is missing was lost, or taken by a second primary.

    failover.py [--quick] [--json] [--full] [--rounds N] [--kinds crash,switchover,...]
                    ends with 0, or with 2 when the bound is missed, a payment is lost or a timeline too many is written
--full adds Patroni alone, without the guard: what it takes when everybody waits for the lease to run out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvclab import running
from nvcops import wiring
from nvcops.adapters.target import connect
from nvcops.core.checks import Verdict
from nvcops.core.cluster import Cluster
from nvcops.core.errors import DeadlineExceeded, TargetError
from nvcops.core.target import Target
from nvcops.recovery.failover import customers
from nvcops.recovery.pair import ready_findings, whole_again

BOUNDS = {"crash": 6.0, "switchover": 3.0, "postmaster": 4.0, "freeze": 10.0}
ALONE = "crash, Patroni alone"
FIGURE = "crash"
OVER_S, STEADY_S = 90.0, 4.0
USERS = 200
NVCOPS = [sys.executable, "-m", "nvcops"]


@contextmanager
def served(platform: Path) -> Iterator[Target]:
    """`nvcops serve` for a platform; a target of our own beside it, when the pair is whole."""
    with (platform.parent / "serve.log").open("ab") as log:
        server = subprocess.Popen([*NVCOPS, "serve", "--quiet", "--target", str(platform)], stdout=log, stderr=log)
    try:
        target = connect(wiring.load(platform))
        whole(target)
        yield target
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        server.kill()
        server.wait()


def whole(target: Target) -> int:
    """Wait until the pair is whole; its timeline."""
    pair = whole_again(target)
    wrong = [line for line in ready_findings(pair, target.manifest.limits) if line.verdict is not Verdict.OK]
    if wrong or pair.state is None:
        raise RuntimeError(f"the pair does not become whole: {'; '.join(line.observed for line in wrong)}")
    return pair.state.timeline


def cluster_of(target: Target) -> Cluster:
    """The platform's cluster; it has one."""
    if target.cluster is None:
        raise RuntimeError("the lab has no cluster")
    return target.cluster


def round_of(kind: str, target: Target) -> dict[str, Any]:
    """One failover: what customers saw of it, and what was lost."""
    cluster = cluster_of(target)
    before = whole(target)
    time.sleep(STEADY_S)
    state = cluster.state()
    old, began = state.leader, target.host.now()
    if kind == "switchover":
        cluster.switch_over(next(member.name for member in state.members if member.synchronous))
    else:
        target.control.break_host("crash" if kind == ALONE else kind, old)
    _over(target, old)
    time.sleep(STEADY_S)
    if kind != "switchover":
        target.control.mend_host(old)
    after = whole(target)
    view = customers(target, began)
    if view.seen is None or view.kept is None or view.seen.gap_s is None:
        raise RuntimeError(view.trouble or "nobody paid")
    return {
        "kind": kind,
        "gap_s": view.seen.gap_s,
        "unknown": view.seen.unknown,
        "unresolved": view.seen.unresolved_count,
        "not_503": _not_503(target, began),
        "acknowledged": view.kept.acknowledged,
        "lost": view.kept.missing,
        "timelines": after - before,
    }


def _over(target: Target, old: str) -> None:
    end = time.monotonic() + OVER_S
    while time.monotonic() < end:
        with contextlib.suppress(TargetError):
            if cluster_of(target).state().leader not in ("", old):
                return
        time.sleep(0.2)
    raise DeadlineExceeded(f"nobody but {old} became primary within {OVER_S:g} s")


def _not_503(target: Target, began: dt.datetime) -> int:
    """Answers since then that neither said how it ended nor were a 503: what a customer's client cannot just retry."""
    journal = target.manifest.recovery.acknowledgements
    written = journal.journal.read_bytes().splitlines() if journal else []
    lines: Iterator[dict[str, Any]] = (json.loads(line) for line in written)
    return sum(
        line["time"] >= began.timestamp() and line["outcome"] == "unknown" and line["status"] != 503 for line in lines
    )


def p95(values: list[float]) -> float:
    """The smallest value that 95 % of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)]


def measure(kinds: list[str], rounds: int, *, full: bool, say: Any) -> dict[str, Any]:
    """All rounds, kind by kind."""
    runs: list[dict[str, Any]] = []
    with running.temporary("--ha", users=USERS, think_s=1.0) as lab:
        platform = lab.folder / "platform.toml"
        with served(platform) as target:
            for kind in kinds:
                for _ in range(rounds):
                    runs.append(round_of(kind, target))
                    say(runs[-1])
        if full:
            alone = platform.with_name("alone.toml")
            alone.write_text(platform.read_text(encoding="utf-8").replace("guard = true", "guard = false"), "utf-8")
            with served(alone) as target:
                for _ in range(rounds):
                    runs.append(round_of(ALONE, target))
                    say(runs[-1])
    gaps = {kind: [run["gap_s"] for run in runs if run["kind"] == kind] for kind in [*kinds, ALONE]}
    summary = {kind: {"p95_s": p95(seen), "rounds": len(seen)} for kind, seen in gaps.items() if seen}
    figure = summary[FIGURE]["p95_s"] if FIGURE in summary else max(one["p95_s"] for one in summary.values())
    return {
        "figure": figure,
        "unit": "s",
        "bound": BOUNDS[FIGURE],
        "ratio": figure / summary[ALONE]["p95_s"] if ALONE in summary else figure / BOUNDS[FIGURE],
        "kinds": summary,
        "lost": sum(run["lost"] for run in runs),
        "second_primaries": sum(run["timelines"] != 1 for run in runs),
        "unresolved": sum(run["unresolved"] for run in runs),
        "switchover_errors": sum(run["not_503"] for run in runs if run["kind"] == "switchover"),
        "runs": runs,
    }


def good(result: dict[str, Any]) -> bool:
    """Whether every kind keeps its bound, nothing was lost, and a switchover cost customers no more than a 503."""
    held = all(one["p95_s"] <= BOUNDS[kind] for kind, one in result["kinds"].items() if kind in BOUNDS)
    amiss = ("lost", "second_primaries", "unresolved", "switchover_errors")
    return held and not any(result[what] for what in amiss)


def main() -> int:
    """Measure, print the figures beside their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of a crash and a switchover")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="also Patroni alone")
    parser.add_argument("--rounds", type=int, default=0, help="of each kind; default 20, with --quick 2")
    parser.add_argument("--kinds", default="", help=f"of: {', '.join(BOUNDS)}")
    options = parser.parse_args()
    kinds = options.kinds.split(",") if options.kinds else ["crash", "switchover"] if options.quick else list(BOUNDS)
    if unknown := set(kinds) - set(BOUNDS):
        parser.error(f"unknown kinds: {', '.join(unknown)}")

    def say(run: dict[str, Any]) -> None:
        if not options.json:
            print(
                f"  {run['kind']}: {run['gap_s']:.2f} s; {run['unknown']:,} answers told nothing, {run['not_503']:,} of"
                f" them no 503, {run['unresolved']} unknown still; {run['lost']} of {run['acknowledged']:,} lost",
                flush=True,
            )

    rounds = options.rounds or (2 if options.quick else 20)
    result = measure(kinds, rounds, full=options.full, say=say)
    if options.json:
        json.dump(result, sys.stdout)
        print()
    else:
        for kind, one in result["kinds"].items():
            bound = f"bound <= {BOUNDS[kind]:g} s" if kind in BOUNDS else "for comparison"
            print(f"failover: {kind}: p95 {one['p95_s']:.2f} s of {one['rounds']} without a write ({bound})")
        print(f"failover: {result['lost']} payments lost, {result['second_primaries']} rounds with a second timeline")
        print(f"failover: {result['switchover_errors']} errors of customers in switchovers but for 503 (bound 0)")
    return 0 if good(result) else 2


if __name__ == "__main__":
    sys.exit(main())
