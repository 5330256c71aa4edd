"""Do the books balance? Reads everything once, in one snapshot, and names what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncpg

_NAME = "-- name: "
RULES_FILE = Path(__file__).with_name("books.sql")
# Materialized, so that the limit does not talk the planner into looking rows up one by one; and no nested loops: each
# rule reads whole tables, of which the statistics may know nothing yet.
_FIRST_FEW = "WITH broken AS MATERIALIZED ({query}) SELECT * FROM broken LIMIT 5"
_PLAN = "SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '64MB'"


def rules() -> dict[str, str]:
    """The rules' sentences and their queries, which answer with what breaks the rule."""
    pieces = RULES_FILE.read_text(encoding="utf-8").split(_NAME)[1:]
    named = (piece.partition("\n") for piece in pieces)
    return {sentence: query.strip().rstrip(";") for sentence, _, query in named}


@dataclass(frozen=True)
class RuleResult:
    """One rule: `broken` holds up to five texts that name what does not fit."""

    rule: str
    broken: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing breaks the rule."""
        return not self.broken


@dataclass(frozen=True)
class Books:
    """The result of a check: what was counted, and each rule."""

    accounts: int
    transfers: int
    entries: int
    rules: list[RuleResult]

    @property
    def balanced(self) -> bool:
        """Whether every rule holds."""
        return all(rule.ok for rule in self.rules)


async def check_books(connection: asyncpg.Connection) -> Books:
    """Check every rule in one snapshot. Any role that may read the ledger can do this, on a standby too."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_PLAN)
        results = [RuleResult(rule, await _first_few(connection, query)) for rule, query in rules().items()]
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM bank.account) AS accounts, "
            "(SELECT count(*) FROM bank.transfer) AS transfers, (SELECT count(*) FROM bank.entry) AS entries"
        )
    return Books(rules=results, **dict(counts))


async def _first_few(connection: asyncpg.Connection, query: str) -> list[str]:
    rows = await connection.fetch(_FIRST_FEW.format(query=query))
    return [f"{row['id']}: {row['found']}" for row in rows]
