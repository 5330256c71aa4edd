"""Detection rules as this engine has them: read from Sigma, checked, with their place."""

from __future__ import annotations

from dataclasses import dataclass

from nvcops.core.detections import Level
from nvcops.security.detection.conditions import Condition


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every rule says of itself. `techniques` are ATT&CK's, as in "T1110.001"."""

    name: str
    title: str
    level: Level
    techniques: tuple[str, ...]
    tactics: tuple[str, ...]
    false_positives: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A question to one event. An empty product or service fits any; `silent`: only correlations hear of it."""

    head: Head
    product: str
    service: str
    condition: Condition
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """A question to several events: so many, so many different values, all of these, or these in this order.

    `aliases` say by what name a rule knows a field of `group_by`: {(alias, rule): field}. `generate`: its rules are
    detections of their own too; `silent`: only other correlations hear of it.
    """

    head: Head
    kind: str
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    span_ms: int
    least: int
    field: str
    aliases: dict[tuple[str, str], str]
    generate: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that is not used: where it stands, why, and what would help."""

    place: Place
    sentence: str
    hint: str

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence} ({self.hint})"


@dataclass(frozen=True, slots=True)
class Pack:
    """Rules that can be used, correlations in the order in which they hear of each other, and what was refused."""

    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...]
    refusals: tuple[Refusal, ...]
