"""What is secret in a routing's file stands in nothing that is kept."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from nvcops import wiring
from nvcops.core.errors import EvidenceError
from nvcops.core.evidence import Entry, utc

PLATFORM = """
[platform]
name = "bank"
title = "A bank"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
[alerts]
routing = "alertmanager.yml"
[evidence]
origin = "bank.example/operations"
"""
ROUTING = """
route: {receiver: chat}
receivers: [{name: chat, webhook_configs: [{url_file: hook}, {url_file: gone}]}]
"""
ADDRESS = "https://chat.example.com/hooks/T0000/B1111"


def test_the_address_of_a_webhook_that_stands_in_a_file_stands_in_no_evidence(tmp_path: Path) -> None:
    for name, text in (("platform.toml", PLATFORM), ("alertmanager.yml", ROUTING), ("hook", f"{ADDRESS}\n")):
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(text)
    at = utc(dt.datetime(2026, 11, 1, tzinfo=dt.UTC))
    with wiring.open_evidence(wiring.load(tmp_path / "platform.toml")) as log:
        log.append([Entry(id="1", time=at, kind="a", platform="bank", body={"said": "chat.example.com answered 404"})])
        with pytest.raises(EvidenceError, match="secret"):
            log.append([Entry(id="2", time=at, kind="a", platform="bank", body={"said": f"no answer from {ADDRESS}"})])
