"""A live canary's trial: what is looked at besides the counters, and the verdict that follows from all looks.

Pure. What is kept of a trial is its head and one line for each look; whoever has these comes to the same verdict.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import msgspec

from nvcops.core.errors import EvidenceError, NvcopsError
from nvcops.core.exposition import Page, parse_series
from nvcops.core.manifest import Series
from nvcops.core.manifest.delivery import Analysis
from nvcops.core.units import Bytes, Seconds
from nvcops.delivery.canary import Canary, Outcome, Record, Result, judge
from nvcops.delivery.looks import Latency, Look, Plan, checked

SICK_LOOKS = 3
MEMORY = "process_resident_memory_bytes"  # as every Prometheus client calls it
_MEMORY_MORE = 32 << 20  # a few MiB more are no leak, whatever the factor
_GONE_LOOKS, _GONE_MIN_S, _GONE_MAX_S = 30, 5.0, 60.0
_SHARE_SLACK, _SHARE_MAX = 1.3, 0.95

# --- Facts ---


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The head: what is promised before the first look. `started` is when each of the canary's slots began."""

    rollout: str
    step: int
    new: str
    old: str
    began: dt.datetime
    plan: Plan
    memory: float
    started: dict[str, str]


class Vital(msgspec.Struct, frozen=True, kw_only=True):
    """How a slot is: by the balancer's checks, by its own word, in bytes of memory. None, or empty: not known.

    `unread`: the series that the manifest names and that are not in its metrics.
    """

    slot: str
    healthy: bool | None = None
    release: str = ""
    started: str = ""
    memory: float | None = None
    unread: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One look: the counters, and how the slots are."""

    look: Look
    vitals: tuple[Vital, ...]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of a trial so far. `proof_s`: how long proving safety takes from here at this traffic, about.

    `abort`: take the canary back now. `looks_sha256` is of all that is kept of the trial.
    """

    outcome: Outcome
    abort: bool
    reason: str
    seconds: float
    looks: int
    share: float | None = None
    proof_s: float | None = None
    limited: tuple[str, ...] = ()
    looks_sha256: str = ""

    @property
    def sentence(self) -> str:
        """For a report.

        >>> Judgement(outcome=Outcome.PASS, abort=False, reason="errors: ...", seconds=61, looks=60).sentence
        'PASS after 1.02 min in 60 looks: errors: ...'
        """
        return f"{self.outcome} after {Seconds(self.seconds)} in {self.looks} looks: {self.reason}"


# --- Rules ---


def plan_of(analysis: Analysis, canary: Sequence[str], control: Sequence[str], share: float) -> Plan:
    """The plan of a trial: the manifest's bounds, for these slots and this share of the traffic.

    Raises:
        UsageError: it contradicts itself.

    >>> plan_of(Analysis(), ["a", "b"], ["c", "d"], 0.1).share_max
    0.18
    """
    gone = min(_GONE_MAX_S, max(_GONE_MIN_S, _GONE_LOOKS * analysis.interval))
    plan = Plan(
        canary=tuple(canary),
        control=tuple(control),
        margin=analysis.margin,
        alpha=float(analysis.alpha),
        beta=float(analysis.beta),
        assigned_by=analysis.unit,
        cluster_max=analysis.cluster_max,
        warm_up_s=float(analysis.warm_up),
        time_limit_s=float(analysis.time_limit),
        gone_after_s=gone,
        share_max=round(min(_SHARE_MAX, _SHARE_SLACK * share + 0.05), 6),
        latency=Latency(edges=analysis.edges, prove=analysis.prove) if analysis.edges else None,
    )
    return checked(plan)


def buckets_of(page: Page | None, series: Series | None, edges: Sequence[str]) -> dict[str, float | None]:
    """The latency histogram's cumulative counts at the edges, all customers' routes together; None: it is not there."""
    sums: dict[str, float | None] = dict.fromkeys([*edges, "+Inf"]) if edges else {}
    if page is None or series is None:
        return sums
    for key, value in page.rising.items():
        if not key.startswith(f"{series.latency}_bucket{{"):
            continue
        _, labels = parse_series(key)
        edge = labels.get("le", "")
        if edge in sums and labels.get(series.route_label) not in series.probe_routes:
            sums[edge] = (sums[edge] or 0.0) + value
    return sums


def unread_of(page: Page | None, series: Series | None) -> tuple[str, ...]:
    r"""Which of a service's own series are not in its metrics: a release that renamed them is one that nobody watches.

    >>> from nvcops.core.exposition import parse_page
    >>> series = Series(requests="asked_total", latency="seconds")
    >>> unread_of(parse_page('# TYPE asked_total counter\nasked_total{status="200"} 1\n'), series)
    ('seconds',)
    >>> unread_of(None, series), unread_of(None, None)
    (('asked_total', 'seconds'), ())
    """
    if series is None:
        return ()
    there = {parse_series(key)[0] for key in page.rising} if page else set()
    wanted = {series.requests: series.requests, series.latency: f"{series.latency}_bucket"}
    return tuple(name for name, written in wanted.items() if written not in there)


