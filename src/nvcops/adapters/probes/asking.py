"""What every kind of probe has in common: it asks, and says whether a bad answer is the other side's or our own."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Protocol

from nvcops.core.errors import NvcopsError, Refused, TargetError

KEPT_UP_TO_S = (
    5.0  # a probe that is looked at less often lets go of its connection: a thousand of them need descriptors
)

_OUR_ERRNO = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EADDRNOTAVAIL,
        errno.EACCES,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
# Words of drivers that keep no number: descriptors and ports that we lack, and credentials of ours that are wrong.
_OUR_WORDS = (
    "Too many open files",
    "Cannot assign requested address",
    "Network is unreachable",
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
    "WRONGPASS",
    "NOAUTH",
    "NOPERM",
    "Authentication required",
    "without any password configured",
    "invalid password",
)


class NotLooked(TargetError):
    """It could not be looked at for a reason of our own, or another probe is about what is wrong."""


class Exceeded(Refused):
    """It was looked at, and its figure is beyond its limit: `value` is that figure."""

    def __init__(self, sentence: str, value: float) -> None:
        super().__init__(sentence)
        self.value = value


class Asker(Protocol):
    """Whoever asks one thing, again and again, from one event loop.

    `twice`: it may be asked a second time, on a way of its own, while the first answer is out. `patient`: it keeps its
    deadline itself and cannot be stopped before.
    """

    twice: bool
    patient: bool

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask; the figure that was read, where one is. With `fresh` nothing that was kept is used.

        Raises:
            NotLooked: nothing is known.
            Exceeded: the figure is beyond its limit.
            TargetError: it is not well, and why.
        """
        ...

    async def close(self) -> None:
        """Let go of what was kept, without waiting."""
        ...


def is_ours(error: BaseException) -> bool:
    """Whether a trouble is our own: descriptors, privileges, credentials, the way out of this host.

    >>> is_ours(OSError(errno.EMFILE, "x")), is_ours(ConnectionRefusedError(errno.ECONNREFUSED, "x"))
    (True, False)
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, NotLooked) or (isinstance(found, OSError) and _our_number(found)):
            return True
        if not isinstance(found, NvcopsError) and any(words in str(found) for words in _OUR_WORDS):
            return True  # a driver's words: what a service says of itself is not about us
        found = found.__cause__
    return False


def _our_number(error: OSError) -> bool:
    if isinstance(error, ssl.SSLError):
        return False  # its numbers are OpenSSL's
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN  # our resolver does not answer: that is not the name's fault
    return error.errno in _OUR_ERRNO
