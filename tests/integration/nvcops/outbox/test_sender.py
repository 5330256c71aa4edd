"""Messages reach their receivers, whatever these do."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller

sys.path.insert(0, str(Path(__file__).parent))

from receivers import CRITICAL, HEADER, PATIENCE_S, Receiver, hook, platform, receiver, sending

from nvclab.parts.process import free_ports
from nvcops.adapters.evidence.log import open_log
from nvcops.adapters.outbox.addresses import Address
from nvcops.adapters.outbox.sender import Sender
from nvcops.adapters.outbox.transport import Transport
from nvcops.adapters.records import open_records
from nvcops.core import schedule
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, MessageState, Page, message_id
from nvcops.core.records import Records

T = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Callable[[Manifest], Records]]:
    stores: list[Records] = []

    def once(manifest: Manifest) -> Records:
        stores.append(open_records(manifest))
        return stores[-1]

    yield once
    for store in stores:
        store.close()


def message(to: str, channel: str = "0:chat", cause: str = "p1/r0s0", **given: Any) -> Message:
    plain = {"subject": f"down: {to}", "body": "the bank is down", "purpose": "page", "created": T, "due": T}
    return Message(**{"id": message_id(cause, to, channel), "to": to, "channel": channel, **plain, **given})


def written(records: Records, *rows: msgspec.Struct) -> None:
    with records.changing() as desk:
        desk.put(*rows)


def all_of(records: Records) -> dict[str, Message]:
    with records.reading() as reading:
        return {one.id: one for one in reading.find(Message)}


def until(records: Records, done: Callable[[dict[str, Message]], bool]) -> dict[str, Message]:
    end = time.monotonic() + PATIENCE_S
    while not done(found := all_of(records)):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def ended(found: dict[str, Message]) -> bool:
    return not {one.state for one in found.values()} & {MessageState.WAITING, MessageState.SENDING}


def test_a_page_reaches_its_person_through_apprise(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path
) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("ok")]})
    records = opened(manifest)
    written(records, message("dana"))
    with sending(records, manifest) as seen:
        (sent,) = until(records, ended).values()
    assert (sent.state, sent.attempts, sent.leased_by, sent.lease_until) == (MessageState.SENT, 1, "", None)
    assert "took it" in sent.receipt
    (taken,) = there.taken
    assert taken.id == "p1/r0s0/dana/0:chat"
    assert json.loads(taken.body)["title"] == "down: dana"
    assert (seen.told, seen.dead) == ([], [])
    with open_log(tmp_path / "evidence", origin="t.example.com/o") as log:
        records.drain(log)
        assert [entry.kind for _, entry in log.entries(0, log.size())] == ["message.sent"]


def test_a_mail_says_which_message_it_is(opened: Callable[..., Records], tmp_path: Path) -> None:
    mails: list[bytes] = []

    class Inbox:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            mails.append(envelope.content)
            return "250 OK"

    inbox = Controller(Inbox(), hostname="127.0.0.1", port=free_ports(1)[0])
    inbox.start()
    try:
        port = inbox.port
        address = tmp_path / "mail"
        address.touch(mode=0o600)
        address.write_text(f"mailto://127.0.0.1:{port}?from=ops@example.com&to=dana@example.com\n")
        manifest = platform(tmp_path, {"dana": ["mail"]})
        records = opened(manifest)
        written(records, message("dana", "0:sms"))
        with sending(records, manifest):
            (sent,) = until(records, ended).values()
    finally:
        inbox.stop()
    assert sent.state is MessageState.SENT, sent.error
    (mail,) = map(message_from_bytes, mails)
    assert mail[HEADER] == "p1/r0s0/dana/0:sms"
    assert "the bank is down" in mail.as_string()


def test_a_webhook_gets_its_payload_and_who_asks(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path
) -> None:
    manifest = platform(tmp_path, {})
    records = opened(manifest)
    payload = '{"version":"4","alerts":[]}'
    rows = [message("receiver:chat", "0:webhook", cause, purpose="webhook") for cause in ("with", "without")]
    written(records, msgspec.structs.replace(rows[0], payload=payload), rows[1])
    url = f"http://nvcops:s3cret@127.0.0.1:{there.port}/ok/deep/?token=abcdef"
    with sending(records, manifest, hooks=lambda _name: hook(url)):
        found = until(records, ended)
    assert {one.state for one in found.values()} == {MessageState.SENT}
    assert not any("s3cret" in repr(one) or "abcdef" in repr(one) for one in found.values())
    bodies = {one.id: one for one in there.taken}
    assert bodies["with/receiver:chat/0:webhook"].body.decode() == payload
    plain = bodies["without/receiver:chat/0:webhook"]
    assert json.loads(plain.body)["alerts"][0]["annotations"]["description"] == "the bank is down"
    assert plain.path == "/ok/deep/?token=abcdef"
    assert plain.headers["Authorization"] == "Basic bnZjb3BzOnMzY3JldA=="
    assert plain.headers["Idempotency-Key"] == plain.id


@pytest.mark.parametrize("how", ["500", "close", "hang", "drip", "404"])
def test_a_page_that_is_not_taken_falls_back(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path, how: str
) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise(how), there.apprise("ok")]})
    records = opened(manifest)
    written(records, message("dana"))
    with sending(records, manifest, deadline_s=1.0) as seen:
        found = until(records, ended)
    assert found["p1/r0s0/dana/0:chat"].state is MessageState.FALLEN_BACK
    assert found["p1/r0s0/dana/0:chat"].attempts == 2
    assert found["p1/r0s0/dana/1:chat"].state is MessageState.SENT
    assert there.ids() == ["p1/r0s0/dana/1:chat"]
    assert len(seen.told) == 1
    assert seen.dead == []


@pytest.mark.parametrize("how", ["500", "close", "hang", "drip"])
def test_a_webhook_that_takes_nothing_is_tried_again_and_then_dead(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path, how: str
) -> None:
    manifest = platform(tmp_path, {}, attempts_max=2)
    records = opened(manifest)
    written(records, message("receiver:chat", "0:webhook", purpose="webhook"))
    with sending(records, manifest, hooks=lambda _name: hook(there.url(how)), deadline_s=1.0) as seen:
        (dead,) = until(records, ended).values()
    assert (dead.state, dead.attempts) == (MessageState.DEAD, 2)
    assert dead.error
    assert [one.id for one in seen.dead] == [dead.id]
    assert len(there.taken) == 2
    with open_log(tmp_path / "evidence", origin="t.example.com/o") as log:
        records.drain(log)
        assert [entry.kind for _, entry in log.entries(0, log.size())] == ["message.dead"]


def test_who_cannot_be_found_is_dead_at_once(opened: Callable[..., Records], there: Receiver, tmp_path: Path) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("ok")], "omar": ["missing-file"]})
    records = opened(manifest)
    written(records, message("ghost"), message("dana", "7:sms"), message("omar", "0:sms"), message("receiver:gone"))
    with sending(records, manifest) as seen:
        found = until(records, ended)
    assert {one.state for one in found.values()} == {MessageState.DEAD}
    assert len(seen.dead) == 4
    assert all(one.error for one in found.values())
    assert there.taken == []


def test_one_who_hangs_holds_nobody_else(opened: Callable[..., Records], there: Receiver, tmp_path: Path) -> None:
    people = {"dana": [there.apprise("hang")], "omar": [there.apprise("ok")]}
    manifest = platform(tmp_path, people)
    records = opened(manifest)
    hanging = [message("dana", cause=f"{n}", purpose="update") for n in range(200)]
    hanging += [message("receiver:slow", "0:webhook", f"{n}", purpose="webhook") for n in range(400)]
    written(records, *hanging)
    with sending(records, manifest, hooks=lambda _name: hook(there.url("drip")), deadline_s=20.0):
        end = time.monotonic() + PATIENCE_S
        while len(there.ids("hang")) + len(there.ids("drip")) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        written(records, message("omar"))
        until(records, lambda found: found["p1/r0s0/omar/0:chat"].state is MessageState.SENT)
        assert len(there.ids("hang")) <= 4
        assert len(there.ids("drip")) <= 4


def test_a_page_that_was_acknowledged_meanwhile_is_not_sent(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path
) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("ok")]})
    records = opened(manifest)
    page = Page(id="p1", about="incident/1", policy="oncall", category=CRITICAL, summary="", opened=T)
    over = [msgspec.structs.replace(page, id="p2", acknowledged=T), msgspec.structs.replace(page, id="p3", resolved=T)]
    written(records, page, *over, *(message("dana", cause=one, page=one) for one in ("p1", "p2", "p3")))
    written(records, message("dana", cause="said", page="p3", purpose="resolved"))
    with sending(records, manifest):
        found = until(records, ended)
    assert sorted(there.ids()) == ["p1/dana/0:chat", "said/dana/0:chat"]
    assert {one.page for one in found.values() if one.state is MessageState.DROPPED} == {"p2", "p3"}


def test_both_channels_were_asked_at_once_and_one_failed(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path
) -> None:
    manifest = platform(tmp_path, {"boss": [there.apprise("500"), there.apprise("ok")]})
    records = opened(manifest)
    written(records, message("boss", "0:chat"), message("boss", "1:chat"))
    with sending(records, manifest) as seen:
        found = until(records, ended)
    assert {one.channel: one.state for one in found.values()} == {
        "0:chat": MessageState.FALLEN_BACK,
        "1:chat": MessageState.SENT,
    }
    assert len(found) == 2
    assert seen.dead == []


def test_a_lease_of_the_dead_is_taken_over_and_a_crash_counts(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path
) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("ok")]})
    records = opened(manifest)
    left = {"state": MessageState.SENDING, "leased_by": "another", "lease_until": T}
    written(records, message("dana", **left, attempts=1), message("dana", cause="poison", **left, attempts=6))
    with sending(records, manifest) as seen:
        found = until(records, ended)
    assert found["p1/r0s0/dana/0:chat"].state is MessageState.SENT
    assert found["poison/dana/0:chat"].state is MessageState.DEAD
    assert [one.id for one in seen.dead] == ["poison/dana/0:chat"]
    assert there.ids() == ["p1/r0s0/dana/0:chat"]


def test_a_sender_is_alive_while_it_looks_for_messages(opened: Callable[..., Records], tmp_path: Path) -> None:
    manifest = platform(tmp_path, {"dana": []})
    sender = Sender(
        opened(manifest), manifest, hooks=lambda _name: [], dead=lambda *_about: None, notify=lambda _said: None
    )
    assert not sender.alive(schedule.now())
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    try:
        end = time.monotonic() + PATIENCE_S
        while not sender.alive(schedule.now()):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not sender.alive(schedule.now() + dt.timedelta(minutes=1))


def test_a_moment_without_threads_keeps_nobody_from_being_told(
    opened: Callable[..., Records], there: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("ok")]})
    records = opened(manifest)
    start, refused = threading.Thread.start, []

    def starting(thread: threading.Thread) -> None:
        if "/dana/" in thread.name and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    written(records, message("dana"))
    with sending(records, manifest) as seen:
        found = until(records, ended)
    assert found["p1/r0s0/dana/0:chat"].state is MessageState.SENT
    assert there.ids() == ["p1/r0s0/dana/0:chat"]
    assert seen.told == ["no message can be sent now: can't start new thread; messages wait"]


def test_a_courier_that_was_killed_is_replaced(there: Receiver) -> None:
    transport = Transport(10.0)
    transport.start()
    try:
        address = Address(there.apprise("ok"), webhook=False)
        assert transport.send(message("dana"), address).receipt
        assert transport._courier is not None
        transport._courier.kill()
        assert transport.send(message("dana"), address).receipt
    finally:
        transport.stop()


def test_the_end_waits_for_nobody_who_hangs(opened: Callable[..., Records], there: Receiver, tmp_path: Path) -> None:
    manifest = platform(tmp_path, {"dana": [there.apprise("hang")]})
    records = opened(manifest)
    written(records, message("dana"))
    with sending(records, manifest, deadline_s=60.0):
        end = time.monotonic() + PATIENCE_S
        while not there.taken:
            assert time.monotonic() < end
            time.sleep(0.05)
        begun = time.monotonic()
    assert time.monotonic() - begun < 20
    there.stop.set()
    assert all_of(records)["p1/r0s0/dana/0:chat"].state is MessageState.SENDING
