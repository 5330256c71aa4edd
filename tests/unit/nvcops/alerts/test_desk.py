"""From an alert to a page: what is taken in, when a group speaks, and who hears of it."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from alerts_world import NOON, Office, at, platform, routing_of, said

from nvcops.alerts import desk as alerts
from nvcops.alerts.own import of_itself, undeliverable
from nvcops.alerts.routing import default_routing
from nvcops.alerts.said import ORIGIN, PROBES, Said
from nvcops.core.alerts import Alert, Category, Group, Member
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Incident, IncidentState
from nvcops.core.oncall import Message, Page

WEBHOOK = """
route: {receiver: hook, group_by: [alertname], group_wait: 30s, group_interval: 5m, repeat_interval: 4h}
receivers:
  - name: hook
    webhook_configs: [{url: "http://127.0.0.1:1/"}]
"""
DOWN = said(service="bank", category="critical", summary="bank does not answer")


def fired(office: Office) -> list[Alert]:
    return [alert for alert in office.desk.every(Alert) if alert.ends is None]


def test_something_critical_opens_an_incident_and_pages_in_the_same_transaction() -> None:
    office = Office()
    office.take(0, DOWN)
    office.tick(0)
    (incident,) = office.desk.every(Incident)
    (page,) = office.desk.every(Page)
    (message,) = office.sent(0, "page")
    assert (incident.state, page.about, page.category) == (IncidentState.DETECTED, "incident/1", Category.CRITICAL)
    assert (message.to, message.incident, page.incident) == ("dana", 1, 1)
    assert "bank does not answer" in message.body


def test_the_end_of_the_last_alert_ends_the_page() -> None:
    office = Office()
    office.take(0, DOWN)
    office.tick(0)
    office.take(10, msgspec.structs.replace(DOWN, over=True))
    office.tick(29)
    assert not office.desk.every(Page)[0].resolved
    office.tick(30)
    assert office.desk.every(Page)[0].resolved == at(30)
    assert office.desk.every(Incident)[0].state is IncidentState.MITIGATED
    assert (office.desk.count(Group), office.desk.count(Member, told__isnull=False)) == (0, 0)


def test_a_group_waits_then_keeps_its_interval_and_repeats() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(instance="1"))
    office.tick(29)
    assert not office.posted(29)
    office.tick(30)
    assert [len(post["alerts"]) for post in office.posted(30)] == [1]
    office.take(60, said(instance="2"))
    office.tick(329)
    assert not office.posted(329)
    office.tick(330)
    assert [len(post["alerts"]) for post in office.posted(330)] == [2]
    for seconds in range(630, 330 + 4 * 3600, 300):
        office.tick(seconds)
        assert not office.posted(seconds), "nothing is new"
    office.tick(330 + 4 * 3600)
    assert len(office.posted(330 + 4 * 3600)) == 1


def test_what_has_been_firing_for_longer_than_group_wait_does_not_wait_again() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(starts=-31))
    office.tick(0)
    assert len(office.posted(0)) == 1
    later = Office(routing_of(WEBHOOK))
    later.take(0, said(instance="1"))
    later.take(10, said(instance="2", starts=-60))
    later.tick(10)
    assert len(later.posted(10)[0]["alerts"]) == 2


def test_what_ended_before_anybody_was_told_is_told_to_nobody() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said())
    office.take(10, said(over=True))
    office.tick(30)
    assert not office.posted(30)
    assert not office.desk.every(Group)


def test_a_resolved_alert_stays_resolved_and_one_that_fires_again_is_a_new_firing() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(starts=0))
    office.tick(30)
    office.take(40, said(starts=0, over=True))
    office.take(41, said(starts=0), said(starts=0, over=True), said(starts=0))
    assert not fired(office)
    office.take(50, said(starts=45))
    (alert,) = fired(office)
    assert (alert.starts, alert.noticed, alert.times) == (at(45), at(50), 1)
    office.tick(330)
    (post,) = office.posted(330)
    assert [(one["status"], one["startsAt"]) for one in post["alerts"]] == [("firing", "2026-11-23T12:00:45.000000Z")]


def test_what_is_not_said_again_is_over_and_fires_anew_when_it_is() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(starts=-60, lasts=False))
    office.tick(0)
    office.take(200, said(starts=-60, lasts=False))
    office.tick(499)
    assert fired(office)
    assert office.tick(500) is not None
    assert not fired(office)
    assert office.desk.every(Alert)[0].ends == at(500)
    office.tick(799)
    assert [post["status"] for post in office.posted(799)] == ["resolved"]
    office.take(900, said(starts=-60, lasts=False))
    office.tick(930)
    assert [post["status"] for post in office.posted(930)] == ["firing"]


def test_an_engine_that_was_away_does_not_end_what_nobody_could_say_to_it() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(starts=0, lasts=False))
    office.tick(30)
    alerts.resume(office.desk, at(3600), manifest=office.manifest, routing=office.routing)
    office.tick(3600)
    assert fired(office)
    office.tick(3900)
    assert not fired(office)


def test_another_routing_takes_over_what_fires() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said())
    office.tick(30)
    office.routing = routing_of(
        WEBHOOK.replace("receiver: hook,", "receiver: hook, routes: [{match: {alertname: Down}}],")
    )
    alerts.resume(office.desk, at(60), manifest=office.manifest, routing=office.routing)
    office.tick(90)
    assert [post["groupKey"] for post in office.posted(90)] == ['{}/{alertname="Down"}:{alertname="Down"}']
    office.tick(330)
    assert [group.key for group in office.desk.every(Group)] == ['{}/{alertname="Down"}:{alertname="Down"}']


def test_what_is_muted_is_not_told_but_an_end_is() -> None:
    muted = WEBHOOK.replace(
        "receiver: hook,", "receiver: hook, routes: [{match: {alertname: Down}, mute_time_intervals: [late]}],", 1
    )
    office = Office(
        routing_of(
            muted
            + "time_intervals: [{name: late, time_intervals: [{times: [{start_time: '12:01', end_time: '13:00'}]}]}]"
        )
    )
    office.take(0, said(instance="1"), said(instance="2"))
    office.tick(30)
    office.take(61, said(instance="3"), said(instance="1", over=True))
    office.tick(330)
    (post,) = office.posted(330)
    assert [(a["labels"]["instance"], a["status"]) for a in post["alerts"]] == [("1", "resolved")]
    for seconds in range(630, 3600, 300):
        office.tick(seconds)
        assert not office.posted(seconds)
    office.tick(3630)
    assert {a["labels"]["instance"] for a in office.posted(3630)[0]["alerts"]} == {"2", "3"}


def test_what_inhibits_mutes_while_it_fires() -> None:
    office = Office(
        routing_of(
            WEBHOOK
            + """
