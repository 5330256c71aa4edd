"""The roster, a quarter ahead: is there always somebody, is it always somebody else, and can they be reached."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NvcopsError
from nvcops.core.manifest import Manifest, Policy
from nvcops.core.oncall import Override, Reach
from nvcops.core.procedures import procedure
from nvcops.core.runs import Run, conduct
from nvcops.core.schedule import is_holiday, moment_of
from nvcops.core.target import Target
from nvcops.oncall.reach import asked_at_all, reach_findings, records_of, tests_of
from nvcops.oncall.rotation import Shift, on_call, shifts, standing_overrides
from nvcops.oncall.texts import moment

# --- Facts ---


class Roster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the roster beyond the manifest; `trouble` says why nothing is."""

    overrides: tuple[Override, ...] = ()
    tests: tuple[Reach, ...] = ()
    trouble: str = ""


@conduct(deadline="1 min", idempotent=True)
def roster(target: Target, now: dt.datetime) -> Roster:
    """Overrides that are not over, and reachability tests."""
    try:
        with records_of(target).reading() as reading:
            return Roster(overrides=tuple(standing_overrides(reading, now)), tests=tuple(tests_of(reading, now)))
    except NvcopsError as error:
        return Roster(trouble=error.sentence)


# --- Rules ---

POLICY = Check("oncall.policy", "Escalation policy", "write [[oncall.policies]] in platform.toml")
COVERED = Check("oncall.covered", "Somebody is on call", "let the rotation begin earlier, or name a person as a step")
TWO = Check("oncall.two", "Two different people", "`nvcops oncall override` or `swap`: escalation must reach another")
CONTACTS = Check("oncall.contacts", "Can be woken", "contacts in [[people]] or [[contacts]], a short message first")
OVERRIDES = Check("oncall.overrides", "Overrides", "`nvcops oncall cancel`, then `override` anew")
HOLIDAYS = Check("oncall.holidays", "Bank holidays", "")
WAKING = frozenset({"sms", "call", "push"})
_SHOWN_MAX = 5
_NOON = dt.time.fromisoformat("12:00")


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """One person has two rotations of a policy at once."""

    rotations: tuple[str, str]
    person: str
    starts: dt.datetime
    ends: dt.datetime


def together(one: Sequence[Shift], other: Sequence[Shift], start: dt.datetime, end: dt.datetime) -> list[Together]:
    """The times at which two rotations have the same person; both in order and without overlaps."""
    found: list[Together] = []
    first = second = 0
    while first < len(one) and second < len(other):
        a, b = one[first], other[second]
        starts, ends = max(a.starts, b.starts, start), min(a.ends, b.ends, end)
        if a.person == b.person and starts < ends:
            pair = a.rotation, b.rotation
            if found and found[-1].ends == starts and found[-1].person == a.person:
                starts = found.pop().starts
            found.append(Together(rotations=pair, person=a.person, starts=starts, ends=ends))
        if a.ends <= b.ends:
            first += 1
        if b.ends <= a.ends:
            second += 1
    return found


def gap_findings(manifest: Manifest, known: Roster, at: dt.datetime) -> list[Finding]:
    """The roster from a moment to [oncall] gaps_ahead, line by line."""
    if not manifest.oncall.policies:
        return [POLICY.finding(Verdict.CRITICAL, "there is none: nobody is asked by an alert")]
    end = at + dt.timedelta(seconds=manifest.oncall.gaps_ahead)
    ahead = {
        rotation.name: shifts(manifest, known.overrides, rotation.name, at, end)
        for rotation in manifest.oncall.rotations
    }
    findings = [_covered(manifest, name, found, at, end) for name, found in ahead.items()]
    findings += [line for policy in manifest.oncall.policies for line in _two(manifest, policy, ahead, at, end)]
    findings += [_contacts(manifest, name) for name in asked_at_all(manifest)]
    if known.trouble:
        return [*findings, OVERRIDES.unknown(known.trouble), HOLIDAYS.unknown(known.trouble)]
    findings.append(_overrides(manifest, known.overrides))
    findings += _holidays(manifest, known.overrides, at, end)
    return [*findings, *reach_findings(manifest, known.tests, at)]


