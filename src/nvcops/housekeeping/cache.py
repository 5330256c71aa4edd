"""The cache: how well it serves, what lies in it, and how it is cleaned without hurting those who live by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nvcops.changes import carrying
from nvcops.core.caches import Cache, Held, Keyspace, Pace, Sweep
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError, UsageError
from nvcops.core.manifest import CacheNamespace, Limits, Manifest
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Count, Ratio, Seconds

_KEYS_MAX = 200_000
_WALK_S = 30.0
_LOOKUPS_MIN = 1_000
_KEYS_MIN = 100
_COUNTED_MAX = 5_000_000
_RATE_MAX = 1_000_000

# --- Facts ---


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How a cache is used, of its INFO: counters since it was started, bytes, and operations in the last second."""

    hits: int = 0
    misses: int = 0
    expired: int = 0
    evicted: int = 0
    memory: int = 0
    memory_max: int = 0
    fragmentation: float = 0.0
    policy: str = ""
    clients: int = 0
    blocked: int = 0
    operations: int = 0
    up_s: float = 0.0


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the cache; `trouble` says why nothing was."""

    name: str = ""
    use: Use | None = None
    keyspace: Keyspace | None = None
    trouble: str = ""


@conduct(deadline="2 min", idempotent=True)
def reviewed(target: Target) -> Reviewed:
    """Read the cache's counters, and walk through its keys."""
    cache, entry = target.cache, target.manifest.cache
    if cache is None or entry is None:
        return Reviewed(trouble="platform.toml names no [cache]")
    patterns = [namespace.pattern for namespace in entry.namespaces]
    try:
        use = use_of(cache.info())
        return Reviewed(
            name=cache.name, use=use, keyspace=cache.keyspace(patterns, keys_max=_KEYS_MAX, deadline_s=_WALK_S)
        )
    except TargetError as error:
        return Reviewed(name=cache.name, trouble=error.sentence)


