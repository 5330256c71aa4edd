"""The live database is changed here, and nowhere else: core.upkeep (docs/decisions/upkeep.md)."""

from __future__ import annotations

from dataclasses import replace

from nvcops.adapters.files import secret
from nvcops.adapters.patroni import Patroni
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.roles import Roles
from nvcops.adapters.upkeep.keeper import PostgresUpkeep
from nvcops.adapters.upkeep.latency import Meter
from nvcops.adapters.upkeep.pending import PendingFile
from nvcops.core.errors import ManifestError
from nvcops.core.manifest import Manifest

__all__ = ["PostgresUpkeep", "open_upkeep"]


def open_upkeep(manifest: Manifest, cluster: Patroni | None = None) -> PostgresUpkeep:
    """The primary by its upkeep's role; with a cluster, whichever server is primary when an order comes.

    Raises:
        ManifestError: there is no [database.upkeep], or its password cannot be read.
    """
    database = manifest.database
    if database is None or database.upkeep is None:
        raise ManifestError("nothing keeps the database", hint="set up [database.upkeep] in platform.toml")
    entry = database.upkeep
    password = secret(entry.password_file, entry.password_env)
    servers = {
        server.name: replace(PostgresServer.of(database, server), user=entry.user, password=password)
        for server in (database.primary, *database.standbys)
    }
    primary = database.primary.name
    roles = Roles(cluster, servers, primary) if cluster else None
    notes = PendingFile(manifest.platform.state / "upkeep" / "pending.json")
    return PostgresUpkeep(servers=servers, primary=primary, roles=roles, meter=Meter(manifest.services), notes=notes)
