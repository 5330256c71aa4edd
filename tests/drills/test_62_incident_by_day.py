"""An incident from its page to its post-mortem, through the command line, with a real fault behind it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # its faults, and its lab that is watched

import _watched as detection
from _watched import FAULTS, Watched

FAULT = next(fault for fault in FAULTS if fault.name == "stop-cache")
PAGED_S, TOLD_S = 30, 30
pytestmark = [pytest.mark.drill, pytest.mark.sample, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def watch() -> Iterator[Watched]:
    with detection.watched(objectives=True) as made:
        yield made


def as_(watch: Watched, person: str) -> tuple[str, ...]:
    return ("--as", person, "--key", str(watch.lab.folder / "keys" / person))


def kinds(found: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in found["timeline"]]


def test_an_incident_from_its_page_to_its_post_mortem(watch: Watched) -> None:
    moment = detection.broken(watch, FAULT)
    try:
        page = detection.until(lambda: watch.pages(moment), PAGED_S, "a page")[0]
        asked = re.search(r"nvcops ack (\d+)", page.title + page.message)
        assert asked, "a page says how it is acknowledged"
        number = asked[1]
        found = watch.nvcops("incident", "show", number)
        assert (found["incident"]["severity"], found["incident"]["state"]) == ("P0", "detected")
        assert found["incident"]["reasons"]
        assert page.title.startswith("P0")
        detection.until(lambda: "cache" in detection.parts(watch, int(number)), TOLD_S, "the cache in the incident")

        acknowledged = watch.nvcops("ack", number, *as_(watch, page.person))
        assert (acknowledged["state"], acknowledged["acknowledged_by"]) == ("responding", page.person)
        other = next(name for name in detection.ON_CALL if name != page.person)
        before = time.time()
        watch.nvcops("assign", number, "technical lead", other, *as_(watch, page.person))
        told = detection.until(
            lambda: [one for one in watch.told(before) if one.person == other], TOLD_S, "the lead is told"
        )
        assert "technical lead" in told[0].title + told[0].message
        watch.nvcops("note", number, "the cache is down; starting it", *as_(watch, other))
        still = ("resolve", number, "started the cache", *as_(watch, other))
        with pytest.raises(RuntimeError, match="still fire"):
            watch.nvcops(*still)
    finally:
        detection.healed(watch, FAULT)

    mend = ("incident", "mitigate", number, "the cache runs again", *as_(watch, other))
    assert watch.nvcops(*mend)["state"] == "mitigated"
    before = time.time()
    despite = ("--despite", "what still fires is the error budget's pace, which looks back over hours")
    assert watch.nvcops(*still, *despite)["state"] == "resolved"
    assert watch.nvcops("incidents") == []
    detection.until(lambda: watch.told(before), TOLD_S, "those who were paged are told that it is over")
    found = watch.nvcops("incident", "show", number)
    assert {"opened", "page", "acknowledged", "role", "note", "mitigated", "resolved"} <= set(kinds(found))
    times = [found["incident"][name] for name in ("began", "detected", "acknowledged", "mitigated", "resolved")]
    assert times == sorted(times)

    written = watch.nvcops("postmortem", number)
    for said in (found["incident"]["title"], "the cache is down; starting it", "started the cache", page.person, other):
        assert said in written["text"]
