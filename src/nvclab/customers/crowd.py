"""The crowd: who arrives when. Arrivals are scheduled ahead and take place whether or not the bank keeps up."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvclab.customers.behaviour import Behaviour, Customer

_TICK_S = 0.005
_AT_ONCE_MAX = 50


@dataclass
class Crowd:
    """`users` users, each with one request every `think_s` seconds, at a moment of its own in each such period.

    They come one after the other during `ramp_s`.
    """

    behaviour: Behaviour
    users: int
    think_s: float
    ramp_s: float
    active: int = 0
    _start: float = field(default_factory=time.monotonic)

    async def arrive(self) -> None:
        """For ever: at each due moment, one user's request. Being late is caught up at once, never skipped."""
        for number, (due, customer) in enumerate(self._arrivals()):
            wait_s = due - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(max(wait_s, _TICK_S))
            elif number % _AT_ONCE_MAX == 0:
                await asyncio.sleep(0)  # answers must be read even by a crowd that is late
            self.behaviour.act(customer, due)

    def _arrivals(self) -> Iterator[tuple[float, Customer]]:
        """(when, who), ascending, without end."""
        customers = self.behaviour.customers
        # All have the same period, so the order within one period is the order for ever.
        phases = sorted((random.uniform(0, self.think_s), user) for user in range(self.users))  # noqa: S311 - load
        joins = [self.ramp_s * user / self.users for user in range(self.users)]
        period = 0
        while True:
            for phase, user in phases:
                at = period * self.think_s + phase
                if at >= joins[user]:
                    self.active = self.users if at > self.ramp_s else max(self.active, user + 1)
                    yield self._start + at, customers[user % len(customers)]
            period += 1