inhibit_rules:
  - {source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [service]}
"""
        )
    )
    office.take(0, said("Gone", severity="critical", service="bank"), said("Slow", severity="warning", service="bank"))
    office.take(0, said("Slow", severity="warning", service="other"))
    office.tick(30)
    told = [(a["labels"]["alertname"], a["labels"]["service"]) for post in office.posted(30) for a in post["alerts"]]
    assert sorted(told) == [("Gone", "bank"), ("Slow", "other")]
    office.take(40, said("Gone", severity="critical", service="bank", over=True))
    office.tick(330)
    told = [(a["labels"]["alertname"], a["status"]) for post in office.posted(330) for a in post["alerts"]]
    assert sorted(told) == [("Gone", "resolved"), ("Slow", "firing"), ("Slow", "firing")]


def test_of_one_figure_the_worst_is_told() -> None:
    office = Office()
    warning = said("LimitExceeded", category="medium", probe="disk.data", bound="warning", summary="80 %")
    other = said("LimitExceeded", category="medium", probe="disk.log", bound="warning", summary="log")
    office.take(0, warning, said("ProbeDown", category="high", probe="disk.data", summary="90 %"), other)
    office.tick(30)
    told = "".join(message.body for message in office.sent(30))
    assert "90 %" in told
    assert "log" in told
    assert "80 %" not in told


def test_more_than_fit_are_refused_which_is_an_alert_itself_until_there_is_room() -> None:
    office = Office(manifest=platform(firing_max=20))
    flood = [said(instance=str(number)) for number in range(25)]
    taken = office.take(0, *flood)
    assert (taken.begun, taken.refused) == (20, 5)
    office.tick(0)
    assert [message.subject for message in office.sent(0, "page")] != []
    assert "new alerts refused, because more than 20 fire: 5" in office.sent(0, "page")[0].body
    again = office.take(1, *flood)
    assert (again.known, again.refused) == (20, 5), "what is known is still taken"
    office.take(2, *(msgspec.structs.replace(one, over=True) for one in flood))
    office.take(3, said("Other"))
    assert [alert.name for alert in fired(office)] == ["Other"]


def test_a_flood_does_not_hide_what_we_see_ourselves() -> None:
    office = Office(manifest=platform(firing_max=20))
    flood = [said(instance=str(number)) for number in range(25)]
    down = Said(labels={"alertname": "ProbeDown", "category": "critical", "service": "bank"}, source=PROBES)
    assert office.take(0, *flood, down).refused == 5
    assert "ProbeDown" in [alert.name for alert in fired(office)]


def test_what_was_cited_is_taken_whatever_stands_in_it() -> None:
    office = Office()
    office.take(0, Said(labels={"alertname": "Down"}, annotations={"summary": "it says a\x00b\udc80"}, source=PROBES))
    assert [alert.summary for alert in fired(office)] == ["it says a\ufffdb\ufffd"]


def test_a_webhook_that_takes_nothing_is_one_alert_that_does_not_keep_itself_alive() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said())
    office.tick(30)
    (lost,) = office.sent(30, "webhook")
    assert not of_itself(lost)
    office.take(31, undeliverable(lost))
    office.tick(61)
    (about_it,) = office.sent(61, "webhook")
    assert of_itself(about_it), "else its loss would be an alert, whose message is lost"
    assert not of_itself(msgspec.structs.replace(about_it, to="receiver:other"))


def test_our_own_notification_that_comes_back_is_refused() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said())
    office.tick(30)
    (post,) = office.posted(30)
    back = Said(labels=post["alerts"][0]["labels"], annotations=post["alerts"][0]["annotations"], source="webhook")
    assert back.annotations[ORIGIN] == office.manifest.evidence.origin
    with pytest.raises(UsageError, match="'Down' is our own notification"):
        office.take(31, said("Other"), back)
    assert [alert.name for alert in fired(office)] == ["Down"]


def test_many_groups_of_one_incident_page_once_and_another_policy_is_asked_too() -> None:
    office = Office(
        routing_of("""
