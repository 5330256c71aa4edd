"""What the morning shows of recovery: how the backups stand, whether the chain is whole, how long it would take."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.checks import Finding
from nvcops.core.manifest import Limits
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.recovery.audit import ChainReading, chain, chain_findings
from nvcops.recovery.forecast import RestoreHistory, restore_findings, restore_history
from nvcops.recovery.standing import Standing, backup_findings, standing

# --- Facts ---


class Recovery(msgspec.Struct, frozen=True):
    """The backups as they stand, their chain, and what former restores took; the last two only where there are some."""

    standing: Standing
    chain: ChainReading | None = None
    history: RestoreHistory | None = None


@conduct(deadline="10 min", idempotent=True)
def recovery(target: Target, now: dt.datetime) -> Recovery:
    """Backups, their chain, and the restores that were proven."""
    state = standing(target, now)
    if not state.configured:
        return Recovery(state)
    return Recovery(state, chain(target, deep=False), restore_history(target))


# --- Rules ---


def recovery_findings(seen: Recovery, repository: str, limits: Limits, now: dt.datetime) -> list[Finding]:
    """Every line of recovery; without backups one that says so."""
    audited = chain_findings(seen.chain, repository) if seen.chain else []
    said = {finding.check for finding in audited}
    stands = [finding for finding in backup_findings(seen.standing, limits, now) if finding.check not in said]
    return [*stands, *audited, *(restore_findings(seen.history, limits, now) if seen.history else [])]
