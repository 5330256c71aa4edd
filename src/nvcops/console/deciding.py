"""What people decide over HTTP: by name, in one transaction with its evidence; the same decisions as the commands'."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
from ninja import Schema
from pydantic import field_validator

from nvcops.console.served import Served, served
from nvcops.core import schedule
from nvcops.core.records import Desk
from nvcops.core.texts import legible


class ByWhom(Schema):
    """Who decides: a name of the roster. Of all texts that are said beside it, each can be kept."""

    person: str

    @field_validator("*", mode="before")
    @classmethod
    def _kept(cls, value: Any) -> Any:
        return legible(value) if isinstance(value, str) else value


class Words(ByWhom):
    """A text in somebody's words."""

    text: str


class Because(ByWhom):
    """A decision that needs its reason."""

    reason: str


def plain(value: Any) -> Any:
    """A record as JSON has it."""
    return msgspec.to_builtins(value)


def decided(person: str, about: str, act: str, decide: Callable[[Desk, Served, dt.datetime], Any]) -> Any:
    """Decide something in a transaction, with its evidence; answers what became of it, as it is then."""
    platform, done = served(), []

    def change(desk: Desk) -> None:
        platform.note(desk, person, about, act)
        done.append(decide(desk, platform, schedule.now()))

    platform.change(change)
    return plain(done[-1])


def of_incident(number: int, name: str, act: Callable[..., Any], person: str, **words: Any) -> Any:
    """One of the acts by which a person leads an incident, or ends it."""
    return decided(
        person,
        f"incident/{number}",
        name,
        lambda desk, platform, at: act(desk, number, manifest=platform.manifest, person=person, at=at, **words),
    )
