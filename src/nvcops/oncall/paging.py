"""Somebody is asked to acknowledge, then the next, until one does or it is over: pages and their messages.

    begin ──> a step asks ── its category's time passes ──> the next, and those before it again ── ... ──> unanswered
                 └── acknowledge, by anybody who can take it over ──┴── resolve ──> who was paged is told

Everything is written through the caller's transaction: a page and its messages are there together or not at all. A
message's id is made of page, round, step, person and channel, so nobody is asked twice by one step.
"""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec

from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import ASKING, Message, MessageState, Page, channels
from nvcops.core.records import Desk
from nvcops.oncall.asking import PAGES_MAX, first_details, next_step, stop, timer, undelivered
from nvcops.oncall.outbox import enter, id_of, say_unreachable, tell_those_paged
from nvcops.oncall.people import RECEIVER, WEBHOOK, may_acknowledge
from nvcops.oncall.texts import details, line, slug, stamp

BACK_WITHIN = dt.timedelta(minutes=5)
_AHEAD_MAX = dt.timedelta(minutes=10)  # no message waits longer until it is tried again, and no lease lasts as long
_LEFT = dt.timedelta(seconds=30)  # for whoever sends it now

# --- Rules ---


def worse(one: Category, other: Category) -> bool:
    """Whether one category is worse than another.

    >>> worse(Category.CRITICAL, Category.HIGH), worse(Category.HIGH, Category.HIGH)
    (True, False)
    """
    order = list(Category)
    return order.index(one) < order.index(other)


def _came_back(page: Page, policy: str, category: Category, at: dt.datetime) -> bool:
    """Whether it is the same that was over a moment ago, and no worse."""
    recent = page.resolved is not None and at - page.resolved < BACK_WITHIN
    return recent and page.policy == policy and not worse(category, page.category)


# --- Procedures ---


def begin(  # noqa: PLR0913 - a page has many parts
    desk: Desk,
    *,
    manifest: Manifest,
    about: str,
    policy: str,
    category: Category,
    summary: str,
    body: str,
    at: dt.datetime,
    incident: int | None = None,
    may_be_back: bool = False,
) -> Page:
    """Ask the first step of a policy (the first policy where there is none of that name) to acknowledge.

    While a page about the same is open it is that one which is answered; something worse than it takes its place, and
    asks anew also where it was acknowledged. With `may_be_back` the same is true of one that was over a moment ago and
    has reached somebody: what comes and goes asks nobody each time.
    """
    there = desk.find(Page, about=about, resolved__isnull=True, limit=PAGES_MAX)
    if there and not worse(category, there[0].category):
        return there[0]
    if may_be_back and not there:
        last = desk.find(Page, about=about, order="-opened", limit=1)
        if last and _came_back(last[0], policy, category, at) and _reached(desk, last[0]):
            return _go_on(desk, manifest, last[0], body, at)
    for page in there:
        stop(desk, page)
        desk.put(msgspec.structs.replace(page, resolved=at, next=None))
        said = {"by": category.value}
        enter(desk, page, "page.superseded", "superseded", manifest=manifest, at=at, said=said)
    count = desk.count(Page, about=about)
    page = Page(
        id=f"{slug(about)}-{stamp(at)}-{count}",
        about=about,
        incident=incident,
        policy=policy,
        category=category,
        summary=summary,
        opened=at,
    )
    return next_step(desk, manifest, page, body, at)


def _reached(desk: Desk, page: Page) -> bool:
    """Whether somebody knows of it: has acknowledged it, or was sent word, or is being sent."""
    sent = [MessageState.SENT, MessageState.SENDING]
    return page.acknowledged is not None or bool(
        desk.count(Message, page=page.id, purpose__in=list(ASKING), state__in=sent)
    )


def _go_on(desk: Desk, manifest: Manifest, page: Page, body: str, at: dt.datetime) -> Page:
    """It is back: who has it still has it; where nobody has, the next are asked when they would have been."""
    asked = desk.find(Message, page=page.id, purpose__in=list(ASKING), order="-created", limit=1)
    since = asked[0].created if asked else page.opened
    due = None if page.acknowledged else max(at, since + dt.timedelta(seconds=timer(manifest, page)))
    page = msgspec.structs.replace(page, resolved=None, next=due)
    desk.put(page)
    ends = desk.find(Message, page=page.id, purpose="resolved", state=MessageState.WAITING)
    desk.put(*(msgspec.structs.replace(message, state=MessageState.DROPPED) for message in ends))
    enter(desk, page, "page.back", f"back/{stamp(at)}", manifest=manifest, at=at, said={})
    heard = desk.find(Message, page=page.id, purpose="update", order="-created", limit=1)
    if not heard or at - heard[0].created >= BACK_WITHIN:
        text = f"it is back: {body}"
        tell_those_paged(desk, page, purpose="update", text=text, cause=f"back/{stamp(at)}", at=at)
    return page


