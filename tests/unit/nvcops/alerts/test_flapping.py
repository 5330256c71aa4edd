"""What comes and goes asks once, and is escalated by its first clock."""

from __future__ import annotations

import msgspec
from alerts_world import NOON, Office, at, said

from nvcops.core.alerts import Alert
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.incidents import opening
from nvcops.oncall import paging

WEBHOOK = """
route: {receiver: hook, group_by: [alertname], group_wait: 30s, group_interval: 5m, repeat_interval: 4h}
receivers:
  - name: hook
    webhook_configs: [{url: "http://127.0.0.1:1/"}]
"""
DOWN = said(service="bank", category="critical", summary="bank does not answer")


def fired(office: Office) -> list[Alert]:
    return [alert for alert in office.desk.every(Alert) if alert.ends is None]


def flapping(office: Office, begin: int, end: int, *, sends: bool = True) -> None:
    """Down for 20 seconds, up for 20 seconds; the outbox is emptied each second."""
    for second in range(begin, end):
        if second % 20 == 0:
            office.take(second, msgspec.structs.replace(DOWN, over=second % 40 == 20, starts=None))
        office.tick(second)
        paging.advance(office.desk, manifest=office.manifest, at=at(second))
        due = office.desk.find(Message, state=MessageState.WAITING, due__lte=at(second))
        state = MessageState.SENT if sends else MessageState.DROPPED
        office.desk.put(*(msgspec.structs.replace(one, state=state, sent=at(second)) for one in due))


def sent(office: Office, purpose: str) -> list[float]:
    told = office.desk.find(Message, purpose=purpose, state=MessageState.SENT, order="created")
    return [(one.sent - NOON).total_seconds() for one in told if one.sent]


def test_what_comes_and_goes_asks_once_and_is_escalated_by_its_clock() -> None:
    office = Office()
    flapping(office, 0, 601)
    assert len(office.desk.every(Page)) == 1
    assert sent(office, "page") == [0]
    (first, *_) = sent(office, "escalation")
    assert 300 <= first <= 330, "critical: five minutes after it was asked, or when it is back then"
    assert len(sent(office, "resolved")) == 1
    assert len(sent(office, "update")) <= 2


def test_who_has_what_comes_and_goes_is_not_asked_again_and_hears_its_end() -> None:
    office = Office()
    flapping(office, 0, 10)
    opening.acknowledge(office.desk, 1, manifest=office.manifest, person="dana", at=at(10))
    flapping(office, 10, 1210)
    assert (sent(office, "page"), sent(office, "escalation")) == ([0], [])
    for second in range(1210, 1600, 10):
        office.take(second, msgspec.structs.replace(DOWN, over=True))
        flapping(office, second + 1, second + 10)
    assert 1210 < sent(office, "resolved")[-1] < 1600


def test_a_page_that_reached_nobody_before_it_was_over_asks_anew_when_it_is_back() -> None:
    office = Office()
    flapping(office, 0, 30, sends=False)
    flapping(office, 30, 100)
    assert sent(office, "page")
