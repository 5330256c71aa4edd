"""Each kind of incident drill against a live lab: approved, noticed, paged, acknowledged, contained, and undone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its lab that is watched

import _watched as detection
from _watched import Watched

PAGED_S, OVER_S, SILENT_S = 60, 240, 60
SCORED = ("drill.detected", "drill.paged", "drill.acknowledged", "drill.contained")
pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def watch() -> Iterator[Watched]:
    with detection.watched(objectives=False) as made:
        yield made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Watched]:
    with detection.watched(objectives=False, ha=True) as made:
        yield made


def as_(watch: Watched, person: str) -> tuple[str, ...]:
    return ("--as", person, "--key", str(watch.lab.folder / "keys" / person))


@contextmanager
def approved(watch: Watched, run: str) -> Iterator[subprocess.Popen[bytes]]:
    """Omar approves a drill; his command carries it out, and ends with it."""
    words = ("approve", run, "drill", *as_(watch, "omar"), "--target", str(watch.platform))
    command = [sys.executable, "-m", "nvcops", *words]
    with (watch.lab.folder / "drill.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as drill:
        try:
            yield drill
        finally:
            drill.kill()


def carried_out(watch: Watched, kind: str, part: str) -> tuple[dict[str, Any], str]:
    """Dana asks for a drill, Omar approves it, whoever is paged acknowledges; the run's record, and who that was."""
    what = ("--kind", kind, *(("--part", part) if part else ()))
    asked = watch.nvcops("run", "incident-drill", *what, "--no-wait", *as_(watch, "dana"), codes=(3,))
    moment = time.time()
    with approved(watch, asked["id"]) as drill:
        page = detection.until(lambda: watch.pages(moment), PAGED_S, f"a page about {kind} {part}")[0]
        assert page.title.startswith("[DRILL] "), page
        (incident,) = detection.opened(watch)
        watch.nvcops("ack", str(incident["number"]), *as_(watch, page.person))
        drill.wait(OVER_S)
    record = watch.nvcops("show", asked["id"], codes=(0, 1, 2, 3))
    assert record["state"] == "concluded", ((watch.lab.folder / "drill.log").read_text(encoding="utf-8"), record)
    return record, page.person


def drilled(watch: Watched, kind: str, part: str) -> None:
    record, person = carried_out(watch, kind, part)
    lines = {finding["check"]: finding for finding in record["findings"]}
    assert tuple(lines) == SCORED, record["findings"]
    assert {line["verdict"] for line in lines.values()} == {0}, record["findings"]
    number = lines["drill.detected"]["subject"].removeprefix("incident ")
    found = watch.nvcops("incident", "show", number)
    incident = found["incident"]
    assert (incident["source"], incident["acknowledged_by"]) == ("drill", person)
    assert incident["began"] <= incident["detected"] <= incident["acknowledged"]
    assert incident["mitigated"]
    (figures,) = [event["data"]["seconds"] for event in found["timeline"] if event["kind"] == "drill"]
    assert set(figures) == {"detected", "paged", "acknowledged", "contained"}
    assert 0 < figures["detected"] <= figures["paged"]
    assert figures["detected"] <= figures["contained"]
    feed = json.loads((watch.platform.parent / "status" / "feed.json").read_text(encoding="utf-8"))
    assert not feed["items"], "a drill is not public"
    as_before(watch)
    detection.closed(watch)


def as_before(watch: Watched) -> None:
    """Nothing fires any more but what a run came to, as a failover without a standby; and every part is ready."""

    def left() -> list[str]:
        return [alert.summary for alert in watch.firing() if "procedure" not in alert.labels]

    try:
        detection.until(lambda: not left(), SILENT_S, "nothing fires any more")
    except TimeoutError as error:
        raise AssertionError(left()) from error
    assert {one["state"] for one in watch.lab.status()["parts"]} == {"ready"}


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param("synthetic", "", id="synthetic"),
        pytest.param("stop", "cache", marks=pytest.mark.sample, id="stop"),
        pytest.param("crash", "db-1", id="crash"),
        pytest.param("freeze", "proxy", id="freeze"),
    ],
)
def test_a_drill_is_approved_noticed_answered_and_undone(watch: Watched, kind: str, part: str) -> None:
    drilled(watch, kind, part)


def test_a_drill_of_a_host_that_is_cut_off(cluster: Watched) -> None:
    drilled(cluster, "partition", "db-1")


def test_a_drill_that_is_over_before_anybody_is_sure_of_it_says_so(cluster: Watched) -> None:
    """A killed postmaster is begun anew at once: it is noticed and paged, or the score says that nobody noticed it."""
    asked = cluster.nvcops(
        "run",
        "incident-drill",
        "--kind",
        "postmaster",
        "--part",
        "db-1",
        "--no-wait",
        *as_(cluster, "dana"),
        codes=(3,),
    )
    with approved(cluster, asked["id"]) as drill:

        def open_or_over() -> bool:
            return bool(detection.opened(cluster)) or drill.poll() is not None

        detection.until(open_or_over, OVER_S, "an incident, or the end of the drill")
        detection.closed(cluster)
        drill.wait(OVER_S)
    record = cluster.nvcops("show", asked["id"], codes=(0, 1, 2, 3))
    lines = {finding["check"]: finding for finding in record["findings"]}
    assert set(lines) >= set(SCORED), record["findings"]
    if lines["drill.detected"]["verdict"] == 0:
        assert {line["verdict"] for line in lines.values()} == {0}, record["findings"]
    else:
        assert {line["verdict"] for line in lines.values()} == {2}, record["findings"]
        assert lines["drill.detected"]["observed"] == "nobody noticed it"
    as_before(cluster)
