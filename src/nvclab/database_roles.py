"""The roles, the database and the slots that a server of the lab needs beside the bank's own schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    import psycopg

    from nvclab.layout import Layout
    from nvclab.parts.postgres import Postgres

DATABASE = "bank"
REPLICATION = "nvc_replication"
OPERATIONS = "nvcops"
BACKUP = "nvcops_backup"
UPKEEP = "nvcops_upkeep"
_BANK = "nvcbank_owner"  # who owns the bank's tables; the bank makes it when it is migrated first, and keeps it
_EXTENSIONS = ("pg_stat_statements", "pgstattuple")
_GROUPS = {
    OPERATIONS: ("pg_monitor", "pg_use_reserved_connections"),
    BACKUP: ("pg_read_all_data", "pg_read_all_stats"),
    UPKEEP: ("pg_monitor", "pg_maintain", _BANK),
}
# What a backup needs beyond reading: a moment in which a standby stands still, a name for a point, a segment closed.
_BACKUP_FUNCTIONS = (
    "pg_wal_replay_pause()",
    "pg_wal_replay_resume()",
    "pg_create_restore_point(text)",
    "pg_switch_wal()",
)
# What a change of settings that was approved needs.
_SETTINGS = (
    "autovacuum_analyze_scale_factor",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_insert_scale_factor",
    "autovacuum_vacuum_scale_factor",
    "bgwriter_delay",
    "bgwriter_lru_maxpages",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "default_statistics_target",
    "effective_cache_size",
    "effective_io_concurrency",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "jit",
    "log_min_duration_statement",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "min_wal_size",
    "random_page_cost",
    "seq_page_cost",
    "wal_compression",
    "work_mem",
)


def prepare(server: Postgres, layout: Layout, slots: tuple[str, ...] = ()) -> None:
    """Roles for replication, operations and backups, the bank's database, slots: made where they are missing."""
    with server.connect() as connection:
        _as_builder(connection)
        _role(connection, REPLICATION, layout.secret("replication"), "REPLICATION")
        _role(connection, OPERATIONS, layout.secret("operations"), "")
        _role(connection, BACKUP, layout.secret("backup"), "REPLICATION")
        _role(connection, UPKEEP, layout.secret("upkeep"), "")
        _join_groups(connection)
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(_fill("CREATE DATABASE {}", DATABASE))
        for slot in slots:
            if not _exists(connection, "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", slot):
                connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
        _let_back_up(connection)
    with server.connect(DATABASE) as connection:
        _as_builder(connection)
        for extension in _EXTENSIONS:
            connection.execute(_fill("CREATE EXTENSION IF NOT EXISTS {}", extension))
        connection.execute(_fill("GRANT CONNECT ON DATABASE {} TO {}", DATABASE, OPERATIONS))
        _let_back_up(connection)
        _let_keep(connection)


def join_groups(server: Postgres) -> None:
    """Make our roles members of those that were missing before: the bank makes its own."""
    with server.connect() as connection:
        _as_builder(connection)
        _join_groups(connection)


def let_read_migrations(server: Postgres) -> None:
    """Operations may read which migrations of the bank are applied, and nothing else of it."""
    with server.connect(DATABASE) as connection:
        _as_builder(connection)
        connection.execute(_fill("GRANT USAGE ON SCHEMA bank TO {}", OPERATIONS))
        connection.execute(_fill("GRANT SELECT ON bank.applied_migration TO {}", OPERATIONS))


def _join_groups(connection: psycopg.Connection) -> None:
    for role, groups in _GROUPS.items():
        for group in groups:
            if _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", group):
                connection.execute(_fill("GRANT {} TO {}", group, role))


def _as_builder(connection: psycopg.Connection) -> None:
    """Commit without a synchronous standby, which may be what is made next; and leave no security events.

    That a data centre was built is no event of the bank's day, and reading everything, as backups do, is great power.
    """
    connection.execute("SET synchronous_commit = local")
    connection.execute("SET log_statement = 'none'")


def _let_back_up(connection: psycopg.Connection) -> None:
    """Privileges on functions are each database's own."""
    for function in _BACKUP_FUNCTIONS:
        words = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
        connection.execute(words.format(sql.SQL(function), sql.Identifier(BACKUP)))


def _let_keep(connection: psycopg.Connection) -> None:
    """Settings may be changed and read anew; indexes come with the tables' owner."""
    connection.execute(_fill("GRANT CONNECT ON DATABASE {} TO {}", DATABASE, UPKEEP))
    connection.execute(_fill("GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {}", UPKEEP))
    for setting in _SETTINGS:
        connection.execute(_fill("GRANT ALTER SYSTEM ON PARAMETER {} TO {}", setting, UPKEEP))


def _role(connection: psycopg.Connection, name: str, password: str, attribute: str) -> None:
    """A role that may sign in. The server gets the password's verifier, so that its log never holds the password."""
    if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
        connection.execute(_fill("CREATE ROLE {}", name))
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    words = sql.SQL("ALTER ROLE {} LOGIN " + attribute + " PASSWORD {}")
    connection.execute(words.format(sql.Identifier(name), sql.Literal(verifier)))


def _exists(connection: psycopg.Connection, question: str, name: str) -> bool:
    return connection.execute(question, [name]).fetchone() is not None


def _fill(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
