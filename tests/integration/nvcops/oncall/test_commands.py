"""`nvcops oncall`, as people type it, over real records: override, calendars, codes, pages of no incident."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icalendar
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops import wiring
from nvcops.cli.app import nvcops
from nvcops.core import schedule
from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError, NvcopsError, UsageError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Page
from nvcops.oncall import paging, reach

TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
time_zone = "Europe/Berlin"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
[evidence]
origin = "test.example.com/operations"
[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
ssh_keys = ["{dana}"]
contacts = [{{ kind = "sms", url = "json://127.0.0.1:1/a" }}]
[[people]]
name = "omar"
full_name = "Omar Castellanos"
roles = ["operator"]
ssh_keys = ["{omar}"]
[[contacts]]
name = "hosting"
title = "Hosting provider"
kind = "vendor"
phone = "+1-555-0110"
[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}]
"""
Call = Callable[..., Result]


def key_in(path: Path) -> str:
    key = Ed25519PrivateKey.generate()
    encoding, private = serialization.Encoding, serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(encoding.PEM, private, serialization.NoEncryption()))
    path.chmod(0o600)
    return key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    path = tmp_path / "platform.toml"
    path.write_text(TEXT.format(dana=key_in(tmp_path / "dana"), omar=key_in(tmp_path / "omar")))
    return path


@pytest.fixture
def manifest(platform: Path) -> Manifest:
    return wiring.load(platform)


@pytest.fixture
def call(platform: Path) -> Call:
    def run(*arguments: str, by: str = "", data: bytes | None = None) -> Result:
        who = ["--as", by, "--key", str(platform.with_name(by))] if by else []
        given = ["oncall", *arguments, "--target", str(platform), *who]
        return CliRunner().invoke(nvcops, given, input=data, standalone_mode=False)

    return run


def said(result: Result) -> Any:
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def test_an_override_out_of_a_calendar_is_in_the_calendar_of_its_person(call: Call) -> None:
    starts = (schedule.now() + dt.timedelta(days=2)).replace(microsecond=0)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//test//EN",
        "BEGIN:VEVENT",
        "UID:1",
        f"DTSTART:{starts:%Y%m%dT%H%M%SZ}",
        f"DTEND:{starts + dt.timedelta(hours=8):%Y%m%dT%H%M%SZ}",
        "SUMMARY:Omar Castellanos",
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ]
    data = "\r\n".join(lines).encode()
    (made,) = said(call("import", "-", "--rotation", "primary", "--json", by="dana", data=data))
    assert (made["person"], made["author"]) == ("omar", "dana")
    calendar = icalendar.Calendar.from_ical(call("calendar", "--of", "omar").stdout_bytes)
    (event,) = calendar.walk("VEVENT")
    assert event["DTSTART"].dt == starts
    (listed,) = said(call("overrides", "--json"))
    assert listed == made
    stranger = call("import", "-", by="dana", data=data.replace(b"Omar Castellanos", b"primary: mallory"))
    assert isinstance(stranger.exception, NotFoundError)


def test_a_code_is_confirmed_by_its_person_only(call: Call, manifest: Manifest) -> None:
    with wiring.open_records(manifest) as records, records.changing() as desk:
        reach.send_code(
            desk, manifest=manifest, to="dana", channel="0:sms", code="123456", cause="test", at=schedule.now()
        )
    assert isinstance(call("confirm", "123456", by="omar").exception, UsageError)
    assert isinstance(call("confirm", "123456", "--for", "dana", by="omar").exception, UsageError)
    assert said(call("confirm", "123456", "--json", by="dana"))["channel"] == "0:sms"


def test_a_page_of_no_incident_is_acknowledged_by_the_words_of_its_message(call: Call, manifest: Manifest) -> None:
    with wiring.open_records(manifest) as records, records.changing() as desk:
        for about, incident in (("root", None), ("other", 7)):
            paging.begin(
                desk,
                manifest=manifest,
                about=about,
                policy="oncall",
                category=Category.LOW,
                summary="it is slow",
                body="",
                at=schedule.now(),
                incident=incident,
            )
        subject = desk.find(Message, incident__isnull=True)[0].subject
    waiting = call("pages")
    assert (waiting.return_value, waiting.stdout.count("it is slow")) == (2, 2)
    words = re.findall(r"Ack: nvcops oncall (ack \S+)$", subject)[0].split()
    assert said(call(*words, "--json", by="omar"))["acknowledged_by"] == "omar"
    with pytest.raises(UsageError, match="was acknowledged by omar"):
        raised(call(*words, by="dana"))
    with pytest.raises(NotFoundError, match="no page 'x'"):
        raised(call("ack", "x", by="dana"))
    with wiring.open_records(manifest) as records, records.reading() as reading:
        of_incident = reading.find(Page, incident=7)[0].id
    with pytest.raises(UsageError, match="is of incident 7"):
        raised(call("ack", of_incident, by="dana"))


def raised(result: Result) -> None:
    assert isinstance(result.exception, NvcopsError)
    raise result.exception


def test_contacts_are_listed(call: Call) -> None:
    assert [one["name"] for one in said(call("contacts", "--kind", "vendor", "--json"))] == ["hosting"]
    assert "+1-555-0110" in call("contacts").stdout


def test_the_procedures_run_and_write_what_they_send(platform: Path, manifest: Manifest) -> None:
    ends = {}
    for name in ("oncall-gaps-check", "reachability-test", "oncall-handover"):
        command = [sys.executable, "-m", "nvcops", "run", name, "--target", str(platform), "--json"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        ends[name] = run.returncode, {line["check"]: line["verdict"] for line in json.loads(run.stdout)["findings"]}
    assert ends["oncall-gaps-check"][1] == {
        "oncall.covered": 0,
        "oncall.contacts": 0,
        "oncall.overrides": 0,
        "oncall.reached": 1,
    }
    assert ends["reachability-test"] == (1, {"oncall.reached": 1})
    assert ends["oncall-handover"] == (0, {"oncall.now": 0, "oncall.pages": 0, "oncall.incidents": 0})
    with wiring.open_records(manifest) as records, records.reading() as reading:
        sent = [(one.purpose, one.to, one.channel) for one in reading.find(Message, order="created")]
    assert sent == [("reach-test", "dana", "0:sms"), ("handover", "dana", "0:sms")]
