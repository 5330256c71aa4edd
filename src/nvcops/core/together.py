"""Several parts asked side by side: dead ones cost their deadlines once, not one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nvcops.core.errors import TargetError

T = TypeVar("T")
R = TypeVar("R")
_THREADS_MAX = 16


def side_by_side(ask: Callable[[T], R], parts: Iterable[T]) -> list[R | TargetError]:
    """What `ask` says of each part, in order; where it raised a TargetError, that error stands in its place.

    >>> side_by_side(len, ["a", "bb", ""])
    [1, 2, 0]
    >>> side_by_side(len, [])
    []
    """

    def answered(part: T) -> R | TargetError:
        try:
            return ask(part)
        except TargetError as error:
            return error

    asked = list(parts)
    if len(asked) < 2:
        return [answered(part) for part in asked]
    with ThreadPoolExecutor(min(_THREADS_MAX, len(asked))) as pool:
        return list(pool.map(answered, asked))
