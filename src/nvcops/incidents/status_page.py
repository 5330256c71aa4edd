"""The public status page: static HTML without scripts, and a JSON Feed. Only what is meant for the public stands there.

An incident is shown by its severity and its services, and in what a person said in public; its title, alerts and
timeline stay inside. A security incident is shown once a person says something of it in public. Drills are not shown.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from html import escape
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.incidents import Event, Incident, IncidentState, Severity
from nvcops.core.manifest import Manifest
from nvcops.core.records import Reading
from nvcops.incidents import timeline
from nvcops.incidents.leading import worst_ever
from nvcops.incidents.messages import moment

SHOWN_FOR = dt.timedelta(days=30)
_SHOWN_MAX = 100
_UPDATES_MAX = 50
_UPDATES_READ = 1_000  # of which some are not for the public

# --- Facts ---


class Said(msgspec.Struct, frozen=True):
    """Something that was said in public."""

    time: dt.datetime
    text: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as the public sees it."""

    number: int
    heading: str
    state: str
    services: tuple[str, ...]
    impact: str
    began: dt.datetime
    over: dt.datetime | None
    updates: tuple[Said, ...]


def shown(reading: Reading, at: dt.datetime) -> list[Shown]:
    """What the public may see: incidents that go on, and those of the last 30 days; the newest first."""
    incidents = timeline.active(reading)
    incidents += reading.find(Incident, resolved__gte=at - SHOWN_FOR, order="-number", limit=_SHOWN_MAX)
    public = []
    for incident in {one.number: one for one in incidents}.values():
        found = reading.find(Event, incident=incident.number, kind="update", order="-time", limit=_UPDATES_READ)
        events = [event for event in found if event.data.get("public") is True][:_UPDATES_MAX]
        said = tuple(Said(event.time, event.text) for event in reversed(events))
        if is_public(incident, said, worst_ever(reading, incident)):
            public.append(as_seen(incident, said))
    return sorted(public, key=lambda one: -one.number)[:_SHOWN_MAX]


# --- Rules ---

_IMPACT = {
    Severity.P0: "Major disruption",
    Severity.P1: "Partial disruption",
    Severity.P2: "Minor disruption",
    Severity.P3: "Notice",
}
_STATE = {
    IncidentState.DETECTED: "We are looking into it.",
    IncidentState.RESPONDING: "We are working on it.",
    IncidentState.INVESTIGATING: "We are working on it.",
    IncidentState.MITIGATED: "The disruption is over; we are watching.",
    IncidentState.RESOLVED: "Resolved.",
    IncidentState.CLOSED: "Resolved.",
}


def is_public(incident: Incident, said: Sequence[Said], worst: Severity) -> bool:
    """Whether the public is shown an incident: customers feel or felt it and it is no secret, or somebody said so."""
    if incident.source == "drill":
        return False
    felt = worst in (Severity.P0, Severity.P1) and bool(incident.services)
    return bool(said) or (felt and not incident.security)


def as_seen(incident: Incident, said: Sequence[Said]) -> Shown:
    """An incident in public words."""
    services = ", ".join(incident.services)
    impact = _IMPACT[incident.severity]
    return Shown(
        number=incident.number,
        heading=f"{impact} of {services}" if services else impact,
        state=_STATE[incident.state],
        services=incident.services,
        impact=impact,
        began=incident.began,
        over=incident.resolved or incident.mitigated,
        updates=tuple(said),
    )


_CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #57606a; --line: #d0d7de;
  --good: #0b6b2e; --bad: #a40e26; --warn: #7a4a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9da7b3; --line: #30363d;
  --good: #4ac26b; --bad: #ff8182; --warn: #e3b341; } }
