"""What is looked at each second: the probes that follow from the manifest, and those that somebody added.

The category says what a failure does to customers: critical is what stops them, high a part that another stands in for
or a limit that is passed, medium what makes them wait. docs/decisions/watch.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nvcops.core.alerts import Category
from nvcops.core.incidents import SIGNAL, Signal
from nvcops.core.manifest import Manifest, ProbeEntry, WatchEntry
from nvcops.core.units import Seconds
from nvcops.core.watch import PART, ROLE, Probe, ProbeKind, part_named

# --- Rules ---

_SLOWER = Seconds(5)  # limits of the database: each costs a session
_SLOW = Seconds(15)  # disks and slots fill over minutes
_PEER_EVERY_MIN = Seconds(6)
_HEALTH = "/healthz"
_STOPS = (Category.CRITICAL, Signal.OUTAGE)
_STOOD_IN_FOR = (Category.HIGH, Signal.REDUNDANCY)
_SIGNALS: Mapping[str, Signal] = {"payment": Signal.PAYMENTS}  # of what is added; others say it in their labels

_CONNECTIONS = """
SELECT count(*)::float8 / nullif(current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int, 0)
FROM pg_stat_activity WHERE backend_type = 'client backend'"""
_LOCK_WAIT = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 FROM pg_locks WHERE NOT granted"""
_IDLE = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)::float8 FROM pg_stat_activity
WHERE state LIKE 'idle in transaction%'"""
_LONGEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8 FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


def probes_of(manifest: Manifest) -> list[Probe]:
    """Every probe of a platform, by unique names; none where the watch is switched off.

    An entry of [[watch.probes]] with the name of a derived one takes its place.
    """
    if not manifest.watch.enabled:
        return []
    derived = [probe for source in _SOURCES for probe in source(manifest)]
    added = [_added(entry, manifest.watch) for entry in manifest.watch.probes]
    return list({probe.name: probe for probe in (*derived, *added)}.values())


def _doors(manifest: Manifest) -> Iterator[Probe]:
    """The front door stops everybody; one of several instances has others beside it."""
    for entry in manifest.services:
        yield _probe(manifest, "http", "front-door", entry.name, _STOPS, {"path": entry.ready}, service=entry.name)
        for instance in entry.instances:
            graded = _STOOD_IN_FOR if len(entry.instances) > 1 else _STOPS
            options = {"path": entry.ready, "instance": instance.name}
            yield _probe(manifest, "http", "instance", instance.name, graded, options, service=entry.name)


def _servers(manifest: Manifest) -> Iterator[Probe]:
    """One server that writes must be there. In a cluster any of them may be it; else it is the one that is named so."""
    if manifest.database is None:
        return
    names = _server_names(manifest)
    writers = names if manifest.cluster else names[:1]
    yield _probe(manifest, "sql", "primary", names[0], _STOPS, {"servers": writers, "role": "primary"})
    for name in names if manifest.cluster else names[1:]:
        role = "any" if manifest.cluster else "standby"
        yield _probe(manifest, "sql", "server", name, _STOOD_IN_FOR, {"servers": [name], "role": role})


def _replication(manifest: Manifest) -> Iterator[Probe]:
    """Each server that is a standby receives and replays; somebody receives from the backups' slot."""
    if manifest.database is None:
        return
    names, limits = _server_names(manifest), manifest.limits
    for name in names if manifest.cluster else names[1:]:
        options = {"standby": name, "lag": limits.replication_lag.critical}
        yield _probe(manifest, "replication", "replication", name, _STOOD_IN_FOR, options)
    if manifest.backups and manifest.backups.engine == "native":
        writers = names if manifest.cluster else names[:1]
        options = {"slot": manifest.backups.slot, "servers": writers, "retained": limits.slot_retained.critical}
        yield _probe(
            manifest, "replication", "slot", manifest.backups.slot, _STOOD_IN_FOR, options, every=_SLOW, failures=4
        )


