"""Regulators' deadlines that run: from when, until when, who is warned (docs/decisions/incidents.md)."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.incidents import Clock, Incident, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.records import Desk, Reading
from nvcops.core.units import Seconds
from nvcops.incidents import timeline
from nvcops.incidents.messages import moment
from nvcops.incidents.people import names_of
from nvcops.incidents.severity import worse
from nvcops.incidents.timeline import text_of
from nvcops.oncall import paging

_CLOCKS_MAX = 1_000

# --- Facts ---


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One deadline of a regime: `hours` (or a calendar month) after what a person said, or after another's report."""

    name: str
    regime: str
    title: str
    begins: str
    hours: int = 0
    after: str = ""  # the rule whose report begins it


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            name="us-36h",
            regime="us",
            title="Notify the primary federal regulator (computer-security incident)",
            begins="determination that a notification incident has occurred",
            hours=36,
        ),
        Rule(
            name="gdpr-72h",
            regime="gdpr",
            title="Notify the supervisory authority (personal data breach)",
            begins="awareness of the personal data breach",
            hours=72,
        ),
        Rule(
            name="dora-4h",
            regime="dora",
            title="Initial notification of a major ICT-related incident, from its classification",
            begins="classification as major",
            hours=4,
        ),
        Rule(
            name="dora-24h",
            regime="dora",
            title="Initial notification of a major ICT-related incident, from awareness",
            begins="awareness of the incident",
            hours=24,
        ),
        Rule(
            name="dora-72h",
            regime="dora",
            title="Intermediate report",
            begins="the initial notification",
            hours=72,
            after="dora-4h dora-24h",
        ),
        Rule(
            name="dora-1month", regime="dora", title="Final report", begins="the intermediate report", after="dora-72h"
        ),
    )
}


def clocks_of(reading: Reading, number: int) -> list[Clock]:
    """The clocks of an incident, the nearest deadline first."""
    return reading.find(Clock, incident=number, order="due")


def running(reading: Reading) -> list[Clock]:
    """The clocks that run, the nearest deadline first."""
    return reading.find(Clock, met__isnull=True, order="due", limit=_CLOCKS_MAX)


# --- Rules ---

_WARN_AT = (0.5, 0.75, 0.9)
_INITIAL = {"dora-4h", "dora-24h"}
_DISMISSED = "not reportable: "


def month_after(began: dt.datetime) -> dt.datetime:
    """The same day of the next month, or its last day.

    >>> [f"{month_after(dt.datetime(2027, month, 31, tzinfo=dt.UTC)):%m-%d}" for month in (1, 12)]
    ['02-28', '01-31']
    """
    year, month = (began.year + 1, 1) if began.month == 12 else (began.year, began.month + 1)
    day = min(began.day, calendar.monthrange(year, month)[1])
    return began.replace(year=year, month=month, day=day)


def deadline(rule: Rule, began: dt.datetime) -> dt.datetime:
    """When a clock ends that began then: elapsed hours, weekends and holidays included.

    >>> deadline(RULES["us-36h"], dt.datetime(2026, 11, 27, 17, tzinfo=dt.UTC)).isoformat()
    '2026-11-29T05:00:00+00:00'
    """
    return began + dt.timedelta(hours=rule.hours) if rule.hours else month_after(began)


def warnings_of(clock: Clock) -> list[dt.datetime]:
    """The moments at which somebody is warned: halfway, at three quarters, at nine tenths, and at its end."""
    length = clock.due - clock.began
    return [*(clock.began + length * share for share in _WARN_AT), clock.due]


def warns(clock: Clock, at: dt.datetime) -> bool:
    """Whether a warning is due that was not given.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> one = Clock(key="1/us-36h", incident=1, rule="us-36h", title="t", began=noon, due=noon + dt.timedelta(hours=36))
    >>> [warns(one, noon + dt.timedelta(hours=hours)) for hours in (17, 18)]
    [False, True]
    >>> warned = msgspec.structs.replace(one, warned=noon + dt.timedelta(hours=18))
    >>> [warns(warned, noon + dt.timedelta(hours=hours)) for hours in (26, 27)]
    [False, True]
    """
    return any(stage <= at and (clock.warned is None or clock.warned < stage) for stage in warnings_of(clock))


def next_warning(clock: Clock, at: dt.datetime) -> dt.datetime | None:
    """The first warning that is yet to come."""
    return next((stage for stage in warnings_of(clock) if stage > at), None)


def audience(incident: Incident, manifest: Manifest) -> list[str]:
    """Who is warned: who leads the incident, and who is informed of such."""
    informed = [group for group in manifest.incidents.informed if incident.severity in group.severities]
    names = [*incident.roles.values(), incident.acknowledged_by]
    names += [name for group in informed for name in (*group.people, *group.contacts)]
    known = names_of(manifest)
    return [name for name in dict.fromkeys(names) if name in known]


