"""How long a restore would take today, learnt from those that were done, and how old the proof is."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence

import msgspec

from nvcops.core.backups import Kind, RestoreFigures
from nvcops.core.catalogue import base_backups
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError
from nvcops.core.manifest import Limits
from nvcops.core.restores import Speed
from nvcops.core.target import Target
from nvcops.core.units import Bytes, Seconds
from nvcops.recovery.standing import backups_of

# --- Facts ---

_HISTORY_MAX = 60


class RestoreHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue says of restores, and what the newest backup would take. `trouble`: why nothing is known.

    `figures` are those of the newest restores, oldest first. `last` is when the last drill ended, `last_good` the last
    good one. `bytes` are the newest backup's, `wal_bytes` those of the log since.
    """

    figures: tuple[RestoreFigures, ...] = ()
    last: dt.datetime | None = None
    last_good: dt.datetime | None = None
    last_is_good: bool = False
    backup: str = ""
    bytes: int = 0
    wal_bytes: int = 0
    speed: Speed | None = None
    trouble: str = ""


def restore_history(target: Target) -> RestoreHistory:
    """Read past restores and what the newest backup holds."""
    try:
        backups = backups_of(target)
        entries, segments = backups.catalogue(), backups.segments()
    except TargetError as error:
        return RestoreHistory(trouble=error.sentence)
    restores = [entry for entry in entries if entry.kind is Kind.RESTORE and entry.restore]
    drills = [entry for entry in restores if entry.restore and entry.restore.drill]
    good = [entry for entry in drills if entry.restore and entry.restore.good]
    newest = next(reversed(base_backups(entries)), None)
    since = [segment.bytes for segment in segments if newest and segment.modified >= newest.began]
    return RestoreHistory(
        figures=tuple(entry.restore for entry in restores[-_HISTORY_MAX:] if entry.restore),
        last=drills[-1].ended if drills else None,
        last_good=good[-1].ended if good else None,
        last_is_good=bool(drills) and bool(good) and drills[-1] is good[-1],
        backup=newest.id if newest else "",
        bytes=newest.raw_bytes if newest else 0,
        wal_bytes=sum(since),
        speed=target.restores.speed() if target.restores and newest and not restores else None,
    )


# --- Rules ---

RECOVERY_TIME = Check(
    "recovery.recovery_time",
    "Recovery time",
    "scripts/test_backup_restore.sh measures it; quicker disks, or more fulls",
)
RESTORE_DRILL = Check(
    "recovery.restore_drill", "Restore drill", "scripts/test_backup_restore.sh restores the newest backup and proves it"
)
_PRIOR_WEIGHT = 0.001  # of the machine's own measurement against one real restore
_ROUNDS = 25
_REPLAY_BYTES_S = 60e6  # until a restore has shown better: one process applies the log, on any machine
_OVERHEAD_S = 2.0
_SMALL_S = 0.05  # below it, seconds are noise
_SPREADS = (3.0, 2.0, 1.7, 1.5)  # factor around a forecast that has seen none, one, two, three restores


class Line(msgspec.Struct, frozen=True):
    """Seconds = `fixed` + `per_byte` * bytes."""

    fixed: float
    per_byte: float

    def at(self, size: float) -> float:
        """Seconds for so many bytes."""
        return self.fixed + self.per_byte * size


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, and between which they lie nine times of ten; `learnt` is from how many restores."""

    seconds: float
    low: float
    high: float
    learnt: int

    def __str__(self) -> str:
        """Print for a person.

        >>> str(Forecast(seconds=90, low=60, high=120, learnt=4))
        '1.5 min (1 min to 2 min)'
        """
        return f"{Seconds(self.seconds)} ({Seconds(self.low)} to {Seconds(self.high)})"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A restore's three parts, each a line: fetching and verifying by the data's bytes, replaying by the log's."""

    fetch: Line
    replay: Line
    verify: Line
    other_s: float
    spread: float
    learnt: int

    def forecast(self, size: int, wal: int) -> Forecast:
        """What so many bytes of data and of log would take."""
        seconds = max(self.fetch.at(size) + self.replay.at(wal) + self.verify.at(size) + self.other_s, _SMALL_S)
        return Forecast(seconds=seconds, low=seconds / self.spread, high=seconds * self.spread, learnt=self.learnt)


def learn(figures: Sequence[RestoreFigures], speed: Speed | None = None, *, drill: bool = False) -> Model:
    """A model from past restores; those of the same kind (drills are throttled) where there are three of them.

    What few restores cannot tell - how it grows when all were equally large - is taken from the machine's speed.

    >>> seen = [RestoreFigures(backup="b", target="", bytes=n * 10**9, wal_bytes=n * 10**8, fetch_s=1 + 5 * n,
    ...     replay_s=2 + n, verify_s=3 * n, seconds=3 + 9 * n) for n in (1, 2, 3, 5)]
    >>> round(learn(seen).forecast(4 * 10**9, 4 * 10**8).seconds)
    39
    """
    same = [figure for figure in figures if figure.drill == drill]
    used = [figure for figure in (same if len(same) >= len(_SPREADS) - 1 else figures) if figure.seconds > 0]
    unpack, check = (speed.unpack, speed.verify) if speed else (200e6, 400e6)
    fetch = fit([(f.bytes, f.fetch_s) for f in used], Line(_OVERHEAD_S / 2, 1 / max(unpack, 1.0)))
    replay = fit([(f.wal_bytes, f.replay_s) for f in used], Line(_OVERHEAD_S, 1 / _REPLAY_BYTES_S))
    verify = fit([(f.bytes, f.verify_s) for f in used], Line(_OVERHEAD_S / 2, 2 / max(check, 1.0)))
    rest = [f.seconds - f.fetch_s - f.replay_s - f.verify_s for f in used]
    other = max(_median(rest), 0.0) if rest else 0.0
    model = Model(fetch=fetch, replay=replay, verify=verify, other_s=other, spread=1.0, learnt=len(used))
    return msgspec.structs.replace(model, spread=_spread(model, used))


