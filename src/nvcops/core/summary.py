"""A report in a sentence that can be read aloud."""

from __future__ import annotations

from collections.abc import Sequence

from nvcops.core.checks import Finding, Verdict

_NAMED_MAX = 3
_ORDER = (Verdict.CRITICAL, Verdict.WARNING, Verdict.UNKNOWN)


def in_a_sentence(findings: Sequence[Finding]) -> str:
    """What is wrong and was not accepted, the worst first, at most three by name.

    >>> fine = Finding(check="a", title="Disk", verdict=Verdict.OK)
    >>> in_a_sentence([fine, fine])
    'All 2 checks are OK.'
    >>> down = Finding(check="b", title="Instance", verdict=Verdict.CRITICAL, subject="bank-1", observed="no answer")
    >>> in_a_sentence([fine, down])
    '1 of 2 checks needs attention: Instance bank-1 is CRITICAL (no answer).'
    >>> accepted = Finding(check="c", title="Backups", verdict=Verdict.UNKNOWN, accepted="by omar")
    >>> in_a_sentence([fine, accepted])
    '1 of 2 checks is OK, 1 was accepted as it is.'
    >>> in_a_sentence([])
    'Nothing was checked.'
    """
    if not findings:
        return "Nothing was checked."
    wrong = sorted(
        (finding for finding in findings if finding.verdict is not Verdict.OK and not finding.accepted),
        key=lambda finding: _ORDER.index(finding.verdict),
    )
    if not wrong:
        good = sum(finding.verdict is Verdict.OK for finding in findings)
        return f"All {good} checks are OK." if good == len(findings) else _but_for(good, len(findings))
    named = "; ".join(_said(finding) for finding in wrong[:_NAMED_MAX])
    more = f"; and {len(wrong) - _NAMED_MAX} more" if len(wrong) > _NAMED_MAX else ""
    need = "needs" if len(wrong) == 1 else "need"
    return f"{len(wrong)} of {len(findings)} checks {need} attention: {named}{more}."


def _but_for(good: int, total: int) -> str:
    is_or_are, was_or_were = "is" if good == 1 else "are", "was" if total - good == 1 else "were"
    return f"{good} of {total} checks {is_or_are} OK, {total - good} {was_or_were} accepted as it is."


def _said(finding: Finding) -> str:
    subject = f" {finding.subject}" if finding.subject else ""
    return f"{finding.title}{subject} is {finding.verdict.name} ({finding.observed})"