def in_words(clock: Clock, at: dt.datetime, manifest: Manifest) -> str:
    """How a clock stands."""
    zone = ZoneInfo(manifest.platform.time_zone)
    if clock.met:
        late = ", LATE" if clock.met > clock.due else ""
        return f"{clock.title}: {clock.reference or 'done'} at {moment(clock.met, zone)} by {clock.met_by}{late}"
    left = Seconds(abs((clock.due - at).total_seconds()))
    how = f"{left} left" if at < clock.due else f"OVERDUE by {left}"
    return f"{clock.title}: due {moment(clock.due, zone)} ({how})"


# --- Procedures ---


def begin(  # noqa: PLR0913 - who says what, of when, and why
    desk: Desk,
    number: int,
    *,
    manifest: Manifest,
    rule: str,
    person: str,
    at: dt.datetime,
    reason: str,
    began: dt.datetime | None = None,
) -> Clock:
    """Start a regulator's clock: a person says that it was determined, classified or known, and since when.

    One that runs may be said to have begun earlier, and one that was dismissed begins anew. Where the initial
    notification was sent already, what is classified only then is met by it.

    Raises:
        UsageError: the rule is none of the manifest's regulators', it follows from a report, it began in the future, or
            it runs already, or was reported.
    """
    incident, entry = timeline.the(desk, number), _rule(rule, manifest)
    reason = text_of(reason, "the reason of a clock", most=500)
    if entry.after:
        hint = f"the clock {entry.after.split()[0]} is met first"
        raise UsageError(f"the clock {rule} begins by itself, with {entry.begins}", hint=hint)
    moment_of = began or at
    if moment_of > at:
        raise UsageError(f"{moment_of.isoformat()} is yet to come", hint="a clock begins when it was known")
    if there := desk.get(Clock, f"{number}/{rule}"):
        _refuse_again(there, moment_of)
        desk.remove(Clock, [there.key])
    clock = _start(desk, incident, entry, moment_of, manifest=manifest, person=person, at=at, reason=reason)
    sent = [one for one in _initial(desk, clock) if one.met and not one.reference.startswith(_DISMISSED)]
    if sent:
        clock = msgspec.structs.replace(clock, met=sent[0].met, met_by=sent[0].met_by, reference=sent[0].reference)
        desk.put(clock)
    return clock


def _refuse_again(there: Clock, began: dt.datetime) -> None:
    """Nothing where a clock may begin anew: it was dismissed, or is now said to have begun earlier."""
    if there.met and not there.reference.startswith(_DISMISSED):
        raise UsageError(f"the clock {there.key} was met: {there.reference}", hint="nothing is due")
    if there.met is None and began >= there.began:
        sentence = f"the clock {there.key} runs since {there.began.isoformat()}"
        raise UsageError(sentence, hint="say an earlier moment, report, or say why it need not be reported")


def _initial(desk: Desk, clock: Clock) -> list[Clock]:
    """The clocks that one initial notification meets: this one, and the other of the two."""
    names = sorted(_INITIAL) if clock.rule in _INITIAL else [clock.rule]
    return [one for name in names if (one := desk.get(Clock, f"{clock.incident}/{name}"))]


def _rule(name: str, manifest: Manifest) -> Rule:
    there = [rule.name for rule in RULES.values() if rule.regime in manifest.incidents.regulators]
    if name not in there:
        hint = f"there: {', '.join(there) or 'none'}; [incidents] regulators"
        raise UsageError(f"no clock of this platform is called {name!r}", hint=hint)
    return RULES[name]


def _start(  # noqa: PLR0913 - the same, read
    desk: Desk,
    incident: Incident,
    rule: Rule,
    began: dt.datetime,
    *,
    manifest: Manifest,
    person: str,
    at: dt.datetime,
    reason: str,
) -> Clock:
    clock = Clock(
        key=f"{incident.number}/{rule.name}",
        incident=incident.number,
        rule=rule.name,
        title=rule.title,
        began=began,
        due=deadline(rule, began),
    )
    if desk.add(clock):
        text = f"{rule.begins}: {rule.title}, due {clock.due.astimezone(dt.UTC):%Y-%m-%d %H:%M UTC}; {reason}"
        data = {"rule": rule.name, "began": began.astimezone(dt.UTC).isoformat(), "due": clock.due.isoformat()}
        cause = _cause(clock)
        timeline.enter(
            desk, incident.number, "clock", text, manifest=manifest, at=at, person=person, cause=cause, data=data
        )
    return desk.get(Clock, clock.key) or clock


def _cause(clock: Clock) -> str:
    """What lines and messages of a clock are made of: one that begins anew says everything anew."""
    return f"{clock.rule}/{clock.began.astimezone(dt.UTC):%Y%m%dT%H%M%S.%f}"


def begin_by_itself(desk: Desk, incident: Incident, *, manifest: Manifest, at: dt.datetime) -> None:
    """A severe incident starts the clock of being aware of it: nobody has to remember that a day is running.

    What a person must determine or classify stays theirs.
    """
    aware = incident.source != "drill" and not worse(Severity.P1, incident.severity)
    if aware and "dora" in manifest.incidents.regulators:
        why = f"{incident.severity}: it may be major; classify it, or say why it is not"
        rule = RULES["dora-24h"]
        _start(desk, incident, rule, incident.detected, manifest=manifest, person="", at=at, reason=why)


