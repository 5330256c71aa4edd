"""A report in a sentence that can be read aloud."""

from __future__ import annotations

from collections.abc import Sequence

from nvcops.core.checks import Finding, Verdict

_NAMED_MAX = 3
_ORDER = (Verdict.CRITICAL, Verdict.WARNING, Verdict.UNKNOWN)


def in_a_sentence(findings: Sequence[Finding]) -> str:
    """What is wrong, the worst first, at most three by name.

    >>> fine = Finding(check="a", title="Disk", verdict=Verdict.OK)
    >>> in_a_sentence([fine, fine])
    'All 2 checks are OK.'
    >>> down = Finding(check="b", title="Instance", verdict=Verdict.CRITICAL, subject="bank-1", observed="no answer")
    >>> in_a_sentence([fine, down])
    '1 of 2 checks needs attention: Instance bank-1 is CRITICAL (no answer).'
    >>> in_a_sentence([])
    'Nothing was checked.'
    """
    if not findings:
        return "Nothing was checked."
    wrong = sorted(
        (finding for finding in findings if finding.verdict is not Verdict.OK),
        key=lambda finding: _ORDER.index(finding.verdict),
    )
    if not wrong:
        return f"All {len(findings)} checks are OK."
    named = "; ".join(_said(finding) for finding in wrong[:_NAMED_MAX])
    more = f"; and {len(wrong) - _NAMED_MAX} more" if len(wrong) > _NAMED_MAX else ""
    need = "needs" if len(wrong) == 1 else "need"
    return f"{len(wrong)} of {len(findings)} checks {need} attention: {named}{more}."


def _said(finding: Finding) -> str:
    subject = f" {finding.subject}" if finding.subject else ""
    return f"{finding.title}{subject} is {finding.verdict.name} ({finding.observed})"
