"""The crowd: who arrives when. Arrivals are scheduled ahead and take place whether or not the bank keeps up."""

from __future__ import annotations

import asyncio
import itertools
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

    A user comes as soon as its customer has signed in: `sign_ins` customers do so at the same time.
    """

    behaviour: Behaviour
    users: int
    think_s: float
    sign_ins: int = 4
    _start: float = field(default_factory=time.monotonic)

    async def live(self) -> None:
        """For ever: sign in, and come at each due moment."""
        for customer in self.behaviour.customers[: self.users]:
            self.behaviour.signed_out.put_nowait(customer)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.arrive())
            for _ in range(self.sign_ins):
                group.create_task(self.behaviour.sign_in_those_who_are_out())

    @property
    def active(self) -> int:
        """How many users have come so far."""
        customers = self.behaviour.customers
        whole, rest = divmod(self.users, len(customers))
        return sum(whole + (number < rest) for number, customer in enumerate(customers) if customer.came)

    async def arrive(self) -> None:
        """For ever: at each due moment, one user's request. Being late is caught up at once, never skipped."""
        for number, (due, customer) in enumerate(self._arrivals()):
            wait_s = due - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(max(wait_s, _TICK_S))
            elif number % _AT_ONCE_MAX == 0:
                await asyncio.sleep(0)  # answers must be read even by a crowd that is late
            if customer.came:
                self.behaviour.act(customer, due)

    def _arrivals(self) -> Iterator[tuple[float, Customer]]:
        """(when, who), ascending, without end."""
        customers = self.behaviour.customers
        # All have the same period, so the order within one period is the order for ever.
        phases = sorted((random.uniform(0, self.think_s), user) for user in range(self.users))  # noqa: S311 - load
        for period in itertools.count():
            for phase, user in phases:
                yield self._start + period * self.think_s + phase, customers[user % len(customers)]
