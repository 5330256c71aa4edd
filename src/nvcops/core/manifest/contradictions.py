"""What the types of a manifest cannot say: names that stand twice, addresses that are none, limits turned round."""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from nvcops.core.identity import shared_keys
from nvcops.core.manifest.base import Bound
from nvcops.core.manifest.contradictions_changes import changed
from nvcops.core.manifest.contradictions_delivery import delivered
from nvcops.core.manifest.contradictions_operations import operations
from nvcops.core.manifest.contradictions_pipeline import pipeline
from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.tables import Limits, Manifest

_STAYS_HIGH = frozenset({"cache_hit", "certificate_days", "repository_left"})
_POSITIVE = frozenset(
    {"deadline", "interval", "quota", "raw", "rollups", "window", "recent_window", "age", "full_every", "rate_max"}
    | {
        "guard_interval",
        "guard_after",
        "threshold",
        "every",
        "resolve_after",
        "peer_silent_after",
        "heartbeat_interval",
        "time_limit",
        "ready_within",
        "drain_within",
        "validate_for",
        "emergency_within",
    }
    | {"critical", "high", "medium", "low", "body_max", "firing_max", "gaps_ahead", "reach_test_every"}
)
Mistake = tuple[Place, str, str]


def contradictions(manifest: Manifest) -> Iterator[Mistake]:
    """All of them: (place, sentence, hint)."""
    yield from _zone(manifest.platform.time_zone)
    yield from _swapped(manifest.limits)
    yield from _names(manifest)
    if manifest.database:
        yield from _twice(("database", "standbys"), manifest.database.standbys)
        if manifest.database.primary.name in {service.name for service in manifest.services}:
            yield ("database", "primary"), "the primary and a service have one name", "their logs go by their names"
    yield from _addresses(manifest)
    yield from _zeros(manifest, ())
    for index, exemption in enumerate(manifest.exceptions):
        if manifest.person(exemption.owner) is None:
            yield ("exceptions", index, "owner"), f"{exemption.owner!r} is nobody in [[people]]", "add the person"
    for index, sentence in shared_keys(manifest.people):
        yield ("people", index, "ssh_keys"), sentence, "each person has keys of their own"
    yield from _backups(manifest)
    yield from _programs(manifest)
    yield from _cluster(manifest)
    yield from operations(manifest)
    yield from delivered(manifest)
    yield from pipeline(manifest)
    yield from changed(manifest)
    if not (manifest.services or manifest.database):
        yield (), "nothing is watched: there is neither a [[services]] nor a [database]", "`nvcops init` writes them"


def _swapped(limits: Limits) -> Iterator[Mistake]:
    for name in Limits.__struct_fields__:
        bound = getattr(limits, name)
        if isinstance(bound, Bound):
            first, second = (bound.critical, bound.warning) if name in _STAYS_HIGH else (bound.warning, bound.critical)
            if first > second:
                yield ("limits", name), f"{name}: critical would come before warning", "swap the two"


def _zone(name: str) -> Iterator[Mistake]:
    if name not in zoneinfo.available_timezones():
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), 1)
        hint = f"did you mean {near[0]!r}?" if near else 'names are like "America/New_York"'
        yield ("platform", "time_zone"), f"there is no time zone {name!r}", hint


def _names(manifest: Manifest) -> Iterator[Mistake]:
    for table in ("services", "certificates", "disks", "people", "contacts", "slos"):
        yield from _twice((table,), getattr(manifest, table))
    yield from _twice(("watch", "probes"), manifest.watch.probes)
    for table in ("rotations", "policies"):
        yield from _twice(("oncall", table), getattr(manifest.oncall, table))
    for index, service in enumerate(manifest.services):
        yield from _twice(("services", index, "instances"), service.instances)
    for table in ("standard", "freezes"):
        yield from _twice(("changes", table), getattr(manifest.changes, table))
    for table in ("spare", "builders", "strategies", "stages") if manifest.delivery else ():
        yield from _twice(("delivery", table), getattr(manifest.delivery, table))


def _twice(place: Place, entries: Sequence[Any]) -> Iterator[Mistake]:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.name in seen:
            sentence = f"the name {entry.name!r} stands twice in [[{'.'.join(map(str, place))}]]"
            yield (*place, index, "name"), sentence, "names are unique: of two the second would never be looked at"
        seen.add(entry.name)


