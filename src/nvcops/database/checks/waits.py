"""What active sessions of the primary wait for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.database.topics import Answers, many, unknown, unread

ASKED = queries.load("nvcops.database.checks", "waits.sql")

# --- Facts ---


class Wait(msgspec.Struct, frozen=True):
    """What a number of sessions wait for at one moment."""

    wait: str
    count: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    waits: tuple[Wait, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(unread=unread(answers), waits=many(answers, "waits", Wait))


# --- Rules ---

WAITS = Check("performance.waits", "Waits", "SELECT * FROM pg_stat_activity WHERE state = 'active'")
CHECKS = (WAITS,)


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:  # noqa: ARG001 - as every topic's
    """All lines about the waits of one primary."""
    if "waits" in seen.unread:
        return [unknown(WAITS, seen.unread["waits"], subject=name)]
    return [waits_finding(seen.waits)]


def waits_finding(waits: Sequence[Wait]) -> Finding:
    """What active sessions do at this moment: a picture, without a limit."""
    return WAITS.finding(Verdict.OK, ", ".join(f"{wait.count} {wait.wait}" for wait in waits) or "nobody is active")
