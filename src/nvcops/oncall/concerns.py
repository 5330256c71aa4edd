"""What is wrong with the paging itself: conditions that are alerts as long as they hold."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.alerts import ALERTNAME, Category
from nvcops.core.incidents import IncidentAlert
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.core.records import Reading
from nvcops.oncall.asking import PAGES_MAX
from nvcops.oncall.rotation import on_call, standing_overrides
from nvcops.oncall.texts import moment

_SHOWN_MAX = 5
UNANSWERED, UNHEARD = "PageUnanswered", "PageReachesNobody"


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that holds since `starts`.

    Its labels name no page: however many pages nobody answers, it is one alert, whose own page cannot multiply it.
    """

    labels: dict[str, str]
    summary: str
    starts: dt.datetime


def concerns(reading: Reading, *, manifest: Manifest, at: dt.datetime) -> list[Concern]:
    """All that hold at a moment; say them again while they do, and they are over when they are not said."""
    return [*_pages(reading, manifest), *_nobody_on_call(reading, manifest, at)]


def _concern(name: str, category: Category, summary: str, starts: dt.datetime, **labels: str) -> Concern:
    return Concern(labels={ALERTNAME: name, "category": category.value, **labels}, summary=summary, starts=starts)


def _pages(reading: Reading, manifest: Manifest) -> list[Concern]:
    """Pages at the end of their policy, and pages of which nobody was sent a word."""
    waiting = reading.find(Page, resolved__isnull=True, acknowledged__isnull=True, order="opened", limit=PAGES_MAX)
    waiting = _of_others(reading, waiting)
    unanswered = [page for page in waiting if page.next is None]
    reached = {message.page for message in reading.find(Message, page__in=[page.id for page in waiting])}
    unheard = [page for page in waiting if page.id not in reached]
    zone = manifest.platform.time_zone
    return [
        _concern(name, Category.CRITICAL, f"{sentence}: {_listed(pages, zone)}", pages[0].opened)
        for name, sentence, pages in (
            (UNANSWERED, "nobody answers, and everybody was asked", unanswered),
            (UNHEARD, "there is nobody to ask", unheard),
        )
        if pages
    ]


def _of_others(reading: Reading, pages: list[Page]) -> list[Page]:
    """Those that are not about these concerns themselves: what is only said of its own page would never be over."""
    numbers = [page.incident for page in pages if page.incident is not None]
    names: dict[int, set[str]] = {}
    for alert in reading.find(IncidentAlert, incident__in=numbers, ends__isnull=True) if numbers else ():
        names.setdefault(alert.incident, set()).add(alert.name)
    own = {UNANSWERED, UNHEARD}
    about_own = {number for number, found in names.items() if found <= own}
    marks = [f'{ALERTNAME}="{name}"' for name in own]
    return [p for p in pages if p.incident not in about_own and not any(mark in p.about for mark in marks)]


def _listed(pages: list[Page], zone: str) -> str:
    said = [f"{page.summary} (since {moment(page.opened, zone)})" for page in pages[:_SHOWN_MAX]]
    more = f" and {len(pages) - _SHOWN_MAX} more" if len(pages) > _SHOWN_MAX else ""
    return "; ".join(said) + more


def _nobody_on_call(reading: Reading, manifest: Manifest, at: dt.datetime) -> list[Concern]:
    """Rotations that a policy asks, and that nobody has now: they begin later."""
    shifts = on_call(manifest, standing_overrides(reading, at), at)
    asked = {step.rotation for policy in manifest.oncall.policies for step in policy.steps if step.rotation}
    return [
        _concern("NobodyOnCall", Category.HIGH, f"nobody is on call for {name}", at, rotation=name)
        for name in sorted(asked - set(shifts))
    ]