class Judge:
    """Takes lines in until it is `over`: the counters' verdict, and what no counter needs to say."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._canary = Canary(trial.plan)
        self._sick = dict.fromkeys(trial.plan.canary, 0)
        self._failed = ""
        self._doubt = ""
        self._seconds = 0.0
        self._looks = 0

    @property
    def over(self) -> bool:
        """Whether the verdict stands."""
        return bool(self._failed) or self._canary.over

    def add(self, line: Line) -> None:
        """Take a look in; when it is over, nothing changes any more."""
        if self.over:
            return
        self._looks += 1
        self._seconds = line.look.time or self._seconds
        vitals = {one.slot: one for one in line.vitals}
        self._failed = self._why_failed(vitals)
        self._doubt = self._why_unknown(vitals)
        if not self._failed:
            self._canary.look(line.look)

    def judgement(self) -> Judgement:
        """The verdict so far. A PASS by counters is none while nobody knows how the slots are."""
        result = self._canary.result()
        outcome, reason, abort = result.outcome, result.reason, result.abort
        if self._failed:
            outcome, reason, abort = Outcome.FAIL, self._failed, True
        elif outcome is Outcome.PASS and self._doubt:
            outcome, reason, abort = Outcome.INCONCLUSIVE, self._doubt, True
        return Judgement(
            outcome=outcome,
            abort=abort,
            reason=reason,
            seconds=self._seconds,
            looks=self._looks,
            share=result.share,
            proof_s=result.proof.seconds,
            limited=result.limited,
        )

    def result(self) -> Result:
        """What the counters say."""
        return self._canary.result()

    def _why_failed(self, vitals: dict[str, Vital]) -> str:
        trial = self._trial
        most = max((vitals[n].memory or 0 for n in trial.plan.control if n in vitals), default=0)
        for name in trial.plan.canary:
            seen = vitals.get(name, Vital(slot=name))
            self._sick[name] = self._sick[name] + 1 if seen.healthy is False else 0
            if self._sick[name] >= SICK_LOOKS:
                return f"{name} has failed the balancer's checks {SICK_LOOKS} times in a row"
            if seen.started and trial.started.get(name) and seen.started != trial.started[name]:
                return f"{name} began anew: its program ended in the middle of its trial"
            if seen.release and seen.release != trial.new:
                return f"{name} says that it is release {seen.release[:8]}, not {trial.new[:8]}"
            if most and (seen.memory or 0) > max(trial.memory * most, most + _MEMORY_MORE):
                return f"{name} holds {Bytes(seen.memory or 0)} of memory, the others {Bytes(most)} at most"
        return ""

    def _why_unknown(self, vitals: dict[str, Vital]) -> str:
        """Why no one may pass, whatever the counters say."""
        told = any(one.memory is not None for one in vitals.values())
        for name in self._trial.plan.canary:
            seen = vitals.get(name)
            if seen is None or not seen.release or seen.healthy is None:
                return f"nobody knows how {name} is, or what runs there"
            if not seen.healthy:
                return f"{name} fails the balancer's checks"
            if seen.unread:
                return f"{name} has no {' and no '.join(seen.unread)} in its metrics"
            if told and seen.memory is None:
                return f"{name} does not say what memory it holds, and others do"
        return ""


def head_line(trial: Trial) -> bytes:
    """The first line that is kept."""
    return msgspec.json.encode(trial)


def read_trial(lines: Sequence[bytes]) -> tuple[Trial, list[Line]]:
    """What was kept of a trial.

    Raises:
        EvidenceError: it is none; the sentence names the first bad line.
    """
    number = 1
    try:
        trial = msgspec.json.decode(lines[0], type=Trial)
        looks = []
        for line in lines[1:]:
            number += 1
            looks.append(msgspec.json.decode(line, type=Line))
    except (IndexError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceError(f"line {number} is nothing that was kept of a trial: {error}") from error
    return trial, looks


def judged(lines: Sequence[bytes]) -> Judgement:
    """The verdict that follows from what was kept: by whoever has it, at any time.

    Raises:
        EvidenceError: it is no trial, or its plan contradicts itself.
    """
    trial, looks = read_trial(lines)
    try:
        judge_ = Judge(trial)
    except NvcopsError as error:
        raise EvidenceError(error.sentence, hint=error.hint) from error
    for line in looks:
        judge_.add(line)
    return msgspec.structs.replace(judge_.judgement(), looks_sha256=digest_of(lines))


def record_of(lines: Sequence[bytes]) -> Record:
    """The counters' part of a trial, as delivery.canary verifies it."""
    trial, looks = read_trial(lines)
    return judge(trial.plan, [line.look for line in looks])


def digest_of(lines: Sequence[bytes]) -> str:
    """SHA-256 of all that is kept of a trial, in hex."""
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