def use_of(info: Mapping[str, Any]) -> Use:
    """What matters of the fields of INFO."""
    return Use(
        hits=int(info.get("keyspace_hits", 0)),
        misses=int(info.get("keyspace_misses", 0)),
        expired=int(info.get("expired_keys", 0)),
        evicted=int(info.get("evicted_keys", 0)),
        memory=int(info.get("used_memory", 0)),
        memory_max=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        fragmentation=float(info.get("mem_fragmentation_ratio", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        clients=int(info.get("connected_clients", 0)),
        blocked=int(info.get("blocked_clients", 0)),
        operations=int(info.get("instantaneous_ops_per_sec", 0)),
        up_s=float(info.get("uptime_in_seconds", 0)),
    )


# --- Rules ---

READ = Check("cache.read", "Cache review", "valkey-cli INFO; is the process there?")
MISSES = Check(
    "cache.misses", "Cache misses", "what is asked for is not there: keys that expire too early, or evictions?"
)
MEMORY = Check("cache.memory", "Cache memory", "raise maxmemory, or `nvcops run cache-clean-up --namespace NAME`")
EVICTIONS = Check("cache.evictions", "Cache evictions", "raise maxmemory: what was evicted is asked of the database")
FRAGMENTED = Check("cache.fragmentation", "Cache fragmentation", "valkey-cli CONFIG SET activedefrag yes")
LASTING = Check("cache.lasting", "Keys that never expire", "who writes them, and why without EXPIRE?")
LARGE = Check("cache.large_keys", "Largest key", "split it: while it is read or removed, everybody waits")
HOT = Check(
    "cache.hot_keys", "Hottest keys", "an answer for all that is asked so often can be kept by the service itself"
)
KEPT = Check("cache.namespace", "Keys", "")
STRAYS = Check("cache.strays", "Keys of no namespace", "name what they are in [cache] namespaces")
SWEPT = Check("cache.swept", "Cache clean-up", "run it again when it is quiet: it goes on with what is left")
FELT = Check("cache.felt", "What customers felt of it", "")
_SEEN_SOME = "none is left among those that there was time to look at"
_FRAGMENTED_FROM = 64 << 20  # less memory is always mostly overhead


def review_findings(seen: Reviewed, namespaces: Sequence[CacheNamespace], limits: Limits) -> list[Finding]:
    """All lines about the cache."""
    if seen.use is None or seen.keyspace is None:
        checks = (READ, MISSES, MEMORY, EVICTIONS, LASTING, LARGE)
        return [check.unknown(seen.trouble, subject=seen.name) for check in checks]
    use, keys, name = seen.use, seen.keyspace, seen.name
    told = f"{Count(use.operations)} operations/s, {use.clients} clients, up for {Seconds(use.up_s)}"
    used = Ratio(use.memory / max(use.memory_max, 1))
    return [
        READ.finding(Verdict.OK, told, subject=name),
        misses_finding(use, limits, name),
        MEMORY.at_most(used, limits.cache_memory, subject=name, observed=f"{Bytes(use.memory)} ({used}), {use.policy}"),
        EVICTIONS.at_most(Count(use.evicted), limits.cache_evictions, subject=name),
        fragmentation_finding(use, limits, name),
        lasting_finding(keys, limits, name),
        *large_findings(keys, limits, name),
        *namespace_findings(keys, namespaces),
    ]


def misses_finding(use: Use, limits: Limits, name: str) -> Finding:
    """The share of look-ups that found nothing.

    >>> def verdict(hits, misses): return misses_finding(Use(hits=hits, misses=misses), Limits(), "c").verdict.name
    >>> verdict(801, 199), verdict(800, 200), verdict(500, 500), verdict(9, 990)
    ('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')
    """
    asked = use.hits + use.misses
    if asked < _LOOKUPS_MIN:
        return MISSES.unknown(f"{asked} look-ups prove nothing", subject=name)
    missed = Ratio(round(use.misses / asked, 6))
    observed = f"{missed} of {Count(asked)} look-ups"
    return MISSES.at_most(missed, limits.cache_misses, subject=name, observed=observed)


def fragmentation_finding(use: Use, limits: Limits, name: str) -> Finding:
    """Memory that the process holds, as a multiple of what its data take.

    >>> def verdict(mib, ratio):
    ...     return fragmentation_finding(Use(memory=mib << 20, fragmentation=ratio), Limits(), "c").verdict.name
    >>> verdict(64, 1.9), verdict(64, 2.0), verdict(63, 9.0)
    ('OK', 'WARNING', 'OK')
    """
    if use.memory < _FRAGMENTED_FROM:
        return FRAGMENTED.finding(Verdict.OK, f"{Bytes(use.memory)} are too few to tell", subject=name)
    observed = f"{use.fragmentation:.1f} times"
    return FRAGMENTED.at_most(Count(use.fragmentation), limits.cache_fragmentation, subject=name, observed=observed)


def lasting_finding(keys: Keyspace, limits: Limits, name: str) -> Finding:
    """The share of keys that nobody ever removes."""
    measured = sum(held.measured for held in keys.held)
    if measured < _KEYS_MIN:
        return LASTING.finding(Verdict.OK, f"{keys.keys:,} keys", subject=name)
    lasting = Ratio(sum(held.lasting for held in keys.held) / measured)
    return LASTING.at_most(lasting, limits.cache_lasting, subject=name)


def large_findings(keys: Keyspace, limits: Limits, name: str) -> list[Finding]:
    """The largest key; and the most asked ones, where the server counts that."""
    lines = []
    if keys.largest:
        first = keys.largest[0]
        observed = f"{Bytes(first.bytes)}: a {first.kind}, {first.name}"
        lines.append(LARGE.at_most(Bytes(first.bytes), limits.cache_key, subject=name, observed=observed))
    if keys.hottest is None:
        lines.append(HOT.finding(Verdict.OK, "not counted: maxmemory-policy is no LFU", subject=name))
    elif keys.hottest:
        told = ", ".join(f"{key.name} {key.frequency}" for key in keys.hottest[:3])
        lines.append(HOT.finding(Verdict.OK, f"{told} (of 255)", subject=name))
    return lines


def namespace_findings(keys: Keyspace, namespaces: Sequence[CacheNamespace]) -> list[Finding]:
    """What lies in it, by namespace; what belongs to none."""
    names = {namespace.pattern: namespace.name for namespace in namespaces}
    lines = []
    for held in keys.held:
        of = "" if held.whole else f" of the first {keys.scanned:,}"
        told = f"{held.keys:,}{of}, about {Bytes(held.bytes)}"
        if held.pattern:
            lines.append(KEPT.finding(Verdict.OK, told, subject=names[held.pattern]))
        elif held.keys and namespaces:
            lines.append(STRAYS.finding(Verdict.WARNING, told))
    return lines


def swept_findings(name: str, before: Held, swept: Sweep | None, after: Held) -> list[Finding]:
    """What is left, read back; what a sweep did, where it was no rehearsal.

    >>> held = [Held(pattern="a:*", keys=keys) for keys in (10, 0, 3)]
    >>> swept_findings("a", held[0], Sweep(removed=10, seconds=2), held[1])[0].observed
    '10 keys removed in 2 s, none is left'
    >>> swept_findings("a", held[0], Sweep(removed=10, seconds=2), Held(pattern="a:*", whole=False))[0].verdict.name
    'WARNING'
    >>> stopped = swept_findings("a", held[0], Sweep(removed=7, seconds=2, stopped="the p99 rose"), held[2])[0]
    >>> stopped.verdict.name, stopped.observed
    ('WARNING', '7 keys removed in 2 s, 3 are left: the p99 rose')
    """
    if swept is None:
        return [SWEPT.finding(Verdict.OK, f"{before.counted} keys would be removed", subject=name)]
    left = f"{after.counted} are left" if after.keys else "none is left" if after.whole else _SEEN_SOME
    told = f"{swept.removed:,} keys removed in {Seconds(swept.seconds)}, {left}"
    if not swept.stopped and not after.keys and not after.whole:
        return [SWEPT.finding(Verdict.WARNING, told, subject=name), *_felt(name, swept)]
    if swept.stopped:
        return [SWEPT.finding(Verdict.WARNING, f"{told}: {swept.stopped}", subject=name), *_felt(name, swept)]
    return [SWEPT.finding(Verdict.OK, told, subject=name), *_felt(name, swept)]


def _felt(name: str, swept: Sweep) -> list[Finding]:
    parts = []
    if swept.p99_before_s is not None and swept.p99_worst_s is not None:
        parts.append(f"p99 {Seconds(swept.p99_before_s)} before, at worst {Seconds(swept.p99_worst_s)}")
    if swept.queries_before is not None and swept.queries_worst is not None:
        parts.append(f"{swept.queries_before:.0f} transactions/s before, at most {swept.queries_worst:.0f}")
    if swept.waited_s:
        parts.append(f"it waited for {Seconds(swept.waited_s)}")
    return [FELT.finding(Verdict.OK, "; ".join(parts), subject=name)] if parts else []


# --- Procedures ---


@procedure("cache-review", when="Fri 11:00", needs=["cache"])
def cache_review(run: Run, target: Target) -> None:
    """Review the cache: hits and misses, memory, evictions, what lies in it, its largest and its hottest keys.

    Names of keys are told as far as their pattern in [cache] namespaces goes: the rest may be a secret.
    """
    entry = target.manifest.cache
    seen = run.read(reviewed, target)
    run.conclude(review_findings(seen, entry.namespaces if entry else (), target.manifest.limits))


@procedure("cache-clean-up", lock="cache", needs=["cache"])
def cache_clean_up(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, namespace: str = "", rate: int = 5_000
) -> None:
    """Remove a disposable namespace's keys from the cache, at a pace that neither customers nor the database feel.

    It goes by SCAN and UNLINK, waits while the service is slower or the database is asked more than before, and gives
    up when that does not end. FLUSHDB on a live bank is never a clean-up: `cache-flush` asks a second person.

    Args:
        namespace: which of [cache] namespaces
        rate: keys looked at in a second
    """
    chosen = the_namespace(target.manifest, namespace)
    if not chosen.disposable:
        raise UsageError(
            f"{chosen.name} ({chosen.about or chosen.pattern}) is not disposable",
            hint=f"`nvcops run cache-flush --namespace {chosen.name}` asks a second person",
        )
    _clean(run, target, chosen, rate)


@procedure("cache-flush", lock="cache", approval=True, maintenance=True, needs=["cache"])
def cache_flush(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, namespace: str = "", rate: int = 5_000, reason: str = "", change: str = ""
) -> None:
    """Remove a namespace's keys that are not disposable, when a second person has approved what that does to customers.

    Args:
        namespace: which of [cache] namespaces; "all": everything that lies in the cache
        rate: keys looked at in a second
        reason: why, in words that the second person can judge
        change: the approved change under which that is done, like C-17; without it a second person is asked
    """
    if not reason.strip():
        raise UsageError("why must they go?", hint='--reason "TEXT"')
    chosen = the_namespace(target.manifest, namespace)
    paced(rate)
    before = run.read(below, target, chosen.pattern, others(target.manifest, chosen))
    title = f"Remove {chosen.name} ({chosen.about or chosen.pattern}), {before.counted} keys: {reason.strip()}"
    given = carrying.number_of(change)
    number = carrying.carry(run, target, ChangeKind.MAINTENANCE, title, number=given, step="flush")
    _clean(run, target, chosen, rate, number)


def the_namespace(manifest: Manifest, name: str) -> CacheNamespace:
    """The namespace of that name; "all" is everything."""
    known = {one.name: one for one in (manifest.cache.namespaces if manifest.cache else ())}
    if name == "all":
        return CacheNamespace(name="all", pattern="*", about="everything that lies in the cache")
    if name not in known:
        names = ", ".join(known) or "platform.toml names none in [cache] namespaces"
        raise UsageError(f"there is no namespace {name!r}", hint=f"--namespace NAME: {names}")
    return known[name]


def others(manifest: Manifest, chosen: CacheNamespace) -> list[str]:
    """The patterns whose keys stay, though they may fit the chosen one: a key belongs to the first that it fits.

    What is not disposable stays in any case when something disposable is removed; of everything, nothing stays.
    """
    known = manifest.cache.namespaces if manifest.cache else ()
    if chosen not in known:
        return []
    first = known[: known.index(chosen)]
    lasting = [one for one in known if chosen.disposable and not one.disposable]
    return list(dict.fromkeys(one.pattern for one in (*first, *lasting) if one.pattern != chosen.pattern))


def paced(rate: int) -> None:
    """Refuse what is no pace, before anything else is done or asked of anybody."""
    if not 1 <= rate <= _RATE_MAX:
        raise UsageError(f"{rate} keys a second is no pace", hint=f"1 to {_RATE_MAX:,}")


def _clean(run: Run, target: Target, namespace: CacheNamespace, rate: int, change: int = 0) -> None:
    paced(rate)
    spared = others(target.manifest, namespace)
    before = run.read(below, target, namespace.pattern, spared)
    swept = run.step(f"remove {namespace.name}: {before.counted} keys", sweep, target, namespace.pattern, spared, rate)
    after = run.read(below, target, namespace.pattern, spared)
    lines = swept_findings(namespace.name, before, swept, after)
    carrying.done(run, target, change, carrying.ended_by(lines))
    run.conclude(lines)


@conduct(deadline="2 min", idempotent=True)
def below(target: Target, pattern: str, spared: list[str]) -> Held:
    """Count the keys of one namespace."""
    cache = _cache(target)
    seen = cache.keyspace([*spared, pattern], keys_max=_COUNTED_MAX, deadline_s=_WALK_S)
    return next(held for held in seen.held if held.pattern == pattern)


@conduct(deadline="1 h", idempotent=True)
def sweep(target: Target, pattern: str, spared: list[str], rate: int) -> Sweep:
    """Remove them."""
    if target.sweeper is None:
        raise UsageError("platform.toml names no [cache]")
    return target.sweeper.sweep(pattern, Pace(rate=rate), spared=spared)


def _cache(target: Target) -> Cache:
    if target.cache is None:
        raise UsageError("platform.toml names no [cache]")
    return target.cache
