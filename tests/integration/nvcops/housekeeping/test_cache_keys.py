"""A real Valkey: its keys are counted by namespace, the large ones found, and swept at a pace; others stay."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import valkey

from nvclab.parts import valkey as part
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.errors import Unreachable

KEYS = 3_000


@pytest.fixture(scope="module")
def server() -> Iterator[part.Valkey]:
    with part.temporary() as running:
        yield running


@pytest.fixture
def client(server: part.Valkey) -> Iterator[valkey.Valkey]:
    with valkey.Valkey(port=server.port) as made:
        made.flushall()
        yield made


@pytest.fixture
def cache(server: part.Valkey) -> ValkeyServer:
    return ValkeyServer(name="cache", url=f"valkey://127.0.0.1:{server.port}/0", deadline_s=2.0)


def fill(client: valkey.Valkey, pattern: str, count: int, *, expiry: int | None = 600) -> None:
    with client.pipeline(transaction=False) as batch:
        for number in range(count):
            batch.set(pattern.replace("*", str(number)), "x" * 50, ex=expiry)
        batch.execute()


def test_keys_are_counted_by_their_namespace(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "session:*", KEYS)
    fill(client, "quote:*", 40, expiry=None)
    fill(client, "stray-*", 3)
    seen = cache.keyspace(["session:*", "quote:*"], keys_max=100_000, deadline_s=10)
    assert (seen.keys, seen.scanned) == (KEYS + 43, KEYS + 43)
    assert all(held.whole for held in seen.held)
    assert {held.pattern: held.keys for held in seen.held} == {"session:*": KEYS, "quote:*": 40, "": 3}
    quotes = next(held for held in seen.held if held.pattern == "quote:*")
    assert quotes.lasting == quotes.measured > 0
    assert 40 * 50 < quotes.bytes < 40 * 500


def test_the_largest_key_is_found_and_its_name_kept(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "quote:*", 100)
    client.rpush("quote:secret-token", *(["y" * 1000] * 500))
    largest = cache.keyspace(["quote:*"], keys_max=100_000, deadline_s=10).largest[0]
    assert (largest.kind, largest.name) == ("list", "quote:... (18 letters)")
    assert largest.bytes > 400_000


def test_the_hottest_keys_are_known_where_the_server_counts_them(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "quote:*", 50)
    assert cache.keyspace([], keys_max=100, deadline_s=5).hottest is None
    client.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        fill(client, "quote:*", 50)
        for _ in range(3_000):
            client.get("quote:7")
        hottest = cache.keyspace(["quote:*"], keys_max=1_000, deadline_s=5).hottest
        assert hottest
        assert (hottest[0].frequency or 0) > (hottest[1].frequency or 0)
    finally:
        client.config_set("maxmemory-policy", "volatile-ttl")


def test_a_walk_ends_at_its_limit(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "session:*", KEYS)
    seen = cache.keyspace([], keys_max=1_000, deadline_s=10)
    assert 1_000 <= seen.scanned < KEYS
    assert seen.keys == KEYS
    assert [held.whole for held in seen.held] == [False]
    assert seen.held[0].counted.startswith("at least ")


def test_a_sweep_removes_what_fits_and_nothing_else_in_its_own_time(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "quote:*", KEYS)
    fill(client, "session:*", 100)
    cursor, removed, parts, began = 0, 0, 0, time.monotonic()
    while True:
        swept = cache.sweep("quote:*", cursor, keys_max=1_000, seconds=0.3)
        cursor, removed, parts = swept.cursor, removed + swept.removed, parts + 1
        if cursor == 0:
            break
    assert (removed, client.dbsize()) == (KEYS, 100)
    assert parts >= 3
    assert time.monotonic() - began >= 0.8, "it is spread over the time"


def test_a_sweep_spares_what_belongs_to_another_namespace(client: valkey.Valkey, cache: ValkeyServer) -> None:
    fill(client, "bank:quote:*", 40)
    fill(client, "bank:session:*", 30)
    swept = cache.sweep("bank:*", 0, keys_max=10_000, seconds=0.1, spared=["bank:sess[h-j]on:*"])
    assert swept.removed == 30 + 40 - client.dbsize() == 40
    assert sum(1 for _ in client.scan_iter(match="bank:session:*")) == 30


@pytest.mark.parametrize(
    "pattern", ["a[^b]c", r"a\*c", "a?c", "a[b-d]*", "a[]c", "a*", "*é*", "a??c", "a[!b]c", r"a[\]]c"]
)
def test_keys_are_counted_below_the_patterns_by_which_the_server_finds_them(
    client: valkey.Valkey, cache: ValkeyServer, pattern: str
) -> None:
    names = ["abc", "axc", "a*c", "acc", "a!c", "a]c", "é", "aéc", "abd\nx", "[", b"a\xffc"]
    for name in names:
        client.set(name, "x")
    found = sum(1 for _ in client.scan_iter(match=pattern))
    held = cache.keyspace([pattern], keys_max=1_000, deadline_s=10).held
    assert held[0].keys == found


def test_a_cache_that_is_not_there_is_unreachable() -> None:
    nowhere = ValkeyServer(name="cache", url="valkey://127.0.0.1:1/0", deadline_s=0.5)
    for question in (nowhere.info, lambda: nowhere.keyspace([], keys_max=1, deadline_s=1)):
        with pytest.raises(Unreachable):
            question()