def fit(points: Sequence[tuple[float, float]], prior: Line) -> Line:
    """The line with the least relative deviation, neither coefficient negative; an outlier pulls no more than others.

    Least absolute deviations by reweighted least squares. Each coefficient is drawn to the prior's a little, which
    decides what the points leave open.

    >>> straight = fit([(1e9, 6.0), (2e9, 11.0), (4e9, 21.0), (3e9, 160.0)], Line(1.0, 1e-9))
    >>> round(straight.at(8e9))
    41
    >>> fit([], Line(1.0, 1e-9)).at(2e9)
    3.0
    """
    weights = [1.0] * len(points)
    line = prior
    for _ in range(_ROUNDS):
        line = _least_squares(points, weights, prior)
        weights = [1 / max(abs(line.at(x) - y) / max(y, _SMALL_S), 0.01) for x, y in points]
    return line


def _least_squares(points: Sequence[tuple[float, float]], weights: Sequence[float], prior: Line) -> Line:
    """Minimise the squares of relative deviations; a coefficient that came out negative is 0 and the other fits anew.

    The unknowns are the multiples of the prior's coefficients, so that both are of the size of 1.
    """
    fixed, slope = max(prior.fixed, 1e-3), max(prior.per_byte, 1e-15)
    rows = [
        (w, fixed / max(y, _SMALL_S), slope * x / max(y, _SMALL_S), y / max(y, _SMALL_S))
        for (x, y), w in zip(points, weights, strict=True)
    ]
    rows += [(_PRIOR_WEIGHT, 1.0, 0.0, 1.0), (_PRIOR_WEIGHT, 0.0, 1.0, 1.0)]

    def total(term: Callable[[float, float, float], float]) -> float:
        return sum(w * term(a, b, y) for w, a, b, y in rows)

    aa, ab, bb = total(lambda a, _b, _y: a * a), total(lambda a, b, _y: a * b), total(lambda _a, b, _y: b * b)
    ay, by = total(lambda a, _b, y: a * y), total(lambda _a, b, y: b * y)
    determinant = aa * bb - ab * ab
    first = (ay * bb - by * ab) / determinant
    second = (by * aa - ay * ab) / determinant
    if first < 0:
        first, second = 0.0, by / bb
    elif second < 0:
        first, second = ay / aa, 0.0
    return Line(first * fixed, second * slope)


def _spread(model: Model, used: Sequence[RestoreFigures]) -> float:
    """The factor within which nine of ten forecasts lie, from how the used ones deviate; wider while they are few."""
    if len(used) < len(_SPREADS):
        return _SPREADS[len(used)]
    misses = sorted(abs(math.log(model.forecast(f.bytes, f.wal_bytes).seconds / f.seconds)) for f in used)
    usual = misses[min(math.ceil(0.9 * len(misses)), len(misses)) - 1]
    return math.exp(max(usual * (1 + 4 / len(used)), math.log(1.1)))


def _median(numbers: Sequence[float]) -> float:
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def restore_findings(history: RestoreHistory, limits: Limits, now: dt.datetime) -> list[Finding]:
    """How long a restore of the newest backup would take, and how old the last good drill is."""
    if history.trouble:
        return [check.unknown(history.trouble) for check in (RECOVERY_TIME, RESTORE_DRILL)]
    return [_recovery_time(history, limits), _restore_drill(history, limits, now)]


def _recovery_time(history: RestoreHistory, limits: Limits) -> Finding:
    if not history.backup:
        return RECOVERY_TIME.unknown("there is no backup")
    forecast = learn(history.figures, history.speed).forecast(history.bytes, history.wal_bytes)
    size = f"{Bytes(history.bytes)} and {Bytes(history.wal_bytes)} of log"
    source = f"learnt from {forecast.learnt} restores" if forecast.learnt else "estimated, no restore was measured"
    return RECOVERY_TIME.at_most(
        Seconds(forecast.seconds),
        limits.recovery_time,
        subject=history.backup,
        observed=f"{forecast} for {size}, {source}",
    )


def _restore_drill(history: RestoreHistory, limits: Limits, now: dt.datetime) -> Finding:
    """Judge the age of the last good drill; a newer one that was not good is CRITICAL whatever the age."""
    if history.last is None:
        return RESTORE_DRILL.unknown("no backup has been restored yet")
    if not history.last_is_good:
        since = f", the last good one on {history.last_good:%Y-%m-%d}" if history.last_good else ""
        failed = f"the drill of {history.last:%Y-%m-%d %H:%M} was not good{since}"
        return RESTORE_DRILL.finding(Verdict.CRITICAL, failed)
    age = Seconds(max((now - history.last).total_seconds(), 0.0))
    return RESTORE_DRILL.at_most(age, limits.restore_drill_age, observed=f"{age} ago, restored and proven")