def acknowledge(desk: Desk, *, about: str, person: str, at: dt.datetime, manifest: Manifest | None = None) -> bool:
    """Somebody is on it: nobody else is asked, and those who were are told who it is.

    `about` is what the page is of, the page's id, or `incident/N` for all pages of an incident. The answer is whether
    there was one that nobody had acknowledged yet. Without the manifest anybody's word counts: that of another system's
    people, who are not on our roster.

    Raises:
        NotFoundError: `person` is nobody of the roster or of the management.
    """
    if manifest is not None and not may_acknowledge(manifest, person):
        there = ", ".join(entry.name for entry in manifest.people) or "nobody"
        raise NotFoundError(
            f"{person!r} cannot acknowledge: nobody of that name is on the roster", hint=f"there: {there}"
        )
    asked = [page for page in _open(desk, about) if page.acknowledged is None]
    for page in asked:
        stop(desk, page)
        desk.put(msgspec.structs.replace(page, acknowledged=at, acknowledged_by=person, next=None))
        took = {"seconds": round((at - page.opened).total_seconds(), 3)}
        enter(desk, page, "page.acknowledged", "acknowledged", manifest=manifest, at=at, said=took, actor=person)
        text = f"{person} has it: {page.summary}"
        tell_those_paged(desk, page, purpose="update", text=text, cause=f"taken/{stamp(at)}", at=at, but=person)
    return bool(asked)


def update(desk: Desk, *, manifest: Manifest, about: str, body: str, at: dt.datetime) -> None:
    """Tell those who were paged what changed; nobody is asked for anything."""
    del manifest  # they are told on the channels on which they were asked
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    for page in _open(desk, about):
        tell_those_paged(desk, page, purpose="update", text=body, cause=f"update/{stamp(at)}-{digest}", at=at)


def resolve(desk: Desk, *, manifest: Manifest, about: str, body: str, at: dt.datetime) -> None:
    """It is over: nobody is asked any more, and those whom a page reached, or may have, are told."""
    for page in _open(desk, about):
        stop(desk, page)
        desk.put(msgspec.structs.replace(page, resolved=at, next=None))
        comes_and_goes = bool(desk.count(Message, page=page.id, purpose="resolved"))
        enter(desk, page, "page.resolved", stamp(at), manifest=manifest, at=at, said={})
        due = at + BACK_WITHIN if comes_and_goes else at  # it is dropped where it is back by then
        tell_those_paged(desk, page, purpose="resolved", text=body, cause=f"resolved/{stamp(at)}", at=at, due=due)


def advance(desk: Desk, *, manifest: Manifest, at: dt.datetime) -> dt.datetime | None:
    """Ask the next step of every page whose time has passed, or whose messages all failed; when the next is due.

    However late it comes, it asks one step, and that one has its whole time. At most PAGES_MAX pages at once: the
    answer then is a moment that has passed.
    """
    due = desk.find(Page, resolved__isnull=True, next__lte=at, order="next", limit=PAGES_MAX)
    for page in [*due, *undelivered(desk, at)]:
        next_step(desk, manifest, page, first_details(desk, page), at)
    soonest = desk.find(Page, resolved__isnull=True, next__isnull=False, order="next", limit=1)
    return soonest[0].next if soonest else None


def resume(desk: Desk, *, manifest: Manifest, at: dt.datetime) -> None:
    """What an engine does when it begins, or the clock was put back: nobody waits for a moment of another clock."""
    waiting = desk.find(Page, resolved__isnull=True, next__gt=at, order="-next", limit=PAGES_MAX)
    latest = {page.id: at + dt.timedelta(seconds=timer(manifest, page)) for page in waiting}
    desk.put(*(msgspec.structs.replace(page, next=min(page.next or at, latest[page.id])) for page in waiting))
    later = desk.find(Message, state=MessageState.WAITING, due__gt=at + _AHEAD_MAX)
    desk.put(*(msgspec.structs.replace(message, due=at) for message in later))
    leased = desk.find(Message, state=MessageState.SENDING, lease_until__gt=at + _AHEAD_MAX)
    desk.put(*(msgspec.structs.replace(message, lease_until=at + _LEFT) for message in leased))


def tell(  # noqa: PLR0913 - a message has many parts
    desk: Desk,
    *,
    manifest: Manifest,
    to: str,
    subject: str,
    body: str,
    purpose: str,
    cause: str,
    at: dt.datetime,
    incident: int | None = None,
    payload: str = "",
    category: Category = Category.LOW,
) -> bool:
    """A single message to a person, a contact or `receiver:NAME`: once per cause. Whether it was written now.

    It goes to the first of their channels that takes the category, else to their first. Who has none is told nothing,
    and the evidence says so.
    """
    channel = WEBHOOK if to.startswith(RECEIVER) else _channel(manifest, to, category)
    if not channel:
        say_unreachable(desk, manifest, to, cause, at)
        return False
    message = Message(
        id=id_of(cause, to, channel),
        to=to,
        channel=channel,
        subject=line("", subject),
        body=details([body]),
        purpose=purpose,
        created=at,
        due=at,
        incident=incident,
        payload=payload,
    )
    return desk.add(message)


def _open(desk: Desk, about: str) -> list[Page]:
    """The pages about something that are not over, by what they are of, their id, or their incident."""
    found = desk.find(Page, about=about, resolved__isnull=True, limit=PAGES_MAX)
    kind, _, number = about.partition("/")
    if kind == "incident" and number.isdigit():
        found += desk.find(Page, incident=int(number), resolved__isnull=True, limit=PAGES_MAX)
    if not found:
        found = desk.find(Page, id=about, resolved__isnull=True)
    return list({page.id: page for page in found}.values())


def _channel(manifest: Manifest, to: str, category: Category) -> str:
    """The channel on which somebody is told something; empty where they have none at all."""
    contacts = manifest.reach(to) or ()
    ways = channels(contacts, category) or [f"{index}:{way.kind}" for index, way in enumerate(contacts)]
    return ways[0] if ways else ""
