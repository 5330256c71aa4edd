"""What is said of a cache, and what may be removed from it."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from nvcops.core.caches import Held, Key, Keyspace
from nvcops.core.checks import Finding, Verdict
from nvcops.core.errors import UsageError
from nvcops.core.manifest import CacheNamespace, Limits
from nvcops.core.procedures import find
from nvcops.housekeeping.cache import Reviewed, Use, others, review_findings, the_namespace, use_of

NAMESPACES = (
    CacheNamespace(name="sessions", pattern="session:*", about="who is signed in"),
    CacheNamespace(name="quotes", pattern="quote:*", disposable=True),
)
WELL = Use(hits=9_900, misses=100, memory=10 << 20, memory_max=1 << 30, policy="volatile-ttl", fragmentation=1.1)
KEYS = Keyspace(keys=2, scanned=2, held=(Held(pattern="session:*", keys=2, measured=2, measured_bytes=200),))


def lines(use: Use = WELL, keyspace: Keyspace = KEYS) -> dict[str, Finding]:
    seen = Reviewed(name="cache", use=use, keyspace=keyspace)
    return {finding.check: finding for finding in review_findings(seen, NAMESPACES, Limits())}


def test_a_cache_that_serves_well_has_nothing_wrong() -> None:
    assert {finding.verdict for finding in lines().values()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("use", "check", "verdict"),
    [
        (Use(hits=700, misses=300), "cache.misses", Verdict.WARNING),
        (Use(memory=95, memory_max=100), "cache.memory", Verdict.CRITICAL),
        (Use(evicted=1), "cache.evictions", Verdict.WARNING),
        (Use(memory=1 << 30, memory_max=8 << 30, fragmentation=4.0), "cache.fragmentation", Verdict.CRITICAL),
    ],
)
def test_a_counter_over_its_limit_is_told(use: Use, check: str, verdict: Verdict) -> None:
    assert lines(use)[check].verdict is verdict


def test_keys_that_never_expire_large_ones_and_strays_are_told() -> None:
    keys = Keyspace(
        keys=1_000,
        scanned=1_000,
        held=(
            Held(pattern="session:*", keys=600, measured=600, measured_bytes=60_000, lasting=600),
            Held(pattern="", keys=400, measured=400, measured_bytes=40_000),
        ),
        largest=(Key(name="... (9 letters)", kind="hash", bytes=2 << 20),),
        hottest=(Key(name="quote:... (12 letters)", kind="string", bytes=9, frequency=201),),
    )
    told = lines(keyspace=keys)
    assert told["cache.lasting"].verdict is Verdict.CRITICAL
    assert told["cache.large_keys"].observed == "2 MiB: a hash, ... (9 letters)"
    assert told["cache.hot_keys"].observed == "quote:... (12 letters) 201 (of 255)"
    assert (told["cache.strays"].verdict, told["cache.strays"].observed) == (Verdict.WARNING, "400, about 39.1 KiB")


def test_a_cache_that_does_not_answer_is_unknown_and_says_why() -> None:
    found = review_findings(Reviewed(name="cache", trouble="it does not answer"), NAMESPACES, Limits())
    assert {(one.verdict, one.observed) for one in found} == {(Verdict.UNKNOWN, "it does not answer")}


def test_the_fields_of_info_are_understood() -> None:
    seen = use_of({"keyspace_hits": 5, "maxmemory": 0, "total_system_memory": 9, "mem_fragmentation_ratio": "1.5"})
    assert (seen.hits, seen.memory_max, seen.fragmentation) == (5, 9, 1.5)


def manifest() -> Any:
    return SimpleNamespace(cache=SimpleNamespace(namespaces=NAMESPACES))


def test_an_unknown_namespace_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as error:
        the_namespace(manifest(), "sesions")
    assert "sessions, quotes" in error.value.hint


@pytest.mark.parametrize("name", ["sessions", "all"])
def test_a_clean_up_never_takes_what_customers_would_miss(name: str) -> None:
    run = SimpleNamespace(started=dt.datetime.now(dt.UTC))
    with pytest.raises(UsageError, match="not disposable"):
        find("cache-clean-up").function(run, SimpleNamespace(manifest=manifest()), namespace=name)


def test_a_flush_asks_a_second_person_and_a_clean_up_does_not() -> None:
    assert find("cache-flush").approval
    assert not find("cache-clean-up").approval


def test_a_key_that_fits_two_namespaces_goes_with_its_own_alone() -> None:
    vip = CacheNamespace(name="vip", pattern="bank:vip:*")
    quotes = CacheNamespace(name="quotes", pattern="bank:quote:*", disposable=True)
    bank = CacheNamespace(name="bank", pattern="bank:*", disposable=True)
    login = CacheNamespace(name="login", pattern="bank:login:*")
    known = (quotes, vip, bank, login)
    there: Any = SimpleNamespace(cache=SimpleNamespace(namespaces=known))
    assert others(there, bank) == ["bank:quote:*", "bank:vip:*", "bank:login:*"]
    assert others(there, login) == ["bank:quote:*", "bank:vip:*", "bank:*"]
    assert others(there, the_namespace(there, "all")) == []


@pytest.mark.parametrize("rate", [0, -1, 1_000_001])
def test_a_pace_that_is_none_is_refused_before_anybody_is_asked(rate: int) -> None:
    run = SimpleNamespace(started=dt.datetime.now(dt.UTC))  # it can neither read nor ask
    with pytest.raises(UsageError, match="no pace"):
        find("cache-flush").function(run, SimpleNamespace(manifest=manifest()), namespace="all", rate=rate, reason="x")


def test_what_was_counted_in_part_is_said_to_be() -> None:
    keys = Keyspace(keys=9_000, scanned=1_000, held=(Held(pattern="", keys=1_000, whole=False),))
    assert "1,000 of the first 1,000" in lines(keyspace=keys)["cache.strays"].observed
