"""From the manifest to the platform: one adapter for each part that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from nvcops.adapters.aws_balancer import AwsBalancer
from nvcops.adapters.backup.native import NativeBackups
from nvcops.adapters.backup.platform_files import RepositoryFiles
from nvcops.adapters.backup.repository import open_repository
from nvcops.adapters.backup.restores import open_restores
from nvcops.adapters.clients import JournalledClients
from nvcops.adapters.clones.clones import open_clones
from nvcops.adapters.files import secret
from nvcops.adapters.gates.runner import open_gates
from nvcops.adapters.git import GitCheckout
from nvcops.adapters.guard import GuardedPatroni
from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.haproxy_balancer import HAProxyBalancer
from nvcops.adapters.host import LocalHost
from nvcops.adapters.http import HttpServices
from nvcops.adapters.ledger import LedgerFile
from nvcops.adapters.logs import Format, LogFiles, PostgresFormat, ServiceFormat
from nvcops.adapters.looks_file import LooksFiles
from nvcops.adapters.metrics.scrape import metrics_store
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.programs import Programs
from nvcops.adapters.prometheus import PrometheusMetrics
from nvcops.adapters.records.later import LaterRecords
from nvcops.adapters.releases.store import open_releases
from nvcops.adapters.roles import PrimaryNow, Roles, StandbysNow
from nvcops.adapters.runs.history import RunJournal
from nvcops.adapters.slots.slots import open_slots
from nvcops.adapters.statements.history import StatementHistory
from nvcops.adapters.statements.store import statement_store
from nvcops.adapters.sweeping import GuardedSweeper
from nvcops.adapters.upkeep import open_upkeep
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.backups import Backups
from nvcops.core.cluster import Control
from nvcops.core.manifest import DatabaseEntry, Instance, Manifest, ProxyEntry, ServiceEntry
from nvcops.core.rollouts import Balancer
from nvcops.core.target import Database, Metrics, Target


def connect(manifest: Manifest) -> Target:
    """The platform of a manifest. Nothing is asked yet: each call to a socket is its own, short conversation.

    Raises:
        ManifestError: a password that the manifest names cannot be read.
    """
    control = Programs(manifest.control)
    services = HttpServices(_asked(manifest))
    database, standbys, cluster = _servers(manifest, control)
    releases = open_releases(manifest) if manifest.delivery else None
    return Target(
        manifest=manifest,
        services=services,
        database=database,
        standbys=standbys,
        cache=ValkeyServer.of(manifest.cache) if manifest.cache else None,
        sweeper=_sweeper(manifest),
        proxy=_haproxy(manifest.proxy) if manifest.proxy else None,
        host=LocalHost(manifest.disks, manifest.certificates),
        metrics=_metrics(manifest),
        logs=LogFiles(_logs(manifest)),
        control=control,
        backups=open_backups(manifest) if manifest.backups else None,
        files=RepositoryFiles(open_repository(manifest), manifest) if manifest.backups else None,
        restores=open_restores(manifest) if manifest.backups else None,
        clones=open_clones(manifest) if manifest.backups else None,
        releases=releases,
        slots=open_slots(manifest, control=control, releases=releases, services=services) if releases else None,
        balancer=_balancer(manifest),
        gates=open_gates(manifest),
        upkeep=open_upkeep(manifest, cluster) if manifest.database and manifest.database.upkeep else None,
        cluster=cluster,
        statements=_statements(manifest, database) if database else None,
        clients=_clients(manifest, cluster),
        ledger=_ledger(manifest, cluster),
        records=LaterRecords(manifest),
        runs=RunJournal(manifest),
        looks=LooksFiles(manifest.platform.state / "analyses") if manifest.delivery else None,
        commits=_checkout(manifest),
    )


def _asked(manifest: Manifest) -> list[ServiceEntry]:
    """The services; of the one that is delivered, its spare slots are asked as its instances are."""
    delivery = manifest.delivery
    spare = tuple(Instance(name=slot.name, url=slot.url) for slot in delivery.spare) if delivery else ()
    return [
        msgspec.structs.replace(entry, instances=(*entry.instances, *spare))
        if delivery and entry.name == delivery.service
        else entry
        for entry in manifest.services
    ]


def _checkout(manifest: Manifest) -> GitCheckout | None:
    folder = manifest.incidents.repository
    return GitCheckout(folder, coverage=manifest.changes.coverage) if folder else None


def _sweeper(manifest: Manifest) -> GuardedSweeper | None:
    """What cleans the cache; it keeps an eye on the services and on the primary."""
    if manifest.cache is None:
        return None
    entry = manifest.database
    primary = PostgresServer.of(entry, entry.primary) if entry else None
    return GuardedSweeper(cache=ValkeyServer.of(manifest.cache), services=manifest.services, database=primary)


def open_backups(manifest: Manifest) -> Backups:
    """The backups of a manifest, behind the engine that it names.

    Raises:
        ManifestError: there is no [backups], or a secret cannot be read.
    """
    repository = open_repository(manifest)
    if repository.entry.engine == "native":
        return NativeBackups(repository)
    from nvcops.adapters.backup.pgbackrest import PgBackRestBackups

    return PgBackRestBackups(repository)


def guarded_cluster(manifest: Manifest, control: Control) -> GuardedPatroni | None:
    """The cluster, and what guards it; None where the manifest has none."""
    entry = manifest.database
    if manifest.cluster is None or entry is None:
        return None
    members = {member.name for member in manifest.cluster.members}
    servers = {server.name: PostgresServer.of(entry, server) for server in (entry.primary, *entry.standbys)}
    return GuardedPatroni(manifest.cluster, {name: servers[name] for name in servers if name in members}, control)


def _servers(manifest: Manifest, control: Control) -> tuple[Database | None, Sequence[Database], GuardedPatroni | None]:
    """The primary, the standbys, and the cluster that chooses who is what."""
    entry = manifest.database
    if entry is None:
        return None, [], None
    servers = {server.name: PostgresServer.of(entry, server) for server in (entry.primary, *entry.standbys)}
    cluster = guarded_cluster(manifest, control)
    if cluster is None:
        primary, *standbys = servers.values()
        return primary, standbys, None
    roles = Roles(cluster, servers, entry.primary.name)
    return PrimaryNow(roles), StandbysNow(roles), cluster


def _clients(manifest: Manifest, cluster: GuardedPatroni | None) -> JournalledClients | None:
    """The customers' journal, and the books in which it is looked up."""
    journal, books = manifest.recovery.acknowledgements, _books(manifest, cluster)
    return JournalledClients(entry=journal, database=books) if journal and books else None


