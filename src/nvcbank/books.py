"""Do the books balance? Reads everything once, in one snapshot, and names what does not fit."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

# Each query returns what breaks the rule: nothing is what we want to see. The first few are shown.
RULES: dict[str, str] = {
    "the entries of every transfer sum to zero in one currency": (
        "SELECT transfer_id AS id, sum(amount)::bigint AS found FROM bank.entry GROUP BY transfer_id "
        "HAVING sum(amount) <> 0 OR count(*) <> 2 OR min(currency) <> max(currency)"
    ),
    "every settled transfer has its two entries and no declined one has any": (
        "SELECT t.id, count(e.*) AS found FROM bank.transfer t LEFT JOIN bank.entry e ON e.transfer_id = t.id "
        "AND (e.account_id, e.amount) IN ((t.debit_account, -t.amount), (t.credit_account, t.amount)) "
        "AND e.currency = t.currency GROUP BY t.id, t.outcome "
        "HAVING count(e.*) <> CASE WHEN t.outcome = 'settled' THEN 2 ELSE 0 END"
    ),
    "every entry belongs to a transfer": (
        "SELECT e.transfer_id AS id, e.amount AS found FROM bank.entry e "
        "LEFT JOIN bank.transfer t ON t.id = e.transfer_id WHERE t.id IS NULL"
    ),
    "every balance is the sum of its entries": (
        "SELECT a.id, a.balance - coalesce(e.total, 0) AS found FROM bank.account a LEFT JOIN "
        "(SELECT account_id, sum(amount)::bigint AS total FROM bank.entry GROUP BY account_id) e "
        "ON e.account_id = a.id WHERE a.balance <> coalesce(e.total, 0)"
    ),
    "every entry's running balance follows from the one before": (
        "SELECT transfer_id AS id, balance_after AS found FROM (SELECT transfer_id, balance_after, "
        "sum(amount) OVER (PARTITION BY account_id ORDER BY transfer_id) AS running FROM bank.entry) e "
        "WHERE balance_after <> running"
    ),
    "all balances of a currency sum to zero": (
        "SELECT 0 AS id, sum(balance)::bigint AS found FROM bank.account GROUP BY currency HAVING sum(balance) <> 0"
    ),
    "what is held is the sum of the active holds": (
        "SELECT a.id, a.held - coalesce(h.total, 0) AS found FROM bank.account a LEFT JOIN "
        "(SELECT h.account_id, sum(h.amount)::bigint AS total FROM bank.hold h "
        "WHERE NOT EXISTS (SELECT FROM bank.hold_end x WHERE x.hold_id = h.id) GROUP BY h.account_id) h "
        "ON h.account_id = a.id WHERE a.held <> coalesce(h.total, 0)"
    ),
    "no account is below its overdraft limit or holds more than is available": (
        "SELECT id, balance - held + overdraft_limit AS found FROM bank.account "
        "WHERE kind <> 'house' AND balance - held < -overdraft_limit"
    ),
    "no transfer is reversed twice": (
        "SELECT reverses AS id, count(*) AS found FROM bank.transfer "
        "WHERE reverses IS NOT NULL AND outcome = 'settled' GROUP BY reverses HAVING count(*) > 1"
    ),
}
# Materialized, so that the limit does not talk the planner into looking rows up one by one; and no nested loops: each
# rule reads whole tables, of which the statistics may know nothing yet.
_FIRST_FEW = "WITH broken AS MATERIALIZED ({query}) SELECT * FROM broken LIMIT 5"
_PLAN = "SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '64MB'"


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
        results = [RuleResult(rule, await _first_few(connection, query)) for rule, query in RULES.items()]
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM bank.account) AS accounts, "
            "(SELECT count(*) FROM bank.transfer) AS transfers, (SELECT count(*) FROM bank.entry) AS entries"
        )
    return Books(rules=results, **dict(counts))


async def _first_few(connection: asyncpg.Connection, query: str) -> list[str]:
    rows = await connection.fetch(_FIRST_FEW.format(query=query))
    return [f"{row['id']}: {row['found']}" for row in rows]
