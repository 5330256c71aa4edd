from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from canary_world import PLAN, TIMED, looks
from mutations import CANARY, begun_anew, missing, spoiled, stale, standing_still

from nvcops.core.errors import UsageError
from nvcops.delivery.canary import Canary, Outcome, Record, judge, verify
from nvcops.delivery.looks import Latency, Look, Plan, Reading


def verdict(plan: Plan, seen: Iterable[Look]) -> Record:
    return judge(plan, list(seen))


def planned(**changes: object) -> Plan:
    return msgspec.structs.replace(PLAN, **changes)


def test_a_good_canary_passes_and_the_report_says_why() -> None:
    result = verdict(TIMED, looks(1, seconds=600)).result
    assert (result.outcome, result.abort) == (Outcome.PASS, False)
    assert "odds below 2 times" in result.reason
    assert result.share == pytest.approx(0.1, abs=0.02)
    assert [part.name for part in result.parts if part.needed] == ["errors", "slower than 0.1 s"]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [({"worse": 5}, "errors"), ({"slower": 1.5}, "slower than"), ({"worse": 25}, "the canary fails")],
)
def test_a_bad_canary_fails_and_the_report_says_in_what(trouble: dict[str, float], said: str) -> None:
    result = verdict(TIMED, looks(2, seconds=600, **trouble)).result  # type: ignore[arg-type]
    assert (result.outcome, result.abort) == (Outcome.FAIL, True)
    assert said in result.reason


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5])
def test_a_canary_that_fails_half_its_requests_is_gone_after_nine_errors(share: float) -> None:
    """Looked at after every request; every second one of the canary's fails, the control's do not."""
    canary, served = Canary(planned(warm_up_s=0)), dict.fromkeys(("c1", "c2", "b1", "b2"), 0)
    bad = dict.fromkeys(served, 0)
    for number in range(5_000):
        each = round(1 / share)
        side = CANARY if number and number % each == 0 else ("b1", "b2")
        name = side[number // each % 2]
        served[name] += number > 0
        bad[name] += number > 0 and side == CANARY and sum(served[one] for one in CANARY) % 2 == 1
        readings = (Reading(instance=n, time=number / 10, requests=served[n], bad=bad[n]) for n in served)
        if canary.look(Look(time=number / 10, readings=tuple(readings))) is Outcome.FAIL:
            break
    assert canary.over
    assert sum(bad.values()) <= 9


def test_both_sides_failing_half_is_no_equality_to_be_proud_of() -> None:
    result = verdict(PLAN, looks(3, seconds=300, failing=0.5)).result
    assert result.outcome is Outcome.FAIL
    assert "the canary fails" in result.reason


def test_the_warm_up_is_no_evidence() -> None:
    cold = list(looks(4, seconds=50, worse=20))
    last = {reading.instance: reading for reading in cold[-1].readings}

    def warm(look: Look) -> Look:
        return Look(
            time=(look.time or 0) + 60,
            readings=tuple(
                msgspec.structs.replace(
                    r,
                    time=(r.time or 0) + 60,
                    requests=(r.requests or 0) + (last[r.instance].requests or 0),
                    bad=(r.bad or 0) + (last[r.instance].bad or 0),
                )
                for r in look.readings
            ),
        )

    seen = [*cold, *(warm(look) for look in looks(5, seconds=600))]
    assert verdict(PLAN, seen).result.outcome is Outcome.PASS
    assert verdict(planned(warm_up_s=0), seen).result.outcome is Outcome.FAIL


@pytest.mark.parametrize(("canary", "control"), [(("c1",), ("b1", "b2")), (("c1", "c2"), ("b1",))])
def test_one_instance_a_side_proves_nothing_safe_and_says_so(canary: tuple[str, ...], control: tuple[str, ...]) -> None:
    plan = planned(canary=canary, control=control)
    result = verdict(plan, looks(6, seconds=600, canary=canary, control=control)).result
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "2 are needed" in result.reason
    assert result.limited
    bad = verdict(plan, looks(6, seconds=600, worse=10, canary=canary, control=control)).result
    assert bad.outcome is Outcome.FAIL


def test_not_knowing_means_waiting_and_after_the_time_limit_aborting() -> None:
    quiet = list(looks(7, seconds=300, rps=10, failing=0.001))
    waiting = verdict(planned(time_limit_s=301), quiet).result
    over = verdict(planned(time_limit_s=299), quiet).result
    assert (waiting.outcome, waiting.abort) == (Outcome.INCONCLUSIVE, False)
    assert (over.outcome, over.abort) == (Outcome.INCONCLUSIVE, True)


def test_the_report_says_how_long_the_proof_takes_and_is_about_right() -> None:
    taken, said = [], []
    for seed in range(8):
        canary = Canary(planned(margin=1.5))
        for look in looks(seed, seconds=900, failing=0.05):
            canary.look(look)
            if look.time == 100:
                said.append(100 + (canary.result().proof.seconds or 0))
            if canary.over:
                break
        taken.append(canary.result().time)
    assert 0.4 < sorted(said)[4] / sorted(taken)[4] < 2.5


def test_nothing_bad_counted_means_that_nobody_can_say_how_long_it_takes() -> None:
    result = verdict(PLAN, looks(8, seconds=120, failing=0)).result
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.proof.seconds is None
    assert "perhaps they are not counted" in result.reason


def test_a_canary_whose_metrics_are_gone_is_taken_back_and_one_without_any_metrics_waits() -> None:
    good = list(looks(9, seconds=200, failing=0.001))
    gone = verdict(PLAN, spoiled(good, 3, CANARY, lambda _: [])).result
    assert (gone.outcome, gone.time) == (Outcome.FAIL, 90)
    assert "c1 was not read" in gone.reason
    nothing = verdict(PLAN, spoiled(good, 3, ("c1", "c2", "b1", "b2"), lambda _: [])).result
    assert (nothing.outcome, nothing.abort) == (Outcome.INCONCLUSIVE, False)


def test_a_canary_that_began_anew_is_taken_back() -> None:
    good = list(looks(10, seconds=200))
    base = {r.instance: r for r in good[4].readings}
    fallen = spoiled(good, 4, ["c2"], lambda r: [msgspec.structs.replace(r, requests=0, bad=0)])
    assert base["c2"].requests
    assert verdict(PLAN, fallen).result.outcome is Outcome.FAIL
    control = spoiled(good, 4, ["b2"], lambda r: [msgspec.structs.replace(r, requests=0, bad=0)])
    result = verdict(PLAN, control).result
    assert (result.outcome, result.abort) == (Outcome.INCONCLUSIVE, True)


def test_metrics_that_come_back_are_believed_again() -> None:
    good = list(looks(11, seconds=600))
    hole = [look if not 70 < (look.time or 0) < 100 else Look(time=look.time, readings=()) for look in good]
    assert verdict(PLAN, hole).result.outcome is Outcome.PASS


def test_the_share_is_the_observed_one_not_the_planned_one() -> None:
    """It was to get a tenth and gets three: by the nominal weight it would be three times as bad as the control."""
    assert verdict(PLAN, looks(12, seconds=600, share=0.3)).result.outcome is Outcome.PASS
    result = verdict(planned(share_max=0.2), looks(12, seconds=600, share=0.3)).result
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "was planned" in result.reason


def test_clusters_divide_the_evidence() -> None:
    counted = planned(assigned_by="user", cluster_max=4.0)
    plain, divided = (verdict(plan, looks(13, seconds=600)).result for plan in (PLAN, counted))
    assert plain.outcome is divided.outcome is Outcome.PASS
    assert divided.time > 2 * (plain.time - 60)


def test_a_verdict_is_verified_from_its_record_and_not_from_another() -> None:
    record = verdict(TIMED, looks(14, seconds=600))
    assert verify(msgspec.json.decode(msgspec.json.encode(record), type=Record))
    assert not verify(msgspec.structs.replace(record, plan=msgspec.structs.replace(TIMED, margin=1.2)))
    assert not verify(msgspec.structs.replace(record, looks=record.looks[:3]))
    failed = msgspec.structs.replace(record.result, outcome=Outcome.FAIL)
    assert not verify(msgspec.structs.replace(record, result=failed))


def test_what_comes_after_the_verdict_does_not_change_it() -> None:
    seen = list(looks(15, seconds=600))
    record = verdict(PLAN, seen)
    cut = verdict(PLAN, seen[: record.result.looks])
    assert cut.result == record.result


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"control": ("c1",)}, "not both"),
        ({"assigned_by": "user"}, "as a whole"),
        ({"warm_up_s": 4000.0}, "warm-up"),
        ({"margin": 1.0}, "margin"),
        ({"alpha": 0.0}, "alpha"),
        ({"latency": Latency(edges=("0.1", "0.05"), prove=("0.1",))}, "upwards"),
        ({"latency": Latency(edges=("soon",), prove=("soon",))}, "number of seconds"),
        ({"latency": Latency(edges=("+Inf",), prove=("+Inf",))}, "before"),
        ({"latency": Latency(edges=("0.1",), prove=("0.5",))}, "not looked at"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Canary(planned(**change))


def test_the_report_says_what_is_wrong_with_the_metrics() -> None:
    good, rng = list(looks(16, seconds=300, failing=0.001)), random.Random(1)
    for spoil, said in ((missing, "was not read"), (stale, "last read"), (standing_still, "stood still")):
        assert said in verdict(planned(gone_after_s=900), spoil(good, rng, 12)).result.reason
    assert "fell" in verdict(PLAN, begun_anew(good, rng, 12)).result.reason
