"""What arrived at the pager: JSON lines, as {"time": seconds since 1970, "path", "key", "body", "way", "status"}.

`time` is when the whole request was there, before it was answered. `way` is how the pager behaved then, `status` what
it answered, null for nothing. A page that was answered with 200 was taken; one that was not may come again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nvclab import json_lines

if TYPE_CHECKING:
    from pathlib import Path

TAKEN = 200
REFUSED = 500
BEHAVIOUR = "/-/behaviour"  # names of people and contacts begin with a letter or a digit


class Way(StrEnum):
    """How the pager behaves."""

    TAKE = "take"  # answers 200
    REFUSE = "refuse"  # answers 500
    HANG = "hang"  # takes the request, and never answers
    SLOW = "slow"  # answers 200 after a while
    CLOSE = "close"  # takes the request, and hangs up


@dataclass(frozen=True)
class Behaviour:
    """A way, for those whose path begins with `only`; everybody else's is TAKE. `seconds` is how slow slow is."""

    way: Way = Way.TAKE
    seconds: float = 5.0
    only: str = "/"

    def towards(self, path: str) -> Way:
        """How a request to a path is met.

        >>> Behaviour(Way.HANG, only="/dana/sms").towards("/dana/email").value
        'take'
        """
        return self.way if path.startswith(self.only) else Way.TAKE


@dataclass(frozen=True)
class Page:
    """One request that arrived at /PERSON/CHANNEL. `key` is its Idempotency-Key, empty where it had none."""

    time: float
    path: str
    key: str
    body: Any
    way: str
    status: int | None

    @property
    def person(self) -> str:
        """Whose it is."""
        return self.path.split("/")[1]

    @property
    def channel(self) -> str:
        """On which of their channels it came; empty where the path names none."""
        return self.path.partition("/")[2].partition("/")[2]

    @property
    def title(self) -> str:
        """The subject of what apprise sends; empty in anything else."""
        return str(self.body.get("title", "")) if isinstance(self.body, dict) else ""

    @property
    def message(self) -> str:
        """The text of what apprise sends; empty in anything else."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else ""


def read(path: Path, since: float = 0.0) -> list[Page]:
    """What arrived from a moment on (seconds since 1970), the oldest first; none where nothing ever arrived."""
    found = (Page(**fields) for fields in json_lines.read(path)) if path.exists() else ()
    return [page for page in found if page.time >= since]