body { margin: 0 auto; max-width: 48rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; margin-bottom: 0; }
a { color: inherit; } a:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
.state { border-left: .4rem solid; padding: .6rem 1rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
ol { padding-left: 1.2rem; } time, footer, .soft { color: var(--soft); }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
"""


def page(incidents: Sequence[Shown], manifest: Manifest, at: dt.datetime) -> str:
    """The page; everything that somebody wrote is escaped, and the policy in it lets nothing be loaded or run."""
    zone = ZoneInfo(manifest.platform.time_zone)
    going = [one for one in incidents if one.over is None]
    past = [one for one in incidents if one.over is not None]
    title = escape(manifest.platform.title)
    style = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    now = "".join(_article(one, zone) for one in going) or "<p>Nothing is known to be wrong.</p>"
    before = "".join(_article(one, zone) for one in past) or "<p>None in the last 30 days.</p>"
    services = "".join(_service(service.name, going) for service in manifest.services)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_headline(going)} - {title}</title>
<link rel="alternate" type="application/feed+json" title="{title}" href="feed.json">
<style>{_CSS}</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header><h1>{title}: status</h1></header>
<main id="main">
<p class="state {_class(going)}" role="status">{_headline(going)}</p>
<section aria-labelledby="services"><h2 id="services">Services</h2><ul>{services}</ul></section>
<section aria-labelledby="now"><h2 id="now">Now</h2>{now}</section>
<section aria-labelledby="past"><h2 id="past">The last 30 days</h2>{before}</section>
</main>
<footer><p>As of {_time(at, zone)}. <a href="feed.json">As a feed</a></p></footer>
</body>
</html>
"""


def _headline(going: Sequence[Shown]) -> str:
    """The state in words: colour alone says nothing to those who do not see it."""
    if not going:
        return "All services work"
    return min((one.impact for one in going), key=list(_IMPACT.values()).index)


def _class(going: Sequence[Shown]) -> str:
    return "good" if not going else "bad" if _headline(going) == _IMPACT[Severity.P0] else "warn"


def _service(name: str, going: Sequence[Shown]) -> str:
    mine = [one for one in going if name in one.services]
    return f'<li>{escape(name)}: <span class="{_class(mine)}">{_headline(mine) if mine else "works"}</span></li>'


def _time(time: dt.datetime, zone: ZoneInfo) -> str:
    return f'<time datetime="{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}">{escape(moment(time, zone))}</time>'


def _article(one: Shown, zone: ZoneInfo) -> str:
    until = f" to {_time(one.over, zone)}" if one.over else ""
    items = "".join(f"<li>{_time(said.time, zone)}: {escape(said.text)}</li>" for said in reversed(one.updates))
    said = f"<ol reversed>{items}</ol>" if items else ""
    return (
        f'<article id="incident-{one.number}"><h3>{escape(one.heading)}</h3>'
        f'<p class="soft">Since {_time(one.began, zone)}{until}</p><p>{escape(one.state)}</p>{said}</article>'
    )


def feed(incidents: Sequence[Shown], manifest: Manifest, at: dt.datetime) -> bytes:
    """The same as a JSON Feed 1.1."""
    address = (manifest.incidents.status_url or "").rstrip("/")
    items = [
        {
            "id": f"{address or manifest.evidence.origin}/#incident-{one.number}",
            **({"url": f"{address}/#incident-{one.number}"} if address else {}),
            "title": one.heading,
            "content_text": "\n".join([one.state, *(said.text for said in reversed(one.updates))]),
            "date_published": _utc(one.began),
            "date_modified": _utc(max([one.began, one.over or one.began, *(said.time for said in one.updates)])),
            "tags": list(one.services),
        }
        for one in incidents
    ]
    links = {"home_page_url": f"{address}/", "feed_url": f"{address}/feed.json"} if address else {}
    going = [one for one in incidents if one.over is None]
    whole = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": f"{manifest.platform.title}: status",
        "language": "en",
        **links,
        "_status": {"state": _headline(going), "as_of": _utc(at), "going_on": len(going)},
        "items": items,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _utc(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


# --- Procedures ---


def render(reading: Reading, *, manifest: Manifest, at: dt.datetime) -> dict[str, bytes]:
    """The files of the status page by their names, as of a moment: who writes them is an adapter."""
    incidents = shown(reading, at)
    return {"index.html": page(incidents, manifest, at).encode(), "feed.json": feed(incidents, manifest, at)}
