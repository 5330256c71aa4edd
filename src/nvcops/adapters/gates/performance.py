"""Performance against the release before: a program measures both in turn, and the pairs' ratios decide.

The machine is noisy, so no figure is compared with a figure of another minute: each round measures both, in alternating
order. The median of the ratios is bounded from both sides by a sign test, which asks nothing of how noise is
distributed. Better than the bound for certain passes, worse for certain is refused, else the gate cannot tell.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nvcops.adapters.gates.asked import Asked, CannotTell, read_json
from nvcops.adapters.gates.process import Ended, checked_end, dies_with_us, filled, run
from nvcops.core.gates import GateLine, GateReport, GateVerdict, judged
from nvcops.core.units import Ratio

ROUNDS = 8
_ERROR_MAX = 0.05
_RUNS_S, _STOPPED = 0.003, 9  # a seeded fault: it is stopped nine times as long as it ran, however late we woke up
_HIGHER, _LOWER = ("_per_s", "throughput"), ("_s", "_ms", "_us", "_bytes")
_FIGURES_MAX = 50
Figures = dict[str, float]


def judge(asked: Asked) -> GateReport:
    """Measure `rounds` pairs, and compare; `worse` is by how much the new release may be worse."""
    rounds, worse = asked.number("rounds", ROUNDS, least=5), _worse(asked)
    if not asked.previous and not asked.seeded:
        figures = [_measure(asked, asked.release, asked.python) for _ in range(2)]
        names = ", ".join(sorted(_same_names(figures)))
        return judged(
            [], len(figures), "rounds", passed=f"nothing to compare with: no release was here before ({names})"
        )
    arms = (asked.previous or asked.release, asked.previous_python), (asked.release, asked.python)
    pairs = []
    for number in range(rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        found = {arm: _measure(asked, *arms[arm], slowed=asked.seeded and arm == 1) for arm in order}
        pairs.append((found[0], found[1]))
    return compared(pairs[1:], worse)  # the first round warms caches


def compared(pairs: Sequence[tuple[Figures, Figures]], worse: Ratio) -> GateReport:
    """What pairs of (old, new) say: each figure must pass; one that is worse for certain refuses."""
    names = _same_names([figures for pair in pairs for figures in pair])
    bound, told, lines, unclear = 1 + worse, [], [], []
    for name in sorted(names):
        ratios = sorted(ratio(name, old[name], new[name]) for old, new in pairs)
        median = ratios[len(ratios) // 2]
        told.append(f"{name} {median:.3f} times")
        if _certain(sum(one > bound for one in ratios), len(ratios), _ERROR_MAX / len(names)):
            lines.append(GateLine(rule=name, text=f"{name} is {median:.3f} times as bad, and {bound:.3g} is allowed"))
        elif not _certain(sum(one < bound for one in ratios), len(ratios), _ERROR_MAX):
            unclear.append(f"{name} ({ratios[0]:.3f} to {ratios[-1]:.3f} times)")
    if lines or not unclear:
        passed = f"{', '.join(told)} as bad as before, in {len(pairs)} pairs; {bound:.3g} is allowed"
        return judged(lines, len(pairs), "pairs", passed=passed)
    sentence = f"inconclusive, not a pass: {', '.join(unclear)} around the bound {bound:.3g}"
    return GateReport(verdict=GateVerdict.UNKNOWN, sentence=sentence, checked=len(pairs), unit="pairs")


def ratio(name: str, old: float, new: float) -> float:
    """How many times as bad the new figure is, by the figure's name: seconds and bytes are bad, rates are good.

    >>> ratio("p99_s", 0.010, 0.012), ratio("payments_per_s", 100.0, 50.0)
    (1.2, 2.0)
    """
    return old / new if name.endswith(_HIGHER) else new / old


def _certain(successes: int, count: int, error_max: float) -> bool:
    """Whether so many of so many fair coins come by chance rarely enough.

    >>> [_certain(successes, 8, 0.05) for successes in (6, 7, 8)]
    [False, True, True]
    """
    by_chance: float = sum(math.comb(count, k) for k in range(successes, count + 1)) / 2**count
    return by_chance <= error_max


def _worse(asked: Asked) -> Ratio:
    try:
        return Ratio.read(asked.options.get("worse", "10 %"))
    except ValueError as error:
        raise CannotTell(f"the option worse is {asked.options['worse']!r}: a ratio like '10 %'") from error


def _same_names(found: Sequence[Figures]) -> set[str]:
    names = set(found[0])
    if any(set(figures) != names for figures in found):
        raise CannotTell("the program does not measure the same figures each time")
    return names


def _measure(asked: Asked, release: str, python: str, *, slowed: bool = False) -> Figures:
    arm = msgspec.structs.replace(asked, release=release, python=python)
    argv = filled(arm, asked.program)
    ended = _slowed(argv, asked.work) if slowed else run(argv, work=asked.work, folder=release)
    if ended.code:
        raise CannotTell(f"{Path(argv[0]).name} ended with {ended.code}: {ended.said}")
    return read_figures(ended.output.encode())


def read_figures(data: bytes) -> Figures:
    """The figures that a program printed: one JSON object of positive numbers, by names that end in their unit.

    >>> read_figures(b'{"p99_s": 0.01}')
    {'p99_s': 0.01}
    """
    found = read_json(data, "what the program measured")
    if not isinstance(found, dict) or not 0 < len(found) <= _FIGURES_MAX:
        raise CannotTell(f"the program must print one JSON object with 1 to {_FIGURES_MAX} figures")
    for name, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise CannotTell(f"the figure {name[:40]!r} is {str(value)[:40]}: a positive number")
        if not name.endswith(_HIGHER + _LOWER):
            raise CannotTell(f"the figure {name[:40]!r} does not end in its unit: {', '.join(_HIGHER + _LOWER)}")
    return {name: float(value) for name, value in found.items()}


def _slowed(argv: Sequence[str], work: str) -> Ended:
    """Run a program that is stopped most of the time: the seeded fault, whatever it measures."""
    with tempfile.TemporaryFile(dir=work) as output, tempfile.TemporaryFile(dir=work) as error:
        try:
            process = subprocess.Popen(
                [*dies_with_us("KILL"), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                cwd=work,
                process_group=0,
            )
        except OSError as problem:
            raise CannotTell(f"{argv[0]} cannot be run: {problem.strerror}") from problem
        try:
            while process.poll() is None:
                began = time.monotonic()
                time.sleep(_RUNS_S)
                os.killpg(process.pid, signal.SIGSTOP)
                time.sleep(_STOPPED * (time.monotonic() - began))
                os.killpg(process.pid, signal.SIGCONT)
        except ProcessLookupError:
            process.wait()
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return checked_end(argv[0], Ended(process.returncode, *texts))


def seed(asked: Asked) -> Asked:
    """The release against itself, stopped for nine tenths of the time."""
    if not asked.release:
        raise CannotTell("the control needs a release to measure: build one")
    return msgspec.structs.replace(asked, previous=asked.release, previous_python=asked.python)
