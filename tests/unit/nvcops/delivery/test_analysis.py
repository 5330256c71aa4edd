"""A live trial: what it looks at, that it is resumed and verified from what was kept, and what never passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rollout_run import Journal, carry, everywhere, line
from rollout_world import MANIFEST, NEW, OLD, SPARE, Nature, World, target_of, world

from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError, Refused
from nvcops.core.exposition import parse_page
from nvcops.core.manifest import Series
from nvcops.core.rollouts import Balanced, Rollout
from nvcops.delivery.analysis import Line, Trial, Vital, buckets_of, digest_of, judged, read_trial, record_of
from nvcops.delivery.analysis_live import analysed, trial_now
from nvcops.delivery.canary import Outcome, verify
from nvcops.delivery.deploy import deploy
from nvcops.delivery.standing import begin

RUN = "deploy@1"


def splitting(clock: dict[str, World], nature: Nature | None = None, **changed: Any) -> World:
    """Half of the traffic goes to the new release in the spare slots."""
    here = world(nature=nature or Nature(), **changed)
    clock["world"] = here
    for name in SPARE:
        here.laid_[name].add(NEW)
        here.put(name, NEW)
        here.slots[name].weight = 100
    begin(target_of(here), Rollout(id=RUN, service="bank", new=NEW, version="2.0", old=OLD, began=here.now()))
    return here


def tried(here: World) -> Any:
    return analysed(target_of(here), RUN, 2, NEW, OLD)


def test_a_good_release_passes_and_the_verdict_follows_from_what_was_kept(clock: dict[str, World]) -> None:
    here = splitting(clock)
    got = tried(here)
    kept = here.kept[RUN, 2]
    assert got.judgement.outcome is Outcome.PASS, got
    assert not got.cut
    assert judged(kept) == got.judgement
    assert got.judgement.looks_sha256 == digest_of(kept)
    assert verify(record_of(kept))


def test_an_hour_of_looks_is_verified_in_a_second(clock: dict[str, World]) -> None:
    here = splitting(clock, Nature(errors=0.0), text=MANIFEST.replace('time_limit = "30 min"', 'time_limit = "1 h"'))
    here.natures[OLD] = Nature(errors=0.0)
    here.rate = 20.0
    got = tried(here)
    assert got.judgement.outcome is Outcome.INCONCLUSIVE
    assert got.judgement.looks > 3_500
    began = time.process_time()
    assert judged(here.kept[RUN, 2]) == got.judgement
    assert time.process_time() - began < 2.0  # of processor time: one second, and a slow machine's doubt


def test_a_trial_that_was_interrupted_goes_on_with_its_looks(clock: dict[str, World]) -> None:
    whole = splitting(clock)
    tried(whole)
    here = splitting(clock)
    here.kept[RUN, 2] = whole.kept[RUN, 2][:9]
    trial, _ = read_trial(here.kept[RUN, 2])
    here.slots = whole.slots
    here.seconds = whole.seconds + 30
    clock["world"] = here
    got = tried(here)
    assert here.kept[RUN, 2][:9] == whole.kept[RUN, 2][:9]
    assert read_trial(here.kept[RUN, 2])[0] == trial
    assert got.judgement.outcome is Outcome.PASS


def test_one_that_is_over_is_not_looked_at_again(clock: dict[str, World]) -> None:
    here = splitting(clock)
    first, count = tried(here), len(here.kept[RUN, 2])
    assert tried(here) == first
    assert len(here.kept[RUN, 2]) == count


def test_a_release_that_fails_half_is_gone_after_a_few_errors(clock: dict[str, World]) -> None:
    here = splitting(clock, Nature(errors=0.5))
    here.rate = 4.0
    here.natures[OLD] = Nature(errors=0.0)
    here.manifest = msgspec.structs.replace(
        here.manifest,
        delivery=msgspec.structs.replace(
            here.manifest.delivery, analysis=msgspec.structs.replace(here.manifest.delivery.analysis, warm_up=0.0)
        ),
    )
    got = tried(here)
    assert got.judgement.outcome is Outcome.FAIL
    assert got.cut
    assert sum(here.slots[name].failed for name in SPARE) <= 9
    assert not any(here.slots[name].weight for name in SPARE), "before the step has ended"


def test_who_cannot_be_cut_off_says_so(clock: dict[str, World]) -> None:
    here = splitting(clock, Nature(errors=0.5))
    here.fails = lambda called, _: called == "share"
    got = tried(here)
    assert not got.cut
    assert "fails" in got.trouble


def test_an_inconclusive_one_may_wait_for_a_person(clock: dict[str, World]) -> None:
    text = MANIFEST.replace('time_limit = "30 min"', 'time_limit = "20 s", inconclusive = "pause"')
    for wish, verdict, digest in (("promote", Verdict.OK, NEW), ("abort", Verdict.CRITICAL, OLD)):
        here = world(nature=Nature(errors=0.0), text=text)
        here.natures[OLD] = Nature(errors=0.0)
        here.on_second = lambda it, wish=wish: _wished(it, wish) if it.seconds % 120 > 100 else None
        clock["world"] = here
        section = carry(here, deploy, Journal(), version="2.0", strategy="blue-green")
        assert section is not None
        assert section.verdict is verdict or wish == "promote"
        assert everywhere(here) == digest


def _wished(here: World, wanted: str) -> None:
    with here.records.changing() as desk:
        found = desk.get(Rollout, RUN)
        if found and not found.phase.ended:
            desk.put(msgspec.structs.replace(found, wish=wanted))


def test_one_side_that_is_nobody_is_refused(clock: dict[str, World]) -> None:
    here = splitting(clock)
    for name in SPARE:
        here.slots[name].weight = 0
    with pytest.raises(Refused, match="serves nobody"):
        trial_now(target_of(here), RUN, 2, NEW, OLD)


def test_what_was_kept_and_changed_is_found(clock: dict[str, World]) -> None:
    here = splitting(clock)
    got = tried(here)
    kept = list(here.kept[RUN, 2])
    assert judged(kept[:-1]) != got.judgement
    with pytest.raises(EvidenceError, match="line 3 is nothing"):
        judged([*kept[:2], b"{}", *kept[2:]])
    with pytest.raises(EvidenceError, match="line 1"):
        judged([])


def test_the_report_says_how_long_proving_takes(clock: dict[str, World]) -> None:
    here = world(text=MANIFEST.replace('time_limit = "30 min"', 'time_limit = "20 s"'))
    clock["world"] = here
    section = carry(here, deploy, Journal(), version="2.0", strategy="canary")
    assert section is not None
    said = line(section, "delivery.analysis").observed
    assert said.startswith("INCONCLUSIVE after")
    assert "proving safety takes about" in said


# --- what never passes ---

Change = Callable[[Line], Line]


def _vitals(line_: Line, **changed: Any) -> Line:
    vitals = tuple(msgspec.structs.replace(one, **changed) if one.slot in SPARE else one for one in line_.vitals)
    return msgspec.structs.replace(line_, vitals=vitals)


VITALS: dict[str, Change] = {
    "not healthy": lambda it: _vitals(it, healthy=False),
    "nobody knows how healthy": lambda it: _vitals(it, healthy=None),
    "no release": lambda it: _vitals(it, release=""),
    "another release": lambda it: _vitals(it, release=OLD),
    "began anew": lambda it: _vitals(it, started="later"),
    "memory not told": lambda it: _vitals(it, memory=None),
    "a series renamed": lambda it: _vitals(it, unread=("requests_total",)),
    "three times the memory": lambda it: _vitals(it, memory=3.1 * (64 << 20)),
    "gone": lambda it: msgspec.structs.replace(it, vitals=tuple(one for one in it.vitals if one.slot not in SPARE)),
    "all gone": lambda it: msgspec.structs.replace(it, vitals=()),
}


@pytest.mark.parametrize("name", VITALS)
def test_no_release_passes_of_which_nobody_knows_how_it_is(clock: dict[str, World], name: str) -> None:
    here = splitting(clock)
    tried(here)
    head, *looks = here.kept[RUN, 2]
    assert judged([head, *looks]).outcome is Outcome.PASS
    changed = [msgspec.json.encode(VITALS[name](msgspec.json.decode(look, type=Line))) for look in looks]
    said = judged([head, *changed])
    assert said.outcome is not Outcome.PASS
    assert said.abort
    assert judged([head, *looks[:-1], changed[-1]]).outcome is not Outcome.PASS, "also when it is so at the end only"


COUNTS: dict[str, Callable[[Balanced], Balanced | None]] = {
    "not known": lambda it: msgspec.structs.replace(it, requests=None, failed=None),
    "missing": lambda _: None,
    "stands still": lambda it: msgspec.structs.replace(it, requests=1000, failed=1),
    "falls": lambda it: msgspec.structs.replace(it, requests=max(0, 10_000_000 - (it.requests or 0))),
    "more failed than asked": lambda it: msgspec.structs.replace(it, failed=(it.requests or 0) + 1),
    "failures not counted": lambda it: msgspec.structs.replace(it, failed=0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counters_that_nobody_can_believe_never_pass(
    clock: dict[str, World], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rollout_world import Balancer

    plain = Balancer.look
    here = splitting(clock, text=MANIFEST.replace('time_limit = "30 min"', 'time_limit = "3 min"'))

    def look(self: Balancer) -> list[Balanced]:
        seen = [COUNTS[name](one) if one.slot in SPARE else one for one in plain(self)]
        return [one for one in seen if one is not None]

    target = target_of(here)
    trial = trial_now(target, RUN, 2, NEW, OLD)
    here.kept[RUN, 2] = [msgspec.json.encode(trial)]
    monkeypatch.setattr(Balancer, "look", look)
    got = analysed(target, RUN, 2, NEW, OLD)
    assert got.judgement.outcome is not Outcome.PASS
    assert got.judgement.abort


def test_a_release_that_counts_under_another_name_never_passes(clock: dict[str, World]) -> None:
    here = splitting(clock, Nature(counts="renamed_total"))
    got = tried(here)
    assert got.judgement.outcome is not Outcome.PASS
    assert got.judgement.abort
    assert got.judgement.reason == "bank-3 has no requests_total in its metrics"


def test_the_histogram_is_of_customers_routes_alone() -> None:
    text = (
        "# TYPE s histogram\n"
        's_bucket{route="/pay",le="0.1"} 3\ns_bucket{route="/pay",le="+Inf"} 5\n'
        's_bucket{route="/see",le="0.1"} 1\ns_bucket{route="/see",le="+Inf"} 1\n'
        's_bucket{route="/readyz",le="0.1"} 90\ns_bucket{route="/readyz",le="+Inf"} 90\n'
    )
    series = Series(requests="r", latency="s", probe_routes=("/readyz",))
    assert buckets_of(parse_page(text), series, ["0.1"]) == {"0.1": 4.0, "+Inf": 6.0}
    assert buckets_of(parse_page(text), series, ["0.2"]) == {"0.2": None, "+Inf": 6.0}
    assert buckets_of(None, series, ["0.1"]) == {"0.1": None, "+Inf": None}
    assert buckets_of(parse_page(text), series, []) == {}


def test_latency_is_judged_by_the_instances_own_histograms(clock: dict[str, World]) -> None:
    text = MANIFEST.replace("margin = 3.0", 'margin = 3.0, edges = ["0.1"], prove = ["0.1"]')
    here = splitting(clock, text=text)
    got = tried(here)
    assert got.judgement.outcome is Outcome.PASS
    trial, looks = read_trial(here.kept[RUN, 2])
    assert trial.plan.latency is not None
    assert looks[-1].look.readings[0].buckets["+Inf"] == looks[-1].look.readings[0].requests
    assert isinstance(trial, Trial)
    assert isinstance(looks[0].vitals[0], Vital)
