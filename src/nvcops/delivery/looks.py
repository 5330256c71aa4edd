"""What is looked at: the plan of a canary, and the readings of its metrics. All of it stands in the record."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nvcops.core.errors import UsageError

Share = Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
Margin = Annotated[float, msgspec.Meta(gt=1, le=50)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=604_800)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

INSTANCES_MIN = 2
LOOKS_MAX = 200_000


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which edges of the latency histogram are compared, as its `le` labels are written, quickest first.

    Slower at all edges together is a failure. To pass, each edge of `prove` must be shown to be exceeded with less than
    `margin` times the control's odds: choose those that 1 % to 50 % of requests exceed.
    """

    edges: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=50)]
    prove: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=50)]
    margin: Margin = 1.5


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised before the first request: who is compared with whom, and the error rates.

    alpha: at most this share of good canaries is called worse, however often one looks. beta: at most this share of
    canaries whose odds of failing are `margin` times the control's, or more, passes. unit: what requests and errors are
    counted in; assigned_by: what is sent to one side as a whole. Where these differ, `cluster_max` is the most bad
    events that one of those makes. failing_max: more than this share of its own requests failing is a canary's failure,
    whatever the control does. Durations in seconds: the warm-up is no evidence; after the time limit, not knowing means
    aborting.
    """

    canary: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=100)]
    control: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=100)]
    margin: Margin = 2.0
    alpha: Share = 0.01
    beta: Share = 0.05
    unit: Name = "request"
    assigned_by: Name = "request"
    cluster_max: Annotated[float, msgspec.Meta(ge=1, le=10_000)] | None = None
    warm_up_s: Duration = 60.0
    time_limit_s: Annotated[float, msgspec.Meta(gt=0, le=604_800)] = 3600.0
    stale_after_s: Duration = 30.0
    skew_max_s: Duration = 5.0
    gone_after_s: Duration = 60.0
    share_max: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    failing_max: Annotated[float, msgspec.Meta(gt=0, le=0.25)] = 0.05
    latency: Latency | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance's counters since it began, and when they were read, in seconds since the canary's first request.

    buckets: the latency histogram's cumulative counts by `le`, with "+Inf". None, or NaN, is what nobody could read.
    """

    instance: str
    time: float | None
    requests: float | None
    bad: float | None
    buckets: dict[str, float | None] = {}


class Look(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All readings of one look, and when it was taken, in seconds since the canary's first request."""

    time: float | None
    readings: tuple[Reading, ...]


def checked(plan: Plan) -> Plan:
    """The plan, when it can be kept.

    Raises:
        UsageError: it contradicts itself.

    >>> checked(Plan(canary=("a",), control=("a", "b")))
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: an instance is canary or control, not both: a
    >>> checked(Plan(canary=("a",), control=("b",), assigned_by="user"))
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: a user is sent to one side as a whole, and what is counted is a request
    """
    try:
        plan = msgspec.convert(msgspec.to_builtins(plan), Plan)
    except msgspec.ValidationError as error:
        raise UsageError(f"the canary's plan cannot be kept: {error}") from error
    names = (*plan.canary, *plan.control)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"an instance is canary or control, not both: {', '.join(twice)}")
    if plan.unit != plan.assigned_by and plan.cluster_max is None:
        raise UsageError(
            f"a {plan.assigned_by} is sent to one side as a whole, and what is counted is a {plan.unit}",
            hint=f"count each {plan.assigned_by} once, or say with cluster_max how many bad events one makes at most",
        )
    if plan.warm_up_s >= plan.time_limit_s:
        raise UsageError("the warm-up takes all of the time limit", hint="make the time limit longer")
    if plan.latency:
        _check_edges(plan.latency)
    return plan


def edge_s(edge: str) -> float:
    """An edge of a histogram in seconds.

    Raises:
        ValueError: it is none.

    >>> edge_s("0.25"), edge_s("+Inf")
    (0.25, inf)
    """
    return float(edge)


def _check_edges(latency: Latency) -> None:
    try:
        seconds = [edge_s(edge) for edge in latency.edges]
    except ValueError as error:
        raise UsageError(f"an edge of the latency histogram is a number of seconds: {error}") from error
    if seconds != sorted(set(seconds)) or not all(0 < one < float("inf") for one in seconds):
        raise UsageError("the edges of the latency histogram go upwards from above 0, and end before +Inf")
    if unknown := sorted(set(latency.prove) - set(latency.edges)):
        raise UsageError(f"what is to be proven is not looked at: edge {', '.join(unknown)}")
