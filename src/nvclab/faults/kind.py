"""The shape of a fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nvclab.data_centre import DataCentre

Value = str | int | float
Options = dict[str, Value]


class Fault(Protocol):
    """One fault of one lab. Both verbs return a sentence about what was done."""

    def inject(self) -> str:
        """Break it."""

    def heal(self) -> str:
        """Undo it; returns when it is undone."""


@dataclass(frozen=True)
class Kind:
    """A fault by its name: what it does, which check should see it, its options with their defaults."""

    name: str
    does: str
    seen_by: str
    make: Callable[[DataCentre, Options], Fault]
    options: Mapping[str, Value] = field(default_factory=dict)
