"""The bank's own set-up in this lab: schema, customers, passwords, and what its programs are told about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvclab import database_roles
from nvclab.layout import write_private
from nvclab.parts import bank

if TYPE_CHECKING:
    from pathlib import Path

    from nvclab.cluster import Cluster
    from nvclab.layout import Layout
    from nvclab.pair import Pair

# More users than this share customers, as a person shares theirs with a telephone: signing in is dear on purpose.
CUSTOMERS_MAX = 1000
CUSTOMERS_MIN = 100
HOUSE_CUSTOMERS = 2  # the bank's own, who pay each other so that somebody notices when nobody can
_ROLES = ("owner", "service", "readonly", "auditor")


@dataclass(frozen=True)
class House:
    """The bank's own customer: signs in as `login`, and pays from `account` to the `other` one's."""

    login: str
    account: int
    other: int
    currency: str
    password_file: Path


@dataclass
class BankData:
    """Schema and customers of the bank in `databases`. Secrets reach programs as files, never as arguments."""

    layout: Layout
    databases: Pair | Cluster
    cache_url: str
    users: int

    @property
    def customers(self) -> int:
        """How many customers the bank has at least, its own not counted."""
        return max(CUSTOMERS_MIN, min(self.users, CUSTOMERS_MAX))

    def prepare(self) -> None:
        """Bring the schema up to date and see that there are customers; both may be repeated."""
        admin = {"NVCBANK_ADMIN_URL_FILE": self._url_file("administrator", user="postgres")}
        passwords = {f"NVCBANK_{role.upper()}_PASSWORD_FILE": self._password_file(role) for role in _ROLES}
        bank.run("migrate", env={**admin, **passwords})
        database_roles.join_groups(self.databases.primary)
        database_roles.let_read_migrations(self.databases.primary)
        self._url_file("owner", user="nvcbank_owner")  # by which a release migrates the schema later
        seed = {"NVCBANK_SEED_PASSWORD_FILE": self._password_file("customers")}
        bank.run("seed", "--customers", str(self.customers + HOUSE_CUSTOMERS), env={**admin, **seed})
        self._write_roster()

    def service_environment(self, instance: str) -> dict[str, str]:
        """What an instance needs to know."""
        return {
            "NVCBANK_DATABASE_URL_FILE": self._url_file("service", user="nvcbank_service"),
            "NVCBANK_CACHE_URL": self.cache_url,
            "NVCBANK_INSTANCE": instance,
            "NVCBANK_LOG": str(self.layout.application_log),
        }

    @property
    def roster_file(self) -> Path:
        """Who the customers are: JSON, [[login, account number, currency], ...]."""
        return self.layout.at("customers", "roster.json")

    def customers_environment(self) -> dict[str, str]:
        """What the customers need to know."""
        return {"NVCLAB_PASSWORD_FILE": self._password_file("customers")}

    def required_indexes(self) -> list[str]:
        """Names of the bank's indexes that no constraint would miss: dropping one goes unnoticed until it hurts."""
        with self.databases.primary.connect(database_roles.DATABASE) as connection:
            rows = connection.execute(
                "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
                " WHERE c.relnamespace = 'bank'::regnamespace"
                " AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY c.relname"
            ).fetchall()
        return [str(row[0]) for row in rows]

    def house(self) -> House:
        """The bank's own customers: the first two."""
        (login, account, currency), (_, other, _) = self._accounts(0, HOUSE_CUSTOMERS)
        return House(login, account, other, currency, self.layout.secret_file("customers"))

    def _write_roster(self) -> None:
        write_private(self.roster_file, json.dumps(self._accounts(HOUSE_CUSTOMERS, self.customers)))

    def _accounts(self, offset: int, limit: int) -> list[tuple[str, int, str]]:
        """Login, account number and currency of customers who may pay, in the order in which they came."""
        with self.databases.primary.connect(database_roles.DATABASE) as connection:
            return connection.execute(
                "SELECT c.login, min(a.id), min(a.currency) FROM bank.customer c"
                " JOIN bank.account a ON a.customer_id = c.id"
                " WHERE c.kyc_state = 'verified' AND NOT a.blocked AND a.currency = 'EUR'"
                " GROUP BY c.id ORDER BY c.id OFFSET %s LIMIT %s",
                [offset, limit],
            ).fetchall()

    def _password_file(self, name: str) -> str:
        self.layout.secret(name)
        return str(self.layout.secret_file(name))

    def _url_file(self, secret: str, *, user: str) -> str:
        """A file with the URL of the bank's database for one user; written anew, because ports change."""
        path = self.layout.at("secrets", f"{secret}.url")
        url = self.databases.url(user, self.layout.secret(secret))
        write_private(path, f"{url}\n")
        return str(path)
