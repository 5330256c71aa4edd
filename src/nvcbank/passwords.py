"""Passwords: argon2id in a few threads, with a bounded queue, so that sign-ins never hold up payments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nvcbank.errors import BankError

T = TypeVar("T")

# OWASP's second choice: 19 MiB and two passes, about 20 ms. Memory is what an attacker's hardware lacks.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
WORKERS = 2
MOST_WAITING = 64


def hash_password(password: str) -> str:
    """An argon2id hash with its own salt; takes about 20 ms of a core."""
    return _HASHER.hash(password)


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password is the one; a broken hash is a wrong password."""
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


# What is verified when nobody has the name: the same work as for a name that exists.
NOBODYS_HASH = hash_password("the password of nobody")


class Overloaded(BankError):
    """More password work is waiting than can be done in time."""


class PasswordWork:
    """Runs argon2 in threads. At most `MOST_WAITING` wait; the next is refused at once, before any work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="argon2")
        self.waiting = 0

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; without a hash (an unknown name) the same work is done, and the answer is no.

        Raises:
            Overloaded: when too many wait already.
        """
        fits = await self._run(verify_password, password_hash or NOBODYS_HASH, password)
        return fits and password_hash is not None

    async def hash(self, password: str) -> str:
        """A new hash.

        Raises:
            Overloaded: when too many wait already.
        """
        return await self._run(hash_password, password)

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        if self.waiting >= MOST_WAITING:
            raise Overloaded("too many passwords are being checked", hint="try again in a second")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Stop the threads; work that waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
