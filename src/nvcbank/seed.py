"""Customers to begin with: verified, each with one current account, funded by real transfers from the house."""

from __future__ import annotations

from typing import Any

import asyncpg

from nvcbank.passwords import hash_password
from nvcbank.roles import OWNER

MOST_CUSTOMERS = 1_000_000
OPENING_MINOR = 1_000_000
_DOMAIN = "nvcbank.example"
_FUNDING_GROUP = 2_000


def customer_login(number: int) -> str:
    """The login of a seeded customer.

    >>> customer_login(7)
    'customer-000007@nvcbank.example'
    """
    return f"customer-{number:06d}@{_DOMAIN}"


async def seed(connection: asyncpg.Connection, customers: int, password: str) -> dict[str, Any]:
    """Bring the bank to at least `customers` seeded customers and two staff users; what exists is left as it is.

    Every step can be repeated: a seed that was killed goes on where it was. Returns what exists now.
    """
    await connection.execute(f"SET ROLE {OWNER}")
    await connection.execute("SET search_path = bank, pg_temp")
    await connection.execute(
        "INSERT INTO account (kind, currency) SELECT 'house', code FROM currency "
        "ON CONFLICT (currency) WHERE kind = 'house' DO NOTHING"
    )
    password_hash = hash_password(password)
    await _add_staff(connection, password_hash)
    await _add_customers(connection, customers, password_hash)
    await _open_accounts(connection)
    await _fund(connection)
    return await _describe(connection)


async def _add_staff(connection: asyncpg.Connection, password_hash: str) -> None:
    for role in ("officer", "supervisor"):
        await add_staff(connection, f"{role}-01@{_DOMAIN}", f"{role.title()} One", role, password_hash)


async def add_staff(connection: asyncpg.Connection, login: str, name: str, role: str, password_hash: str) -> bool:
    """Add a staff user; False when the login is known, and then nothing is changed. Needs the owner's role."""
    added = await connection.fetchval(
        "INSERT INTO bank.staff (login, name, role, password_hash) VALUES (lower($1), $2, $3, $4) "
        "ON CONFLICT (login) DO NOTHING RETURNING id",
        login,
        name,
        role,
        password_hash,
    )
    return added is not None


async def _add_customers(connection: asyncpg.Connection, customers: int, password_hash: str) -> None:
    async with connection.transaction():
        added = await connection.fetchval(
            "WITH added AS (INSERT INTO customer (login, name) "
            "SELECT 'customer-' || lpad(n::text, 6, '0') || '@' || $2, 'Customer ' || n FROM generate_series(1, $1) n "
            "ORDER BY n ON CONFLICT (login) DO NOTHING RETURNING id), "
            "hashed AS (INSERT INTO credential SELECT id, $3 FROM added) SELECT array_agg(id) FROM added",
            customers,
            _DOMAIN,
            password_hash,
        )
        for before, after in (("registered", "in_review"), ("in_review", "verified")):
            await connection.execute(
                "INSERT INTO kyc_event (customer_id, from_state, to_state, reason) "
                "SELECT id, $2::text::kyc_state, $3::text::kyc_state, 'seeded' FROM unnest($1::bigint[]) id",
                added or [],
                before,
                after,
            )
            await connection.execute(
                "UPDATE customer SET kyc_state = $2::text::kyc_state WHERE id = ANY ($1::bigint[])", added or [], after
            )


async def _open_accounts(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO account (customer_id, currency, customer_verified) SELECT c.id, 'EUR', true FROM customer c "
        "WHERE c.login LIKE 'customer-%@' || $1 AND c.kyc_state = 'verified' "
        "AND NOT EXISTS (SELECT FROM account a WHERE a.customer_id = c.id) ORDER BY c.id",
        _DOMAIN,
    )


async def _fund(connection: asyncpg.Connection) -> None:
    """Fund each seeded customer's first account once: the key is made of the account, so twice is once."""
    accounts = await connection.fetchval(
        "SELECT array_agg(id ORDER BY id) FROM (SELECT min(a.id) AS id FROM account a "
        "JOIN customer c ON c.id = a.customer_id WHERE c.login LIKE 'customer-%@' || $1 AND a.currency = 'EUR' "
        "GROUP BY c.id) first WHERE NOT EXISTS (SELECT FROM transfer t "
        "WHERE t.idempotency_key = decode(md5('seed/' || first.id), 'hex'))",
        _DOMAIN,
    )
    for start in range(0, len(accounts or []), _FUNDING_GROUP):
        await connection.execute(
            "SELECT count(*) FROM (SELECT array_agg(id) AS ids, array_agg(decode(md5('seed/' || id), 'hex')) AS keys, "
            "count(*)::integer AS n FROM unnest($1::bigint[]) id) g, "
            "LATERAL post_transfers('funding', array_fill(NULL::bigint, ARRAY[n]), keys, keys, array_fill("
            "(SELECT id FROM account WHERE kind = 'house' AND currency = 'EUR'), ARRAY[n]), ids, "
            "array_fill($2::bigint, ARRAY[n]), array_fill('EUR'::text, ARRAY[n]), "
            "array_fill('opening'::text, ARRAY[n]))",
            accounts[start : start + _FUNDING_GROUP],
            OPENING_MINOR,
        )
    if accounts:
        await connection.execute("ANALYZE customer, credential, account, transfer, entry")


async def _describe(connection: asyncpg.Connection) -> dict[str, Any]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM customer) AS customers, "
        "(SELECT count(*) FROM account WHERE kind = 'current') AS accounts, "
        "(SELECT count(*) FROM account WHERE kind = 'house') AS house_accounts, "
        "(SELECT count(*) FROM staff) AS staff, "
        "(SELECT coalesce(sum(amount), 0)::bigint FROM transfer WHERE kind = 'funding') AS funded_minor"
    )
    return {
        **dict(row),
        "currency": "EUR",
        "first_login": customer_login(1),
        "staff_logins": [f"officer-01@{_DOMAIN}", f"supervisor-01@{_DOMAIN}"],
    }
