"""The lab's databases: a primary and its streaming standby, their settings, and the roles that are not the bank's own.

hot_standby_feedback is off: nobody but operations reads from the standby, and a query of theirs must never be able to
keep the primary's vacuum waiting. A query that is in the way of replay is cancelled after 30 seconds instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from nvclab.parts.postgres import Postgres

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from nvclab.layout import Layout

DATABASE = "bank"
REPLICATION = "nvc_replication"
OPERATIONS = "nvcops"
SLOT = "standby"
_SETTINGS = {
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "reserved_connections": "4",  # for operations: they can look when everybody else is locked out
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "wal_level": "replica",
    "max_slot_wal_keep_size": "512MB",  # a standby that is away does not fill the primary's disk
    "wal_sender_timeout": "10s",
    "wal_receiver_timeout": "10s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "1s",
    "hot_standby_feedback": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "password_encryption": "scram-sha-256",
    "log_destination": "jsonlog",
    "logging_collector": "on",
    "log_filename": "postgresql.log",
    "log_file_mode": "0644",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_lock_waits": "on",
    "log_statement": "ddl",  # who granted what to whom
    "log_min_duration_statement": "500ms",
}


def primary(layout: Layout, sockets: Path, port: int) -> Postgres:
    """The primary."""
    return _server(layout, "primary", sockets, port, {})


def standby(layout: Layout, sockets: Path, port: int, of: Postgres) -> Postgres:
    """The standby of `of`."""
    source = of.conninfo(user=REPLICATION, password=layout.secret("replication"), application_name=SLOT)
    # What a replication connection does not take: the database; and a dead network must be noticed.
    source = source.replace("dbname=postgres", "connect_timeout=3")
    return _server(layout, "standby", sockets, port, {"primary_conninfo": source, "primary_slot_name": SLOT})


def _server(layout: Layout, name: str, sockets: Path, port: int, more: dict[str, str]) -> Postgres:
    logs = layout.at("logs", name)
    return Postgres(
        name=name,
        data=layout.at("data", name),
        logs=logs,
        sockets=sockets,
        port=port,
        password=layout.secret("administrator"),
        settings={**_SETTINGS, "log_directory": str(logs), **more},
    )


def prepare(server: Postgres, layout: Layout) -> None:
    """Roles for replication and operations, the bank's database, the standby's slot: made where they are missing."""
    with server.connect() as connection:
        _role(connection, REPLICATION, layout.secret("replication"), "REPLICATION")
        _role(connection, OPERATIONS, layout.secret("operations"), "")
        for group in ("pg_monitor", "pg_use_reserved_connections"):
            if _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", group):
                connection.execute(_fill("GRANT {} TO {}", group, OPERATIONS))
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(_fill("CREATE DATABASE {}", DATABASE))
        if not _exists(connection, "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", SLOT):
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    with server.connect(DATABASE) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute(_fill("GRANT CONNECT ON DATABASE {} TO {}", DATABASE, OPERATIONS))


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
