from __future__ import annotations

import datetime as dt
import random

import pytest
from msgspec.structs import replace

from nvcops.core.backups import RestoreFigures
from nvcops.core.checks import Verdict
from nvcops.core.manifest import Limits
from nvcops.core.restores import Speed
from nvcops.recovery.forecast import Line, RestoreHistory, fit, learn, restore_findings

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
GB = 10**9


def figure(size: float, wal: float, *, noise: float = 1.0, drill: bool = False, slow: float = 1.0) -> RestoreFigures:
    """A machine that fetches 200 MB/s, replays 50 MB/s and looks at 400 MB/s."""
    parts = [(1 + size / 2e8) * noise * slow, (2 + wal / 5e7) * noise * slow, (0.5 + size / 4e8) * noise * slow]
    return RestoreFigures(
        backup="b",
        target="",
        bytes=int(size),
        wal_bytes=int(wal),
        fetch_s=parts[0],
        replay_s=parts[1],
        verify_s=parts[2],
        seconds=sum(parts),
        good=True,
        drill=drill,
    )


@pytest.mark.parametrize("seed", range(20))
def test_sizes_that_it_never_saw_are_forecast_from_a_noisy_history_with_an_outlier(seed: int) -> None:
    chance = random.Random(seed)
    history = [
        figure(chance.uniform(1, 50) * GB, chance.uniform(0, 5) * GB, noise=chance.uniform(0.95, 1.05))
        for _ in range(8)
    ]
    history.insert(chance.randrange(8), figure(10 * GB, GB, slow=6))
    model = learn(history)
    for size, wal in ((100, 1), (5, 10), (75, 0)):
        true = figure(size * GB, wal * GB).seconds
        assert abs(model.forecast(size * GB, wal * GB).seconds / true - 1) < 0.25


def test_without_history_the_machines_own_speed_is_the_estimate_and_the_interval_is_wide() -> None:
    forecast = learn([], Speed(unpack=1e8, verify=1e9)).forecast(10 * GB, 0)
    assert 100 < forecast.seconds < 140
    assert forecast.high / forecast.low > 8
    assert forecast.learnt == 0


def test_one_restore_scales_the_estimate() -> None:
    forecast = learn([figure(10 * GB, GB)], Speed(unpack=1e9, verify=1e9)).forecast(10 * GB, GB)
    assert abs(forecast.seconds / figure(10 * GB, GB).seconds - 1) < 0.1


def test_equally_large_restores_still_let_larger_ones_be_dearer() -> None:
    model = learn([figure(10 * GB, GB)] * 5)
    assert model.forecast(20 * GB, GB).seconds > 1.3 * model.forecast(10 * GB, GB).seconds


def test_drills_are_throttled_and_teach_restores_only_while_there_is_nothing_else() -> None:
    drills = [figure(n * GB, GB, drill=True, slow=3) for n in (1, 5, 9)]
    earnest = [figure(n * GB, GB) for n in (2, 6, 10)]
    true = figure(8 * GB, GB).seconds
    assert abs(learn(drills + earnest).forecast(8 * GB, GB).seconds / true - 1) < 0.1
    assert abs(learn(drills + earnest, drill=True).forecast(8 * GB, GB).seconds / (3 * true) - 1) < 0.1
    assert learn(drills).forecast(8 * GB, GB).seconds > 2 * true


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(1e9, 0.0)], [(1e9, 10.0), (2e9, 5.0)], [(5.0, 5.0)] * 4])
def test_no_coefficient_is_negative(points: list[tuple[float, float]]) -> None:
    line = fit(points, Line(1.0, 1e-9))
    assert line.fixed >= 0
    assert line.per_byte >= 0


def history(hours: float, *, good: bool = True, figures: int = 3) -> RestoreHistory:
    last = NOW - dt.timedelta(hours=hours)
    return RestoreHistory(
        figures=tuple(figure(n * GB, GB) for n in range(1, figures + 1)),
        last=last,
        last_good=last if good else last - dt.timedelta(days=7),
        last_is_good=good,
        backup="b",
        bytes=int(5 * GB),
        wal_bytes=int(GB),
    )


def verdicts(seen: RestoreHistory) -> list[Verdict]:
    return [finding.verdict for finding in restore_findings(seen, Limits(), NOW)]


def test_a_young_good_drill_and_a_short_restore_are_ok() -> None:
    assert verdicts(history(24)) == [Verdict.OK, Verdict.OK]


def test_a_drill_that_is_too_old_or_was_not_good_is_trouble() -> None:
    assert verdicts(history(24 * 9))[1] is Verdict.WARNING
    assert verdicts(history(24 * 16))[1] is Verdict.CRITICAL
    assert verdicts(history(1, good=False))[1] is Verdict.CRITICAL


def test_a_restore_that_would_take_too_long_is_trouble() -> None:
    assert verdicts(replace(history(1), bytes=1200 * GB))[0] is Verdict.WARNING
    assert verdicts(replace(history(1), bytes=4000 * GB))[0] is Verdict.CRITICAL


def test_nothing_known_is_unknown() -> None:
    assert verdicts(RestoreHistory(trouble="unreachable")) == [Verdict.UNKNOWN] * 2
    assert verdicts(RestoreHistory()) == [Verdict.UNKNOWN] * 2
