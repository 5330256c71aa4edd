"""What a person reads at three in the morning: one line that fits a short message, and the details below it."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from nvcops.core.evidence.entry import ID_LENGTH_MAX
from nvcops.core.incidents import Incident
from nvcops.core.oncall import Page

LINE_MAX = 160  # characters of one short message
BODY_MAX = 4_000
_PLAIN = str.maketrans(
    {"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "\u00a0": " "}
)  # what a short message has no letter for makes it less than half as long
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


def stamp(at: dt.datetime) -> str:
    """A moment as a part of an id.

    >>> stamp(dt.datetime(2026, 11, 23, 7, 13, tzinfo=dt.UTC))
    '20261123T071300Z'
    """
    fraction = f".{at.microsecond:06}" if at.microsecond else ""
    return f"{at.astimezone(dt.UTC):%Y%m%dT%H%M%S}{fraction}Z"


def slug(text: str) -> str:
    """A text as a part of an id: itself where it is a short name, else 16 digits of its hash.

    >>> slug("incident/12"), slug('root/{service="bank"}')
    ('incident-12', '239cbc92f1e937e2')
    """
    name = text.replace("/", "-")
    return name if _NAME.fullmatch(name) else hashlib.sha256(text.encode()).hexdigest()[:16]


def entry_id(kind: str, *causes: str) -> str:
    """The id of an entry of the evidence, made of what caused it.

    >>> entry_id("page.asked", "incident-12-20261123T071300Z", "r0s1")
    'page.asked/incident-12-20261123T071300Z/r0s1'
    """
    whole = "/".join((kind, *causes))
    if len(whole) <= ID_LENGTH_MAX and all("!" <= letter <= "~" for letter in whole):
        return whole
    return f"{kind}/{hashlib.sha256(whole.encode()).hexdigest()}"


def moment(at: dt.datetime, zone: str) -> str:
    """A moment as people of the platform's time zone say it.

    >>> moment(dt.datetime(2026, 11, 23, 7, 13, tzinfo=dt.UTC), "America/New_York")
    'Mon 23 Nov 02:13 EST'
    """
    return f"{at.astimezone(ZoneInfo(zone)):%a %d %b %H:%M %Z}"


def line(mark: str, what: str, *rest: str) -> str:
    r"""One line of at most LINE_MAX characters: the mark and the rest stand in full, the middle is cut.

    >>> line("P0 #12", "Payments fail.", "Since 02:13 EST", "Ack: nvcops ack 12")
    'P0 #12: Payments fail. Since 02:13 EST. Ack: nvcops ack 12'
    >>> cut = line("P0 #12", "x" * 200, "Ack: nvcops ack 12")
    >>> len(cut), cut[-30:]
    (160, 'xxxxxxxx... Ack: nvcops ack 12')
    >>> line("HIGH", "two\nlines – of text")
    'HIGH: two lines - of text'
    """
    head, tail = f"{mark}: " if mark else "", ". ".join(rest)
    said = " ".join(what.translate(_PLAIN).split()).rstrip(".")
    left = max(0, LINE_MAX - len(head) - (len(tail) + 2 if tail else 0))
    if len(said) > left:
        said = said[: max(0, left - 2)].rstrip() + ".."
    return f"{head}{said}. {tail}" if tail else f"{head}{said}"


def details(paragraphs: Sequence[str]) -> str:
    """The details: what is not empty, each on lines of its own, at most BODY_MAX characters."""
    whole = "\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph.strip())
    return whole if len(whole) <= BODY_MAX else whole[: BODY_MAX - 3] + "..."


def label(page: Page) -> str:
    """What a page is called in a message: its incident's number, else its category."""
    return f"#{page.incident}" if page.incident is not None else page.category.upper()


def handle(page: Page) -> str:
    """The command that acknowledges a page: of its incident, else of the page itself."""
    return f"nvcops ack {page.incident}" if page.incident is not None else f"nvcops oncall ack {page.id}"


def asking_line(page: Page, incident: Incident | None, zone: str, mark: str = "") -> str:
    """What happened, since when, how bad, and how to acknowledge it, in one line; a drill says so first."""
    drill = "[DRILL]" if incident and incident.source == "drill" else ""
    grade = incident.severity if incident else page.category.upper()
    number = f"#{page.incident}" if page.incident is not None else ""
    since = moment(incident.began if incident else page.opened, zone)
    what = page.summary.removeprefix(f"{grade} ")
    return line(" ".join(filter(None, (drill, mark, grade, number))), what, f"Since {since}", f"Ack: {handle(page)}")
