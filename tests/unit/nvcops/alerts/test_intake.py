"""The forms in which alerts come in, as cases; and what nobody should be able to send."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts import intake
from nvcops.alerts.fields import ALERTS_MAX, ANNOTATION_LENGTH_MAX
from nvcops.core.alerts import LABEL_BYTES_MAX, LABELS_MAX
from nvcops.core.errors import UsageError

CASES = json.loads((Path(__file__).parent / "intake_cases.json").read_text(encoding="utf-8"))
FORMS: dict[str, Callable[[bytes], list[intake.Said]]] = {
    "alertmanager": intake.parse_alertmanager,
    "webhook": intake.parse_webhook,
    "pagerduty": intake.parse_pagerduty,
    "plain": intake.parse_plain,
}


def parsed(case: dict[str, Any]) -> list[intake.Said]:
    body = case["raw"].encode() if "raw" in case else json.dumps(case["body"]).encode()
    if case["form"] == "cloudevents":
        return intake.parse_cloudevents(body, case["headers"])
    return FORMS[case["form"]](body)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['form']}: {case.get('error', 'taken')}")
def test_what_is_said_in_a_form_is_read_or_refused_with_its_place(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(UsageError, match=case["error"]):
            parsed(case)
    else:
        assert parsed(case) == [msgspec.convert(said, intake.Said) for said in case["said"]]


def test_a_trigger_without_a_key_has_one_of_what_it_says() -> None:
    def key(**payload: str) -> str:
        whole = {"summary": "x", "source": "y", "severity": "info", **payload}
        (said,) = parsed({"form": "pagerduty", "body": {"event_action": "trigger", "payload": whole}})
        return said.labels["dedup_key"]

    assert key() == key() != key(source="z")


def test_a_graver_word_for_the_same_is_the_same_alert() -> None:
    warning, critical = (
        parsed({"form": "plain", "body": {"name": "Disk", "severity": severity}})[0] for severity in ("low", "critical")
    )
    assert warning.fingerprint == critical.fingerprint
    assert warning.labels != critical.labels


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({f"l{number}": "x" for number in range(LABELS_MAX + 1)}, "65 labels, more than 64"),
        ({"bomb": "x" * (LABEL_BYTES_MAX + 1)}, "bytes, more than 4,096"),
        ({"é" * LABEL_BYTES_MAX: "x"}, "bytes, more than 4,096"),
    ],
)
@pytest.mark.parametrize("form", ["alertmanager", "plain"])
def test_a_label_bomb_is_refused(form: str, labels: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parsed({"form": form, "body": [{"name": "Bomb", "labels": labels}]})


def test_text_that_is_too_long_is_cut_where_nobody_routes_by_it() -> None:
    annotations = {f"a{number}": "x" * 10_000 for number in range(100)}
    (said,) = parsed({"form": "alertmanager", "body": [{"labels": {"a": "1"}, "annotations": annotations}]})
    assert len(said.annotations) == 64
    assert {len(text) for text in said.annotations.values()} == {ANNOTATION_LENGTH_MAX}


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x.example/y", "https://x.example/" + "y" * 3000])
def test_an_address_that_leads_astray_is_left_out(url: str) -> None:
    (said,) = parsed({"form": "alertmanager", "body": [{"labels": {"a": "1"}, "generatorURL": url}]})
    assert said.url == ""


def test_more_alerts_than_one_request_has_are_refused() -> None:
    body = [{"labels": {"a": str(number)}} for number in range(ALERTS_MAX + 1)]
    with pytest.raises(UsageError, match="10,001 entries, more than 10,000"):
        parsed({"form": "alertmanager", "body": body})
    assert len(parsed({"form": "alertmanager", "body": body[1:]})) == ALERTS_MAX


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(UsageError, match="the body is not JSON"):
        intake.parse_plain(b"[" * 100_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["labels", "alerts", "status", "version", "payload", "event_action", "name", "data", "type", "id"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON, st.sampled_from([*FORMS, "cloudevents"]))
def test_whatever_is_sent_is_taken_or_refused_in_a_sentence(body: Any, form: str) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    try:
        said = parsed({"form": form, "body": body, "headers": headers})
    except UsageError:
        return
    assert all(one.labels and one.source for one in said)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([*FORMS.values()]))
def test_whatever_bytes_are_sent_are_taken_or_refused(body: bytes, parse: Callable[[bytes], list[intake.Said]]) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse(body), list)
