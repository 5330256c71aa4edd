"""What a change took of an objective's time: only approved beforehand, from its beginning on, and no repair."""

from __future__ import annotations

from typing import Any

import pytest
from changes_world import DAY, HOUR, MINUTE, NOON, World, approved, change

from nvcops.changes.excluding import excluded
from nvcops.core.changes import ChangeCategory, ChangeState, Consent

DONE = {"state": ChangeState.SUCCESSFUL, "runs": ("optimize-indexes@1",), "began": NOON, "done": NOON + HOUR}
IN_RUN = (Consent(person="omar", time=NOON, run="optimize-indexes@1"),)


def spans(world: World, one: Any) -> list[tuple[float, float]]:
    world.put(one)
    with world.records.reading() as reading:
        found = excluded(reading, NOON - DAY, NOON + DAY)
    return [((span.start - NOON) / HOUR, (span.end - NOON) / HOUR) for span in found]


def test_it_is_left_out_from_its_beginning_to_its_end(world: World) -> None:
    assert spans(world, approved(1, **DONE)) == [(0, 1)]
    assert spans(world, approved(1, **(DONE | {"done": None}))) == [(0, 4)]
    assert spans(world, approved(1, **(DONE | {"done": NOON + DAY}))) == [(0, 4)]


@pytest.mark.parametrize(
    "fields",
    [
        {"began": None},
        {"approved_by": ()},
        {"approved_by": IN_RUN},
        {"category": ChangeCategory.EMERGENCY},
        {"began": NOON - 2 * DAY, "done": NOON - 2 * DAY + MINUTE},
        {"began": NOON + 2 * DAY},
        {"done": NOON},
        {"runs": ()},
    ],
)
def test_what_was_not_approved_before_excuses_nothing(world: World, fields: dict[str, Any]) -> None:
    assert spans(world, approved(1, **(DONE | fields))) == []


def test_a_standard_change_is_approved_before(world: World) -> None:
    assert spans(world, change(1, **(DONE | {"standard": "index"}))) == [(0, 1)]
