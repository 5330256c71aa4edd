"""Series of a Prometheus server: of one whose answers are known, and of the real one where it is installed."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from watching import WAIT_S

from nvclab.parts.process import free_ports
from nvcops.adapters.metrics.store import MetricsStore
from nvcops.adapters.metrics.write import Figures, Observation
from nvcops.adapters.prometheus import PrometheusMetrics
from nvcops.core.errors import Refused, TargetError
from nvcops.core.exposition import Page
from nvcops.core.schedule import now
from nvcops.core.watch import PROBE_VALUE, WATCHED

END = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
START = END - dt.timedelta(minutes=5)
Answers = Callable[[str], tuple[int, bytes]]


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    """A web server whose answers follow from the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/prometheus"
    finally:
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()


@pytest.fixture
def own(tmp_path: Path) -> MetricsStore:
    return MetricsStore(tmp_path / "metrics.sqlite", raw_s=3600, rollups_s=86400)


def vector(*rows: tuple[dict[str, str], float | str]) -> tuple[int, bytes]:
    result = [{"metric": labels, "value": [END.timestamp(), str(value)]} for labels, value in rows]
    return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def test_the_queries_are_about_the_service_and_the_window(own: MetricsStore) -> None:
    asked: list[dict[str, list[str]]] = []

    def answers(path: str) -> tuple[int, bytes]:
        assert urlsplit(path).path == "/prometheus/api/v1/query"
        asked.append(parse_qs(urlsplit(path).query))
        return vector(({"__name__": "x", "job": "bank", "outcome": "settled"}, 12.5))

    with serving(answers) as url:
        (rise,) = PrometheusMetrics.at(url, own).increases("bank", "paid_total", START, END)
    assert (rise.labels, rise.value) == ({"outcome": "settled"}, 12.5)
    assert asked == [
        {
            "query": ['sum without (instance) (increase(paid_total{job="bank"}[300000ms]))'],
            "time": [f"{END.timestamp():.3f}"],
        }
    ]


def test_a_sample_has_the_time_of_its_own_reading(own: MetricsStore) -> None:
    labels = {"__name__": "queue", "job": "bank", "instance": "bank-1"}
    read = END - dt.timedelta(seconds=40)

    def answers(path: str) -> tuple[int, bytes]:
        (query,) = parse_qs(urlsplit(path).query)["query"]
        if query.startswith("last_over_time("):
            return vector((labels, 7), ({**labels, "instance": "bank-2"}, "NaN"))
        return vector(({"job": "bank", "instance": "bank-1"}, read.timestamp()))

    with serving(answers) as url:
        (sample,) = PrometheusMetrics.at(url, own).samples("bank", "queue", START, END)
    assert (sample.labels, sample.value, sample.time) == ({"instance": "bank-1"}, 7, read)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((400, b'{"status": "error", "errorType": "bad_data", "error": "parse error"}'), "parse error"),
        ((503, b"starting"), "answers 503"),
        ((200, b"<html>a page of a proxy</html>"), "answers 200"),
        ((200, b'{"status": "success"}'), "no vector"),
        ((200, b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}'), "no vector"),
        ((200, b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}'), "no vector"),
        ((200, b"x" * (2 << 20)), "more than"),
    ],
)
def test_an_answer_that_cannot_be_used_is_one_sentence(own: MetricsStore, answer: tuple[int, bytes], says: str) -> None:
    with serving(lambda _: answer) as url, pytest.raises(Refused) as error:
        PrometheusMetrics.at(url, own).increases("bank", "paid_total", START, END)
    assert says in error.value.sentence


def test_a_name_that_is_none_and_a_server_that_is_not_there(own: MetricsStore) -> None:
    metrics = PrometheusMetrics.at("http://127.0.0.1:1", own, 2.0)
    with pytest.raises(Refused, match="no name of a series"):
        metrics.increases("bank", 'paid_total{x="y"} or vector', START, END)
    with pytest.raises(TargetError, match="connection refused"):
        metrics.samples("bank", "queue", START, END)


def test_what_we_saw_ourselves_is_read_from_our_own_file(own: MetricsStore) -> None:
    own.record(now(), [Observation("bank", "", "ready", page=Page({}))], 15)
    own.keep(now(), [Figures(WATCHED, {}, {f'{PROBE_VALUE}{{probe="disk"}}': 0.5})])
    metrics = PrometheusMetrics.at("http://127.0.0.1:1", own)
    start, end = now() - dt.timedelta(minutes=1), now() + dt.timedelta(minutes=1)
    assert metrics.scrapes("bank", start, end).asked == 1
    assert metrics.changes(start, end)
    assert metrics.answers("bank", start, end)
    assert metrics.increases(WATCHED, "none", start, end) == []
    assert [sample.value for sample in metrics.samples(WATCHED, PROBE_VALUE, start, end)] == [0.5]


def program() -> str:
    """Prometheus, from PROMETHEUS or PATH; a test that needs it is skipped where there is none."""
    found = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
    if not found:
        pytest.skip("prometheus is not there: Debian's package has it, or name it in PROMETHEUS")
    return found


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A real server that scrapes a target each second as two instances of the job `bank`."""
    targets = [target.removeprefix("http://").partition("/")[0]]
    jobs = {"job_name": "bank", "static_configs": [{"targets": targets}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [jobs]}
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")  # every JSON is YAML
    (port,) = free_ports(1)
    argv = [program(), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    argv += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(WAIT_S)


def test_the_real_one_says_what_rose_and_what_is_read(own: MetricsStore, tmp_path: Path) -> None:
    began = time.monotonic()

    def page(_: str) -> tuple[int, bytes]:
        paid = 10 * (time.monotonic() - began)
        return 200, f'# TYPE paid_total counter\npaid_total{{o="s"}} {paid}\n# TYPE queue gauge\nqueue 42\n'.encode()

    with serving(page) as target, prometheus(tmp_path, target) as url:
        metrics, end = PrometheusMetrics.at(url, own), time.monotonic() + WAIT_S
        while True:
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.5)
            try:
                rises = metrics.increases("bank", "paid_total", now() - dt.timedelta(minutes=1), now())
            except TargetError:
                continue
            if rises and rises[0].value > 0:
                break
        (sample,) = metrics.samples("bank", "queue", now() - dt.timedelta(minutes=1), now())
    assert rises[0].labels == {"o": "s"}
    assert rises[0].value < 10 * 60
    assert sample.value == 42
    assert set(sample.labels) == {"instance"}
    assert abs((now() - sample.time).total_seconds()) < WAIT_S
