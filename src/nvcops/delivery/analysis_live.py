"""The trial of a release that serves: looked at until it passed or failed; and the pauses between.

The looks are kept as they are taken, so that a trial which was interrupted goes on with them.
"""

from __future__ import annotations

import datetime as dt
import time
from enum import StrEnum

import msgspec

from nvcops.core.errors import Refused, TargetError
from nvcops.core.exposition import Page, parse_page
from nvcops.core.probes import json_object
from nvcops.core.progress import tell
from nvcops.core.rollouts import Balanced
from nvcops.core.runs import conduct
from nvcops.core.target import Answer, Question, Target
from nvcops.core.units import Seconds
from nvcops.delivery.analysis import (
    MEMORY,
    SICK_LOOKS,
    Judge,
    Judgement,
    Line,
    Trial,
    Vital,
    buckets_of,
    digest_of,
    head_line,
    plan_of,
    read_trial,
    unread_of,
)
from nvcops.delivery.canary import Outcome
from nvcops.delivery.looks import Look, Reading
from nvcops.delivery.rollout import split
from nvcops.delivery.standing import answering, balancer_of, entry_of, looks_of, service_of, wish_now
from nvcops.delivery.strategies import Split, Standing

ABORT, PROMOTE = "abort", "promote"
_PAUSE_LOOK_S = 1.0
_PAUSE_MAX_S = 7 * 86400.0

# --- Facts ---


