"""Groups: to which an alert belongs, and what a group has to say at a moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from nvcops.alerts.inhibition import PAGE, digest, index_keys
from nvcops.alerts.routing import Route, Routing
from nvcops.core.alerts import Alert, Group, Member
from nvcops.core.records import Desk, Reading

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

# --- Facts ---


def chunks(things: Iterable[T], size: int = PAGE) -> Iterator[list[T]]:
    """Things, so many at a time.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    left = iter(things)
    while some := list(islice(left, size)):
        yield some


def there(reading: Reading, kind: type[R], keys: Iterable[str]) -> dict[str, R]:
    """The records of a kind that are there, by key: a query for each PAGE of them."""
    name = kind.__struct_fields__[0]
    found: dict[str, R] = {}
    for some in chunks(dict.fromkeys(keys)):
        among: dict[str, Any] = {f"{name}__in": some}
        found |= {getattr(record, name): record for record in reading.find(kind, **among)}
    return found


# --- Rules ---


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a group's members: told of, ended, and no longer its own."""

    firing: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()
    speaks: bool = False
    put: tuple[Member, ...] = ()
    gone: tuple[str, ...] = ()


def member_key(group: str, fingerprint: str) -> str:
    """The key of an alert's membership."""
    return f"{digest(group)}/{fingerprint}"


def first_look(route: Route, opened: dt.datetime, starts: dt.datetime, at: dt.datetime) -> dt.datetime:
    """When a new group is looked at: after group_wait, at once where its alert has been firing for longer already.

    >>> noon = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
    >>> route = Route(id="{}", receiver="a")
    >>> [str(first_look(route, noon, noon - dt.timedelta(seconds=s), noon).time()) for s in (0, 30, 31)]
    ['12:00:30', '12:00:30', '12:00:00']
    """
    return at if starts + route.group_wait < at else opened + route.group_wait


def decide(
    group: Group,
    route: Route,
    members: Sequence[Member],
    alerts: dict[str, Alert],
    at: dt.datetime,
    *,
    belongs: Callable[[Alert], bool],
    muted: Callable[[Alert], bool],
) -> Outcome:
    """What a group says at a moment, as Alertmanager decides it: what is new, what is over, or all of it once more.

    What is muted is not said. But what was said and is over is said whatever mutes it: a mute is against noise, and who
    was woken shall not wait for the end of what has ended.
    """
    put, gone, firing, resolved, new = [], [], [], [], False
    for member in members:
        alert = alerts.get(member.fingerprint)
        if alert is None or (not alert.firing(at) and member.told is None) or not belongs(alert):
            gone.append(member.key)
        elif not alert.firing(at):
            resolved.append(alert)
            gone.append(member.key)
        elif not muted(alert):
            firing.append(alert)
            if member.told != alert.starts:
                new = True
                put.append(replace(member, told=alert.starts))
    repeated = bool(firing) and group.told_at is not None and at - group.told_at >= route.repeat_interval
    return Outcome(
        firing=tuple(sorted(firing, key=_first)),
        resolved=tuple(sorted(resolved, key=_first)),
        speaks=new or bool(resolved) or repeated,
        put=tuple(put),
        gone=tuple(gone),
    )


def _first(alert: Alert) -> tuple[dt.datetime, str]:
    return alert.starts, alert.fingerprint


# --- Procedures ---


def group_in(desk: Desk, alerts: Sequence[Alert], at: dt.datetime, routing: Routing) -> None:
    """Enter alerts that fire into the groups of their routes, and into the index of what inhibits others."""
    wanted: dict[str, Member] = {}
    groups: dict[str, tuple[Route, dict[str, str], dt.datetime]] = {}
    for alert in alerts:
        keys = routing.keys(alert.labels)
        for key, (route, shared) in keys.items():
            starts = min(alert.starts, groups[key][2]) if key in groups else alert.starts
            groups[key] = (route, shared, starts)
        for key in (*keys, *index_keys(routing.inhibit, alert.labels)):
            one = member_key(key, alert.fingerprint)
            wanted[one] = Member(key=one, group=key, fingerprint=alert.fingerprint)
    known = there(desk, Member, wanted)
    desk.put(*(member for key, member in wanted.items() if key not in known))
    open_groups = there(desk, Group, groups)
    desk.put(*_changed(groups, open_groups, at))


def _changed(
    groups: dict[str, tuple[Route, dict[str, str], dt.datetime]], known: dict[str, Group], at: dt.datetime
) -> Iterator[Group]:
    """New groups, and those that wait for their first look but have waited long enough."""
    for key, (route, shared, starts) in groups.items():
        group = known.get(key)
        if group is None:
            due = first_look(route, at, starts, at)
            yield Group(key=key, route=route.id, receiver=route.receiver, labels=shared, opened=at, due=due)
        elif group.told_at is None and at < group.due <= group.opened + route.group_wait:
            due = first_look(route, group.opened, starts, at)
            if due < group.due:
                yield replace(group, due=due)
