"""Five hundred ways in which metrics can lie; none makes a canary pass."""

from __future__ import annotations

import functools
import random

import msgspec
import pytest
from canary_world import TIMED, looks
from mutations import ALL

from nvcops.delivery.canary import Canary, Outcome, Record, judge, verify
from nvcops.delivery.looks import Look

MUTATIONS = 504
WORLDS = 3


@functools.lru_cache
def world(seed: int) -> tuple[list[Look], int]:
    """Good looks until the time limit, and which of them passes."""
    seen = list(looks(seed, seconds=300, every=3, rps=60, share=0.2, failing=0.03))
    canary = Canary(TIMED)
    for number, look in enumerate(seen):
        if canary.look(look) is Outcome.PASS:
            return seen, number
    raise AssertionError("the good canary passes")


@pytest.mark.parametrize("spoil", ALL, ids=lambda spoil: spoil.__name__)
def test_spoiled_metrics_never_pass(spoil: object) -> None:
    assert callable(spoil)
    passed = []
    for seed in range(MUTATIONS // len(ALL)):
        rng = random.Random(seed)
        good, passes = world(seed % WORLDS)
        broken = spoil(good, rng, rng.randint(1, passes - 1))
        record = judge(TIMED, broken)
        assert record.result.reason
        if record.result.outcome is Outcome.PASS:
            passed.append((seed, record.result.reason))
    assert not passed


@pytest.mark.parametrize("spoil", ALL, ids=lambda spoil: spoil.__name__)
def test_what_was_spoiled_is_verified_from_its_record(spoil: object) -> None:
    assert callable(spoil)
    good, passes = world(0)
    record = judge(TIMED, spoil(good, random.Random(7), passes // 2))
    assert verify(msgspec.json.decode(msgspec.json.encode(record), type=Record))


def test_there_are_five_hundred() -> None:
    assert MUTATIONS // len(ALL) * len(ALL) >= 500