def _ledger(manifest: Manifest, cluster: GuardedPatroni | None) -> LedgerFile | None:
    """The queries of what a time cost, and the books that they are asked of."""
    impact, books = manifest.incidents.impact, _books(manifest, cluster)
    return LedgerFile(impact, books) if impact and books else None


def _books(manifest: Manifest, cluster: GuardedPatroni | None) -> Database | None:
    """The primary, asked by the role that takes backups: it may read all tables, which ours may not."""
    entry = manifest.database
    if entry is None:
        return None
    servers = _readers(manifest, entry)
    primary = servers[entry.primary.name]
    return PrimaryNow(Roles(cluster, servers, entry.primary.name)) if cluster else primary


def _readers(manifest: Manifest, entry: DatabaseEntry) -> dict[str, Database]:
    """The servers by name, asked by the role that takes backups, where there is one."""
    reader = manifest.backups
    return {
        server.name: replace(
            PostgresServer.of(entry, server),
            user=reader.user,
            password=secret(reader.password_file, reader.password_env),
        )
        if reader
        else PostgresServer.of(entry, server)
        for server in (entry.primary, *entry.standbys)
    }


def _statements(manifest: Manifest, database: Database) -> StatementHistory:
    """The history; plans need the tables' privileges, and are no work for the primary where a standby answers."""
    entry = manifest.database
    servers = list(_readers(manifest, entry).values()) if entry else []
    return StatementHistory(statement_store(manifest), database, (*servers[1:], *servers[:1]))


def _metrics(manifest: Manifest) -> Metrics:
    """Our own file; what a Prometheus has of the services is read from there."""
    own, url = metrics_store(manifest), manifest.watch.prometheus
    return PrometheusMetrics.at(url, own) if url else own


def _haproxy(entry: ProxyEntry) -> HAProxy:
    return HAProxy(name=entry.name, socket=entry.socket, deadline_s=entry.deadline)


def _balancer(manifest: Manifest) -> Balancer | None:
    """What splits the traffic between the slots of the service that is delivered."""
    entry, proxy = manifest.delivery, manifest.proxy
    if entry and entry.aws:
        return AwsBalancer(entry.aws)
    if entry is None or proxy is None:
        return None
    instances = next((one.instances for one in manifest.services if one.name == entry.service), ())
    return HAProxyBalancer(
        proxy=_haproxy(proxy),
        backend=entry.backend or next(iter(proxy.backends), entry.service),
        slots=[*(one.name for one in instances), *(one.name for one in entry.spare)],
        state_file=entry.state_file,
    )


def _logs(manifest: Manifest) -> dict[str, tuple[Path, Format]]:
    files: dict[str, tuple[Path, Format]] = {
        service.name: (service.log, ServiceFormat()) for service in manifest.services if service.log
    }
    if manifest.database and manifest.database.log:
        zone = ZoneInfo(manifest.platform.time_zone)
        files[manifest.database.primary.name] = (manifest.database.log, PostgresFormat(zone))
    return files
