"""What can be wrong with a canary's metrics: each takes good looks and a seed, and spoils them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from nvcops.delivery.looks import Look, Reading

Looks = Sequence[Look]
Spoil = Callable[[Reading], Sequence[Reading]]
CANARY, CONTROL = ("c1", "c2"), ("b1", "b2")
FIELDS = ("requests", "bad", "0.05", "0.1", "0.25", "+Inf")


def spoiled(looks: Looks, since: int, names: Sequence[str], spoil: Spoil) -> list[Look]:
    """The looks, with the readings of some instances spoiled from one look on."""
    return [
        look
        if number < since
        else Look(
            time=look.time,
            readings=tuple(new for r in look.readings for new in (spoil(r) if r.instance in names else [r])),
        )
        for number, look in enumerate(looks)
    ]


def valued(reading: Reading, field: str, value: float | None) -> Reading:
    if field in ("requests", "bad"):
        return msgspec.structs.replace(reading, **{field: value})
    return msgspec.structs.replace(reading, buckets={**reading.buckets, field: value})


def value_of(reading: Reading, field: str) -> float:
    return (reading.requests if field == "requests" else reading.bad if field == "bad" else reading.buckets[field]) or 0


def anyone(rng: random.Random) -> list[str]:
    return rng.sample(CANARY + CONTROL, rng.randint(1, 4))


def missing(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    return spoiled(looks, since, anyone(rng), lambda _: [])


def empty(looks: Looks, _: random.Random, since: int) -> list[Look]:
    return spoiled(looks, since, CANARY + CONTROL, lambda _: [])


def no_looks(looks: Looks, _: random.Random, since: int) -> list[Look]:
    return list(looks[:since])


def unread(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    field = rng.choice(FIELDS)
    return spoiled(looks, since, anyone(rng), lambda r: [valued(r, field, None)])


def untimed(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    time = rng.choice([None, float("nan"), float("inf")])
    return spoiled(looks, since, anyone(rng), lambda r: [msgspec.structs.replace(r, time=time)])


def no_number(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    field, value = rng.choice(FIELDS), rng.choice([float("nan"), float("inf"), float("-inf")])
    return spoiled(looks, since, anyone(rng), lambda r: [valued(r, field, value)])


def once_no_count(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    """One look only; after that nobody believes them any more."""
    field, value = rng.choice(FIELDS), rng.choice([-1, -1e9, 0.5, 1e300])
    broken = spoiled(looks, since, anyone(rng), lambda r: [valued(r, field, value)])
    return [*broken[: since + 1], *looks[since + 1 :]]


def renamed(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    name = rng.choice(["c3", "", "C1", "c1 ", "b9"])
    return spoiled(looks, since, anyone(rng), lambda r: [msgspec.structs.replace(r, instance=name)])


def edge_renamed(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    edge = rng.choice(FIELDS[2:])

    def rename(reading: Reading) -> list[Reading]:
        buckets = {(key + "0" if key == edge else key): value for key, value in reading.buckets.items()}
        return [msgspec.structs.replace(reading, buckets=buckets)]

    return spoiled(looks, since, anyone(rng), rename)


def begun_anew(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    names = anyone(rng)
    base = {r.instance: r for r in looks[since].readings}

    def anew(reading: Reading) -> list[Reading]:
        for field in FIELDS:
            reading = valued(reading, field, value_of(reading, field) - value_of(base[reading.instance], field))
        return [reading]

    return spoiled(looks, since, names, anew)


def doubled(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    return spoiled(looks, since, anyone(rng), lambda r: [r, r])


def looks_repeated(looks: Looks, _: random.Random, since: int) -> list[Look]:
    return [*looks[: since + 1], looks[since], *looks[since + 1 :]]


def looks_swapped(looks: Looks, _: random.Random, since: int) -> list[Look]:
    return [*looks[:since], looks[since + 1], looks[since], *looks[since + 2 :]]


def shifted(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    """Some instances, never all: by more than may lie between two readings."""
    seconds = rng.choice([-300, -60, -20, -6, 2, 6, 60, 3600])
    names = rng.sample(CANARY + CONTROL, rng.randint(1, 3))
    return spoiled(looks, since, names, lambda r: [msgspec.structs.replace(r, time=(r.time or 0) + seconds)])


def stale(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    names = anyone(rng)
    held = {r.instance: r for r in looks[since].readings}
    return spoiled(looks, since, names, lambda r: [held[r.instance]])


def standing_still(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    """The counters stand still, and only the time of reading goes on."""
    early = since // 3
    held = {r.instance: r for r in looks[early].readings}
    return spoiled(looks, early, anyone(rng), lambda r: [msgspec.structs.replace(held[r.instance], time=r.time)])


def constant(looks: Looks, rng: random.Random, _: int) -> list[Look]:
    """A series of one whole side has said the same from the start."""
    names, field = rng.choice([CANARY, CONTROL]), rng.choice(["requests", "bad", "0.1", "+Inf"])
    value = rng.choice([0, 1, 7, 1000])
    return spoiled(looks, 0, names, lambda r: [valued(r, field, value)])


def one_for_both(looks: Looks, rng: random.Random, _: int) -> list[Look]:
    """The same series under two names."""
    one, other = rng.sample(CANARY + CONTROL, 2)
    held = {look.time: r for look in looks for r in look.readings if r.instance == one}
    return [
        Look(
            time=look.time,
            readings=tuple(
                msgspec.structs.replace(held[look.time], instance=other) if r.instance == other else r
                for r in look.readings
            ),
        )
        for look in looks
    ]


def sides_swapped(looks: Looks, _: random.Random, __: int) -> list[Look]:
    swap = dict(zip(CANARY + CONTROL, CONTROL + CANARY, strict=True))
    return spoiled(looks, 0, CANARY + CONTROL, lambda r: [msgspec.structs.replace(r, instance=swap[r.instance])])


def more_bad_than_all(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    return spoiled(looks, since, anyone(rng), lambda r: [valued(r, "bad", value_of(r, "bad") + 1_000_000)])


def edges_crossed(looks: Looks, rng: random.Random, since: int) -> list[Look]:
    """A quick request too many: more than there were in all, or than under the next edge."""
    field = rng.choice(["0.05", "0.1", "0.25"])
    return spoiled(looks, since, anyone(rng), lambda r: [valued(r, field, value_of(r, field) + 1_000_000)])


ALL = (
    missing, empty, no_looks, unread, untimed, no_number, once_no_count, renamed, edge_renamed, begun_anew, doubled,
    looks_repeated, looks_swapped, shifted, stale, standing_still, constant, one_for_both, sides_swapped,
    more_bad_than_all, edges_crossed,
)  # fmt: skip
