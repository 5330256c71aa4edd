"""Schema changes: numbered SQL files, applied in order, each once, each in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from nvcbank.errors import MigrationError
from nvcbank.roles import OWNER, ensure_roles

FOLDER = Path(__file__).parent / "migrations"
_NAME = re.compile(r"^(\d{4})_(expand|contract)_[a-z0-9_]+\.sql$")
_LOCK = 0x6E766362616E6B  # "nvcbank"
# Whoever waits for a table keeps all of its customers waiting behind them, and these are cut off after 1.5 s.
_LOCK_TIMEOUT_MS = 500
_LOCK_TRIES = 60
_LOCK_PAUSE_S = 2.0


@dataclass(frozen=True)
class Migration:
    """One file: `expand` only adds, so that the release before still runs; `contract` removes what nobody uses."""

    number: int
    name: str
    sql: str

    @property
    def contract(self) -> bool:
        """Whether it removes what the release before may need."""
        return "_contract_" in self.name

    @property
    def sha256(self) -> str:
        """The content's hash, in hex: a file that was applied never changes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True)
class Status:
    """What is applied in the database and what this release would still apply, by file name."""

    applied: list[str]
    pending: list[str]


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations of this release in order.

    Raises:
        MigrationError: when a file is misnamed or a number is missing or doubled.
    """
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None or int(match[1]) != len(migrations) + 1:
            raise MigrationError(
                f"{path.name} does not follow its predecessor",
                hint=f"the next file is {len(migrations) + 1:04d}_expand_NAME.sql, or _contract_ for one that removes",
            )
        migrations.append(Migration(int(match[1]), path.name, path.read_text(encoding="utf-8")))
    return migrations


async def migrate(
    connection: asyncpg.Connection, migrations: list[Migration], *, expand_only: bool = False
) -> list[str]:
    """Create the roles, apply what is pending, return the names applied. Two at once wait for each other.

    expand_only: the first pending one that contracts stays pending, and what follows it.

    Raises:
        MigrationError: when the history was changed, or a migration fails; what came before it stays applied.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await ensure_roles(connection)
        if await connection.fetchval("SELECT to_regnamespace('bank') IS NULL"):
            await connection.execute(f"CREATE SCHEMA bank AUTHORIZATION {OWNER}")
        await connection.execute(f"SET ROLE {OWNER}")
        await connection.execute("SET search_path = bank, pg_temp")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS applied_migration (number integer PRIMARY KEY, name text NOT NULL UNIQUE, "
            "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        pending = await _pending(connection, migrations)
        if expand_only:
            pending = list(itertools.takewhile(lambda migration: not migration.contract, pending))
        for migration in pending:
            await _apply(connection, migration)
        return [migration.name for migration in pending]
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute("RESET search_path")
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def status(connection: asyncpg.Connection, migrations: list[Migration]) -> Status:
    """Compare the database with this release; changes nothing.

    Raises:
        MigrationError: when the history was changed.
    """
    if await connection.fetchval("SELECT to_regclass('bank.applied_migration') IS NULL"):
        return Status([], [migration.name for migration in migrations])
    pending = [migration.name for migration in await _pending(connection, migrations)]
    return Status([migration.name for migration in migrations if migration.name not in pending], pending)


async def _pending(connection: asyncpg.Connection, migrations: list[Migration]) -> list[Migration]:
    """What is not applied yet. The applied ones must be a prefix of this release's, byte for byte.

    A database that is *ahead* is another matter: the release before must run on the expanded schema.
    """
    applied = await connection.fetch("SELECT name, sha256 FROM bank.applied_migration ORDER BY number")
    for row, migration in zip(applied, migrations, strict=False):
        if row["name"] != migration.name:
            raise MigrationError(
                f"the database has {row['name']} where this release has {migration.name}",
                hint="never rename or reorder an applied migration: add a new one",
            )
        if row["sha256"] != migration.sha256:
            raise MigrationError(
                f"{migration.name} was changed after it was applied",
                hint="restore the file as it was and add a new migration",
            )
    return migrations[len(applied) :]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    """Apply one, and try again for two minutes while somebody else has what it changes: nobody queues behind it."""
    for left in reversed(range(_LOCK_TRIES)):
        try:
            return await _applied(connection, migration)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if not left:
                raise MigrationError(
                    f"{migration.name} was tried {_LOCK_TRIES} times and got no lock: {error}",
                    hint="nothing of it was applied; look who has the table for so long (pg_locks), and repeat",
                ) from error
        except asyncpg.PostgresError as error:
            raise MigrationError(
                f"{migration.name} failed and was rolled back: {error}",
                hint="what came before it is applied; fix it and repeat",
            ) from error
        await asyncio.sleep(_LOCK_PAUSE_S)
    return None


async def _applied(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO applied_migration (number, name, sha256) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.sha256,
        )
