"""How far a long act has come: said by whoever does it, heard by whoever watches the run. Nobody listening is fine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from nvcops.core.units import Bytes


class Progress(msgspec.Struct, frozen=True):
    """Done of all, in bytes; `what` is what is being done, where the act has several parts."""

    done: int
    all: int
    what: str = ""

    def __str__(self) -> str:
        """Print for a person.

        >>> str(Progress(1 << 20, 4 << 20, "fetching")), str(Progress(5, 0))
        ('fetching 25 %, 1 MiB of 4 MiB', '5 B')
        >>> str(Progress(0, 0, "looking"))
        'looking'
        """
        if not self.all:
            return f"{self.what} {Bytes(self.done)}".strip() if self.done else self.what
        share = min(self.done / self.all, 1)
        return f"{self.what} {share:.0%}, {Bytes(self.done)} of {Bytes(self.all)}".replace("%", " %").strip()


Listener = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)


def tell(done: int, of: int, what: str = "") -> None:
    """Say how far an act has come. Call it as often as is convenient, not more than a few times a second."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(done, of, what))


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Whatever is told within the block, and in threads that are given a copy of its context, goes to the listener.

    >>> with heard_by(print):
    ...     tell(1, 2)
    50 %, 1 B of 2 B
    >>> tell(2, 2)
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
