"""What of an incident's alerts tells that it goes on."""

from __future__ import annotations

import msgspec
from incident_world import NOON, alert

from nvcops.incidents.correlation import going_on, row_of


def test_a_slow_burn_rate_alone_does_not_say_that_it_goes_on() -> None:
    door, slow, fast = (
        row_of(1, alert(kind="http", probe="door")),
        row_of(1, alert(burn="6")),
        row_of(1, alert(burn="14.4")),
    )
    over = msgspec.structs.replace(door, ends=NOON)
    assert going_on([door, slow]) == [door]
    assert going_on([over, slow]) == []
    assert going_on([over, fast]) == [fast]
    assert going_on([slow]) == [slow], "nothing else was ever seen"
