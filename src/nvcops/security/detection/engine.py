"""From lines to detections: parse, match, correlate. One engine reads one stream of events in the order of time."""

from __future__ import annotations

import hashlib

from nvcops.core.detections import RAW, Class, Detection, Event, Evidence, instant
from nvcops.security.detection.correlate import Correlator
from nvcops.security.detection.masks import masked
from nvcops.security.detection.matcher import Matcher
from nvcops.security.detection.rules import Correlation, Head, Pack, Rule

_TOUCHED = ("user.name", "group.name", "database.name", "file.path", "resource.uid", "service.name", "device.hostname")
_TEXT_MAX = 120
_GUESSING = frozenset({"T1110"})


class Engine:
    """Rules over a stream of events. `matcher` asks the pack's rules; it remembers nothing, and can serve many."""

    def __init__(self, pack: Pack, matcher: Matcher) -> None:
        self._matcher = matcher
        self._correlators = [Correlator(each) for each in pack.correlations]
        self._heard = {name for each in pack.correlations for name in each.rules}

    @property
    def forgotten(self) -> int:
        """How many groups of events had to be forgotten before their time was over."""
        return sum(each.forgotten for each in self._correlators)

    def see(self, event: Event, line: bytes) -> list[Detection]:
        """Take in an event; what it is, or completes."""
        rules = self._matcher.match(event, line)
        return self._conclude(rules, event, line) if rules else []

    def _conclude(self, rules: list[Rule], event: Event, line: bytes) -> list[Detection]:
        shown = evidence(event, line)
        found = [_detection(rule, event, (shown,)) for rule in rules if not rule.silent]
        names = [rule.head.name for rule in rules]
        if self._heard.isdisjoint(names):
            return found
        for each in self._correlators:  # in the order in which they hear of each other
            heard = [name for name in names if name in each.asked.rules]
            lines = each.see(heard, event.time, event.fields, shown) if heard else None
            if lines is not None:
                names.append(each.asked.head.name)
                if not each.asked.silent:
                    found.append(_detection(each.asked, event, tuple(lines)))
        return found


def evidence(event: Event, line: bytes) -> Evidence:
    """A line as it is shown, and the digest by which it is found again."""
    return Evidence(
        instant(event.time),
        event.source,
        masked(str(event.fields.get(RAW, ""))),
        hashlib.sha256(line.rstrip(b"\r\n")).hexdigest(),
    )


def _detection(rule: Rule | Correlation, event: Event, lines: tuple[Evidence, ...]) -> Detection:
    head: Head = rule.head
    actors, signed_in = who(event)
    if signed_in and _GUESSING.issuperset(each.split(".")[0] for each in head.techniques):
        # whom somebody guessed their way to is not who guesses: the address holds the story together
        actors += tuple(_short(address) for name in ("src_endpoint.ip",) if (address := event.fields.get(name)))
    return Detection(
        rule=head.name,
        title=head.title,
        level=head.level,
        technique=head.techniques[0] if head.techniques else "",
        time=event.time,
        actors=actors,
        touched=what(event),
        signed_in=signed_in,
        evidence=lines,
    )


def who(event: Event) -> tuple[tuple[str, ...], bool]:
    """Whom an event is about, and whether that is somebody who signed in: else all that is known is the address.

    >>> fields = {"actor.user.name": "eve", "src_endpoint.ip": "::1"}
    >>> who(Event(time=0, source="host", route=("", ""), fields=fields))
    (('eve',), True)
    """
    fields = event.fields
    failed = fields.get("class_uid") == Class.AUTHENTICATION and fields.get("status") == "Failure"
    name = fields.get("actor.user.name") or fields.get("actor.user.uid")
    address = fields.get("src_endpoint.ip")
    if name and not failed:
        return (_short(name),), True
    if address:
        return (_short(address),), False
    return (_short(name or f"somebody at {event.source}"),), False


def what(event: Event) -> tuple[str, ...]:
    """What an event touched: accounts, databases, files, hosts; the log's name where nothing is said."""
    fields = event.fields
    found = [_short(value) for name in _TOUCHED if (value := fields.get(name)) is not None]
    return tuple(found) or (event.source,)


def _short(value: object) -> str:
    return masked(str(value)[:_TEXT_MAX])
