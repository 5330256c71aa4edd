"""Statements of the primary, off pg_stat_statements: which of them take long."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding
from nvcops.core.errors import TargetError
from nvcops.core.manifest import Limits, Manifest
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.database.texts import shown
from nvcops.database.topics import GRANT, Answers, many, unknown

ASKED = queries.load("nvcops.database.checks", "statements.sql")

# --- Facts ---


class Statement(msgspec.Struct, frozen=True):
    """A statement of pg_stat_statements, without its constants."""

    id: int
    text: str
    calls: float
    mean_s: float
    total_s: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `trouble` says why nothing was, and `helps` what would help."""

    trouble: str = ""
    helps: str = ""
    statements: tuple[Statement, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    answer = answers.get("statements", [])
    if isinstance(answer, TargetError):
        return Seen(trouble=answer.sentence, helps=answer.hint or GRANT)
    return Seen(statements=many(answers, "statements", Statement))


# --- Rules ---

SLOW = Check(
    "performance.statements", "Slow statements", "EXPLAIN it; after the repair: SELECT pg_stat_statements_reset()"
)
CHECKS = (SLOW,)
_CALLS_MIN = 3


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the statements of one primary."""
    if seen.trouble:
        return [unknown(SLOW, seen.trouble, seen.helps, subject=name)]
    return [statements_finding(seen.statements, manifest.limits)]


def statements_finding(statements: Sequence[Statement], limits: Limits) -> Finding:
    """The slowest statement on average, among those that were called more than once or twice."""
    often = [statement for statement in statements if statement.calls >= _CALLS_MIN]
    worst = max(often, key=lambda statement: statement.mean_s, default=None)
    if worst is None:
        return SLOW.at_most(Seconds(0), limits.slow_query_mean, observed="none was called often")
    share = worst.total_s / max(sum(statement.total_s for statement in statements), 1e-9)
    took = Seconds(worst.mean_s)
    observed = f"{took} on average in {Count(worst.calls)} calls, {Ratio(share)} of all time: {shown(worst.text, 60)}"
    return SLOW.at_most(took, limits.slow_query_mean, observed=observed)
