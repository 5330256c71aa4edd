from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nvclab.errors import LabError
from nvclab.variants import catalogue
from nvclab.variants.spoiled import Spoiled, Spoiler


class Asked:
    def __init__(self, path: str) -> None:
        self.path = path


def taken(**how: Any) -> tuple[Callable[[str], Any], Callable[[], bytes]]:
    """Who answers a path, and what stands in the metrics, of a service that a Spoiler took."""

    class Router:
        def find(self, _request: Asked) -> Callable[[Asked], str]:
            return lambda request: f"answered {request.path}"

    class Metrics:
        def text(self) -> bytes:
            return b"nvcbank_requests 3\n"

    Spoiler(**how).take(Router, Metrics)
    router, metrics = Router(), Metrics()
    return lambda path: router.find(Asked(path))(Asked(path)), metrics.text


def test_a_good_release_is_not_touched() -> None:
    answer, metrics = taken()
    assert answer("/v1/payments") == "answered /v1/payments"
    assert metrics() == b"nvcbank_requests 3\n"


def test_work_fails_from_a_request_on_and_nothing_else_does() -> None:
    answer, _ = taken(errors=1.0, after=2)
    for path in ("/readyz", "/metrics", "/v1/a", "/readyz", "/v1/a", "/version"):
        assert answer(path) == f"answered {path}"
    with pytest.raises(Spoiled):
        answer("/v1/a")
    assert answer("/readyz") == "answered /readyz"


def test_a_share_of_errors_is_one() -> None:
    answer, _ = taken(errors=0.2)
    failed = 0
    for _ in range(2000):
        try:
            answer("/v1/a")
        except Spoiled:
            failed += 1
    assert 300 < failed < 500


def test_work_that_takes_its_time_is_answered() -> None:
    answer, _ = taken(pace_ms=1.0)
    assert asyncio.run(answer("/v1/a")) == "answered /v1/a"


@pytest.mark.parametrize(("how", "path"), [({"ready": False}, "/readyz"), ({"metrics": "gone"}, "/metrics")])
def test_one_question_is_not_answered(how: dict[str, Any], path: str) -> None:
    answer, _ = taken(**how)
    assert answer("/v1/a") == "answered /v1/a"
    with pytest.raises(Spoiled):
        answer(path)


def test_counters_go_by_other_names() -> None:
    _, metrics = taken(metrics="lender_")
    assert metrics() == b"lender_requests 3\n"


@pytest.mark.parametrize("variant", catalogue.VARIANTS.values(), ids=lambda one: one.name)
def test_every_variant_makes_a_spoiler(variant: catalogue.Variant) -> None:
    spoiler = Spoiler(**variant.spoiler(variant.read([])))
    if variant.good:
        assert spoiler == Spoiler(after=spoiler.after)


def test_what_is_worse_is_worse_than_the_usual() -> None:
    errors = catalogue.find("errors")
    assert errors.spoiler(errors.read(["errors=0.02"]))["errors"] == pytest.approx(0.1)
    slow = catalogue.find("slow")
    assert slow.spoiler(slow.read(["pace_ms=50"]))["pace_ms"] == pytest.approx(60)


def test_what_is_not_there_is_a_sentence_with_a_hint() -> None:
    with pytest.raises(LabError, match="no variant") as unknown:
        catalogue.find("eror")
    assert "errors" in unknown.value.hint
    with pytest.raises(LabError, match="no option") as option:
        catalogue.find("good").read(["colour=red"])
    assert "after=20" in option.value.hint
