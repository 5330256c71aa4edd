"""From the manifest to the platform: one adapter for each part that it names."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from nvcops.adapters.files import secret
from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.host import LocalHost
from nvcops.adapters.http import HttpServices
from nvcops.adapters.logs import Format, LogFiles, PostgresFormat, ServiceFormat
from nvcops.adapters.metrics.scrape import metrics_store
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.programs import Programs
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.manifest import CacheEntry, DatabaseEntry, Manifest, ProxyEntry, Server
from nvcops.core.target import Target


def connect(manifest: Manifest) -> Target:
    """The platform of a manifest. Nothing is asked yet: each call to a socket is its own, short conversation.

    Raises:
        ManifestError: a password that the manifest names cannot be read.
    """
    database = manifest.database
    return Target(
        manifest=manifest,
        services=HttpServices(manifest.services),
        database=_postgres(database, database.primary) if database else None,
        standbys=[_postgres(database, server) for server in database.standbys] if database else [],
        cache=_valkey(manifest.cache) if manifest.cache else None,
        proxy=_haproxy(manifest.proxy) if manifest.proxy else None,
        host=LocalHost(manifest.disks, manifest.certificates),
        metrics=metrics_store(manifest),
        logs=LogFiles(_logs(manifest)),
        control=Programs(manifest.control),
    )


def _postgres(entry: DatabaseEntry, server: Server) -> PostgresServer:
    return PostgresServer(
        name=server.name,
        host=server.host,
        port=server.port or entry.port,
        database=entry.name,
        user=entry.user,
        deadline_s=entry.deadline,
        password=secret(entry.password_file, entry.password_env),
        ca_file=entry.ca_file,
    )


def _valkey(entry: CacheEntry) -> ValkeyServer:
    password = secret(entry.password_file, entry.password_env)
    return ValkeyServer(name=entry.name, url=entry.url, deadline_s=entry.deadline, password=password)


def _haproxy(entry: ProxyEntry) -> HAProxy:
    return HAProxy(name=entry.name, socket=entry.socket, deadline_s=entry.deadline)


def _logs(manifest: Manifest) -> dict[str, tuple[Path, Format]]:
    files: dict[str, tuple[Path, Format]] = {
        service.name: (service.log, ServiceFormat()) for service in manifest.services if service.log
    }
    if manifest.database and manifest.database.log:
        zone = ZoneInfo(manifest.platform.time_zone)
        files[manifest.database.primary.name] = (manifest.database.log, PostgresFormat(zone))
    return files