class Analysed(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial ended. `wished`: a person ended it. `cut`: its traffic was taken away at once; why it was not."""

    judgement: Judgement
    wished: str = ""
    cut: bool = False
    trouble: str = ""


class PauseEnd(StrEnum):
    """How a pause ended."""

    ELAPSED = "elapsed"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    SICK = "sick"


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """How a pause ended, and why."""

    end: PauseEnd
    why: str = ""


class _Pause(msgspec.Struct, frozen=True):
    """When a pause began, and in which slots the release served then, by when it had been started there."""

    began: dt.datetime
    slots: dict[str, str]

    def sick(self, seen: Standing, new: str) -> str:
        """What became of the release where it served; empty: it serves there still."""
        for one in seen.slots:
            if one.slot in self.slots and not one.runs(new):
                return f"{one.slot}: {one.trouble or 'it runs another release'}"
        return ""

    def again(self, seen: Standing) -> str:
        """Where it ended, and was started again by somebody; empty: nowhere."""
        for one in seen.slots:
            if one.started and self.slots.get(one.slot, one.started) not in ("", one.started):
                return f"{one.slot}: its program ended, and was started again"
        return ""


def trial_now(target: Target, run: str, step: int, new: str, old: str) -> Trial:
    """Who is compared with whom: the slots that serve either release at this moment.

    Raises:
        Refused: one side is nobody.
    """
    seen = answering(target)
    canary = [one for one in seen.running(new) if one.serves]
    control = [one for one in seen.running(old) if one.serves]
    if not canary or not control:
        raise Refused(f"release {(old if canary else new)[:8]} serves nobody: there is nothing to compare")
    analysis = entry_of(target.manifest).analysis
    mine, all_ = sum(one.weight or 0 for one in canary), sum(one.weight or 0 for one in (*canary, *control))
    return Trial(
        rollout=run,
        step=step,
        new=new,
        old=old,
        began=target.host.now(),
        plan=plan_of(analysis, [one.slot for one in canary], [one.slot for one in control], mine / all_),
        memory=analysis.memory,
        started={one.slot: one.started for one in canary},
    )


def look_at(target: Target, trial: Trial) -> Line:
    """Take one look: each slot's counters by the balancer, its histogram and its memory by its own metrics."""
    service, names = service_of(target.manifest), (*trial.plan.canary, *trial.plan.control)
    paths = [path for path in (service.metrics, service.version) if path]
    questions = [Question(service.name, path, name) for name in names for path in paths]
    answers = dict(zip(questions, target.services.ask(questions), strict=True))
    at = (target.host.now() - trial.began).total_seconds()
    try:
        counted = {one.slot: one for one in balancer_of(target).look()}
    except TargetError:
        counted = {}
    readings, vitals = [], []
    edges = trial.plan.latency.edges if trial.plan.latency else ()
    for name in names:
        page = _page(answers.get(Question(service.name, service.metrics, name))) if service.metrics else None
        about = json_object(answers.get(Question(service.name, service.version or "", name)))
        readings.append(_reading(name, at, counted.get(name), buckets_of(page, service.series, edges)))
        unread = unread_of(page, service.series) if service.metrics else ()
        vitals.append(_vital(name, counted.get(name), about, page, unread))
    return Line(look=Look(time=at, readings=tuple(readings)), vitals=tuple(vitals))


def _page(answer: Answer | TargetError | None) -> Page | None:
    """None where it cannot be read: then nothing of it is known."""
    if not isinstance(answer, Answer) or answer.status != 200:
        return None
    try:
        return parse_page(answer.body.decode())
    except ValueError:
        return None


def _reading(name: str, at: float, counted: Balanced | None, buckets: dict[str, float | None]) -> Reading:
    return Reading(
        instance=name,
        time=at if counted else None,
        requests=counted.requests if counted else None,
        bad=counted.failed if counted else None,
        buckets=buckets,
    )


def _vital(
    name: str, counted: Balanced | None, about: dict[str, object], page: Page | None, unread: tuple[str, ...]
) -> Vital:
    release, started = about.get("release"), about.get("started")
    return Vital(
        slot=name,
        healthy=counted.healthy if counted else None,
        release=release if isinstance(release, str) else "",
        started=started if isinstance(started, str) else "",
        memory=page.gauges.get(MEMORY) if page else None,
        unread=unread,
    )


# --- Procedures ---


@conduct(deadline="8 d", idempotent=True)
def analysed(target: Target, run: str, step: int, new: str, old: str) -> Analysed:
    """Look until the verdict stands; when it is to be aborted, its traffic is taken away before this returns."""
    keeper = looks_of(target)
    kept = list(keeper.lines(run, step))
    if not kept:
        kept = [head_line(trial_now(target, run, step, new, old))]
        keeper.append(run, step, kept[0])
    trial, lines = read_trial(kept)
    judge = Judge(trial)
    for line in lines:
        judge.add(line)
    wished = _looked(target, trial, judge, kept)
    said = msgspec.structs.replace(judge.judgement(), looks_sha256=digest_of(kept))
    if wished != ABORT and not said.abort:
        return Analysed(judgement=said)
    if (
        not wished
        and said.outcome is Outcome.INCONCLUSIVE
        and entry_of(target.manifest).analysis.inconclusive == "pause"
    ):
        return Analysed(judgement=said)
    try:
        split(target, Split.ALL, old, new, 0)
    except TargetError as error:
        return Analysed(judgement=said, wished=wished, trouble=error.sentence)
    return Analysed(judgement=said, wished=wished, cut=True)


def _looked(target: Target, trial: Trial, judge: Judge, kept: list[bytes]) -> str:
    """Look each interval, until the verdict stands or a person wishes an end; the wish. `kept` grows."""
    interval = float(entry_of(target.manifest).analysis.interval)
    while not judge.over:
        began = time.monotonic()
        if wish_now(target, trial.rollout) == ABORT:
            return ABORT
        line = look_at(target, trial)
        kept.append(msgspec.json.encode(line))
        looks_of(target).append(trial.rollout, trial.step, kept[-1])
        judge.add(line)
        tell(0, 0, _progress(judge.judgement()))
        if not judge.over:
            time.sleep(max(0.0, interval - (time.monotonic() - began)))
    return ""


def _progress(said: Judgement) -> str:
    proof = f"; proof in about {Seconds(said.proof_s)}" if said.proof_s is not None else ""
    return f"{Seconds(said.seconds)}: {said.outcome}, {said.reason}{proof}"


@conduct(deadline="8 d", idempotent=True)
def paused(target: Target, run: str, step: int, new: str, seconds: float | None) -> Paused:
    """Wait so long, or until a person promotes; end at once when a person aborts, or the release fails meanwhile.

    It has failed when a slot that served it when the pause began does not run it in several looks, or was started
    again. seconds None: until a person promotes, seven days at most.
    """
    keeper = looks_of(target)
    kept = keeper.lines(run, step)
    if not kept:
        there = {one.slot: one.started for one in answering(target).running(new) if one.serves}
        kept = [msgspec.json.encode(_Pause(target.host.now(), there))]
        keeper.append(run, step, kept[0])
    pause, sick = msgspec.json.decode(kept[0], type=_Pause), 0
    while True:
        wish = wish_now(target, run)
        if wish in (ABORT, PROMOTE):
            return Paused(end=PauseEnd.ABORTED if wish == ABORT else PauseEnd.PROMOTED, why="by a person")
        seen = answering(target)
        trouble = pause.sick(seen, new)
        sick = sick + 1 if trouble else 0
        if sick >= SICK_LOOKS or (trouble := pause.again(seen)):
            return Paused(end=PauseEnd.SICK, why=trouble)
        passed = (target.host.now() - pause.began).total_seconds()
        if passed >= (_PAUSE_MAX_S if seconds is None else seconds):
            return _elapsed(seconds)
        left = f"{Seconds(seconds - passed)} left" if seconds is not None else "`nvcops release promote` goes on"
        tell(0, 0, f"paused: {left}")
        time.sleep(min(_PAUSE_LOOK_S, seconds if seconds is not None else _PAUSE_LOOK_S))


def _elapsed(seconds: float | None) -> Paused:
    if seconds is None:
        return Paused(end=PauseEnd.ABORTED, why=f"nobody promoted it within {Seconds(_PAUSE_MAX_S)}")
    return Paused(end=PauseEnd.ELAPSED)
