"""What follows from an attempt, where a message goes, and what is said of an address."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvcops.adapters.outbox import outcomes
from nvcops.adapters.outbox.addresses import Address, address_of, other_channels
from nvcops.adapters.outbox.transport import Transport, payload_of, without_secrets
from nvcops.core.alerts import Category
from nvcops.core.errors import ManifestError, NotFoundError
from nvcops.core.manifest import Contact, Contacted, EvidenceEntry, Manifest, Person, Platform
from nvcops.core.oncall import Message, MessageState, Page

T = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def message(to: str = "dana", channel: str = "0:sms", **given: Any) -> Message:
    plain = {"subject": "s", "body": "b", "purpose": "page", "created": T, "due": T, "attempts": 1}
    return Message(**{"id": f"c/{to}/{channel}", "to": to, "channel": channel, **plain, **given})


def manifest(folder: Path) -> Manifest:
    ways = (
        Contact(kind="sms", url_file=folder / "sms", categories=(Category.CRITICAL,)),
        Contact(kind="email", url="mailto://relay.example.com?to=dana@example.com"),
    )
    return Manifest(
        platform=Platform(name="t", title="T", state=folder),
        evidence=EvidenceEntry(origin="t.example.com/o"),
        people=(Person(name="dana", full_name="Dana", roles=("operator",), contacts=ways),),
        contacts=(Contacted(name="cto", title="CTO", kind="management", contacts=ways[1:]),),
    )


def no_hooks(_name: str) -> list[Any]:
    return []


def test_an_address_is_looked_up_when_it_is_needed(tmp_path: Path) -> None:
    platform = manifest(tmp_path)
    with pytest.raises(ManifestError):
        address_of(message(), platform, no_hooks)
    (tmp_path / "sms").touch(mode=0o600)
    (tmp_path / "sms").write_text("twilio://sid:token@from/to\n")
    found = address_of(message(), platform, no_hooks)
    assert (found.url, found.webhook) == ("twilio://sid:token@from/to", False)
    assert "token" not in repr(found)
    assert address_of(message("cto", "0:email"), platform, no_hooks).url.startswith("mailto://")
    hook = SimpleNamespace(url="", url_file=tmp_path / "sms")
    assert address_of(message("receiver:x", "0:webhook"), platform, lambda _name: [hook]).webhook
    for stranger in (message("ghost"), message("dana", "2:chat"), message("receiver:gone", "0:webhook")):
        with pytest.raises(NotFoundError, match="has no channel"):
            address_of(stranger, platform, no_hooks)


def test_the_other_channels_take_what_the_page_is_about(tmp_path: Path) -> None:
    platform = manifest(tmp_path)
    assert other_channels(message(), platform, Category.CRITICAL) == ["1:email"]
    assert other_channels(message(), platform, None) == ["1:email"]
    assert other_channels(message(channel="1:email"), platform, Category.CRITICAL) == []
    assert other_channels(message("receiver:x", "0:webhook"), platform, None) == []
    assert other_channels(message("ghost"), platform, None) == []


def test_only_a_question_loses_its_use() -> None:
    page = Page(id="p", about="x", policy="oncall", category=Category.HIGH, summary="", opened=T)
    answered = Page(id="p", about="x", policy="oncall", category=Category.HIGH, summary="", opened=T, acknowledged=T)
    assert not outcomes.of_no_use(message(), page)
    assert not outcomes.of_no_use(message(), None)
    assert outcomes.of_no_use(message(), answered)
    assert outcomes.of_no_use(message(purpose="escalation"), answered)
    assert not outcomes.of_no_use(message(purpose="update"), answered)


@given(attempts=st.integers(1, 10_000), seed=st.integers(0, 1_000))
def test_a_pause_grows_and_has_an_end(attempts: int, seed: int) -> None:
    pause = outcomes.pause_s(attempts, Random(seed))
    assert 0.5 <= pause <= 300
    assert outcomes.pause_s(attempts + 1, Random(seed)) >= pause


@given(attempts=st.integers(1, 20), most=st.integers(1, 20), page=st.booleans(), others=st.booleans())
def test_a_channel_is_exhausted_at_its_last_attempt(attempts: int, most: int, page: bool, others: bool) -> None:
    asked = message(attempts=attempts, purpose="page" if page else "update")
    done = outcomes.exhausted(asked, lasting=False, others=["1:email"] if others else [], attempts_max=most)
    assert done == (attempts >= (min(2, most) if page and others else most))


def test_a_message_is_let_go_of_whatever_came_of_it() -> None:
    held = message(leased_by="w", lease_until=T, state=MessageState.SENDING, error="before")
    ends = {
        MessageState.SENT: outcomes.sent(held, "taken", T),
        MessageState.DROPPED: outcomes.dropped(held),
        MessageState.WAITING: outcomes.again(held, "why", T, Random(1)),
        MessageState.FALLEN_BACK: outcomes.given_up(held, "why", fallen_back=True),
        MessageState.DEAD: outcomes.given_up(held, "why", fallen_back=False),
    }
    for state, ended in ends.items():
        assert (ended.state, ended.leased_by, ended.lease_until) == (state, "", None)
    assert ends[MessageState.WAITING].due > T
    assert ends[MessageState.SENT].error == ""


def test_a_payload_is_sent_as_it_is_and_made_where_there_is_none() -> None:
    assert payload_of(message(payload='{"a":1}')) == b'{"a":1}'
    made = json.loads(payload_of(message("receiver:chat", "0:webhook", purpose="resolved")))
    assert (made["version"], made["status"], made["receiver"]) == ("4", "resolved", "chat")
    assert made["alerts"][0]["annotations"] == {"summary": "s", "description": "b"}
    assert made["alerts"][0]["startsAt"] == "2026-11-01T00:00:00Z"


@given(
    user=st.text("abcdef0123456789", min_size=8, max_size=12),
    password=st.text("ghijkl0123456789", min_size=8, max_size=12),
    token=st.text("mnopqr0123456789", min_size=8, max_size=20),
)
def test_nothing_of_an_address_is_said_but_where_it_leads(user: str, password: str, token: str) -> None:
    url = f"mailtos://{user}:{password}@relay.example.com/{token}?to={user}@example.org"
    said = without_secrets(f"cannot reach {url}: relay.example.com knows no {user} {password} {token}\x1b[31m", url)
    assert not any(secret in said for secret in (user, password, token))
    assert "relay.example.com knows" in said
    assert said.isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/hidden?token=hidden",
        "http://hidden:hidden@127.0.0.1:1/x",
        "http://127.0.0.1:1/s\nhidden",
        "http://127.0.0.1:hidden/",
        "http://[hidden/",
        "hidden",
        "https://127.0.0.1:1/%68idden",
    ],
)
def test_what_is_said_of_a_webhook_that_cannot_be_reached_says_no_secret(address: str) -> None:
    outcome = Transport(2.0).send(message("receiver:chat", "0:webhook"), Address(address, webhook=True))
    assert outcome.error
    assert "hidden" not in repr(outcome)
