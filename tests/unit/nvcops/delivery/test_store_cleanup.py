"""Which artifacts leave the store: never one that somebody has, nor while that is not known."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from nvcops.core.releases import Release
from nvcops.delivery.cleanup import Kept, Left, gone_from_store
from nvcops.delivery.strategies import SlotSeen, Standing

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
RELEASES = [
    Release(digest=f"{n:064x}", name="shop", version=f"1.{n}", size=1, built=NOON + dt.timedelta(hours=n), builder="ci")
    for n in range(6, 0, -1)
]
NEWEST_FIRST = [one.digest for one in RELEASES]
SIX, FIVE, FOUR, THREE, TWO, ONE = NEWEST_FIRST
LEFT = Left(
    seen=Standing(slots=(SlotSeen(slot="a", main=True, digest=SIX, release=THREE),)),
    hosts=(Kept(slot="a", digests=(SIX, TWO)),),
    now=NOON,
)


def test_what_is_in_a_slot_on_a_host_or_among_the_newest_stays() -> None:
    assert gone_from_store(LEFT, RELEASES, 2) == [ONE, FOUR]
    assert gone_from_store(LEFT, RELEASES, 3) == [ONE]
    assert gone_from_store(LEFT, RELEASES, 6) == []
    assert gone_from_store(LEFT, [], 2) == []


@pytest.mark.parametrize(
    "change",
    [{"busy": "deploy-1"}, {"hosts": (*LEFT.hosts, Kept(slot="b", trouble="it does not answer"))}],
    ids=["a rollout is under way", "a host does not answer"],
)
def test_nothing_goes_while_it_is_not_known_who_needs_it(change: dict[str, object]) -> None:
    assert gone_from_store(msgspec.structs.replace(LEFT, **change), RELEASES, 2) == []