def _covered(manifest: Manifest, name: str, found: Sequence[Shift], at: dt.datetime, end: dt.datetime) -> Finding:
    zone = manifest.platform.time_zone
    if not found:
        return COVERED.finding(Verdict.CRITICAL, f"nobody until {moment(end, zone)}", subject=name)
    if found[0].starts > at:
        observed = f"nobody until {moment(found[0].starts, zone)}, then {found[0].person}"
        return COVERED.finding(Verdict.CRITICAL, observed, subject=name)
    people = ", ".join(sorted({shift.person for shift in found}))
    observed = f"{found[0].person} now; {len(found)} shifts of {people} until {moment(end, zone)}"
    return COVERED.finding(Verdict.OK, observed, subject=name)


def _two(
    manifest: Manifest, policy: Policy, ahead: dict[str, list[Shift]], at: dt.datetime, end: dt.datetime
) -> Iterator[Finding]:
    zone = manifest.platform.time_zone
    rotations = [step.rotation for step in policy.steps if step.rotation]
    for one, other in combinations(dict.fromkeys(rotations), 2):
        subject, found = f"{policy.name}: {one}, {other}", together(ahead[one], ahead[other], at, end)
        if not found:
            yield TWO.finding(Verdict.OK, f"never the same until {moment(end, zone)}", subject=subject)
            continue
        said = [f"{time.person} from {moment(time.starts, zone)}" for time in found[:_SHOWN_MAX]]
        more = f" and {len(found) - _SHOWN_MAX} more times" if len(found) > _SHOWN_MAX else ""
        verdict = Verdict.CRITICAL if found[0].starts <= at else Verdict.WARNING
        yield TWO.finding(verdict, f"both are {', '.join(said)}{more}", subject=subject)


def _contacts(manifest: Manifest, name: str) -> Finding:
    contacts = manifest.reach(name) or ()
    kinds = [contact.kind for contact in contacts if Category.CRITICAL in contact.categories]
    if not kinds:
        return CONTACTS.finding(Verdict.CRITICAL, "no contact for critical alerts", subject=name)
    if WAKING.isdisjoint(kinds):
        observed = f"only {', '.join(dict.fromkeys(kinds))}: that wakes nobody"
        return CONTACTS.finding(Verdict.WARNING, observed, subject=name)
    return CONTACTS.finding(Verdict.OK, ", ".join(kinds), subject=name)


def _overrides(manifest: Manifest, standing: Sequence[Override]) -> Finding:
    """Overrides of people and rotations that are gone, and those that overlap: the later one counts."""
    rotations = {rotation.name for rotation in manifest.oncall.rotations}
    wrong = [f"{one.id}: {one.person} left" for one in standing if manifest.person(one.person) is None]
    wrong += [f"{one.id}: no such rotation" for one in standing if one.rotation not in rotations]
    by_start = sorted(standing, key=lambda one: (one.rotation, one.starts))
    wrong += [
        f"{one.id} overlaps {other.id}"
        for one, other in pairwise(by_start)
        if one.rotation == other.rotation and other.starts < one.ends
    ]
    if wrong:
        return OVERRIDES.finding(Verdict.WARNING, "; ".join(wrong[:_SHOWN_MAX]))
    return OVERRIDES.finding(Verdict.OK, f"{len(standing)} ahead" if standing else "none ahead")


def _holidays(
    manifest: Manifest, overrides: Sequence[Override], at: dt.datetime, end: dt.datetime
) -> Iterator[Finding]:
    """Who is on call on the bank's closed weekdays: notice for them, not a fault."""
    zone = ZoneInfo(manifest.platform.time_zone)
    day, last = at.astimezone(zone).date(), end.astimezone(zone).date()
    while day < last:
        if day.weekday() < 5 and is_holiday(manifest.calendar, day):
            noon = moment_of(day, _NOON, zone)
            said = [f"{shift.person} ({name})" for name, shift in on_call(manifest, overrides, noon).items()]
            yield HOLIDAYS.finding(Verdict.OK, ", ".join(said) or "nobody", subject=f"{day:%a %Y-%m-%d}")
        day += dt.timedelta(days=1)


# --- Procedures ---


@procedure("oncall-gaps-check", when="Mon 08:30", needs=["oncall"])
def oncall_gaps_check(run: Run, target: Target) -> None:
    """Look a quarter ahead for times at which nobody, or nobody else, is on call, or somebody cannot be reached."""
    known = run.read(roster, target, run.started)
    run.conclude(gap_findings(target.manifest, known, run.started))
