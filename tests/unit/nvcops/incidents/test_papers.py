"""What is written from an incident's records: post-mortem, drafts, checklists, status page."""

from __future__ import annotations

import html.parser
import json
import re
from typing import Any

import msgspec
import pytest
from incident_world import DOOR, ONE, TWO, alert, example, hours, lines, minutes, notice, opened, over, resolved

from desk import MemoryDesk
from nvcops.core.errors import UsageError
from nvcops.core.incidents import Event, Incident, Role, Severity, Suggestion
from nvcops.core.manifest import Manifest
from nvcops.incidents import checklists, clocks, drafts, leading, messages, opening, postmortem, status_page
from nvcops.incidents.clocks import RULES
from nvcops.incidents.impact import Figure, Impact

COST = Impact(
    start=minutes(0),
    end=minutes(40),
    figures=(
        Figure(title="Payments failed", value=30, said="30 of 1,000", source="metrics of bank"),
        Figure(title="Customers touched", source="log of bank", why="no log is named"),
    ),
)
EVIL = '<script>alert(1)</script> " onload=x & [link](javascript:alert(1)) | ```'


# --- the post-mortem ---


def test_a_post_mortem_tells_the_whole_story(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = resolved(desk, manifest)
    leading.assign(desk, 1, manifest=manifest, role=Role.COMMANDER, to="omar", person="dana", at=hours(1.2))
    text = postmortem.write(postmortem.story(desk, 1, manifest=manifest, impact=COST), manifest, hours(2))
    for said in (
        "# Post-mortem: incident 1, bank does not answer",
        "Severity P0, at worst P0",
        "incident commander: omar",
        "| Minutes | 40.0 |",
        "| Payments failed | 30 of 1,000 | metrics of bank |",
        "| Customers touched | not known: no log is named |",
        "| Detected | 2026-11-22 12:00 EST | 0 s after it began |",
        "| Acknowledged | 2026-11-22 12:03 EST | after 3 min, in time, by dana |",
        "| Mitigated | 2026-11-22 12:40 EST | 40 min after it was detected |",
        "- P0: complete outage: ProbeDown: bank does not answer",
        "## Action items",
        "- [x] 2. Initial Response: Acknowledge alert within 5 minutes",
    ):
        assert said in text, said
    order = [text.index(f"| {kind} |") for kind in ("opened", "acknowledged", "mitigated", "resolved")]
    assert order == sorted(order)
    assert incident.resolution in text


def test_what_is_not_written_is_not_published(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    text = postmortem.write(postmortem.story(desk, 1, manifest=manifest, impact=COST), manifest, hours(2))
    assert postmortem.unwritten(text) == ["What went well", "What went badly", "Root cause"]
    with pytest.raises(UsageError, match="not written yet: What went well, What went badly, Root cause"):
        postmortem.publish(desk, 1, manifest=manifest, text=text, person="dana", at=hours(3))
    whole = text.replace(postmortem.TO_WRITE, "It was written:")
    digest = postmortem.publish(desk, 1, manifest=manifest, text=whole, person="dana", at=hours(3))
    assert postmortem.published(desk, 1) == whole.strip()
    assert next(entry for entry in desk.notes if entry.kind == "incident.postmortem").body["sha256"] == digest
    assert not any("It was written" in line for line in lines(desk, 1, "postmortem"))


def test_before_it_is_resolved_there_is_nothing_to_publish(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    with pytest.raises(UsageError, match="cannot be closed"):
        postmortem.publish(desk, 1, manifest=manifest, text="done", person="dana", at=hours(3))


def test_what_somebody_wrote_cannot_break_the_document(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, msgspec.structs.replace(DOOR, annotations={"summary": EVIL}))
    leading.note(desk, 1, manifest=manifest, text=EVIL, person="dana", at=minutes(1))
    text = postmortem.write(postmortem.story(desk, 1, manifest=manifest), manifest, hours(2))
    assert "<script" not in text
    assert "[link](" not in text
    note = next(line for line in text.splitlines() if "| note |" in line)
    assert len(re.findall(r"(?<!\\)\|", note)) == 5


# --- checklists ---


def standings(desk: MemoryDesk, manifest: Manifest) -> dict[str, str]:
    found = checklists.checklist(checklists.seen(desk, 1), manifest)
    return {line.item: line.standing for line in found}


def test_the_checklists_are_the_runbooks() -> None:
    assert list(checklists.PHASES) == [
        "1. Detection and Alert",
        "2. Initial Response",
        "3. Investigation",
        "4. Resolution",
        "5. Post-Incident",
    ]
    assert checklists.PHASES["2. Initial Response"] == (
        "Acknowledge alert within 5 minutes",
        "Assess severity and impact",
        "Notify stakeholders if P0/P1",
        "Begin investigation",
    )
    assert checklists.PHASES["5. Post-Incident"][0] == "Conduct post-mortem (P0/P1)"


def test_what_was_done_is_seen_and_what_was_not_is_open(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    before = standings(desk, manifest)
    assert {item for item, standing in before.items() if standing == "done"} == {
        "Assess severity and impact",
        "Notify stakeholders if P0/P1",
    }
    leading.acknowledge(desk, 1, manifest=manifest, person="dana", at=minutes(9))
    assert standings(desk, manifest)["Acknowledge alert within 5 minutes"] == "late"


def test_resolved_while_nothing_fires_is_verified(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    after = standings(desk, manifest)
    for item in (*checklists.PHASES["4. Resolution"], "Acknowledge alert within 5 minutes"):
        assert after[item] == "done", item
    assert after["Conduct post-mortem (P0/P1)"] == "open"
    assert after["Update runbooks"] == "open"


def test_a_p2_needs_no_message_and_no_post_mortem(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, alert(kind="replication", probe="db-2"))
    after = standings(desk, manifest)
    assert (after["Notify stakeholders if P0/P1"], after["Conduct post-mortem (P0/P1)"]) == ("not needed", "not needed")


def test_a_person_ticks_and_the_first_who_did_stands_there(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    for person, at in (("dana", minutes(3)), ("omar", minutes(4))):
        ticked = checklists.tick(
            desk, 1, manifest=manifest, item="Check monitoring dashboards", person=person, at=at, note="all red"
        )
        assert ticked.by == "dana"
    assert standings(desk, manifest)["Check monitoring dashboards"] == "done"
    assert lines(desk, 1, "check") == ["Check monitoring dashboards"]
    with pytest.raises(UsageError, match="no line 'Sleep'"):
        checklists.tick(desk, 1, manifest=manifest, item="Sleep", person="dana", at=minutes(5))


def test_a_linked_run_that_began_after_the_detection_checks_the_system(desk: MemoryDesk, manifest: Manifest) -> None:
    incident = opened(desk, manifest, DOOR)
    for minute, standing in ((-5, "open"), (5, "done")):
        link = {"kind": "run", "id": "system-status@x", "text": "", "time": minutes(minute).isoformat()}
        desk.put(msgspec.structs.replace(incident, links=(link,)))
        assert standings(desk, manifest)["Check system status"] == standing


# --- regulators' drafts ---


def test_every_report_has_a_form() -> None:
    assert set(drafts.FORMS) >= set(RULES)


def test_a_draft_is_filled_from_what_is_known_and_says_what_is_missing(desk: MemoryDesk) -> None:
    manifest = example("dora", "us")
    resolved(desk, manifest, DOOR)
    clocks.begin(desk, 1, manifest=manifest, rule="dora-4h", person="omar", at=hours(2), reason="major")
    first = drafts.draft("dora-4h", drafts.known(desk, 1, COST), manifest)
    assert "**When it was classified as major:** 2026-11-22 14:00 EST" in first.text
    assert "our own monitoring, 2026-11-22 12:00 EST, 0 s after its first sign: ProbeDown" in first.text
    assert first.missing == ("criteria", "member-states", "origin", "continuity")
    drafts.state(desk, 1, manifest=manifest, field="origin", text="our own", person="omar", at=hours(3))
    drafts.state(desk, 1, manifest=manifest, field="origin", text="a supplier", person="omar", at=hours(4))
    second = drafts.draft("dora-24h", drafts.known(desk, 1, COST), manifest)
    assert "origin" not in second.missing
    assert "a supplier" in second.text
    us = drafts.draft("us-36h", drafts.known(desk, 1, COST), manifest)
    assert us.missing == ("determined",)
    assert "30 of 1,000" in us.text
    assert "Dana Whitfield, Compliance Officer +1-555-0103" in us.text
    with pytest.raises(UsageError, match="no report has a field"):
        drafts.state(desk, 1, manifest=manifest, field="mood", text="x", person="omar", at=hours(4))


def test_a_likely_cause_does_not_pass_for_the_root_cause(desk: MemoryDesk) -> None:
    manifest = example("dora")
    incident = resolved(desk, manifest)
    desk.put(
        msgspec.structs.replace(incident, suggestions=(Suggestion(title="1.1", evidence="the watch", weight=0.9),))
    )
    final = drafts.draft("dora-1month", drafts.known(desk, 1), manifest)
    assert "root-cause" in final.missing
    assert "**Root cause:** MISSING likely, not confirmed: 1.1 (the watch)" in final.text


# --- the status page ---


class Tags(html.parser.HTMLParser):
    """All tags and their attributes, and the nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rendered(desk: MemoryDesk, manifest: Manifest, at: float = 2) -> tuple[str, dict[str, Any]]:
    files = status_page.render(desk, manifest=manifest, at=hours(at))
    assert set(files) == {"index.html", "feed.json"}
    return files["index.html"].decode(), json.loads(files["feed.json"])


def parsed(page: str) -> list[tuple[str, dict[str, Any]]]:
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    return tags.tags


def test_a_quiet_page(desk: MemoryDesk, manifest: Manifest) -> None:
    page, feed = rendered(desk, manifest)
    assert "All services work" in page
    assert (feed["version"], feed["items"]) == ("https://jsonfeed.org/version/1.1", [])
    tags = parsed(page)
    names = [tag for tag, _ in tags]
    assert "script" not in names
    assert dict(tags)["html"] == {"lang": "en"}
    assert {"main", "h1", "header", "footer", "title"} <= set(names)
    policy = next(attributes["content"] for tag, attributes in tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")


def test_an_outage_is_shown_without_what_is_internal(desk: MemoryDesk, manifest: Manifest) -> None:
    secret = msgspec.structs.replace(DOOR, annotations={"summary": "10.0.0.7 refuses connections of svc-payments"})
    opened(desk, manifest, secret)
    leading.note(desk, 1, manifest=manifest, text="dana suspects the new vendor", person="dana", at=minutes(3))
    page, feed = rendered(desk, manifest)
    assert "Major disruption of bank" in page
    assert feed["items"][0]["title"] == "Major disruption of bank"
    for hidden in ("10.0.0.7", "svc-payments", "vendor", "dana"):
        assert hidden not in page
        assert hidden not in json.dumps(feed)


def test_only_what_was_said_in_public_is_public_and_harmless(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    for text, public in ((EVIL, True), ("only for the board", False)):
        messages.update(desk, 1, manifest=manifest, text=text, person="dana", at=minutes(3), public=public)
    page, feed = rendered(desk, manifest)
    assert "board" not in page + json.dumps(feed)
    assert "&lt;script&gt;" in page
    for tag, attributes in parsed(page):
        assert tag != "script"
        assert not any(name.startswith("on") for name in attributes)
        assert not str(attributes.get("href", "")).startswith("javascript")
    assert EVIL in feed["items"][0]["content_text"]


@pytest.mark.parametrize("kind", ["drill", "security", "minor", "old"])
def test_what_the_public_is_not_shown(desk: MemoryDesk, manifest: Manifest, kind: str) -> None:
    labels = {"drill": {"drill": "true"}, "security": {"signal": "breach"}}.get(kind, {})
    one = ONE if kind != "minor" else alert(kind="replication", probe="db-2", service="bank")
    opened(desk, manifest, msgspec.structs.replace(one, labels=one.labels | labels))
    if kind == "old":
        leading.acknowledge(desk, 1, manifest=manifest, person="dana", at=minutes(2))
        leading.resolve(desk, 1, manifest=manifest, text="t", person="dana", at=minutes(3), despite="gone")
    page, feed = rendered(desk, manifest, at=24 * 31 if kind == "old" else 2)
    assert not feed["items"]
    assert "disruption" not in page


def test_a_security_incident_is_shown_once_somebody_says_so(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, msgspec.structs.replace(ONE, labels=ONE.labels | {"signal": "breach"}))
    messages.update(
        desk, 1, manifest=manifest, text="We reset all passwords.", person="dana", at=minutes(3), public=True
    )
    page, feed = rendered(desk, manifest)
    assert "We reset all passwords." in page
    assert len(feed["items"]) == 1


def test_a_resolved_one_moves_down(desk: MemoryDesk, manifest: Manifest) -> None:
    resolved(desk, manifest)
    page, feed = rendered(desk, manifest)
    assert "All services work" in page
    assert page.index("Major disruption of bank") > page.index("The last 30 days")
    assert feed["_status"] == {"state": "All services work", "as_of": "2026-11-22T19:00:00Z", "going_on": 0}


def test_events_of_one_kind_do_not_leak_between_incidents(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    opening.open_by_hand(desk, manifest=manifest, title="x", person="dana", at=minutes(30), severity=Severity.P3)
    assert {event.incident for event in desk.every(Event)} == {1, 2}
    assert len(desk.every(Incident)) == 2
    assert len(rendered(desk, manifest)[1]["items"]) == 1


def test_what_customers_felt_stays_on_the_page_when_it_gets_better(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE, TWO)
    better = notice(minutes(30), resolved=[over(TWO, minutes(30))])
    opening.of_notice(desk, better, manifest=manifest, at=minutes(30))
    leading.override(
        desk, 1, manifest=manifest, severity=Severity.P2, reason="one serves", person="dana", at=minutes(31)
    )
    page, feed = rendered(desk, manifest)
    assert "Minor disruption of bank" in page
    assert len(feed["items"]) == 1


def test_of_many_updates_the_newest_are_shown(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, DOOR)
    for number in range(130):
        said = {"text": f"word {number}", "public": number % 2 == 0, "at": minutes(number)}
        messages.update(desk, 1, manifest=manifest, person="dana", **said)
    text = rendered(desk, manifest)[1]["items"][0]["content_text"].splitlines()
    assert (len(text), text[1], text[-1]) == (51, "word 128", "word 30")
