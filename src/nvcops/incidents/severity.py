"""How severe an incident is: inferred from what was seen, with the reasons, by the runbook's severity levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.incidents import SIGNAL, IncidentAlert, Reason, Severity, Signal
from nvcops.core.manifest import Manifest
from nvcops.core.units import Ratio
from nvcops.core.watch import PART, ROLE

# --- Facts ---


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """One sign: what it is of, what was seen, and where.

    `share` is how much of it is bad: of the payments or requests that failed, of those that were too slow, or by how
    much the average is slower than its objective (0.6: 60 %). None: not known. `source` is `alert:FINGERPRINT`,
    `service:NAME` or `figure:NAME`.
    """

    signal: Signal
    seen: str
    source: str
    share: float | None = None
    category: Category = Category.CRITICAL


_BY_INDICATOR = {
    "availability": Signal.ERRORS,
    "errors": Signal.ERRORS,
    "latency": Signal.PERFORMANCE,
    "outcomes": Signal.PAYMENTS,
}
_BY_KIND = {
    "payment": Signal.PAYMENTS,
    "cache": Signal.PARTIAL_OUTAGE,
    "proxy": Signal.PARTIAL_OUTAGE,
    "process": Signal.PARTIAL_OUTAGE,
    "replication": Signal.REDUNDANCY,
}


def alert_source(fingerprint: str) -> str:
    """How an alert is named as a source."""
    return f"alert:{fingerprint}"


def signal_of(labels: Mapping[str, str], manifest: Manifest) -> Signal:
    """What an alert is a sign of: as its label `signal` says, else by what it watches."""
    said = labels.get(SIGNAL, "")
    if said in set(Signal):
        return Signal(said)
    if found := _BY_INDICATOR.get(labels.get("indicator", "")):
        return found
    kind = labels.get("kind", "")
    if kind == "http" and labels.get("service"):
        return Signal.PARTIAL_OUTAGE if instance_of(labels) else Signal.OUTAGE
    if kind == "sql":
        return _of_a_server(labels, manifest)
    return _BY_KIND.get(kind, Signal.FEATURE)


def _of_a_server(labels: Mapping[str, str], manifest: Manifest) -> Signal:
    """Without its primary nothing is written; where somebody takes over, one server is a part of the whole."""
    database = manifest.database
    names = {labels.get(name, "") for name in ("server", "instance", "probe", PART)}
    if database is None:
        return Signal.FEATURE
    if manifest.cluster is None and (database.primary.name in names or labels.get(ROLE) == "primary"):
        return Signal.OUTAGE
    return Signal.PARTIAL_OUTAGE if manifest.cluster else Signal.REDUNDANCY


def instance_of(labels: Mapping[str, str]) -> str:
    """The instance of a service that an alert says is down; empty: none.

    >>> instance_of({"kind": "http", "role": "instance", "part": "bank-1"}), instance_of({"kind": "http"})
    ('bank-1', '')
    """
    if labels.get("kind") != "http" or labels.get(SIGNAL) == Signal.FEATURE:
        return ""
    return labels.get("instance") or (labels.get(PART, "") if labels.get(ROLE) == "instance" else "")


def signs_of(alerts: Sequence[IncidentAlert], manifest: Manifest) -> list[Sign]:
    """The signs in an incident's alerts that fire; all instances of a service down is the service down."""
    signs, down = [], defaultdict(set)
    for alert in alerts:
        signal = signal_of(alert.labels, manifest)
        seen = f"{alert.name}: {alert.summary}" if alert.summary != alert.name else alert.name
        source = alert_source(alert.fingerprint)
        share = (
            alert.value if alert.labels.get("indicator") else None
        )  # of a probe it is seconds, days, or a limit's own
        signs.append(Sign(signal=signal, seen=seen, source=source, share=share, category=Category(alert.category)))
        if instance := instance_of(alert.labels):
            down[alert.labels.get("service", "")].add(instance)
    for service in manifest.services:
        instances = {instance.name for instance in service.instances}
        if instances and instances <= down[service.name]:
            seen = f"all {len(instances)} instances of {service.name} are down"
            signs.append(Sign(signal=Signal.OUTAGE, seen=seen, source=f"service:{service.name}"))
    return signs


# --- Rules ---

PAYMENTS_FAILING = Ratio(0.10)  # from this share of failed payments on, payment processing has failed
REQUESTS_FAILING = Ratio(0.50)  # from this share on, most customers are not served at all
DEGRADED = Ratio(0.50)  # the runbook's bound between P1 and P2 for performance
_ORDER = tuple(Severity)
_BY_CATEGORY = {
    Category.CRITICAL: Severity.P1,
    Category.HIGH: Severity.P2,
    Category.MEDIUM: Severity.P3,
    Category.LOW: Severity.P3,
}


class Rule(msgspec.Struct, frozen=True):
    """One rule of severity: what it is called, and what it makes of a sign."""

    title: str
    grade: Callable[[Sign], Severity]


def _always(severity: Severity) -> Callable[[Sign], Severity]:
    return lambda _sign: severity


def _by_category(sign: Sign) -> Severity:
    return _BY_CATEGORY[sign.category]


def _payments(sign: Sign) -> Severity:
    """P0 from a tenth of them on, or where a critical alert does not say how many."""
    failing = sign.category is Category.CRITICAL if sign.share is None else sign.share >= PAYMENTS_FAILING
    return Severity.P0 if failing else _by_category(sign)


