"""An incident as people lead it at the command line, over real records, to its published post-mortem."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops import wiring
from nvcops.cli.app import nvcops
from nvcops.core import schedule
from nvcops.core.alerts import Alert, Category, fingerprint
from nvcops.core.errors import NvcopsError
from nvcops.incidents.postmortem import TO_WRITE

TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
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
[[oncall.rotations]]
name = "primary"
people = ["dana"]
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{{ rotation = "primary" }}]
[incidents]
regulators = ["us", "dora"]
"""
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call nvcops as dana; an error of ours is raised."""
    key = Ed25519PrivateKey.generate()
    private = serialization.PrivateFormat.OpenSSH
    file = tmp_path / "dana"
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    file.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    platform = tmp_path / "platform.toml"
    platform.write_text(TEXT.format(dana=public.decode()))

    def called(*arguments: str, by: bool = False) -> Result:
        who = ["--as", "dana", "--key", str(file)] if by else []
        return CliRunner().invoke(
            nvcops, [*arguments, "--target", str(platform), *who], catch_exceptions=False, standalone_mode=False
        )

    return called


def standings(call: Call) -> dict[str, str]:
    return {line["item"]: line["standing"] for line in json.loads(call("incident", "checklist", "1", "--json").output)}


def test_from_its_declaration_to_its_published_post_mortem(call: Call, tmp_path: Path) -> None:
    call(
        "incident",
        "declare",
        "no payment settles",
        "--severity",
        "P0",
        "--reason",
        "calls",
        "--service",
        "bank",
        by=True,
    )
    call("ack", "1", by=True)
    call("incident", "tick", "1", "Check monitoring dashboards", "--note", "all red", by=True)
    assert standings(call)["Check monitoring dashboards"] == "done"
    assert "[x] Acknowledge alert within 5 minutes" in call("incident", "checklist", "1").output
    call("incident", "clock", "1", "us-36h", "payments stood still", by=True)
    draft = json.loads(call("incident", "draft", "1", "us-36h", "--json").output)
    assert "determined" not in draft["missing"]
    assert "impact" in draft["missing"]
    call("incident", "fact", "1", "impact", "12 customers", by=True)
    assert "12 customers" in call("incident", "draft", "1", "us-36h").output
    reported = call("incident", "reported", "1", "us-36h", "FRB-1", by=True)
    assert "FRB-1" in reported.output
    call("resolve", "1", "the pool was enlarged", by=True)
    item = json.loads(
        call(
            *("incident", "action", "1", "alarm on the pool", "--owner", "dana", "--measure", "monitoring", "--json"),
            *("--due", f"{schedule.now().date() + dt.timedelta(days=9)}"),
            by=True,
        ).output
    )
    call("incident", "action-done", item["id"], "--note", "merged and seen firing", by=True)
    written = json.loads(call("postmortem", "1", "--json").output)
    assert written["unwritten"] == ["What went well", "What went badly", "Root cause"]
    assert "by dana" in written["text"]
    paper = tmp_path / "postmortem.md"
    paper.write_text(written["text"])
    with pytest.raises(NvcopsError, match="not written yet"):
        call("postmortem", "1", "--publish", str(paper), by=True)
    with pytest.raises(NvcopsError, match="its post-mortem is not published"):
        call("incident", "close", "1", by=True)
    paper.write_text(written["text"].replace(TO_WRITE, "We know:"))
    assert "published: SHA-256" in call("postmortem", "1", "--publish", str(paper), by=True).output
    call("incident", "close", "1", by=True)
    assert "We know:" in call("postmortem", "1").output
    assert standings(call)["Conduct post-mortem (P0/P1)"] == "done"


def test_every_decision_is_evidence_signed_by_who_made_it(call: Call, tmp_path: Path) -> None:
    call("incident", "declare", "slow", by=True)
    call("ack", "1", by=True)
    with wiring.open_evidence(wiring.load(tmp_path / "platform.toml")) as log:
        kinds = [(entry.kind, entry.actor) for _, entry in log.entries()]
    assert ("incident.opened", "dana") in kinds
    assert ("incident.acknowledged", "dana") in kinds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("incident", "action-done", "1-1"), "by a run or by an attestation"),
        (("incident", "action-done", "1-1", "--run", "r", "--note", "n"), "by a run or by an attestation"),
        (("incident", "action-done", "1-1", "--note", "n"), "no action item '1-1'"),
        (("incident", "tick", "1", "Dance"), "there is no incident 1"),
        (("incident", "reported", "1", "us-36h", "x"), "no clock '1/us-36h' runs"),
        (("incident", "clock", "1", "gdpr-72h", "x"), "there is no incident 1"),
    ],
)
def test_a_mistake_is_a_sentence_with_a_hint(call: Call, arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(NvcopsError, match=sentence) as refused:
        call(*arguments, by=True)
    assert refused.value.hint


def test_what_is_critical_is_seen_behind_a_storm(call: Call, tmp_path: Path) -> None:
    at = schedule.now()

    def one(number: int, category: Category, minutes: int) -> Alert:
        labels = {"alertname": f"A{number}"}
        began = at - dt.timedelta(minutes=minutes)
        times = {"starts": began, "noticed": began, "updated": began}
        return Alert(fingerprint=fingerprint(labels), labels=labels, source="x", category=category, **times)

    with wiring.open_records(wiring.load(tmp_path / "platform.toml")) as records, records.changing() as desk:
        desk.put(one(0, Category.CRITICAL, 90), *(one(number, Category.LOW, 1) for number in range(1, 1_100)))
    listed = call("alerts", "list", "--json")
    assert listed.return_value == 2
    shown = json.loads(listed.output)
    assert (shown[0]["category"], shown[0]["labels"]) == ("critical", {"alertname": "A0"})


def test_words_that_are_no_text_are_kept_as_far_as_they_are(call: Call) -> None:
    call("incident", "declare", "caf\udce9 is closed", by=True)
    call("note", "1", "na\udcefve", by=True)
    found = json.loads(call("incident", "show", "1", "--json").output)
    assert found["incident"]["title"] == "caf\ufffd is closed"
    assert [event["text"] for event in found["timeline"] if event["kind"] == "note"] == ["na\ufffdve"]
