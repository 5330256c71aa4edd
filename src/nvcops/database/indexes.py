"""Indexes of the primary: are they there, and may queries use them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.database.topics import Answers, many, then, unknown, unread

ASKED = queries.load("nvcops.database", "indexes.sql")

# --- Facts ---


class Index(msgspec.Struct, frozen=True):
    """An index, and whether queries may use it."""

    name: str
    valid: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why."""

    unread: dict[str, str] = {}
    indexes: tuple[Index, ...] = ()


def parsed(answers: Answers) -> Seen:
    """The rows as types."""
    return Seen(unread=unread(answers), indexes=many(answers, "indexes", Index))


# --- Rules ---

REQUIRED = Check("performance.required_indexes", "Required indexes", "build it again: CREATE INDEX CONCURRENTLY")
INVALID = Check("performance.invalid_indexes", "Invalid indexes", "REINDEX INDEX CONCURRENTLY {name}")
CHECKS = (REQUIRED, INVALID)


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the indexes of one primary."""
    if "indexes" in seen.unread:
        return [unknown(check, seen.unread["indexes"], subject=name) for check in CHECKS]
    required = manifest.database.required_indexes if manifest.database else ()
    return [required_finding(seen.indexes, required), invalid_finding(seen.indexes)]


def required_finding(indexes: Sequence[Index], required: Sequence[str]) -> Finding:
    """Each required index is there and valid; it may be named with or without its schema.

    >>> there = [Index("bank.entry_account", True)]
    >>> required_finding(there, ["entry_account"]).verdict.name, required_finding(there, ["bank.other"]).observed
    ('OK', 'missing: bank.other')
    """
    valid = {index.name for index in indexes if index.valid}
    known = valid | {name.rpartition(".")[2] for name in valid}
    missing = [name for name in required if name not in known]
    if missing:
        return REQUIRED.finding(Verdict.CRITICAL, f"missing: {', '.join(missing)}", limit=f"all {len(required)}")
    return REQUIRED.finding(Verdict.OK, f"all {len(required)} are there" if required else "none are named")


def invalid_finding(indexes: Sequence[Index]) -> Finding:
    """An index that was not built to its end costs every write and serves no read."""
    invalid = [index.name for index in indexes if not index.valid]
    if not invalid:
        return INVALID.finding(Verdict.OK, "none")
    return then(INVALID.finding(Verdict.WARNING, ", ".join(invalid)), name=invalid[0])
