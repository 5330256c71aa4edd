"""Which metrics of a page are requests, latency and business outcomes: by type, labels and name. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from nvcops.adapters.discovery.found import Choice, SeriesFound
from nvcops.core.exposition import Page, parse_page, parse_series

_STATUS_LABELS = (
    "status",
    "code",
    "status_code",
    "response_code",
    "http_status",
    "http_status_code",
    "http_response_status_code",
)
_OUTCOME_LABELS = ("outcome", "result", "status", "state", "verdict", "decision")
_STATUS = re.compile(r"^[1-5](\d\d|xx)$", re.IGNORECASE)
_RUNTIMES = ("process_", "python_", "go_", "jvm_", "nodejs_", "promhttp_", "scrape_", "prometheus_", "dotnet_", "ruby_")
_OTHERS_MAX = 5


class _Family(msgspec.Struct):
    """One metric: its type, and the values of each label that it was seen with."""

    kind: str
    labels: dict[str, set[str]] = {}


def choose(text: str) -> SeriesFound:
    r"""Choose from the text of a metrics page.

    Raises:
        ValueError: the page is not Prometheus text.

    >>> page = '''# TYPE shop_requests_total counter
    ... shop_requests_total{code="200",path="/"} 7
    ... # TYPE shop_request_duration_seconds histogram
    ... shop_request_duration_seconds_bucket{le="+Inf"} 7
    ... shop_request_duration_seconds_sum 0.2
    ... shop_request_duration_seconds_count 7
    ... # TYPE shop_orders_total counter
    ... shop_orders_total{result="sold"} 2
    ... '''
    >>> found = choose(page)
    >>> [(choice.name, choice.label) for choice in (found.requests, found.latency, found.outcomes)]
    [('shop_requests_total', 'code'), ('shop_request_duration_seconds', ''), ('shop_orders_total', 'result')]
    >>> found.outcome_title
    'orders'
    """
    families = _families(text, parse_page(text))
    requests = _best(_request_candidates(families))
    latency = _best(_latency_candidates(families))
    taken = {requests.name if requests else ""}
    outcomes = _best(candidate for candidate in _outcome_candidates(families) if candidate[1] not in taken)
    title = _title(outcomes.name, requests.name if requests else "") if outcomes else ""
    return SeriesFound(requests=requests, latency=latency, outcomes=outcomes, outcome_title=title)


def _families(text: str, page: Page) -> dict[str, _Family]:
    """Counters by the name of their series, histograms and summaries by the name without a suffix."""
    kinds = {words[2]: words[3] for line in text.splitlines() if len(words := line.split()) == 4 and words[1] == "TYPE"}
    families: dict[str, _Family] = {}
    for key in page.rising:
        name, labels = parse_series(key)
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        kind = kinds.get(base, "")
        if kind not in ("histogram", "summary"):
            base, kind = name, kinds.get(name) or kinds.get(name.removesuffix("_total"), "")
        family = families.setdefault(base, _Family(kind, {}))
        for label, written in labels.items():
            if label not in ("le", "quantile"):
                family.labels.setdefault(label, set()).add(written)
    return families


Candidate = tuple[int, str, str, str]
"""Points, name, label, why."""


def _request_candidates(families: dict[str, _Family]) -> Iterable[Candidate]:
    """A counter, or the count of a histogram, with a label whose values are HTTP status codes."""
    for name, family in families.items():
        label = next((label for label in _STATUS_LABELS if _all_status(family.labels.get(label))), "")
        if not label or name.startswith(_RUNTIMES):
            continue
        counts = family.kind in ("histogram", "summary")
        points = 4 * ("request" in name) + 2 * ("http" in name) + (not counts)
        seen = ", ".join(sorted(family.labels[label])[:5])
        what = f"the count of a {family.kind}" if counts else "a counter"
        yield points, f"{name}_count" if counts else name, label, f"{what} with HTTP status codes in {label!r} ({seen})"


def _latency_candidates(families: dict[str, _Family]) -> Iterable[Candidate]:
    """A histogram in seconds of requests; one in milliseconds would be read a thousand times too long."""
    for name, family in families.items():
        timed = any(word in name for word in ("duration", "latency", "second", "time"))
        in_seconds = "milli" not in name and not name.endswith("_ms")
        asked = "request" in name or "http" in name
        if family.kind == "histogram" and timed and in_seconds and asked and not name.startswith(_RUNTIMES):
            points = 4 * ("request" in name) + 2 * ("http" in name) + name.endswith("_seconds")
            yield points, name, "", "a histogram of requests in seconds"


def _outcome_candidates(families: dict[str, _Family]) -> Iterable[Candidate]:
    """A counter by outcome that is neither about HTTP nor about the runtime: what the service is there for."""
    for name, family in families.items():
        label = next((label for label in _OUTCOME_LABELS if family.labels.get(label)), "")
        if family.kind != "counter" or not label or name.startswith(_RUNTIMES):
            continue
        values = family.labels[label]
        if _all_status(values) or "http" in name or "request" in name:
            continue
        points = 2 * (label in ("outcome", "result")) + (len(family.labels) == 1) + (len(values) > 1)
        yield points, name, label, f"a counter by {label!r} ({', '.join(sorted(values)[:5])})"


def _all_status(values: set[str] | None) -> bool:
    return bool(values) and all(_STATUS.match(value) for value in values or ())


def _best(candidates: Iterable[Candidate]) -> Choice | None:
    """The one with the most points, the first by name among equals; the others are told."""
    ranked = sorted(candidates, key=lambda candidate: (-candidate[0], candidate[1]))
    if not ranked:
        return None
    _, name, label, why = ranked[0]
    return Choice(name, label, why, tuple(other[1] for other in ranked[1 : _OTHERS_MAX + 1]))


def _title(name: str, requests: str) -> str:
    """The words of a metric without what only Prometheus needs.

    >>> _title("shop_orders_total", "shop_requests_total"), _title("payments_total", "http_requests_total")
    ('orders', 'payments')
    """
    words = name.removesuffix("_total").split("_")
    if len(words) > 1 and words[0] == requests.split("_", maxsplit=1)[0]:
        words = words[1:]
    return " ".join(words)
