"""The machine of moves: from whatever stands in the slots it comes to its goal, and nobody is left unserved."""

from __future__ import annotations

import random

import msgspec
import pytest

from nvcops.core.errors import UsageError
from nvcops.core.manifest.delivery import DeliveryEntry, RolloutStep, Strategy
from nvcops.delivery.strategies import (
    FULL,
    Act,
    Goal,
    Move,
    SlotSeen,
    Split,
    Standing,
    is_so,
    next_move,
    split_weights,
    strategy_of,
    weights_for,
)

OLD, NEW = "old", "new"


def slot(name: str, main: bool, digest: str, weight: int, *, ready: bool = True) -> SlotSeen:
    return SlotSeen(
        slot=name, main=main, digest=digest, running=bool(digest), release=digest, ready=ready, weight=weight
    )


def random_standing(draws: random.Random, main: int, spare: int) -> Standing:
    """Anything, but that somebody is served."""
    slots = [
        slot(
            f"s{n}",
            n < main,
            draws.choice((OLD, NEW, "")),
            draws.choice((0, 0, 28, FULL, 252)),
            ready=draws.random() < 0.8,
        )
        for n in range(main + spare)
    ]
    slots[0] = slot("s0", True, draws.choice((OLD, NEW)), FULL)
    return Standing(slots=tuple(draws.sample(slots[:main], main) + draws.sample(slots[main:], spare)))


def done(seen: Standing, goal: Goal, move: Move) -> Standing:
    """What stands after a move, when it does what it says."""
    if move.act is Act.SPLIT:
        weights = split_weights(seen, move.split, move.digest, goal.leave)
        assert weights, "traffic would go to nobody"
        assert any(weights.values())
        return Standing(slots=tuple(msgspec.structs.replace(one, weight=weights[one.slot]) for one in seen.slots))
    changed = []
    for one in seen.slots:
        if one.slot != move.slot:
            changed.append(one)
        elif move.act is Act.STOP:
            assert not one.serves
            changed.append(msgspec.structs.replace(one, running=False, ready=False, release=""))
        else:
            others = [it for it in seen.slots if it.serves and it.ready and it.slot != one.slot]
            assert others or not (one.serves and one.ready), "the last one that serves was taken away"
            changed.append(slot(one.slot, one.main, move.digest, 0))
    return Standing(slots=tuple(changed))


def served(seen: Standing) -> bool:
    return any(one.serves and one.ready for one in seen.slots)


@pytest.mark.parametrize("seed", range(20))
def test_from_anything_it_comes_to_its_goal(seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(100):
        seen = random_standing(draws, draws.randint(2, 4), draws.randint(1, 3))
        goal = Goal(
            serve=draws.choice((OLD, NEW)), warm=draws.choice(("", OLD, NEW)), leave=NEW, urgent=draws.random() < 0.5
        )
        goal = msgspec.structs.replace(goal, leave=OLD if goal.serve == NEW else NEW)
        moves: list[Move] = []
        while move := next_move(seen, goal):
            assert len(moves) < 40, moves
            seen = done(seen, goal, move)
            assert served(seen), moves
            moves.append(move)
        assert all(one.runs(goal.serve) for one in seen.main), moves
        assert is_so(seen, split_weights(seen, Split.MAIN, goal.serve)), moves
        assert all(one.runs(goal.warm) if goal.warm else not one.running for one in seen.spare), moves


@pytest.mark.parametrize("seed", range(10))
def test_an_urgent_goal_moves_the_traffic_first(seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(100):
        seen = random_standing(draws, 2, 2)
        goal = Goal(serve=OLD, leave=NEW, urgent=True)
        move = next_move(seen, goal)
        if seen.running(OLD) and any(one.serves and not one.runs(OLD) for one in seen.slots):
            assert move is not None
            assert move.act is Act.SPLIT


def test_gently_the_way_back_stays_until_the_last_slot_is_replaced() -> None:
    seen = Standing(
        slots=(
            slot("s0", True, OLD, 252),
            slot("s1", True, OLD, 252),
            slot("s2", False, NEW, 28),
            slot("s3", False, NEW, 28),
        )
    )
    goal = Goal(serve=NEW, warm=OLD, leave=OLD)
    while move := next_move(seen, goal):
        seen = done(seen, goal, move)
        assert seen.running(OLD), "the old release ran nowhere any more"


def test_slots_set_aside_are_left_alone() -> None:
    seen = Standing(
        slots=(slot("s0", True, OLD, FULL), slot("s1", True, NEW, 0, ready=False), slot("s2", False, "", 0))
    )
    goal = Goal(serve=OLD, leave=NEW, urgent=True)
    move = next_move(seen, goal)
    assert move is not None
    assert move.slot == "s1"
    assert next_move(seen, goal, ["s1"]) is None
    nowhere = Standing(slots=(slot("s0", True, NEW, FULL), slot("s2", False, "", 0)))
    assert next_move(nowhere, goal, ["s2"]) is None, "what serves is not taken away for what runs nowhere"


@pytest.mark.parametrize("new", range(1, 6))
@pytest.mark.parametrize("old", range(1, 6))
def test_weights_give_the_percentage(new: int, old: int) -> None:
    for percent in range(1, 100):
        one, other = weights_for(percent, new, old)
        share = 100 * new * one / (new * one + old * other)
        assert abs(share - percent) < 1.0, (percent, one, other)
        assert 1 <= one <= 256
        assert 1 <= other <= 256


def test_traffic_goes_only_where_a_release_is_ready() -> None:
    seen = Standing(
        slots=(
            slot("s0", True, OLD, FULL),
            slot("s1", True, OLD, FULL, ready=False),
            slot("s2", False, NEW, 0, ready=False),
        )
    )
    assert split_weights(seen, Split.PERCENT, NEW, OLD, 10) == {}
    assert split_weights(seen, Split.ALL, NEW) == {}
    assert split_weights(seen, Split.MAIN, OLD) == {"s0": FULL, "s1": 0, "s2": 0}
    lies = msgspec.structs.replace(seen.slots[0], release="another")
    assert split_weights(msgspec.structs.replace(seen, slots=(lies, *seen.slots[1:])), Split.ALL, OLD) == {}


def test_a_strategy_of_the_manifest_takes_the_place_of_one_that_is_there() -> None:
    mine = Strategy(name="canary", steps=(RolloutStep(set_weight=1),))
    entry = msgspec.convert(
        {"service": "bank", "store": "store", "strategies": msgspec.to_builtins([mine])},
        DeliveryEntry,
        dec_hook=lambda kind, value: kind(value),
    )
    assert strategy_of(entry, "") == mine
    with pytest.raises(UsageError, match="'purple'"):
        strategy_of(entry, "purple")