def aware_of_personal_data(
    desk: Desk, number: int, *, manifest: Manifest, person: str, at: dt.datetime, reason: str
) -> None:
    """A person says that personal data are touched: of that we are aware from the first who says so."""
    clock = desk.get(Clock, f"{number}/gdpr-72h")
    if "gdpr" in manifest.incidents.regulators and (clock is None or clock.reference.startswith(_DISMISSED)):
        begin(desk, number, manifest=manifest, rule="gdpr-72h", person=person, at=at, reason=reason)


def meet(
    desk: Desk,
    key: str,
    *,
    manifest: Manifest,
    reference: str,
    person: str,
    at: dt.datetime,
    sent: dt.datetime | None = None,
) -> Clock:
    """The report was sent; `reference` is what the regulator calls it. The clock that follows from it begins.

    Raises:
        UsageError: it is met already, or without a reference.
    """
    clock = _open_clock(desk, key)
    reference = text_of(reference, "the regulator's reference", most=200)
    met = sent or at
    incident = timeline.the(desk, clock.incident)
    for other in _initial(desk, clock):
        if other.met is None:  # one initial notification meets both
            desk.put(msgspec.structs.replace(other, met=met, met_by=person, reference=reference))
            paging.resolve(desk, manifest=manifest, about=_about(other), body=f"sent: {reference}", at=at)
    text = f"{clock.title}: sent, {reference}"
    data = {"rule": clock.rule, "reference": reference, "late": met > clock.due}
    cause = _cause(clock)
    timeline.enter(
        desk, clock.incident, "reported", text, manifest=manifest, at=at, person=person, cause=cause, data=data
    )
    for rule in RULES.values():
        if clock.rule in rule.after.split():
            _start(desk, incident, rule, met, manifest=manifest, person=person, at=at, reason=f"after {reference}")
    return desk.get(Clock, key) or clock


def dismiss(desk: Desk, key: str, *, manifest: Manifest, reason: str, person: str, at: dt.datetime) -> Clock:
    """It need not be reported, and somebody says why; the clock stops, and what follows from it does not begin."""
    clock = _open_clock(desk, key)
    reason = text_of(reason, "why it need not be reported", most=500)
    desk.put(msgspec.structs.replace(clock, met=at, met_by=person, reference=f"{_DISMISSED}{reason}"))
    paging.resolve(desk, manifest=manifest, about=_about(clock), body=f"not reportable: {reason}", at=at)
    text = f"{clock.title}: not reportable: {reason}"
    cause = f"{_cause(clock)}/{at:%Y%m%dT%H%M%S.%f}"
    timeline.enter(desk, clock.incident, "not-reportable", text, manifest=manifest, at=at, person=person, cause=cause)
    return desk.get(Clock, key) or clock


def _open_clock(desk: Desk, key: str) -> Clock:
    clock = desk.get(Clock, key)
    if clock is None:
        raise NotFoundError(f"no clock {key!r} runs", hint="`nvcops incidents` shows those that do")
    if clock.met is not None:
        raise UsageError(f"the clock {key} was stopped by {clock.met_by}: {clock.reference}", hint="nothing is due")
    return clock


def _about(clock: Clock) -> str:
    return f"incident/{clock.incident}/clock/{clock.rule}"


def warn(desk: Desk, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    """Give the warnings that are due; when the next one is. Where nobody is named, who is on call is paged."""
    upcoming: list[dt.datetime] = []
    for clock in running(desk):
        if warns(clock, at):
            _warned(desk, clock, manifest=manifest, at=at)
        if following := next_warning(clock, at):
            upcoming.append(following)
    return min(upcoming, default=None)


def _warned(desk: Desk, clock: Clock, *, manifest: Manifest, at: dt.datetime) -> None:
    incident, text = timeline.the(desk, clock.incident), in_words(clock, at, manifest)
    cause = f"{_cause(clock)}/{sum(stage <= at for stage in warnings_of(clock))}"
    names: Sequence[str] = audience(incident, manifest)
    for name in names:
        paging.tell(
            desk,
            manifest=manifest,
            to=name,
            subject=f"Regulator's deadline, incident {clock.incident}",
            body=f"{text}\nIncident {incident.number}: {incident.title}",
            purpose="update",
            cause=f"incident/{clock.incident}/clock/{cause}",
            at=at,
            incident=clock.incident,
            category=Category.HIGH,
        )
    overdue = at >= clock.due
    if (overdue or not names) and manifest.oncall.policies:
        paging.begin(
            desk,
            manifest=manifest,
            about=_about(clock),  # a page of its own: it goes on after the incident is resolved
            policy=manifest.oncall.policies[0].name,
            category=Category.CRITICAL if overdue else Category.HIGH,
            summary=text[:200],
            body=f"Incident {incident.number}: {incident.title}",
            at=at,
        )
    timeline.enter(desk, clock.incident, "clock-warning", text, manifest=manifest, at=at, cause=cause)
    desk.put(msgspec.structs.replace(clock, warned=at))
