from __future__ import annotations

import pytest

from nvcops.adapters.discovery.series import choose

SPRING = """\
# TYPE http_server_requests_seconds summary
http_server_requests_seconds_count{method="GET",outcome="SUCCESS",status="200",uri="/",} 5.0
http_server_requests_seconds_sum{method="GET",outcome="SUCCESS",status="200",uri="/",} 0.1
# TYPE jvm_gc_pause_seconds summary
jvm_gc_pause_seconds_count{action="end",cause="x",} 3.0
jvm_gc_pause_seconds_sum{action="end",cause="x",} 0.3
"""
PYTHON = """\
# TYPE http_requests_total counter
http_requests_total{handler="/",method="GET",status="2xx"} 9.0
# TYPE http_requests_created gauge
http_requests_created{handler="/",method="GET",status="2xx"} 1.7e+09
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1"} 9.0
http_request_duration_seconds_bucket{le="+Inf"} 9.0
http_request_duration_seconds_count 9.0
http_request_duration_seconds_sum 0.2
# TYPE python_gc_collections_total counter
python_gc_collections_total{generation="0"} 72.0
# TYPE payments_total counter
payments_total{outcome="settled"} 3
payments_total{outcome="declined"} 1
# TYPE mails_total counter
mails_total{state="sent"} 3
"""


def names(text: str) -> list[str]:
    found = choose(text)
    return [choice.name if choice else "" for choice in (found.requests, found.latency, found.outcomes)]


def test_a_usual_page() -> None:
    assert names(PYTHON) == ["http_requests_total", "http_request_duration_seconds", "payments_total"]
    found = choose(PYTHON)
    assert found.requests
    assert found.requests.label == "status"
    assert found.outcomes
    assert found.outcomes.others == ("mails_total",)
    assert found.outcome_title == "payments"


def test_the_count_of_a_summary_counts_requests_but_tells_no_latency() -> None:
    assert names(SPRING) == ["http_server_requests_seconds_count", "", ""]


def test_milliseconds_would_be_read_as_seconds_and_are_not_chosen() -> None:
    page = "# TYPE request_duration_milliseconds histogram\nrequest_duration_milliseconds_count 1\n"
    assert names(page) == ["", "", ""]


def test_one_name_among_equals_is_chosen_whatever_the_order() -> None:
    lines = [f'# TYPE {n}_total counter\n{n}_total{{code="200"}} 1\n' for n in ("b_requests", "a_requests")]
    assert names("".join(lines))[0] == names("".join(reversed(lines)))[0] == "a_requests_total"


@pytest.mark.parametrize("label", ["status", "code"])
def test_a_label_that_is_no_http_status_makes_no_request_counter(label: str) -> None:
    page = f'# TYPE jobs_total counter\njobs_total{{{label}="done"}} 1\n'
    assert names(page)[0] == ""


def test_a_page_that_is_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1"):
        choose("<html><body>Welcome</body></html>")
