"""One step of an escalation: who is asked next, how they are asked, and what is said when there is nobody."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import ASKING, Message, MessageState, Page, channels
from nvcops.core.records import Desk
from nvcops.core.units import Seconds
from nvcops.oncall.outbox import enter, post
from nvcops.oncall.people import Asked, asked_by, policy_of
from nvcops.oncall.rotation import standing_overrides
from nvcops.oncall.texts import asking_line, details, moment

PAGES_MAX = 500
_TAIL = "\n\n--\n"  # the page's own details stand before it

# --- Facts ---


def undelivered(desk: Desk, at: dt.datetime) -> list[Page]:
    """Pages whose next step is not due yet, but whose messages of this step all failed on every channel."""
    waiting = desk.find(Page, resolved__isnull=True, next__gt=at, order="next", limit=PAGES_MAX)
    if not waiting:
        return []
    dead = desk.find(Message, page__in=[page.id for page in waiting], state=MessageState.DEAD)
    failing = {message.page for message in dead}
    return [page for page in waiting if page.id in failing and _all_failed(desk, page)]


def _all_failed(desk: Desk, page: Page) -> bool:
    of_this_step = f"{_cause(page)}/"
    states = {message.state for message in desk.find(Message, page=page.id) if message.id.startswith(of_this_step)}
    return bool(states) and states <= {MessageState.DEAD, MessageState.FALLEN_BACK}


def first_details(desk: Desk, page: Page) -> str:
    """The details that a page began with."""
    first = desk.find(Message, page=page.id, order="created", limit=1)
    return first[0].body.split(_TAIL)[0] if first else page.summary


# --- Rules ---


class Landing(msgspec.Struct, frozen=True):
    """The step that is carried out next, and the steps before it at which there was nobody to ask."""

    round: int
    step: int
    skipped: tuple[int, ...] = ()


def land(turn: int, step: int, reachable: Sequence[bool], repeat: int) -> Landing | None:
    """The next step at which somebody can be asked; None when the policy was gone through `repeat` times more.

    Where nobody can be asked at all, a whole round is skipped, and the next comes after the category's time: by then
    somebody may be on call.

    >>> land(0, -1, [True, True], 1), land(0, 0, [True, False], 1)
    (Landing(round=0, step=0, skipped=()), Landing(round=1, step=0, skipped=(1,)))
    >>> land(1, 1, [True, True], 1), land(0, -1, [False, False], 1)
    (None, Landing(round=0, step=1, skipped=(0, 1)))
    """
    steps = len(reachable)
    skipped: list[int] = []
    for _ in range(steps):
        turn, step = (turn, step + 1) if step + 1 < steps else (turn + 1, 0)
        if turn > repeat:
            return None
        if reachable[step]:
            return Landing(turn, step, tuple(skipped))
        skipped.append(step)
    return Landing(turn, step, tuple(skipped)) if steps else None


def timer(manifest: Manifest, page: Page) -> Seconds:
    """Within which time a page is acknowledged before the next step is asked."""
    within: Seconds = getattr(manifest.alerts.acknowledge, page.category)
    return within


def once_each(steps: Sequence[Asked]) -> list[Asked]:
    """Each person once, in the first of their roles; nobody who cannot be reached.

    >>> dana, omar = Asked(to="dana", role="primary", channels=("0:sms",)), Asked(to="omar", role="secondary")
    >>> [one.role for one in once_each([dana, omar, Asked(to="dana", role="secondary", channels=("0:sms",))])]
    ['primary']
    """
    first: dict[str, Asked] = {}
    for one in steps:
        if one.channels:
            first.setdefault(one.to, one)
    return list(first.values())


def _cause(page: Page) -> str:
    return f"{page.id}/r{page.round}s{page.step}"


# --- Procedures ---


def next_step(desk: Desk, manifest: Manifest, page: Page, body: str, at: dt.datetime) -> Page:
    """Ask the next step, and those before it again; the page as it is then. `body` are the details."""
    policy = policy_of(manifest, page.policy)
    steps = asked_by(manifest, standing_overrides(desk, at), policy, page.category, at) if policy else []
    landing = land(page.round, page.step, [bool(one.channels) for one in steps], policy.repeat if policy else 0)
    if landing is None:
        return _give_up(desk, manifest, page, body, at)
    escalated = page.step >= 0
    due = at + dt.timedelta(seconds=timer(manifest, page))
    page = msgspec.structs.replace(page, round=landing.round, step=landing.step, next=due)
    desk.put(page)
    for step in landing.skipped:
        _say_skipped(desk, manifest, page, steps[step], at)
    asked = once_each([steps[landing.step], *steps[: landing.step]])
    if asked:
        _ask(desk, manifest, page, asked, body, at, escalated=escalated)
    return page


def _ask(
    desk: Desk, manifest: Manifest, page: Page, asked: Sequence[Asked], body: str, at: dt.datetime, *, escalated: bool
) -> None:
    names = ", ".join(f"{one.to} ({one.role})" for one in asked)
    within, zone = timer(manifest, page), manifest.platform.time_zone
    until = moment(at + dt.timedelta(seconds=within), zone)
    rest = f"Asked: {names}. Without an acknowledgement by {until} others are asked."
    incident = desk.get(Incident, page.incident) if page.incident is not None else None
    post(
        desk,
        page,
        asked,
        cause=_cause(page),
        purpose=ASKING[escalated],
        subject=asking_line(page, incident, zone, "ESCALATED" if escalated else ""),
        body=details([body]) + _TAIL + rest,
        at=at,
    )
    said = {"asked": {one.to: one.role for one in asked}, "round": page.round, "step": page.step}
    text = f"nobody acknowledged within {within}; asked {names}" if escalated else f"asked {names}"
    cause = f"r{page.round}s{page.step}"
    enter(desk, page, "page.asked", cause, manifest=manifest, at=at, said=said, text=text)


def _say_skipped(desk: Desk, manifest: Manifest, page: Page, step: Asked, at: dt.datetime) -> None:
    said, text = {"role": step.role, "why": step.why}, f"nobody to ask: {step.why}"
    cause = f"r{page.round}s{page.step}-{step.role}"
    enter(desk, page, "page.nobody-to-ask", cause, manifest=manifest, at=at, said=said, text=text)


def _give_up(desk: Desk, manifest: Manifest, page: Page, body: str, at: dt.datetime) -> Page:
    """The policy is at its end: the page stays open, and all of the management that can be reached is told once."""
    page = msgspec.structs.replace(page, next=None)
    desk.put(page)
    management = [
        Asked(to=contact.name, role=contact.title, channels=tuple(ways))
        for contact in manifest.contacts
        if contact.kind == "management" and (ways := channels(contact.contacts, page.category))
    ]
    incident = desk.get(Incident, page.incident) if page.incident is not None else None
    post(
        desk,
        page,
        management,
        cause=f"{page.id}/unanswered",
        purpose="escalation",
        subject=asking_line(page, incident, manifest.platform.time_zone, "UNANSWERED"),
        body=body or first_details(desk, page),
        at=at,
    )
    names = [one.to for one in management]
    text = f"nobody answers; of the management {', '.join(names) or 'nobody'} can be told"
    enter(desk, page, "page.unanswered", "unanswered", manifest=manifest, at=at, said={"told": names}, text=text)
    return page


def stop(desk: Desk, page: Page) -> None:
    """Whoever was not asked yet is not asked any more."""
    waiting = desk.find(Message, page=page.id, state=MessageState.WAITING, purpose__in=list(ASKING))
    desk.put(*(msgspec.structs.replace(message, state=MessageState.DROPPED) for message in waiting))
