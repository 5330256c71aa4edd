"""Episodes, not alerts: detections are folded by actor, technique and time.

Two detections belong together when they are of one technique (its variants are one), not further apart than the gap,
and by one actor. Where nobody signed in there are only addresses, and an attack may come from many: then what they
touch holds them together too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from nvcops.core.detections import Detection, Episode, Evidence, Level, Window, instant

GAP_MS = 30 * 60 * 1000
OPEN_MAX = 10_000
_NAMES_MAX = 1_000
_SHOWN_NAMES = 10
_SHOWN_LINES = 5
_REMEMBERED = 256  # more than any correlation tells at once

Key = tuple[str, str, str]


@dataclass(eq=False, slots=True)
class _Open:
    """An episode that may go on."""

    technique: str
    first: int
    last: int
    born: str
    count: int = 0
    level: Level = Level.INFORMATIONAL
    title: str = ""
    rules: Counter[str] = field(default_factory=Counter)
    techniques: dict[str, None] = field(default_factory=dict)
    actors: dict[str, None] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    keys: dict[Key, None] = field(default_factory=dict)
    begin: list[Evidence] = field(default_factory=list)
    end: list[Evidence] = field(default_factory=list)
    counted: dict[int, Evidence] = field(default_factory=dict)


class Folder:
    """Folds detections, given in the order of time. `left_out` counts what came when too many episodes were there."""

    def __init__(self, gap_ms: int = GAP_MS, open_max: int = OPEN_MAX) -> None:
        self._gap_ms = gap_ms
        self._open_max = open_max
        self._by_key: dict[Key, _Open] = {}
        self._all: dict[_Open, None] = {}
        self.left_out = 0

    def add(self, detection: Detection) -> None:
        """Take in a detection."""
        keys = _keys(detection)
        found = dict.fromkeys(
            each for key in keys if (each := self._by_key.get(key)) and detection.time - each.last <= self._gap_ms
        )
        if found:
            first, *others = found
            for other in others:
                self._join(first, other)
        elif len(self._all) >= self._open_max:
            self.left_out += 1
            return
        else:
            first = _Open(_technique(detection), detection.time, detection.time, f"{keys[0]} {detection.time}")
            self._all[first] = None
        _take(first, detection)
        for key in keys:
            if len(first.keys) < _NAMES_MAX or key in first.keys:
                first.keys[key] = None
                self._by_key[key] = first

    def _join(self, into: _Open, other: _Open) -> None:
        into.first, into.last = min(into.first, other.first), max(into.last, other.last)
        into.count += other.count
        if other.level > into.level:
            into.level, into.title = other.level, other.title
        into.rules.update(other.rules)
        for mine, theirs in ((into.actors, other.actors), (into.touched, other.touched)):
            _add(mine, theirs)
        into.techniques.update(other.techniques)
        into.counted.update(other.counted)
        for key in other.keys:
            into.keys[key] = None
            self._by_key[key] = into
        into.begin = sorted([*into.begin, *other.begin], key=lambda line: line.time)[:_SHOWN_LINES]
        into.end = sorted([*into.end, *other.end], key=lambda line: line.time)[-_SHOWN_LINES:]
        del self._all[other]

    def episodes(self) -> list[Episode]:
        """All of them, the worst first, then the newest."""
        found = [_episode(each) for each in self._all]
        return sorted(found, key=lambda each: (-each.level, -each.last.timestamp(), each.id))


def _technique(detection: Detection) -> str:
    return detection.technique.split(".")[0] or detection.rule


def _keys(detection: Detection) -> list[Key]:
    technique = _technique(detection)
    keys = [(technique, "by", actor) for actor in detection.actors]
    return keys if detection.signed_in else keys + [(technique, "upon", each) for each in detection.touched]


def _take(into: _Open, detection: Detection) -> None:
    into.first, into.last = min(into.first, detection.time), max(into.last, detection.time)
    if detection.level > into.level or not into.title:
        into.level, into.title = detection.level, detection.title
    if len(into.rules) < _NAMES_MAX or detection.rule in into.rules:
        into.rules[detection.rule] += 1
    if detection.technique:
        into.techniques[detection.technique] = None
    _add(into.actors, detection.actors)
    _add(into.touched, detection.touched)
    for line in detection.evidence:
        if id(line) in into.counted:  # two rules saw one line
            continue
        into.counted[id(line)] = line  # kept, so that its identity is not another line's
        if len(into.counted) > _REMEMBERED:
            del into.counted[next(iter(into.counted))]
        into.count += 1
        into.first = min(into.first, int(line.time.timestamp() * 1000))
        if len(into.begin) < _SHOWN_LINES:
            into.begin.append(line)
        into.end = [*into.end, line][-_SHOWN_LINES:]


def _add(names: dict[str, None], more: Iterable[str]) -> None:
    for name in more:
        if len(names) >= _NAMES_MAX:
            return
        names[name] = None


def _episode(found: _Open) -> Episode:
    lines = dict.fromkeys([*found.begin, *found.end])
    return Episode(
        id=hashlib.sha256(found.born.encode("utf-8", "replace")).hexdigest()[:12],
        title=found.title,
        level=found.level,
        techniques=tuple(found.techniques),
        rules=tuple(found.rules.most_common(_SHOWN_NAMES)),
        first=instant(found.first),
        last=instant(found.last),
        count=found.count,
        actors=tuple(found.actors)[:_SHOWN_NAMES],
        actor_count=len(found.actors),
        touched=tuple(found.touched)[:_SHOWN_NAMES],
        touched_count=len(found.touched),
        evidence=tuple(sorted(lines, key=lambda line: line.time)),
    )


def explained(episodes: Iterable[Episode], windows: Iterable[Window]) -> list[Episode]:
    """The same, with the name of the change window into which an episode falls as a whole, and upon whose subjects.

    A window without subjects explains nothing: that somebody changed something somewhere is no reason.
    """
    known = list(windows)
    return [
        msgspec.structs.replace(each, explanation=next((w.name for w in known if _explains(w, each)), ""))
        for each in episodes
    ]


def _explains(window: Window, episode: Episode) -> bool:
    whole = window.start <= episode.first and episode.last <= window.end
    known = set(window.subjects)
    all_shown = episode.touched_count == len(episode.touched)
    return whole and all_shown and bool(episode.touched) and known.issuperset(episode.touched)
