"""What was looked at, what was seen, and what it means: Check, Finding, Verdict."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol

import msgspec

from nvcops.core.units import Count, Quantity


class Verdict(IntEnum):
    """The convention of Nagios plugins: the number is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_RANK = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a whole from its parts: a known trouble outranks an unknown, nothing seen is never OK.

    >>> worst([Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING]).name
    'WARNING'
    >>> worst([]).name
    'UNKNOWN'
    """
    return max(verdicts, key=_RANK.index, default=Verdict.UNKNOWN)


class Limit(Protocol):
    """Where a figure becomes a warning, and where it becomes critical; both in the figure's own unit."""

    @property
    def warning(self) -> float: ...
    @property
    def critical(self) -> float: ...


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a report.

    `value` is `observed` as a number in `unit`'s base (seconds, ratio, bytes, count), where there is one.
    `accepted` says who accepted this line as it is, why and until when: it then does not decide the exit code.
    """

    check: str
    title: str
    verdict: Verdict
    subject: str = ""
    observed: str = ""
    limit: str = ""
    next_step: str = ""
    value: float | None = None
    unit: str = ""
    accepted: str = ""


class Check(msgspec.Struct, frozen=True):
    """Something that is looked at: its name in reports, and the next step when it is not OK."""

    name: str
    title: str
    next_step: str

    def at_most(self, value: Quantity | Count, limit: Limit, *, subject: str = "", observed: str = "") -> Finding:
        """Grade a figure that should stay low: from the limit on it is trouble.

        >>> from types import SimpleNamespace
        >>> lag = Check("database.lag", "Replication lag", "scripts/db_diagnostics.py")
        >>> limit = SimpleNamespace(warning=Count(10), critical=Count(60))
        >>> [lag.at_most(Count(n), limit).verdict.name for n in (9, 10, 59, 60)]
        ['OK', 'WARNING', 'WARNING', 'CRITICAL']
        """
        return self._graded(value, value >= limit.warning, value >= limit.critical, "<", limit, subject, observed)

    def at_least(self, value: Quantity | Count, limit: Limit, *, subject: str = "", observed: str = "") -> Finding:
        """Grade a figure that should stay high: below the limit it is trouble.

        >>> from types import SimpleNamespace
        >>> hit = Check("database.cache_hit", "Cache hit ratio", "scripts/db_optimization.py")
        >>> limit = SimpleNamespace(warning=Count(9), critical=Count(5))
        >>> [hit.at_least(Count(n), limit).verdict.name for n in (9, 8, 5, 4)]
        ['OK', 'WARNING', 'WARNING', 'CRITICAL']
        """
        return self._graded(value, value < limit.warning, value < limit.critical, ">=", limit, subject, observed)

    def finding(self, verdict: Verdict, observed: str, *, subject: str = "", limit: str = "") -> Finding:
        """A verdict that needs no figure."""
        return Finding(
            check=self.name,
            title=self.title,
            verdict=verdict,
            subject=subject,
            observed=observed,
            limit=limit,
            next_step="" if verdict is Verdict.OK else self.next_step,
        )

    def unknown(self, why: str, *, subject: str = "") -> Finding:
        """Nothing could be read, so nothing is claimed."""
        return self.finding(Verdict.UNKNOWN, why, subject=subject)

    def _graded(
        self,
        value: Quantity | Count,
        warning: bool,
        critical: bool,
        sign: str,
        limit: Limit,
        subject: str,
        observed: str,
    ) -> Finding:
        verdict = Verdict.CRITICAL if critical else Verdict.WARNING if warning else Verdict.OK
        bound = limit.critical if critical else limit.warning
        return Finding(
            check=self.name,
            title=self.title,
            verdict=verdict,
            subject=subject,
            observed=observed or str(value),
            limit=f"{sign} {bound}",
            next_step="" if verdict is Verdict.OK else self.next_step,
            value=float(value),
            unit=type(value).__name__.lower(),
        )
