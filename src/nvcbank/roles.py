"""The four database roles: who owns the tables, who serves, who reads, who audits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

import asyncpg

from nvcbank.errors import MigrationError
from nvcbank.settings import secret

OWNER, SERVICE, READONLY, AUDITOR = "nvcbank_owner", "nvcbank_service", "nvcbank_readonly", "nvcbank_auditor"
PASSWORD_VARIABLES = {
    OWNER: "NVCBANK_OWNER_PASSWORD",
    SERVICE: "NVCBANK_SERVICE_PASSWORD",
    READONLY: "NVCBANK_READONLY_PASSWORD",
    AUDITOR: "NVCBANK_AUDITOR_PASSWORD",
}
# The deadline of the service is 2 s: what runs longer, waits longer for a lock or idles in a transaction is cut off.
_SETTINGS = {
    SERVICE: {
        "statement_timeout": "2s",
        "lock_timeout": "1500ms",
        "idle_in_transaction_session_timeout": "5s",
        "jit": "off",
    },
    READONLY: {
        "default_transaction_read_only": "on",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
    },
    AUDITOR: {
        "default_transaction_read_only": "on",
        "statement_timeout": "300s",
        "idle_in_transaction_session_timeout": "60s",
    },
    OWNER: {"statement_timeout": "30min", "idle_in_transaction_session_timeout": "60s"},
}


async def ensure_roles(connection: asyncpg.Connection, environment: Mapping[str, str] = os.environ) -> None:
    """Create the roles that are missing; set their settings, and the passwords that the environment gives.

    A role whose password is not given keeps the one it has. Only a superuser, or a role that may create roles, changes
    anything; anybody else must find the roles there.

    Raises:
        MigrationError: when roles are missing and this user may not create them.
        SettingError: when a password file cannot be read.
    """
    passwords = {role: secret(variable, environment) for role, variable in PASSWORD_VARIABLES.items()}
    known = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'nvcbank%'")}
    if not await _may_create_roles(connection):
        missing = sorted(set(PASSWORD_VARIABLES) - known)
        if missing:
            raise MigrationError(
                f"the roles {', '.join(missing)} do not exist and this user may not create them",
                hint="run `nvcbank migrate` once with the URL of a superuser in NVCBANK_ADMIN_URL",
            )
        return
    for role, password in passwords.items():
        if role not in known:
            await _create(connection, role)
        if password is not None:
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{scram_verifier(password)}'")
        for setting, value in _SETTINGS.get(role, {}).items():
            await connection.execute(f"ALTER ROLE {role} SET {setting} = '{value}'")
    await connection.execute(f"GRANT {OWNER} TO CURRENT_USER")


async def _may_create_roles(connection: asyncpg.Connection) -> bool:
    return bool(
        await connection.fetchval("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    )


async def _create(connection: asyncpg.Connection, role: str) -> None:
    """Create a role. Roles belong to the whole server: a migration of another database may have been faster."""
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = 4096) -> str:
    """What PostgreSQL stores for SCRAM-SHA-256 (RFC 5803). Made here, so that no password stands in a server log.

    >>> scram_verifier("pencil", b"0123456789abcdef")[:48]
    'SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$nQpb'
    """
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"
