"""The parts of the platform, now: services, proxy, cache, certificates, disks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.manifest import Bound, Limits, ProxyEntry
from nvcops.core.probes import json_object, why_not_ready
from nvcops.core.target import Answer, Certificate, Disk, ProxyServer, Question, Target
from nvcops.core.together import side_by_side
from nvcops.core.units import Bytes, Count, Ratio, Seconds

# --- Facts ---


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """A service's front door (`instance` empty) or one of its instances.

    `trouble` is empty when it is ready. `offset_s` is its clock minus ours, give or take `seconds`; None: not told.
    """

    service: str
    instance: str = ""
    trouble: str = ""
    seconds: float = 0.0
    version: str = ""
    version_trouble: str = ""
    offset_s: float | None = None

    @property
    def subject(self) -> str:
        """Who was asked."""
        return self.instance or self.service


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was read, or the trouble with reading it."""

    name: str
    trouble: str = ""
    servers: tuple[ProxyServer, ...] = ()
    cache: Cache | None = None
    certificate: Certificate | None = None
    disk: Disk | None = None


class Cache(msgspec.Struct, frozen=True):
    """What matters of a cache's INFO. `memory_max` is its own limit, else the machine's memory."""

    version: str
    memory: int
    memory_max: int
    evicted: int
    rejected: int
    unsaved: str


def doors(target: Target) -> list[Door]:
    """Ask every service's front door and every instance whether it is ready, and which version it is."""
    asked: list[tuple[Question, Question | None]] = []
    for entry in target.manifest.services:
        for instance in ("", *(instance.name for instance in entry.instances)):
            version = entry.version if instance or not entry.instances else None
            ready = Question(entry.name, entry.ready, instance)
            asked.append((ready, Question(entry.name, version, instance) if version else None))
    questions = [question for pair in asked for question in pair if question]
    answers = dict(zip(questions, target.services.ask(questions), strict=True))
    return [_door(ready, answers[ready], answers[version] if version else None) for ready, version in asked]


def _door(question: Question, ready: Answer | TargetError, version: Answer | TargetError | None) -> Door:
    document = json_object(version)
    return Door(
        service=question.service,
        instance=question.instance,
        trouble=why_not_ready(ready),
        seconds=ready.seconds if isinstance(ready, Answer) else 0.0,
        version=str(document.get("version", "")),
        version_trouble=why_not_ready(version) if version is not None else "",
        offset_s=_offset(version, document.get("now")),
    )


def _offset(answer: Answer | TargetError | None, now: object) -> float | None:
    """Its clock minus ours, taken to have been read in the middle of the answer."""
    if not isinstance(answer, Answer) or not isinstance(now, str):
        return None
    try:
        theirs = dt.datetime.fromisoformat(now)
    except ValueError:
        return None
    middle = answer.received - dt.timedelta(seconds=answer.seconds / 2)
    return (theirs - middle).total_seconds() if theirs.tzinfo else None


def proxy_servers(target: Target) -> Reading | None:
    """Ask the proxy for the state of the servers behind it; whether spare slots serve is a rollout's affair."""
    if target.proxy is None:
        return None
    delivery = target.manifest.delivery
    spare = {slot.name for slot in delivery.spare} if delivery else set()
    try:
        servers = tuple(server for server in target.proxy.servers() if server.server not in spare)
        return Reading(name=target.proxy.name, servers=servers)
    except TargetError as error:
        return Reading(name=target.proxy.name, trouble=error.sentence)


def cache(target: Target) -> Reading | None:
    """Ask the cache for its memory, evictions and persistence."""
    if target.cache is None:
        return None
    try:
        return Reading(name=target.cache.name, cache=cache_of(target.cache.info()))
    except TargetError as error:
        return Reading(name=target.cache.name, trouble=error.sentence)


def cache_of(info: Mapping[str, Any]) -> Cache:
    """What matters of the fields of INFO."""
    bad = [key for key in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(key, "ok") != "ok"]
    return Cache(
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        memory=int(info.get("used_memory", 0)),
        memory_max=int(info.get("maxmemory") or info.get("total_system_memory") or 0),
        evicted=int(info.get("evicted_keys", 0)),
        rejected=int(info.get("rejected_connections", 0)),
        unsaved=", ".join(f"{key} {info[key]}" for key in bad),
    )


def certificates(target: Target) -> list[Reading]:
    """Read each certificate off its handshake."""
    names = [entry.name for entry in target.manifest.certificates]
    return [
        Reading(name=name, trouble=read.sentence)
        if isinstance(read, TargetError)
        else Reading(name=name, certificate=read)
        for name, read in zip(names, side_by_side(target.host.certificate, names), strict=True)
    ]


