"""What two releases differ in, and which may go."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nvcops.core.releases import Component, Inventory, Migration, Release
from nvcops.delivery.releases import Difference, difference, removable

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
GOODS = Migration(name="0001_expand_goods.sql", sha256="1" * 64)
PRICES = Migration(name="0002_expand_prices.sql", sha256="2" * 64)
NO_GOODS = Migration(name="0003_contract_goods.sql", sha256="3" * 64, contract=True)
ALPHA = Component(name="alpha", version="1.0", licences=("MIT",))


def release(number: int = 0, migrations: tuple[Migration, ...] = (GOODS,), lock: str = "a") -> Release:
    return Release(
        digest=f"{number:064x}",
        name="shop",
        version=f"1.{number}",
        size=1,
        built=NOON + dt.timedelta(hours=number),
        builder="ci",
        lock=lock,
        migrations=migrations,
    )


def inventory(one: Release, files: dict[str, str] | None = None, components: tuple[Component, ...] = ()) -> Inventory:
    return Inventory(release=one, files=files or {}, components=components)


def test_a_release_differs_in_nothing_from_itself() -> None:
    one = inventory(release(), {"app/a.py": "1"}, (ALPHA,))
    assert difference(one, one).nothing
    assert difference(one, one) == Difference()


def test_components_come_go_and_change() -> None:
    old = inventory(release(), components=(ALPHA, Component(name="beta", version="1")))
    newer = Component(name="alpha", version="1.1", licences=("GPL-3.0-only",))
    new = inventory(release(lock="b"), components=(newer, Component(name="gamma", version="1")))
    found = difference(old, new)
    assert [one.name for one in found.added] == ["gamma"]
    assert [one.name for one in found.removed] == ["beta"]
    assert [(one.name, one.old.version, one.new.version) for one in found.updated] == [("alpha", "1.0", "1.1")]
    assert not found.same_lock
    assert not found.nothing


def test_migrations_that_come_are_told_from_those_that_were_rewritten_or_withdrawn() -> None:
    old, new = inventory(release()), inventory(release(migrations=(GOODS, PRICES)))
    assert difference(old, new).new_migrations == (PRICES,)
    assert not difference(old, new).contracts
    assert difference(new, old).withdrawn == (PRICES.name,)
    contracting = inventory(release(migrations=(GOODS, PRICES, NO_GOODS)))
    assert difference(new, contracting).contracts
    assert not difference(contracting, new).contracts
    other = Migration(name=GOODS.name, sha256="9" * 64)
    assert difference(old, inventory(release(migrations=(other,)))).rewritten == (GOODS.name,)


def test_files_are_the_services_own() -> None:
    old = inventory(release(), {"app/a.py": "1", "app/b.py": "1", "sbom.cdx.json": "1", "wheels/x.whl": "1"})
    new = inventory(release(), {"app/a.py": "2", "app/c.py": "1", "sbom.cdx.json": "2"})
    found = difference(old, new)
    assert found.changed_files == ("app/a.py",)
    assert found.new_files == ("app/c.py",)
    assert found.removed_files == ("app/b.py",)


def test_the_newest_stay_and_the_oldest_go_first() -> None:
    kept = [release(number) for number in (3, 1, 4, 0, 2)]
    assert [one.version for one in removable(kept, 2, ())] == ["1.0", "1.1", "1.2"]
    assert [one.version for one in removable(kept, 2, {release(1).digest})] == ["1.0", "1.2"]
    assert removable(kept, 5, ()) == ()
    assert removable([], 1, ()) == ()


def test_at_least_one_is_kept() -> None:
    with pytest.raises(ValueError, match="at least one"):
        removable([release()], 0, ())


@settings(deadline=None)
@given(some.lists(some.integers(0, 30), unique=True), some.integers(1, 10), some.sets(some.integers(0, 30)))
def test_what_is_in_use_or_new_is_never_removed(numbers: list[int], keep: int, used: set[int]) -> None:
    releases = [release(number) for number in numbers]
    in_use = {release(number).digest for number in used}
    going = removable(releases, keep, in_use)
    staying = [one for one in releases if one not in going]
    assert not any(one.digest in in_use for one in going)
    assert len(staying) >= min(keep, len(releases))
    newest = sorted(releases, key=lambda one: one.built)[-keep:]
    assert all(one in staying for one in newest)
    assert list(going) == sorted(going, key=lambda one: one.built)
    assert all(one.digest in in_use or one in newest for one in staying)
