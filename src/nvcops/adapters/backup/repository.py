"""Everything that the functions of this package take: where the backups lie, how they are sealed, whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from nvcops.adapters.backup import locks
from nvcops.adapters.backup.catalogue import Catalogue
from nvcops.adapters.backup.pack import Sealing, read_sealing
from nvcops.adapters.backup.store import Store, open_store
from nvcops.adapters.backup.tools import Tools, find_tools
from nvcops.adapters.files import secret
from nvcops.core.errors import ManifestError, Refused, Unreachable
from nvcops.core.manifest import BackupsEntry, DatabaseEntry, Manifest

_CONNECT_S = 5
_STATEMENT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The server that is backed up: whichever of the platform's servers is primary now."""

    database: DatabaseEntry
    user: str
    password: str | None = field(default=None, repr=False)

    def conninfo(self, application: str, **more: str) -> str:
        """For libpq, without the password: all servers, of which the one that takes writes is meant."""
        servers = [self.database.primary, *self.database.standbys]
        return make_conninfo(
            "",
            host=",".join(server.host for server in servers),
            port=",".join(str(server.port or self.database.port) for server in servers),
            user=self.user,
            connect_timeout=str(_CONNECT_S),
            target_session_attrs="read-write",
            application_name=application,
            sslmode="verify-full" if self.database.ca_file else None,
            sslrootcert=str(self.database.ca_file) if self.database.ca_file else None,
            **more,
        )

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a short question to the primary.

        Raises:
            Unreachable, Refused.
        """
        with self._session(dbname=self.database.name, options=f"-c statement_timeout={_STATEMENT_S}s") as session:
            return session.execute(sql.encode(), parameters or None).fetchall()

    def history(self, timeline: int) -> bytes:
        """The history of a timeline, as the primary has it.

        Raises:
            Unreachable, Refused.
        """
        with self._session(replication="true") as session:
            answer = session.pgconn.exec_(f"TIMELINE_HISTORY {timeline}".encode())
            if answer.status != psycopg.pq.ExecStatus.TUPLES_OK:
                said = answer.error_message.decode(errors="replace").strip()
                raise Refused(f"the server does not tell the history of timeline {timeline}: {said.splitlines()[0]}")
            return answer.get_value(0, 1) or b""

    @contextmanager
    def _session(self, **more: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        dsn = self.conninfo("nvcops_backup", **more)
        try:
            with psycopg.connect(make_conninfo(dsn, password=self.password), autocommit=True) as session:
                yield session
        except psycopg.OperationalError as error:
            reasons = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
            message = reasons[-1].strip() if reasons else "the connection was cut"  # a line with a tab is advice
            if error.sqlstate is None and "FATAL:" not in message:
                raise Unreachable(f"no primary answers for the backups: {message}") from error
            raise Refused(f"the server refused the backups' role {self.user}: {message}") from error
        except psycopg.Error as error:
            raise Refused(f"the server refused the backups' role {self.user}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A platform's repository. `state` is a folder of ours for what is only known here; `spool` is the receiver's."""

    entry: BackupsEntry
    platform: str
    state: Path
    spool: Path
    store: Store
    sealing: Sealing
    catalogue: Catalogue
    source: Source

    def tools(self, major: int) -> Tools:
        """PostgreSQL's programs of a major version; raises StateError when there are none."""
        return find_tools(major, self.entry.binaries, self.entry.account)

    def lock(self, what: str) -> AbstractContextManager[locks.Hold]:
        """Hold one of its locks; raises LockHeld when another one has it."""
        return locks.hold(self.store, what)


def open_repository(manifest: Manifest) -> Repository:
    """The repository that the manifest names; nothing is asked of it, nor of the server, yet.

    Raises:
        ManifestError: there is no [backups] or no [database], or a secret cannot be read.
    """
    entry = manifest.backups
    if entry is None:
        raise ManifestError("no backups are configured", hint="set up [backups] in platform.toml")
    if manifest.database is None:
        raise ManifestError("[backups] needs a [database]", hint="platform.toml names its servers")
    folder, state = entry.repository.folder, manifest.platform.state / "backups"
    store = open_store(entry)
    return Repository(
        entry=entry,
        platform=manifest.platform.name,
        state=state,
        spool=entry.spool or ((folder or state) / "spool"),
        store=store,
        sealing=read_sealing(entry.key_file, folder),
        catalogue=Catalogue(store),
        source=Source(
            database=manifest.database, user=entry.user, password=secret(entry.password_file, entry.password_env)
        ),
    )
