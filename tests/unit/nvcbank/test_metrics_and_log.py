"""What operations reads: the exposition format and the log lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nvcbank.clock import Clock
from nvcbank.errors import SettingError
from nvcbank.log import Log, pseudonym
from nvcbank.metrics import LATENCY_EDGES_S, Counter, Histogram, Metrics


def test_latency_edges_are_those_of_the_objectives() -> None:
    assert tuple(1000 * edge for edge in LATENCY_EDGES_S) == (25, 50, 75, 100, 150, 200, 300, 500)


def test_a_histogram_is_cumulative_and_its_edges_belong_to_the_bucket_below() -> None:
    histogram = Histogram("h", "about", "route", (0.1, 0.2))
    for value in (0.05, 0.1, 0.15, 5.0):
        histogram.observe(value, "/x")
    assert histogram.lines()[2:] == [
        'h_bucket{route="/x",le="0.1"} 2',
        'h_bucket{route="/x",le="0.2"} 3',
        'h_bucket{route="/x",le="+Inf"} 4',
        'h_sum{route="/x"} 5.3',
        'h_count{route="/x"} 4',
    ]


def test_a_label_value_cannot_break_the_format() -> None:
    counter = Counter("c", "about", ("route",))
    counter.add('a"b\\c')
    assert counter.lines()[-1] == 'c{route="a\\"b\\\\c"} 1'


def test_every_family_is_announced_once() -> None:
    metrics = Metrics()
    metrics.gauge("g", "about", "", lambda: {"": 2})
    lines = metrics.text().decode().splitlines()
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
    assert {"nvcbank_http_requests_total", "nvcbank_http_request_seconds", "nvcbank_payments_total", "g"} <= set(kinds)
    assert lines[-1] == "g 2"


def test_log_lines_are_json_with_time_level_event_instance(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", "bank-a", Clock(offset_s=3600))
    log.request("r-1", "/v1/payments", "POST", 503, 0.25)
    log.event("info", "server.started", port=1)
    log.close()
    request, started = (json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines())
    assert {"time", "level", "event", "instance", "request_id", "route", "method", "status", "seconds"} == set(request)
    assert (request["level"], request["seconds"], started["port"]) == ("error", 0.25, 1)


def test_a_log_that_cannot_be_opened_is_a_setting_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="NVCBANK_LOG cannot be written"):
        Log(tmp_path / "missing" / "log", "bank-a", Clock())


def test_a_pseudonym_depends_on_the_key_and_the_kind_and_tells_nothing() -> None:
    made = {
        pseudonym(b"a" * 32, "customer", "x@y"),
        pseudonym(b"b" * 32, "customer", "x@y"),
        pseudonym(b"a" * 32, "staff", "x@y"),
        pseudonym(b"a" * 32, "customer", "z@y"),
    }
    assert len(made) == 4
    assert not any("x" in one for one in made)
