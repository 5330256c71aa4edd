"""The alerts' desk: what is said is taken in; in its turn each group says what it has to say, to people or webhooks.

    take ──> alerts, groups        tick ──> due groups ──> notice ──> incident, page, message

Both run inside of the caller's transaction: what follows from an alert is written with it or not at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from nvcops.alerts import notices, silences
from nvcops.alerts.grouping import chunks, decide, group_in, there
from nvcops.alerts.inhibition import PAGE, Inhibition, pages_of
from nvcops.alerts.merging import REMEMBERED, settled
from nvcops.alerts.routing import Receiver, Route, Routing
from nvcops.alerts.said import Said
from nvcops.alerts.taking import Taken, enter, resolve_after
from nvcops.core.alerts import Alert, Category, Group, Member, Notice, Silence
from nvcops.core.incidents import Incident, IncidentAlert, IncidentState
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page, message_id
from nvcops.core.records import Desk
from nvcops.incidents import opening
from nvcops.oncall import paging

GROUPS_MAX = 100  # that one tick looks at: intake waits no longer than that
EXPIRED_MAX = 5_000
AGAIN_AFTER = dt.timedelta(minutes=1)  # for what raised
UPDATE_AGAIN = dt.timedelta(minutes=5)  # those who were paged are not told of each alert that joins
_FORGOTTEN_MAX = 1_000
_OVER = (IncidentState.MITIGATED, IncidentState.RESOLVED, IncidentState.CLOSED)

# --- Taking in ---


def take(desk: Desk, said: Sequence[Said], at: dt.datetime, *, manifest: Manifest, routing: Routing) -> Taken:
    """Take in what was said of alerts: duplicates are one, what is over is over, a new firing is a new firing.

    Raises:
        UsageError: one of them is our own notification, which came back: then nothing is taken.
    """
    for one in said:
        if one.acknowledged_by:
            _acknowledge(desk, one, at, manifest, routing)
    return enter(desk, [one for one in said if not one.acknowledged_by], at, manifest=manifest, routing=routing)


def _acknowledge(desk: Desk, said: Said, at: dt.datetime, manifest: Manifest, routing: Routing) -> None:
    """Somebody acknowledged it where it came from: nobody is asked any more.

    One of our own people thereby responds to the incident; of a stranger it is not known that anybody does.
    """
    alert, person = desk.get(Alert, said.fingerprint), said.acknowledged_by
    if alert is None or not alert.firing(at):
        return
    rows = desk.find(IncidentAlert, fingerprint=alert.fingerprint, ends__isnull=True, order="-incident", limit=1)
    incident = desk.get(Incident, rows[0].incident) if rows else None
    if incident is None:
        for key in routing.keys(alert.labels):
            paging.acknowledge(desk, about=key, person=person, at=at)
    elif manifest.person(person) is None:
        paging.acknowledge(desk, about=f"incident/{incident.number}", person=person, at=at)
    elif incident.state is IncidentState.DETECTED and incident.acknowledged is None:
        opening.acknowledge(desk, incident.number, manifest=manifest, person=person, at=at)


def resume(desk: Desk, at: dt.datetime, *, manifest: Manifest, routing: Routing) -> None:
    """What an engine does when it begins: while nobody listened, nobody could say an alert again.

    What fires has its whole time to be said again, and is grouped as the routing that holds now wants it. Where the
    clock was put back, no group waits for longer than its route lets it.
    """
    after, patience = "", at + resolve_after(manifest, routing)
    while alerts := desk.find(Alert, ends__isnull=True, fingerprint__gt=after, order="fingerprint", limit=PAGE):
        after = alerts[-1].fingerprint
        desk.put(*(replace(a, expires=patience) for a in alerts if a.expires and a.expires < patience))
        group_in(desk, alerts, at, routing)
    routes = {route.id: max(route.group_wait, route.group_interval, AGAIN_AFTER) for route in routing.root.every()}
    waiting = desk.find(Group, due__gt=at, order="-due")
    desk.put(*(replace(group, due=at) for group in waiting if group.due - at > routes.get(group.route, AGAIN_AFTER)))


# --- What is due ---


def tick(
    desk: Desk, at: dt.datetime, *, manifest: Manifest, routing: Routing, groups_max: int = GROUPS_MAX
) -> dt.datetime | None:
    """Do what is due at a moment; when the next is due, which has passed where there is more than one tick does.

    Ends what was not said again, lets due groups speak, tells authors that their silences end, and forgets what was
    over long ago.
    """
    expired = desk.find(Alert, ends__isnull=True, expires__lte=at, order="expires", limit=EXPIRED_MAX)
    desk.put(*(settled(alert, at) for alert in expired))
    due = desk.find(Group, due__lte=at, order="due", limit=groups_max)
    turn = _Turn(desk, at, manifest, routing)
    for group in due:
        turn.look(group)
    turn.tell()
    _remind(desk, at, manifest)
    if len(due) < groups_max and len(expired) < EXPIRED_MAX:
        _forget(desk, at, routing)
    return _next(desk, at)


def first_due(desk: Desk, at: dt.datetime) -> Group | None:
    """The group that has waited longest for its turn; None where none does."""
    return next(iter(desk.find(Group, due__lte=at, order="due", limit=1)), None)


def put_off(desk: Desk, group: Group, at: dt.datetime) -> None:
    """Let a group that cannot speak wait, and try again."""
    desk.put(replace(group, due=at + AGAIN_AFTER))


def _next(desk: Desk, at: dt.datetime) -> dt.datetime | None:
    groups = desk.find(Group, order="due", limit=1)
    alerts = desk.find(Alert, ends__isnull=True, expires__isnull=False, order="expires", limit=1)
    moments = [group.due for group in groups] + [alert.expires for alert in alerts if alert.expires]
    reminder = silences.next_reminder(desk, at)
    return min([*moments, *([reminder] if reminder else [])], default=None)


def _remind(desk: Desk, at: dt.datetime, manifest: Manifest) -> None:
    for silence in silences.ending(desk, at):
        words = silences.in_words(silence)
        paging.tell(
            desk,
            manifest=manifest,
            to=silence.author,
            subject=f"your silence ends at {silence.ends:%H:%M %Z}: {words}",
            body=f"Silence {silence.id} of {words} ends at {silence.ends:%Y-%m-%d %H:%M %Z}; it was for: "
            f"{silence.reason}\nWhat still fires then is told again. Make another where that is too early.",
            purpose="expiry",
            cause=f"silence/{silence.id}/ends",
            at=at,
        )
        desk.put(replace(silence, reminded=at))


def _forget(desk: Desk, at: dt.datetime, routing: Routing) -> None:
    """Remove alerts that were over long enough for each of their groups to have said so."""
    kept = max(REMEMBERED, *(2 * route.group_interval for route in routing.root.every()))
    old = desk.find(Alert, ends__lt=at - kept, updated__lt=at - kept, order="ends", limit=_FORGOTTEN_MAX)
    for alerts in chunks(old):
        prints = [alert.fingerprint for alert in alerts]
        desk.remove(Member, [member.key for member in desk.find(Member, fingerprint__in=prints)])
        desk.remove(Alert, prints)
    silences.forget(desk, at)


# --- A group's turn ---


class _Turn:
    """One tick's look at its groups; what they share is read once."""

    def __init__(self, desk: Desk, at: dt.datetime, manifest: Manifest, routing: Routing) -> None:
        self._desk = desk
        self._at = at
        self._manifest = manifest
        self._routing = routing
        self._inhibition = Inhibition(desk, routing.inhibit, at)
        self._silences: list[Silence] | None = None
        self._routes = {route.id: route for route in routing.root.every()}
        self._notices: list[Notice] = []

    def look(self, group: Group) -> None:
        """Let a group say what it has to say, and keep what it said."""
        route = self._routes.get(group.route, self._routing.root)
        members = [member for page in pages_of(self._desk, group.key) for member in page]
        alerts = there(self._desk, Alert, (member.fingerprint for member in members))
        muted_now = self._routing.mutes(route, self._at)
        said = decide(
            group,
            route,
            members,
            alerts,
            self._at,
            belongs=lambda alert: group.key in self._routing.keys(alert.labels),
            muted=lambda alert: muted_now or self._muted(alert),
        )
        if said.speaks:
            parts = {"firing": said.firing, "resolved": said.resolved}
            self._notices.append(Notice(group=group, receiver=route.receiver, at=self._at, **parts))
        self._desk.remove(Member, said.gone)
        self._desk.put(*said.put)
        if len(said.gone) == len(members):
            self._desk.remove(Group, [group.key])
            return
        self._desk.put(self._after(group, route, told=said.speaks))

    def _after(self, group: Group, route: Route, *, told: bool) -> Group:
        due = self._at + route.group_interval
        return replace(group, receiver=route.receiver, due=due, told_at=self._at if told else group.told_at)

    def _muted(self, alert: Alert) -> bool:
        if self._silences is None:
            self._silences = silences.silences(self._desk, self._at)
        return silences.muting(self._silences, alert.labels, self._at) is not None or self._inhibition.mutes(alert)

    # What notices become.

    def tell(self) -> None:
        """Open or change incidents, page and post, as the groups that were looked at want it."""
        for notice in self._notices:
            self._post(notice, self._routing.receivers[notice.receiver])
        for notices_of_one in notices.of_one_incident(self._notices):
            receiver = self._routing.receivers[notices_of_one[0].receiver]
            if receiver.opens:
                self._open(notices_of_one, receiver.policy)

    def _open(self, these: Sequence[Notice], policy: str) -> None:
        alone: set[str] = set()
        for part in opening.parts(self._desk, notices.together(these)):
            incident = opening.of_notice(self._desk, part, manifest=self._manifest, at=self._at)
            if incident is not None:
                self._page_of_incident(part, policy, incident)
            else:
                alone |= {alert.fingerprint for alert in part.firing}
        for notice in these:
            self._page_of_group(notice, policy, alone)

    def _page_of_group(self, notice: Notice, policy: str, alone: Collection[str]) -> None:
        """The page of alerts that are no incident; one that is open is over with them, whatever they became."""
        if not notice.firing:
            body = notices.body_of(notice)
            paging.resolve(self._desk, manifest=self._manifest, about=notice.group.key, body=body, at=self._at)
        elif policy and (left := tuple(alert for alert in notice.firing if alert.fingerprint in alone)):
            pages = self._desk.find(Page, about=notice.group.key, resolved__isnull=True)
            self._page(replace(notice, firing=left), policy, notice.group.key, pages, None)

    def _page_of_incident(self, notice: Notice, policy: str, incident: Incident) -> None:
        """Of an incident each policy is asked once, however many groups it has."""
        about = f"incident/{incident.number}"
        if incident.state in _OVER:
            body = f"{incident.severity} {incident.title}: nothing fires any more\n{notices.body_of(notice)}"
            paging.resolve(self._desk, manifest=self._manifest, about=about, body=body, at=self._at)
        elif notice.firing and policy:
            pages = self._desk.find(Page, incident=incident.number, resolved__isnull=True)
            mine = [page for page in pages if page.policy == policy]
            about = mine[0].about if mine else f"{about}/{policy}" if pages else about
            self._page(notice, policy, about, mine, incident)

    def _page(self, notice: Notice, policy: str, about: str, pages: Sequence[Page], incident: Incident | None) -> None:
        body = notices.body_of(notice)
        order = list(Category)
        if pages and order.index(notice.category) >= order.index(pages[0].category):
            if self._quiet_for_long(pages[0]):
                paging.update(self._desk, manifest=self._manifest, about=about, body=body, at=self._at)
            return
        summary = notices.summary_of(notice)
        paging.begin(
            self._desk,
            manifest=self._manifest,
            about=about,
            policy=policy,
            category=notice.category,
            summary=f"{incident.severity} {summary}" if incident else summary,
            body=body,
            at=self._at,
            incident=incident.number if incident else None,
            may_be_back=True,
        )

    def _quiet_for_long(self, page: Page) -> bool:
        """Whether those who were paged heard nothing new for a while."""
        last = self._desk.find(Message, page=page.id, order="-created", limit=1)
        return self._at - max([page.opened, *(message.created for message in last)]) >= UPDATE_AGAIN

    def _post(self, notice: Notice, receiver: Receiver) -> None:
        """A message to each of a receiver's webhooks."""
        listen = self._manifest.alerts.listen
        for number, webhook in enumerate(receiver.webhooks):
            payload = notices.payload_of(
                notice,
                webhook,
                origin=self._manifest.evidence.origin,
                address=f"http://{listen}" if listen else "",
            )
            if not payload:
                continue
            to, channel = f"receiver:{receiver.name}", f"{number}:webhook"
            message = Message(
                id=message_id(f"{notice.group.key}/{self._at:%Y%m%dT%H%M%S.%f}", to, channel),
                to=to,
                channel=channel,
                subject=notices.summary_of(notice),
                body=notices.body_of(notice),
                purpose="webhook",
                created=self._at,
                due=self._at,
                payload=payload,
            )
            self._desk.add(message)