def disks(target: Target) -> list[Reading]:
    """Read how full each disk is."""
    names = [entry.name for entry in target.manifest.disks]
    return [
        Reading(name=name, trouble=read.sentence) if isinstance(read, TargetError) else Reading(name=name, disk=read)
        for name, read in zip(names, side_by_side(target.host.disk, names), strict=True)
    ]


# --- Rules ---

FRONT = Check("service.front", "Front door", "curl -i the address; then the instances and the proxy below")
INSTANCE = Check("service.instance", "Instance", "curl -i its /readyz; its log; is the process there?")
VERSIONS = Check(
    "service.versions", "Versions", "finish the rollout, or roll it back: the instances must run one version"
)
CLOCK = Check("service.clock", "Instance clock", "timedatectl on its host: is the time synchronised?")
PROXY = Check("proxy.answers", "Proxy", "its process and its runtime socket; is the socket readable for this user?")
SERVER = Check(
    "proxy.server", "Server behind the proxy", "the instance's line above; then: set server BACKEND/SERVER state ready"
)
CACHE = Check("cache.answers", "Cache", "valkey-cli PING; its log; is the process there?")
MEMORY = Check("cache.memory", "Cache memory", "valkey-cli INFO memory; raise maxmemory, or find what grows")
EVICTIONS = Check(
    "cache.evictions", "Cache evictions", "raise maxmemory; then valkey-cli CONFIG RESETSTAT starts the count anew"
)
PERSISTENCE = Check("cache.persistence", "Cache persistence", "valkey-cli INFO persistence; is its disk full?")
EXPIRY = Check("certificate.expiry", "Certificate", "renew it, and reload what serves it")
TRUST = Check(
    "certificate.trust", "Certificate trust", "openssl s_client -connect ADDRESS -servername NAME shows the chain"
)
DISK = Check("disk.used", "Disk", "du -x -d 2 PATH | sort -n | tail shows what fills it")


def door_findings(doors: Sequence[Door], limits: Limits) -> list[Finding]:
    """All lines about services: ready, one version, clocks."""
    findings = [_ready(door) for door in doors]
    for service in dict.fromkeys(door.service for door in doors):
        findings += versions_finding(service, [door for door in doors if door.service == service])
    return findings + [_clock(door, limits) for door in doors if door.version or door.version_trouble]


def _ready(door: Door) -> Finding:
    check = INSTANCE if door.instance else FRONT
    if door.trouble:
        return check.finding(Verdict.CRITICAL, door.trouble, subject=door.subject)
    return check.finding(Verdict.OK, f"ready, {Seconds(door.seconds)}", subject=door.subject)


def versions_finding(service: str, doors: Sequence[Door]) -> list[Finding]:
    """All instances run one version; nothing where nobody says one.

    >>> one, two = Door(service="s", instance="a", version="1"), Door(service="s", instance="b", version="2")
    >>> versions_finding("s", [one, one])[0].verdict.name, versions_finding("s", [one, two])[0].observed
    ('OK', '1 on a; 2 on b')
    """
    telling = [door for door in doors if door.version]
    silent = [door.subject for door in doors if door.version_trouble]
    by_version: dict[str, list[str]] = {}
    for door in telling:
        by_version.setdefault(door.version, []).append(door.subject)
    if not telling and not silent:
        return []
    if silent:
        return [VERSIONS.unknown(f"{', '.join(silent)} did not say", subject=service)]
    if len(by_version) == 1:
        return [VERSIONS.finding(Verdict.OK, telling[0].version, subject=service)]
    written = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(by_version.items()))
    return [VERSIONS.finding(Verdict.WARNING, written, subject=service, limit="one version")]


def _clock(door: Door, limits: Limits) -> Finding:
    """Judge the offset only beyond what the answer's own duration explains."""
    if door.offset_s is None:
        why = "it did not answer" if door.version_trouble else "it does not tell its time"
        return CLOCK.unknown(why, subject=door.subject)
    sure = max(abs(door.offset_s) - door.seconds, 0.0)
    return CLOCK.at_most(
        Seconds(sure), limits.clock_offset, subject=door.subject, observed=f"{Seconds(door.offset_s)} off"
    )