def _addresses(manifest: Manifest) -> Iterator[Mistake]:
    """Addresses are repeated in reports and evidence, so no secret may stand in one."""
    for index, service in enumerate(manifest.services):
        yield from _address(("services", index, "url"), service.url)
        for number, instance in enumerate(service.instances):
            yield from _address(("services", index, "instances", number, "url"), instance.url)
    if manifest.cache:
        yield from _address(("cache", "url"), manifest.cache.url)
        if "?" in manifest.cache.url:
            yield ("cache", "url"), "cache.url: parameters after ? are not taken", "as in valkey://cache:6379/0"
    for index, certificate in enumerate(manifest.certificates):
        yield from _address(("certificates", index, "address"), f"tls://{certificate.address}")


def _address(place: Place, url: str) -> Iterator[Mistake]:
    """The sentences do not repeat the address: it may hold a password."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        yield place, f"{place[-1]}: its host or port is none", "a port is 1 to 65535, an IPv6 address stands in [ ]"
    elif parts.password is not None or (parts.username is not None and place[0] != "cache"):
        yield place, f"{place[-1]}: a secret stands in it", "cache and database name a password_file or password_env"


def _backups(manifest: Manifest) -> Iterator[Mistake]:
    backups = manifest.backups
    if backups is None:
        return
    folder = backups.repository.folder
    if manifest.database is None:
        yield ("backups",), "there are [backups] and no [database]", "what is backed up is the database first of all"
    if backups.keep.database.count < 2:
        yield (
            ("backups", "keep", "database"),
            "fewer than two full backups would be kept",
            "count = 2: one may turn out to be bad",
        )
    if backups.endpoint and folder is not None:
        yield ("backups", "endpoint"), "an endpoint is of an S3 API, and the repository is a folder", "leave one out"
    if backups.engine == "pgbackrest" and folder is None:
        hint = "pgbackrest keeps its own repository, where its own configuration says"
        yield ("backups", "repository"), "with pgbackrest the repository of our catalogue is a folder", hint
    if folder is not None and backups.key_file is not None and backups.key_file.is_relative_to(folder):
        yield ("backups", "key_file"), "the key lies beside what it encrypts", "keep it outside of the repository"
    acknowledged = manifest.recovery.acknowledgements
    if acknowledged and "%(keys)s" not in acknowledged.query:
        hint = "as in: SELECT key FROM payment WHERE key = ANY(%(keys)s)"
        yield ("recovery", "acknowledgements", "query"), "the query does not ask for %(keys)s", hint


def _programs(manifest: Manifest) -> Iterator[Mistake]:
    """A program that is not told the part's name would do it to all, or to the wrong one."""
    for name in manifest.control.__struct_fields__:
        program = getattr(manifest.control, name)
        if isinstance(program, tuple) and program and not any("{name}" in word for word in program):
            hint = 'as in ["systemctl", "start", "{name}"]'
            yield ("control", name), f"control.{name} does not say {{name}}, the part's name", hint


def _cluster(manifest: Manifest) -> Iterator[Mistake]:
    cluster, database = manifest.cluster, manifest.database
    if cluster is None:
        return
    servers = {database.primary.name, *(server.name for server in database.standbys)} if database else set()
    yield from _twice(("cluster", "members"), cluster.members)
    for index, member in enumerate(cluster.members):
        if member.name not in servers:
            hint = f"there: {', '.join(sorted(servers)) or 'none'}"
            yield ("cluster", "members", index, "name"), f"{member.name!r} is no server of [database]", hint
        yield from _address(("cluster", "members", index, "url"), member.url)
    for index, url in enumerate(cluster.etcd):
        yield from _address(("cluster", "etcd", index), url)
    if cluster.guard and not manifest.control.fence:
        hint = "[control] fence: without confirmation two could be primary at once"
        yield ("cluster", "guard"), "the guard has no program that fences a host", hint


def _zeros(table: Any, place: Place) -> Iterator[Mistake]:
    """Quantities that must be some: a deadline of none has always passed, a pause of none is none."""
    for name in table.__struct_fields__:
        value = getattr(table, name)
        if name in _POSITIVE and isinstance(value, int | float) and not value > 0:
            yield (*place, name), f"{name} must be more than nothing", 'a quantity like "2 s" or "64 MiB"'
        for index, entry in enumerate(value if isinstance(value, tuple) else ()):
            if hasattr(entry, "__struct_fields__"):
                yield from _zeros(entry, (*place, name, index))
        if hasattr(value, "__struct_fields__"):
            yield from _zeros(value, (*place, name))