route:
  receiver: oncall
  group_by: [alertname]
  group_wait: 0s
  routes: [{match: {team: database}, receiver: database}]
receivers: [{name: oncall}, {name: database}]
""")
    )
    names = [f"Down{number}" for number in range(30)]
    office.take(0, *(said(name, service="bank", category="critical") for name in names))
    office.tick(0)
    assert office.desk.count(Group) == 30
    assert [page.about for page in office.desk.every(Page)] == ["incident/1"]
    assert len(office.desk.every(Message)) == len(office.sent(0, "page")) == 1
    office.take(1, said("Replica", service="bank", category="high", team="database"))
    office.tick(1)
    assert [page.about for page in office.desk.every(Page)] == ["incident/1", "incident/1/database"]
    office.take(2, *(said(name, service="bank", category="critical", over=True) for name in names))
    office.take(2, said("Replica", service="bank", category="high", team="database", over=True))
    office.tick(300)
    office.tick(301)
    assert all(page.resolved for page in office.desk.every(Page))


def test_what_is_no_incident_is_paged_for_itself() -> None:
    office = Office()
    office.take(0, said("Untidy", category="low", service="bank"))
    office.tick(30)
    assert not office.desk.every(Incident)
    (page,) = office.desk.every(Page)
    assert (page.about, page.category) == ('{}:{alertname="Untidy",service="bank"}', Category.LOW)
    office.take(40, said("Untidy", category="low", service="bank", over=True))
    office.tick(330)
    assert office.desk.every(Page)[0].resolved == at(330)


@pytest.mark.parametrize(("person", "responds"), [("dana", "dana"), ("their desk", "")])
def test_an_acknowledgement_elsewhere_is_one_here(person: str, responds: str) -> None:
    office = Office()
    office.take(0, DOWN)
    office.tick(0)
    office.take(5, msgspec.structs.replace(DOWN, acknowledged_by=person))
    office.take(6, msgspec.structs.replace(DOWN, acknowledged_by=person), said("Unknown", summary="x"))
    (page,) = office.desk.every(Page)
    assert (page.acknowledged_by, page.acknowledged, page.next) == (person, at(5), None)
    assert office.desk.every(Incident)[0].acknowledged_by == responds


def test_ten_thousand_alerts_are_taken_and_told_with_few_questions() -> None:
    office = Office(routing_of(WEBHOOK))
    storm = [said("Storm", instance=str(number), severity="page") for number in range(10_000)]
    office.take(0, *storm)
    taken, office.desk.asked = office.desk.asked, 0
    office.tick(30)
    assert taken < 100, "not one for each alert"
    assert office.desk.asked < 100
    (post,) = office.posted(30)
    assert len(post["alerts"]) + post["truncatedAlerts"] == 10_000
    office.desk.asked = 0
    office.tick(31)
    assert office.desk.asked < 10, "a group that is not due is not read"


def test_a_clean_hour_pages_nobody_and_costs_nothing() -> None:
    office = Office()
    for second in range(3600):
        due = office.tick(second)
    assert (due, office.desk.every(Message), office.desk.every(Alert)) == (None, [], [])


def test_what_was_over_long_ago_is_forgotten() -> None:
    office = Office(routing_of(WEBHOOK))
    office.take(0, said(), said("Other"))
    office.tick(30)
    office.take(40, said(over=True))
    office.tick(330)
    office.tick(3640)
    assert len(office.desk.every(Alert)) == 2
    office.tick(3641)
    assert [alert.name for alert in office.desk.every(Alert)] == ["Other"]
    assert len(office.desk.every(Member)) == 1


def test_without_a_policy_the_incident_is_opened_all_the_same() -> None:
    manifest = msgspec.structs.replace(platform(), oncall=type(platform().oncall)())
    office = Office(default_routing(manifest), manifest)
    office.take(0, DOWN)
    office.tick(0)
    assert len(office.desk.every(Incident)) == 1
    assert not office.desk.every(Page)


def test_the_next_moment_is_the_soonest_of_what_is_due() -> None:
    office = Office(routing_of(WEBHOOK))
    assert office.tick(0) is None
    office.take(0, said(lasts=False))
    assert office.tick(0) == NOON + dt.timedelta(seconds=30)
    assert office.tick(30) == NOON + dt.timedelta(minutes=5)
