"""For whom a commit waits: what the server is told, who confirms, and how many the platform expects."""

from __future__ import annotations

import re

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.database.topics import listed

# --- Facts ---


class Synchronous(msgspec.Struct, frozen=True):
    """synchronous_standby_names and synchronous_commit, the standbys that confirm, and sessions that wait for them."""

    names: str
    commit: str
    in_recovery: bool
    confirming: tuple[str, ...]
    waiting: int


# --- Rules ---

SYNCHRONOUS = Check(
    "database.synchronous",
    "Synchronous standbys",
    "SELECT application_name, sync_state FROM pg_stat_replication: start who is missing",
)
_COUNTED = re.compile(r"^\s*(?:(?:FIRST|ANY)\s+)?([0-9]+)\s*\(", re.IGNORECASE)
_WAITING = ("on", "remote_apply", "remote_write")


def demanded(names: str) -> int:
    """How many standbys must confirm a commit, by synchronous_standby_names.

    >>> [demanded(names) for names in ("", "*", "a, b", "2 (a, b, c)", "ANY 1 (a, b)", "FIRST 3 (*)")]
    [0, 1, 1, 2, 1, 3]
    """
    match = _COUNTED.match(names)
    return int(match[1]) if match else int(bool(names.strip()))


def synchronous_finding(seen: Synchronous | None, expected: int) -> Finding:
    """Too few that confirm: commits wait for ever, or what was confirmed is on one disk alone. Both are CRITICAL.

    >>> def line(names, *confirming, expected=0, commit="on"): return synchronous_finding(
    ...     Synchronous(names, commit, False, confirming, 0), expected)
    >>> [found.verdict.name for found in (line(""), line("b", "b"), line("b"), line("", expected=1))]
    ['OK', 'OK', 'CRITICAL', 'CRITICAL']
    >>> line("ANY 2 (b, c)", "b").observed
    'each commit waits: 1 of 2 confirm (b)'
    >>> line("b", "b", expected=1, commit="local").observed
    'synchronous_commit is local: commits do not wait for b'
    """
    if seen is None:
        return SYNCHRONOUS.unknown("the server did not say")
    if seen.in_recovery:
        return SYNCHRONOUS.finding(Verdict.OK, "this is a standby")
    wanted, there = demanded(seen.names), len(seen.confirming)
    who = f" ({listed(seen.confirming)})" if seen.confirming else ""
    limit = f">= {max(expected, wanted)}"
    if wanted and seen.commit not in _WAITING:
        observed = f"synchronous_commit is {seen.commit}: commits do not wait for {seen.names}"
        return SYNCHRONOUS.finding(Verdict.CRITICAL if expected else Verdict.WARNING, observed, limit=limit)
    if there < wanted:
        waiting = f", {seen.waiting} sessions wait now" if seen.waiting else ""
        return SYNCHRONOUS.finding(
            Verdict.CRITICAL, f"each commit waits: {there} of {wanted} confirm{who}{waiting}", limit=limit
        )
    if min(there, wanted) < expected:
        observed = f"{min(there, wanted)} of {expected} confirm{who}: a commit is safe on fewer hosts than it should be"
        return SYNCHRONOUS.finding(Verdict.CRITICAL, observed, limit=limit)
    return SYNCHRONOUS.finding(Verdict.OK, f"{there} confirm{who}" if wanted else "none are asked for", limit=limit)
