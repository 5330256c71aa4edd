"""What the tests of incidents share: the example's manifest with people who can be reached, a desk, alerts, notices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import msgspec

from desk import MemoryDesk
from nvcops.core.alerts import Alert, Category, Group, Notice, fingerprint
from nvcops.core.incidents import Event, Incident, Severity
from nvcops.core.manifest import Contact, Informed, Manifest, parse
from nvcops.core.units import Seconds
from nvcops.incidents import opening

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
NOON = dt.datetime(2026, 11, 22, 17, tzinfo=dt.UTC)  # in New York
REACHED = (Contact(kind="email", url="mailto://example.com"),)


def minutes(count: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=count)


def hours(count: float) -> dt.datetime:
    return NOON + dt.timedelta(hours=count)


def example(*regulators: str) -> Manifest:
    """The commented example, with a way to reach everybody, and these regulators."""
    manifest = parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    replace = msgspec.structs.replace
    return replace(
        manifest,
        people=tuple(replace(person, contacts=REACHED) for person in manifest.people),
        contacts=tuple(replace(contact, contacts=REACHED) for contact in manifest.contacts),
        incidents=replace(
            manifest.incidents,
            regulators=tuple(regulators) or manifest.incidents.regulators,
            informed=(
                Informed(
                    severities=(Severity.P0, Severity.P1), contacts=("cto", "compliance-officer"), every=Seconds(1800)
                ),
            ),
        ),
    )


def alert(
    name: str = "ProbeDown",
    *,
    starts: dt.datetime = NOON,
    noticed: dt.datetime | None = None,
    ends: dt.datetime | None = None,
    category: Category = Category.CRITICAL,
    summary: str = "",
    value: float | None = None,
    **labels: str,
) -> Alert:
    named = {"alertname": name, "category": category.value, **labels}
    said = {"summary": summary or f"{name} of {labels.get('probe', labels.get('service', 'something'))}"}
    return Alert(
        fingerprint=fingerprint(named),
        labels=named,
        annotations=said | ({} if value is None else {"value": f"{value}"}),
        source="probes",
        category=category,
        starts=starts,
        noticed=noticed or starts,
        updated=noticed or starts,
        ends=ends,
    )


def over(one: Alert, at: dt.datetime) -> Alert:
    return msgspec.structs.replace(one, ends=at)


def notice(
    at: dt.datetime, firing: Sequence[Alert] = (), resolved: Sequence[Alert] = (), key: str = "root/{}"
) -> Notice:
    group = Group(key=key, route="root", receiver="oncall", labels={}, opened=at, due=at)
    return Notice(group=group, receiver="oncall", at=at, firing=tuple(firing), resolved=tuple(resolved))


DOOR = alert(kind="http", service="bank", probe="bank", summary="bank does not answer")
ONE = alert(kind="http", service="bank", instance="bank-1", probe="bank-1", summary="bank-1 does not answer")
TWO = alert(kind="http", service="bank", instance="bank-2", probe="bank-2", summary="bank-2 does not answer")


def opened(desk: MemoryDesk, manifest: Manifest, *alerts: Alert, at: dt.datetime | None = None) -> Incident:
    incident = opening.of_notice(
        desk, notice(at or minutes(0.1), alerts or [DOOR]), manifest=manifest, at=at or minutes(0.1)
    )
    assert incident is not None
    return incident


def resolved(desk: MemoryDesk, manifest: Manifest, *alerts: Alert, by: str = "dana") -> Incident:
    """An incident of an hour that was led to its end."""
    fired = alerts or (DOOR,)
    number = opened(desk, manifest, *fired).number
    opening.acknowledge(desk, number, manifest=manifest, person=by, at=minutes(3))
    ended = [over(one, minutes(40)) for one in fired]
    opening.of_notice(desk, notice(minutes(40), resolved=ended), manifest=manifest, at=minutes(40))
    return opening.resolve(desk, number, manifest=manifest, text="the pool was enlarged", person=by, at=minutes(60))


def lines(desk: MemoryDesk, number: int, kind: str = "") -> list[str]:
    """The texts of a timeline, in order."""
    found = sorted(desk.find(Event, incident=number), key=lambda event: event.time)
    return [event.text for event in found if not kind or event.kind == kind]