def proxy_findings(reading: Reading | None, entry: ProxyEntry | None) -> list[Finding]:
    """The proxy answers, has its backends, and each server behind it is up."""
    if reading is None or entry is None:
        return []
    if reading.trouble:
        lines = [SERVER.unknown("the proxy does not answer", subject=backend) for backend in entry.backends]
        return [PROXY.finding(Verdict.CRITICAL, reading.trouble, subject=reading.name), *lines]
    watched = [server for server in reading.servers if not entry.backends or server.backend in entry.backends]
    missing = set(entry.backends) - {server.backend for server in watched}
    return [
        PROXY.finding(Verdict.OK, f"{len(watched)} servers", subject=reading.name),
        *(SERVER.finding(Verdict.CRITICAL, "no such backend, or no servers", subject=name) for name in sorted(missing)),
        *(server_finding(server) for server in watched),
    ]


def server_finding(server: ProxyServer) -> Finding:
    """Up is OK; draining or in maintenance is somebody's wish; half down warns; down is CRITICAL.

    >>> def verdict(status): return server_finding(ProxyServer("b", "s1", status, "L7OK", 5.0, 0)).verdict.name
    >>> [verdict(status) for status in ("UP", "UP 1/3", "DRAIN", "MAINT", "DOWN 1/2", "DOWN", "no check")]
    ['OK', 'WARNING', 'WARNING', 'WARNING', 'CRITICAL', 'CRITICAL', 'UNKNOWN']
    """
    status = server.status
    if status == "UP":
        verdict = Verdict.OK
    elif status == "no check":
        verdict = Verdict.UNKNOWN
    else:
        verdict = Verdict.CRITICAL if status.startswith("DOWN") else Verdict.WARNING
    written = f"{status} for {Seconds(server.changed_s)}" + (f" ({server.check})" if verdict and server.check else "")
    return SERVER.finding(verdict, written, subject=f"{server.backend}/{server.server}", limit="UP")


def cache_findings(reading: Reading | None, limits: Limits) -> list[Finding]:
    """The cache answers, has memory left, evicts nothing, and saves what it should."""
    if reading is None:
        return []
    name, seen = reading.name, reading.cache
    if seen is None:
        unread = [
            check.unknown("the cache does not answer", subject=name) for check in (MEMORY, EVICTIONS, PERSISTENCE)
        ]
        return [CACHE.finding(Verdict.CRITICAL, reading.trouble, subject=name), *unread]
    used = Ratio(seen.memory / max(seen.memory_max, 1))
    saved = Verdict.CRITICAL if seen.unsaved else Verdict.OK
    refused = f", {seen.rejected} connections refused" if seen.rejected else ""
    return [
        CACHE.finding(Verdict.WARNING if seen.rejected else Verdict.OK, seen.version + refused, subject=name),
        MEMORY.at_most(used, limits.cache_memory, subject=name, observed=f"{Bytes(seen.memory)} ({used})"),
        EVICTIONS.at_most(Count(seen.evicted), limits.cache_evictions, subject=name),
        PERSISTENCE.finding(saved, seen.unsaved or "no errors", subject=name),
    ]


def certificate_findings(readings: Sequence[Reading], now: dt.datetime, limits: Limits) -> list[Finding]:
    """Each certificate is trusted, fits its name, and has days left."""
    return [finding for reading in readings for finding in _certificate(reading, now, limits.certificate_days)]


def _certificate(reading: Reading, now: dt.datetime, limit: Bound[Count]) -> list[Finding]:
    certificate = reading.certificate
    if certificate is None:
        return [check.unknown(reading.trouble, subject=reading.name) for check in (EXPIRY, TRUST)]
    days = (certificate.not_after - now) / dt.timedelta(days=1)
    written = f"expires in {Count(int(days))} days" if days >= 0 else f"expired on {certificate.not_after:%Y-%m-%d}"
    trust = Verdict.CRITICAL if certificate.distrust else Verdict.OK
    return [
        EXPIRY.at_least(Count(days), limit, subject=reading.name, observed=f"{written}, {certificate.key}"),
        TRUST.finding(trust, certificate.distrust or f"by {certificate.issuer}", subject=reading.name),
    ]


def disk_findings(readings: Sequence[Reading], limits: Limits) -> list[Finding]:
    """How full each disk is."""
    return [_disk(reading, limits) for reading in readings]


def _disk(reading: Reading, limits: Limits) -> Finding:
    if reading.disk is None:
        return DISK.unknown(reading.trouble, subject=reading.name)
    used = Ratio(reading.disk.used / max(reading.disk.size, 1))
    written = f"{Bytes(reading.disk.used)} of {Bytes(reading.disk.size)} ({used})"
    return DISK.at_most(used, limits.disk_used, subject=reading.name, observed=written)
