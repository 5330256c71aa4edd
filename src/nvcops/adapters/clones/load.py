"""Sessions that run a workload side by side: each a thread with a connection of its own, which waits for the server."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from nvcops.adapters.clones.prepared import call, parameters, prepare
from nvcops.adapters.clones.session import Door, Session, run, told
from nvcops.core.clones import Load
from nvcops.core.errors import UsageError
from nvcops.core.workload import Statement

_CALL_S = 60.0
_CONNECTED_S = 60.0
_CALLS_MAX = 1_000_000  # whose times are kept, of each session
_SESSIONS_MAX = 64


@dataclass(slots=True)
class _Part:
    """What one session got done after it was warm."""

    times: list[float] = field(default_factory=list)
    failed: int = 0


def measured(door: Door, statements: Sequence[Statement], *, sessions: int, seconds: float, warm_s: float) -> Load:
    """Run them, and measure after `warm_s`.

    Raises:
        UsageError: there is nothing to run.
        TargetError: the copy lets no session in, or goes away.
    """
    usable = [each for each in statements if each.calls > 0 and (each.arguments or not parameters(each.text))]
    if not usable or not 0 < sessions <= _SESSIONS_MAX:
        raise UsageError("there is no load to be run", hint=f"statements with calls, 1 to {_SESSIONS_MAX} sessions")
    ready = threading.Barrier(sessions)
    with ThreadPoolExecutor(sessions) as pool:
        running = [pool.submit(_session, door, usable, number, ready, seconds, warm_s) for number in range(sessions)]
    parts = [each.result() for each in running]
    times = sorted(itertools.chain.from_iterable(part.times for part in parts))
    return Load(
        calls=len(times),
        seconds=seconds,
        p50_s=quantile(times, 0.5),
        p99_s=quantile(times, 0.99),
        failed=sum(part.failed for part in parts),
    )


def quantile(times: Sequence[float], share: float) -> float:
    """The time that so many of the sorted ones do not exceed.

    >>> quantile([1, 2, 3, 4], 0.5), quantile([1, 2, 3, 4], 0.99), quantile([], 0.5)
    (2, 4, 0.0)
    """
    return times[max(0, -int(-share * len(times) // 1) - 1)] if times else 0.0


def _session(
    door: Door, statements: Sequence[Statement], number: int, ready: threading.Barrier, seconds: float, warm_s: float
) -> _Part:
    part, chance = _Part(), random.Random(number)  # noqa: S311 - no secret
    try:
        with door.session(deadline_s=_CALL_S) as session, told(_CALL_S):
            calls = [_calls(session, each, place) for place, each in enumerate(statements)]
            weights = list(itertools.accumulate(each.calls for each in statements))
            ready.wait(_CONNECTED_S)
            begins = time.perf_counter() + warm_s
            ends = begins + seconds
            while (began := time.perf_counter()) < ends and len(part.times) < _CALLS_MAX:
                text = chance.choice(chance.choices(calls, cum_weights=weights)[0])
                well = _called(session, text)
                if began >= begins:
                    part.failed += not well
                    part.times += [time.perf_counter() - began] if well else []
    except BaseException:
        ready.abort()  # the others do not wait for one that never comes
        raise
    return part


def _calls(session: Session, statement: Statement, place: int) -> list[str]:
    name = prepare(session, statement, place)
    return [call(name, arguments) for arguments in statement.arguments] or [call(name, ())]


def _called(session: Session, text: str) -> bool:
    """Whether the server did it; one that refuses a call is there for the next."""
    try:
        run(session, text)
    except psycopg.Error as error:
        if error.sqlstate is None or session.closed:
            raise
        return False
    return True
