"""Asking around for `nvcops init`: what answers where, seen with the same adapters that will watch it later."""

from __future__ import annotations

import os
from pathlib import Path

from nvcops.adapters.discovery.database import ask_database
from nvcops.adapters.discovery.found import CacheFound, Found, Note, Wishes
from nvcops.adapters.discovery.invoker import find_person, system_time_zone
from nvcops.adapters.discovery.log import read_log
from nvcops.adapters.discovery.service import ask_certificate, ask_service
from nvcops.adapters.files import secret
from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.errors import TargetError
from nvcops.core.manifest import CacheEntry

_DEADLINE_S = 3.0


def discover(wishes: Wishes) -> Found:
    """Ask everything that is wished for; what does not answer becomes a note. Takes seconds, and none of them for ever.

    Raises:
        ManifestError: a password that was named cannot be read.
    """
    notes: list[Note] = []
    database, cache = wishes.database, wishes.cache
    database_password = secret(database.password_file, database.password_env) if database else None
    cache_password = secret(cache.password_file, cache.password_env) if cache else None
    return Found(  # the fields in the order in which they are asked, and told
        service=ask_service(wishes, notes) if wishes.service else None,
        certificate=ask_certificate(wishes.service, wishes.ca_file, notes) if wishes.service else "",
        log=read_log(wishes.log, notes) if wishes.log else None,
        database=ask_database(database, database_password, notes) if database else None,
        cache=_ask_cache(cache, cache_password, notes) if cache else None,
        backends=_ask_proxy(wishes.proxy_socket, notes) if wishes.proxy_socket else (),
        proxy_socket=wishes.proxy_socket,
        time_zone=system_time_zone(notes),
        person=find_person(wishes.person, notes),
        host=os.uname().nodename,
        notes=tuple(notes),
    )


def _ask_cache(entry: CacheEntry, password: str | None, notes: list[Note]) -> CacheFound | None:
    server = ValkeyServer(name=entry.name, url=entry.url, deadline_s=_DEADLINE_S, password=password)
    try:
        said = server.info()
    except TargetError as error:
        notes.append(Note("cache", False, error.sentence, error.hint or "is it running, and the address right?"))
        return None
    name = "Valkey" if "valkey_version" in said else "Redis"
    version = str(said.get("valkey_version") or said.get("redis_version", "of unknown version"))
    notes.append(Note("cache", True, f"{name} {version} at {entry.url}", _memory_hint(int(said.get("maxmemory", 0)))))
    return CacheFound(entry=entry, version=f"{name} {version}")


def _memory_hint(maxmemory: int) -> str:
    return "" if maxmemory else "maxmemory is not set: it may take the whole machine, and its use has no limit to show"


def _ask_proxy(socket: Path, notes: list[Note]) -> tuple[str, ...]:
    """The backends that have servers, in the proxy's order."""
    try:
        servers = HAProxy(name="proxy", socket=socket, deadline_s=_DEADLINE_S).servers()
    except TargetError as error:
        notes.append(Note("proxy", False, error.sentence, error.hint or "`stats socket` in haproxy.cfg names it"))
        return ()
    backends = tuple(dict.fromkeys(server.backend for server in servers))
    if not backends:
        notes.append(Note("proxy", False, f"{socket} shows no backend with servers", "is it the right proxy?"))
        return ()
    up = sum(server.status.startswith("UP") for server in servers)
    notes.append(Note("proxy", True, f"HAProxy with {', '.join(backends)}: {up} of {len(servers)} servers up"))
    return backends