def _errors(sign: Sign) -> Severity:
    if sign.share is not None and sign.share >= REQUESTS_FAILING:
        return Severity.P0
    return _by_category(sign)


def _performance(sign: Sign) -> Severity:
    """P1 beyond the runbook's half, else P2 at most: it goes on, only slower."""
    if sign.share is not None and sign.share > DEGRADED:
        return Severity.P1
    return Severity.P2 if sign.category in (Category.CRITICAL, Category.HIGH) else Severity.P3


RULES = {
    Signal.OUTAGE: Rule("complete outage", _always(Severity.P0)),
    Signal.BREACH: Rule("security breach", _always(Severity.P0)),
    Signal.CORRUPTION: Rule("data corruption", _always(Severity.P0)),
    Signal.PAYMENTS: Rule("payments fail", _payments),
    Signal.PARTIAL_OUTAGE: Rule("partial outage", _always(Severity.P1)),
    Signal.SIGN_IN: Rule("sign-in is broken", _always(Severity.P1)),
    Signal.COMPLIANCE: Rule("compliance violation", _always(Severity.P1)),
    Signal.PERFORMANCE: Rule("performance is degraded", _performance),
    Signal.ERRORS: Rule("requests fail", _errors),
    Signal.SECURITY: Rule("minor security concern", _always(Severity.P2)),
    Signal.REDUNDANCY: Rule("redundancy is lost", _always(Severity.P2)),
    Signal.FEATURE: Rule("something does not work", _by_category),
    Signal.REQUEST: Rule("request or cosmetic", _always(Severity.P3)),
}


def worse(one: Severity, other: Severity) -> bool:
    """Whether one severity is worse than another.

    >>> worse(Severity.P0, Severity.P1), worse(Severity.P1, Severity.P1)
    (True, False)
    """
    return _ORDER.index(one) < _ORDER.index(other)


def worst_of(severities: Iterable[Severity]) -> Severity:
    """The worst; P3 of none.

    >>> str(worst_of([Severity.P2, Severity.P1])), str(worst_of([]))
    ('P1', 'P3')
    """
    return min(severities, key=_ORDER.index, default=Severity.P3)


def reason_of(sign: Sign) -> Reason:
    """What a sign means by the rule of its signal.

    >>> slow = Sign(signal=Signal.PERFORMANCE, seen="320 ms", source="figure:latency", share=0.6)
    >>> [str(reason_of(msgspec.structs.replace(slow, share=share)).severity) for share in (0.6, 0.5, None)]
    ['P1', 'P2', 'P2']
    >>> paid = Sign(signal=Signal.PAYMENTS, seen="", source="", share=0.0999)
    >>> str(reason_of(paid).severity), str(reason_of(msgspec.structs.replace(paid, share=0.1)).severity)
    ('P1', 'P0')
    """
    rule = RULES[sign.signal]
    how = f" ({Ratio(sign.share)})" if sign.share is not None else ""
    return Reason(rule=rule.title, severity=rule.grade(sign), seen=f"{sign.seen}{how}", source=sign.source)


def infer(signs: Iterable[Sign]) -> tuple[Severity, tuple[Reason, ...]]:
    """The severity of an incident and its reasons, the worst first; P3 of no sign.

    >>> door = Sign(signal=Signal.OUTAGE, seen="bank does not answer", source="alert:1")
    >>> slow = Sign(signal=Signal.PERFORMANCE, seen="p99 1 s", source="alert:2", share=0.2)
    >>> severity, reasons = infer([slow, door])
    >>> str(severity), [f"{reason.severity}: {reason.rule}" for reason in reasons]
    ('P0', ['P0: complete outage', 'P2: performance is degraded'])
    """
    worst_first = sorted(map(reason_of, signs), key=lambda reason: (_ORDER.index(reason.severity), reason.source))
    reasons: dict[tuple[str, str], Reason] = {}
    for reason in worst_first:  # of what one source says by one rule, the worst holds
        reasons.setdefault((reason.rule, reason.source), reason)
    ordered = tuple(reasons.values())
    return worst_of(reason.severity for reason in ordered), ordered


class Inferred(msgspec.Struct, frozen=True):
    """What data make of an incident now. `over` are the earlier reasons that no longer hold: data said so."""

    severity: Severity
    reasons: tuple[Reason, ...]
    over: tuple[Reason, ...]


def again(before: Sequence[Reason], signs: Iterable[Sign], looked_at: Collection[str]) -> Inferred:
    """Infer again: an earlier reason goes only when its source, one of `looked_at`, no longer says it.

    What nobody could look at stays a reason: no severity falls because data are missing.

    >>> out = Reason(rule="complete outage", severity=Severity.P0, seen="down", source="alert:1")
    >>> slow = Sign(signal=Signal.PERFORMANCE, seen="slow", source="alert:2", share=0.2)
    >>> str(again([out], [slow], ["alert:2"]).severity), str(again([out], [slow], ["alert:1"]).severity)
    ('P0', 'P2')
    >>> [reason.rule for reason in again([out], [slow], ["alert:1"]).over]
    ['complete outage']
    """
    _, now = infer(signs)
    there = {(reason.rule, reason.source) for reason in now}
    gone = [reason for reason in before if (reason.rule, reason.source) not in there]
    over = tuple(reason for reason in gone if reason.source in looked_at)
    kept = [reason for reason in gone if reason.source not in looked_at]
    reasons = tuple(sorted([*now, *kept], key=lambda reason: (_ORDER.index(reason.severity), reason.source)))
    return Inferred(worst_of(reason.severity for reason in reasons), reasons, over)
