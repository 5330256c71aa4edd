"""What is measured of a change, and what is said where something cannot be read."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from changes_world import DAY, HOUR, NOON, World, change

from nvcops.changes import measuring, risk
from nvcops.changes.measuring import Asked, inconvenience, measure, of_files, touched
from nvcops.core.changes import ChangeKind, ChangeState
from nvcops.core.commits import Brought, Commit, Touched
from nvcops.core.errors import NotFoundError
from nvcops.core.target import Increase


def asked(**fields: Any) -> Asked:
    return Asked(**({"kind": ChangeKind.INDEX, "author": "dana", "at": NOON} | fields))


def local(day: int, hour: int, minute: int = 0) -> dt.datetime:
    """A moment of November 2026 in New York; the 26th is Thanksgiving, the 27th a Friday."""
    return dt.datetime(2026, 11, day, hour + 5, minute, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("at", "bad"),
    [
        (local(24, 12), 0.0),
        (local(24, 8, 59), 1.0),
        (local(24, 9), 0.0),
        (local(24, 17, 59), 0.0),
        (local(24, 18), 1.0),
        (local(25, 13, 59), 0.0),
        (local(25, 14), 0.5),  # the day before a holiday
        (local(26, 12), 1.0),
        (local(27, 14), 0.5),
        (local(28, 12), 1.0),
    ],
)
def test_a_bad_time_is_one_at_which_nobody_is_there(world: World, at: dt.datetime, bad: float) -> None:
    assert inconvenience(world.manifest, at) == bad


def test_what_is_below_all_services_touches_all(world: World) -> None:
    assert touched(world.manifest, asked()) == (("bank",), ())
    assert touched(world.manifest, asked(kind=ChangeKind.DEPLOYMENT)) == (("bank",), ())
    two = (*world.manifest.services, SimpleNamespace(name="cards"))
    house: Any = SimpleNamespace(services=two, delivery=None)
    assert touched(house, asked(services=("bank",))) == (("bank",), ("cards",))
    assert touched(house, asked(kind=ChangeKind.DEPLOYMENT, services=("bank",))) == (("bank",), ())


def test_the_files_say_size_history_experience_and_cover() -> None:
    assert of_files(Brought()) == {}
    files = (
        Touched(path="a", lines=9_999, commits=99, by_author=True, statements=10, covered=5),
        Touched(path="b", lines=1, commits=0),
    )
    found = of_files(Brought(files=files))
    assert found["size"] == pytest.approx(1.0, abs=1e-4)
    assert found["history"] == pytest.approx(0.998, abs=1e-3)
    assert found["inexperience"] == 0.5
    assert found["uncovered"] == 0.5
    assert "uncovered" not in of_files(Brought(files=files[1:]))
    huge = (Touched(path="c", lines=10**9, commits=10**6),)
    assert max(of_files(Brought(files=huge)).values()) == 1.0


def test_a_deployment_is_measured_by_what_lies_between_two_releases(world: World) -> None:
    revisions = {"a" * 64: "1111111", "b" * 64: "2222222"}
    world.target.releases = SimpleNamespace(find=lambda digest: SimpleNamespace(revision=revisions[digest]))
    commit = Commit("1", NOON - DAY, "dana", "x")
    world.commits.what = Brought(commits=(commit,), files=(Touched(path="a", lines=10),))
    before = [change(1, state=ChangeState.SUCCESSFUL, kind=ChangeKind.DEPLOYMENT, digest="a" * 64)]
    found = measure(world.target, asked(kind=ChangeKind.DEPLOYMENT, digest="b" * 64, schema=True), before)
    assert world.commits.wanted == [("1111111", "2222222")]
    assert found.committed == (NOON - DAY,)
    assert found.features["schema"] == 1.0
    assert found.features["inexperience"] == 1.0
    assert found.risk is None
    measure(world.target, asked(kind=ChangeKind.DEPLOYMENT, digest="b" * 64), [])
    assert world.commits.wanted[-1] == ("", "2222222")


def test_what_cannot_be_read_is_said_and_not_made_up(world: World) -> None:
    def nowhere(_digest: str) -> Any:
        raise NotFoundError("there is no release bbb")

    world.target.releases = SimpleNamespace(find=nowhere)
    world.figures.down = True
    found = measure(world.target, asked(kind=ChangeKind.DEPLOYMENT, digest="b" * 64), [])
    assert "there is no release bbb" in found.impact
    assert "the error budgets are not known: the metrics do not answer" in found.impact
    assert "requests to bank: not known" in found.impact
    assert found.budgets == {}
    assert set(found.features) == {"time", "blast"}


def test_customers_and_budgets_are_said(world: World) -> None:
    world.figures.asked_of = (1_000, 999)

    def rises(_series: str, start: dt.datetime, end: dt.datetime) -> list[Increase]:
        return [Increase({"status": "200"}, 1_200)] if end - start == HOUR else []

    world.figures.rises = rises
    found = measure(world.target, asked(), [])
    assert "requests to bank in the last hour: 1,200" in found.impact
    assert "error budget of errors: 0 counted, too few to say" in found.impact
    assert len(found.budgets) == 1


def test_one_bad_look_of_a_young_platform_freezes_nothing(world: World) -> None:
    world.figures.asked_of = (999, 998)
    found = measure(world.target, asked(), [])
    assert found.budgets == {}
    assert "error budget of availability: 999 counted, too few to say" in found.impact


def test_the_history_is_in_the_order_of_requests() -> None:
    def one(number: int, state: ChangeState, days: int, **features: float) -> Any:
        return change(number, state=state, requested=NOON - days * DAY, features=features)

    found = measuring.history_of(
        [
            one(1, ChangeState.FAILED, 1, size=1.0),
            one(2, ChangeState.SUCCESSFUL, 2, size=0.0),
            one(3, ChangeState.FAILED, 3),
        ]
    )
    assert [outcome.failed for outcome in found] == [False, True]
    assert found[0].points < found[1].points == risk.points_of({"size": 1.0})
