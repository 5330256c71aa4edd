"""What an alert is after messages of it came in any order."""

from __future__ import annotations

import datetime as dt

import pytest
from alerts_world import at, said
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts.merging import REMEMBERED, merge
from nvcops.alerts.said import PROBES, Said
from nvcops.core.alerts import Alert

PATIENCE = dt.timedelta(minutes=5)


def after(*messages: tuple[float, Said]) -> Alert:
    alert: Alert | None = None
    for seconds, one in messages:
        alert = merge(alert, one, at(seconds), PATIENCE) or alert
    assert alert is not None
    return alert


def test_the_start_of_a_firing_does_not_move() -> None:
    alert = after((0, said(starts=-10)), (1, said(starts=-20)), (2, said(starts=1)))
    assert (alert.starts, alert.times, alert.noticed, alert.updated) == (at(-10), 3, at(0), at(2))


def test_an_end_that_overtakes_its_beginning_keeps_the_beginning_from_opening() -> None:
    alert = after((1, said(starts=-60, ends=-10, over=True)), (2, said(starts=-60)))
    assert (alert.starts, alert.ends) == (at(-60), at(-10))
    assert merge(None, said(over=True), at(0), PATIENCE) is None, "without a start nothing is known to be late"


def test_the_end_of_an_earlier_firing_does_not_end_a_later_one() -> None:
    alert = after((0, said(starts=0)), (1, said(starts=-60, ends=-30, over=True)))
    assert alert.ends is None


def test_an_end_without_a_start_ends_what_fires_whatever_the_clocks_say() -> None:
    alert = after((0, said()), (10, said(ends=-5, over=True)))
    assert alert.ends == at(0)


def test_what_we_see_ourselves_ends_also_when_our_clock_was_put_back() -> None:
    down = Said(labels={"alertname": "ProbeDown"}, starts=at(3600), source=PROBES)
    up = Said(labels={"alertname": "ProbeDown"}, ends=at(60), over=True, source=PROBES)
    assert not after((3600, down), (61, up)).firing(at(61))


@pytest.mark.parametrize("earlier", [{"starts": 1}, {}])
@pytest.mark.parametrize("again", [[(3.1, 3)], [(3.1, 3), (3.2, 1)], [(3.1, 1), (3.2, 3)]])
def test_the_end_of_an_earlier_firing_that_comes_late_does_not_end_the_later_one(
    earlier: dict[str, float], again: list[tuple[float, float]]
) -> None:
    fires = [(1.0, said(starts=1)), *((seconds, said(starts=starts)) for seconds, starts in again)]
    late = said(ends=2, over=True, **earlier)
    assert after(*fires, (4, late)).firing(at(4))
    assert not after(*fires, (4, late), (6, said(ends=5, over=True, **earlier))).firing(at(6))


@pytest.mark.parametrize(
    ("starts", "seconds", "fires"),
    [
        (0, 11, False),
        (0, 10 + REMEMBERED.total_seconds() - 1, False),
        (0, 10 + REMEMBERED.total_seconds(), True),
        (5, 10 + 299, False),
        (5, 10 + 300, True),
        (11, 11, True),
        (None, 11, True),
    ],
)
def test_who_is_late_and_who_is_believed(starts: float | None, seconds: float, fires: bool) -> None:
    ended = ((0, said(starts=0)), (10, said(starts=0, ends=10, over=True)))
    alert = after(*ended, (seconds, said(starts=starts)))
    assert alert.firing(at(seconds)) is fires


def test_what_ran_out_fires_anew_and_begins_now() -> None:
    alert = after((0, said(starts=0, lasts=False)), (400, said(starts=0, lasts=False)))
    assert (alert.starts, alert.times, alert.expires) == (at(400), 1, at(700))


def test_an_end_that_is_said_after_it_ran_out_is_the_end_and_what_is_late_stays_late() -> None:
    ran_out = (0, said(starts=0, lasts=False))
    alert = after(ran_out, (400, said(starts=0, ends=350, over=True)), (401, said(starts=0, lasts=False)))
    assert (alert.ends, alert.firing(at(401))) == (at(350), False)


def test_the_source_may_say_until_when_it_counts() -> None:
    alert = after((0, said(starts=0, ends=60, lasts=False)))
    assert (alert.firing(at(59)), alert.firing(at(60))) == (True, False)


MESSAGES = [
    (said(starts=0, lasts=False), at(0)),
    (said(starts=0, lasts=False), at(60)),
    (said(starts=0, ends=100, over=True), at(100)),
]


@settings(deadline=None)
@given(st.permutations([*MESSAGES, *MESSAGES]))
def test_in_whatever_order_and_how_often_a_firing_and_its_end_arrive_it_is_over(
    messages: list[tuple[Said, dt.datetime]],
) -> None:
    alert: Alert | None = None
    ended = False
    for number, (one, _) in enumerate(messages):
        alert = merge(alert, one, at(100 + number), PATIENCE) or alert
        ended = ended or one.over
        assert alert is not None
        assert alert.firing(at(100 + number)) is not ended
    assert alert is not None
    assert (alert.starts, alert.ends) == (at(0), at(100))