def _database_limits(manifest: Manifest) -> Iterator[Probe]:
    """Without connections new customers are refused; the others make some of them wait."""
    if manifest.database is None:
        return
    names, limits = _server_names(manifest), manifest.limits
    writers = names if manifest.cluster else names[:1]
    waits = (Category.MEDIUM, Signal.PERFORMANCE)
    figures = (
        ("connections", _CONNECTIONS, limits.connections, (Category.CRITICAL, Signal.PARTIAL_OUTAGE)),
        ("lock-wait", _LOCK_WAIT, limits.lock_wait, (Category.HIGH, Signal.PERFORMANCE)),
        ("idle-in-transaction", _IDLE, limits.idle_in_transaction, waits),
        ("longest-query", _LONGEST, limits.longest_query, waits),
    )
    for role, query, limit, graded in figures:
        options = {"servers": writers, "role": "primary", "query": query.strip(), "at_most": float(limit.critical)}
        every = None if graded[0] is Category.CRITICAL else _SLOWER
        yield _probe(manifest, "sql", role, names[0], graded, options, every=every)


def _cache_and_proxy(manifest: Manifest) -> Iterator[Probe]:
    """A cache that is gone stops customers only where a service needs it, which its front door then says."""
    if manifest.cache:
        graded = (Category.HIGH, Signal.PARTIAL_OUTAGE)
        yield _probe(manifest, "cache", "cache", manifest.cache.name, graded, {})
    if manifest.proxy:
        for backend in manifest.proxy.backends:
            yield _probe(manifest, "proxy", "backend", backend, _STOPS, {"backend": backend})


def _certificates(manifest: Manifest) -> Iterator[Probe]:
    """One that is not trusted stops everybody. That one ends soon is a limit of the figure that is read with it."""
    for entry in manifest.certificates:
        options = {"address": entry.address, "name": entry.name, "ca_file": entry.ca_file}
        yield _probe(manifest, "tls", "certificate", entry.name, _STOPS, options)


def _disks(manifest: Manifest) -> Iterator[Probe]:
    for entry in manifest.disks:
        options = {"disk": entry.name, "used": manifest.limits.disk_used.critical}
        yield _probe(manifest, "disk", "disk", entry.name, (Category.HIGH, Signal.FEATURE), options, every=_SLOW)


def _peer(manifest: Manifest) -> Iterator[Probe]:
    """The other instance: customers do not miss it, but nobody would notice if this one fell silent, too."""
    watch = manifest.watch
    if watch.peer is None:
        return
    every = max(Seconds(watch.peer_silent_after / 3), _PEER_EVERY_MIN)
    failures = math.ceil(watch.peer_silent_after / every)
    options = {"url": watch.peer, "path": _HEALTH}
    yield _probe(manifest, "http", "peer", "watch", _STOOD_IN_FOR, options, every=every, failures=failures)


_SOURCES = (_doors, _servers, _replication, _database_limits, _cache_and_proxy, _certificates, _disks, _peer)


def _server_names(manifest: Manifest) -> list[str]:
    entry = manifest.database
    return [server.name for server in (entry.primary, *entry.standbys)] if entry else []


def _probe(  # noqa: PLR0913 - what a probe consists of
    manifest: Manifest,
    kind: ProbeKind,
    role: str,
    part: str,
    graded: tuple[Category, Signal],
    options: Mapping[str, Any],
    *,
    service: str = "",
    every: Seconds | None = None,
    failures: int | None = None,
) -> Probe:
    watch, (category, signal) = manifest.watch, graded
    return Probe(
        name=f"{role}.{part_named(part)}",
        kind=kind,
        service=service,
        interval=max(watch.interval, every) if every else watch.interval,
        deadline=watch.deadline,
        failures=failures or watch.failures,
        recoveries=watch.recoveries,
        category=category,
        labels={ROLE: role, PART: part, SIGNAL: signal.value},
        options=options,
    )


def _added(entry: ProbeEntry, watch: WatchEntry) -> Probe:
    signal = {SIGNAL: _SIGNALS[entry.kind].value} if entry.kind in _SIGNALS else {}
    return Probe(
        name=entry.name,
        kind=entry.kind,
        service=entry.service or "",
        interval=entry.interval or watch.interval,
        deadline=entry.deadline or watch.deadline,
        failures=entry.failures or watch.failures,
        recoveries=entry.recoveries or watch.recoveries,
        category=entry.category,
        labels={PART: entry.service or entry.name, **signal, **entry.labels},
        options=entry.options,
    )
