"""A platform with people who can be reached, for the tests of this folder."""

from __future__ import annotations

import datetime as dt
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from desk import MemoryDesk, MemoryRecords
from nvcops.core.manifest import Manifest, parse

MAKE = Callable[..., Manifest]
HEAD = """
[platform]
name = "test-bank"
title = "Test Bank"
time_zone = "{zone}"
state = "/var/lib/nvcops"

[[services]]
name = "bank"
url = "http://127.0.0.1:1"

[evidence]
origin = "test.example.com/operations"

[calendar]
holidays = "US"
"""
PEOPLE = """
[[people]]
name = "dana"
full_name = "Dana Whitfield"
roles = ["operator"]
contacts = [
    { kind = "sms", url = "json://127.0.0.1:1/dana-sms", categories = ["critical", "high"] },
    { kind = "email", url = "json://127.0.0.1:1/dana-mail" },
]
[[people]]
name = "omar"
full_name = "Omar Castellanos"
roles = ["operator", "approver"]
contacts = [{ kind = "push", url = "json://127.0.0.1:1/omar-push" }]
[[people]]
name = "lee"
full_name = "Lee Park"
roles = ["operator"]
contacts = [{ kind = "email", url = "json://127.0.0.1:1/lee-mail" }]
[[contacts]]
name = "manager"
title = "Engineering Manager"
kind = "management"
contacts = [{ kind = "sms", url = "json://127.0.0.1:1/manager-sms" }]
[[contacts]]
name = "cto"
title = "Chief Technology Officer"
kind = "management"
contacts = [{ kind = "sms", url = "json://127.0.0.1:1/cto-sms" }]
[[contacts]]
name = "hosting"
title = "Hosting provider"
kind = "vendor"
phone = "+1-555-0110"
"""
ONCALL = """
[[oncall.rotations]]
name = "primary"
people = ["dana", "omar", "lee"]
handover = "Mon 09:00"
starts = 2026-01-05
[[oncall.rotations]]
name = "secondary"
people = ["omar", "lee", "dana"]
handover = "Mon 09:00"
starts = 2026-01-05
[[oncall.policies]]
name = "oncall"
steps = [{ rotation = "primary" }, { rotation = "secondary" }, { contact = "manager" }]
repeat = 2
"""


@pytest.fixture(scope="session")
def make() -> MAKE:
    """A manifest of the parts above, or of others."""

    def build(
        oncall: str = ONCALL, people: str = PEOPLE, *, zone: str = "America/New_York", more: str = ""
    ) -> Manifest:
        text = HEAD.format(zone=zone) + textwrap.dedent(people) + textwrap.dedent(oncall) + textwrap.dedent(more)
        return parse(text, Path("platform.toml"))

    return build


@pytest.fixture(scope="session")
def bank(make: MAKE) -> Manifest:
    return make()


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk()


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture(scope="session")
def monday() -> dt.datetime:
    """Monday the 5th of January 2026 at 10:00 in New York: dana is primary, omar secondary."""
    return dt.datetime(2026, 1, 5, 15, tzinfo=dt.UTC)
