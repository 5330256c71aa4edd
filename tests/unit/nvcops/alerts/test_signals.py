"""What looks mean: streaks, ends, what is not known, and what is said again."""

from __future__ import annotations

import msgspec
import pytest
from alerts_world import Office, at, platform
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.alerts.said import Said
from nvcops.alerts.signals import Watchman
from nvcops.core.alerts import Alert, Category
from nvcops.core.incidents import Incident
from nvcops.core.manifest import WatchEntry
from nvcops.core.oncall import Message, Page
from nvcops.core.units import Seconds
from nvcops.core.watch import Look, Probe

PROBE = Probe(
    name="bank-1",
    kind="http",
    service="bank",
    interval=Seconds(1),
    deadline=Seconds(1),
    failures=2,
    recoveries=3,
    category=Category.CRITICAL,
    labels={"instance": "bank-1"},
)


def look(second: float, why: str = "", *, known: bool = True) -> Look:
    return Look(probe="bank-1", time=at(second), why=why, known=known)


def heard(watchman: Watchman, *looks: Look) -> list[Said]:
    return [said for said in watchman.hear(looks) if said.labels["alertname"] == "ProbeDown"]


@pytest.fixture
def watchman() -> Watchman:
    return Watchman([PROBE], platform())


def test_so_many_bad_looks_in_a_row_are_an_alert_since_the_first(watchman: Watchman) -> None:
    assert heard(watchman, look(0, "refused"), look(1), look(2, "refused")) == []
    (said,) = heard(watchman, look(3, "timed out"))
    assert said.labels == {
        "alertname": "ProbeDown",
        "category": "critical",
        "probe": "bank-1",
        "kind": "http",
        "service": "bank",
        "instance": "bank-1",
        "runbook": "system-status",
    }
    assert (said.starts, said.over, said.lasts) == (at(2), False, True)
    assert said.annotations["summary"] == "bank-1 does not answer as it should: timed out"
    assert "It failed since 12:00:02 UTC; looked at each 1 s, down after 2 in a row" in said.annotations["description"]


def test_so_many_good_looks_end_it_since_the_first(watchman: Watchman) -> None:
    heard(watchman, look(0, "refused"), look(1, "refused"))
    assert heard(watchman, look(2), look(3), look(4, "refused"), look(5), look(6)) == []
    (said,) = heard(watchman, look(7))
    assert (said.over, said.ends) == (True, at(5))


def test_unknown_is_not_failed_and_breaks_no_streak(watchman: Watchman) -> None:
    assert heard(watchman, look(0, "refused"), look(1, "no descriptors", known=False)) == []
    assert len(heard(watchman, look(2, "refused"))) == 1


def test_unknown_for_long_is_an_alert_of_its_own_until_it_is_known_again(watchman: Watchman) -> None:
    said = watchman.hear([look(0), *(look(second, "no descriptors", known=False) for second in range(1, 302))])
    (blind,) = [one for one in said if one.labels["alertname"] == "ProbeUnknown" and not one.over]
    assert (blind.starts, blind.labels["category"]) == (at(1), "high")
    assert blind.annotations["summary"] == "nothing is known of bank-1: no descriptors"
    (over,) = [one for one in watchman.hear([look(302)]) if one.labels["alertname"] == "ProbeUnknown"]
    assert over.over
    assert over.fingerprint == blind.fingerprint


def test_what_stands_is_said_again_each_minute_lest_it_is_lost(watchman: Watchman) -> None:
    heard(watchman, look(0, "refused"), look(1, "refused"))
    again = heard(watchman, *(look(second, "timed out") for second in range(2, 130)))
    assert [(said.starts, said.over) for said in again] == [(at(0), False)] * 2
    assert again[-1].annotations["summary"].endswith("timed out")


def test_after_a_restart_an_end_that_nobody_heard_is_said(watchman: Watchman) -> None:
    office = Office()
    office.take(1, *heard(watchman, look(0, "refused"), look(1, "refused")))
    office.tick(1)
    fresh = Watchman([PROBE], office.manifest)
    office.take(62, *fresh.hear([look(60), look(61), look(62)]))
    office.tick(62)
    assert [alert.ends for alert in office.desk.every(Alert)] == [at(60)]


def test_who_is_not_watched_says_nothing() -> None:
    manifest = msgspec.structs.replace(platform(), watch=WatchEntry(enabled=False))
    assert Watchman([PROBE], manifest).hear([look(0, "refused"), look(1, "refused")]) == []
    assert Watchman([], platform()).hear([look(0, "refused"), look(1, "refused")]) == []


def test_a_clean_hour_pages_nobody_and_a_single_bad_look_neither(watchman: Watchman) -> None:
    office = Office()
    for second in range(3600):
        office.take(second, *watchman.hear([look(second, "refused" if second % 600 == 7 else "")]))
        office.tick(second)
    assert [office.desk.every(kind) for kind in (Alert, Incident, Page, Message)] == [[], [], [], []]


def test_from_the_first_bad_look_to_the_page_passes_one_interval(watchman: Watchman) -> None:
    office = Office()
    for second, why in enumerate(["", "", "refused", "refused"]):
        office.take(second, *watchman.hear([look(second, why)]))
        office.tick(second)
    (page,) = office.desk.every(Page)
    assert page.opened == at(3)
    assert page.summary.endswith(" bank-1 does not answer as it should: refused")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["good", "bad", "unknown"]), max_size=60))
def test_what_is_said_follows_from_the_streaks_of_known_looks(looks: list[str]) -> None:
    watchman, known, down = Watchman([PROBE], platform()), [], None
    for second, kind in enumerate(looks):
        said = heard(watchman, look(second, "x" if kind == "bad" else "", known=kind != "unknown"))
        known += [kind] if kind != "unknown" else []
        if known[-2:] == ["bad"] * 2 and kind != "unknown":
            now = True
        elif known[-3:] == ["good"] * 3 and kind != "unknown":
            now = False
        else:
            now = down
        assert [not one.over for one in said] == ([now] if now is not down else [])
        down = now


def test_what_is_not_watched_any_more_is_over(watchman: Watchman) -> None:
    office = Office()
    gone = msgspec.structs.replace(PROBE, name="bank-2")
    both = Watchman([PROBE, gone], office.manifest)
    looks = [look(second, "refused") for second in range(2)]
    office.take(2, *both.hear([*looks, *(msgspec.structs.replace(one, probe="bank-2") for one in looks)]))
    firing = office.desk.find(Alert, ends__isnull=True)
    assert len(firing) == 2
    office.take(3, *watchman.ends(firing))
    assert [alert.labels["probe"] for alert in office.desk.find(Alert, ends__isnull=True)] == ["bank-1"]
