"""Where a message goes: the address behind its person, contact or receiver, looked up when it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from nvcops.adapters.files import read_secret
from nvcops.core.alerts import Category
from nvcops.core.errors import NotFoundError
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, channels

RECEIVER = "receiver:"
H = TypeVar("H")


class Hook(Protocol):
    """A webhook of a receiver: its address, or the file in which it stands."""

    @property
    def url(self) -> str: ...
    @property
    def url_file(self) -> Path | None: ...


Hooks = Callable[[str], Sequence[Hook]]


@dataclass(frozen=True, slots=True)
class Address:
    """An address of apprise's, or that of a webhook. What is secret in it stands in no text that is kept."""

    url: str = field(repr=False)
    webhook: bool


def address_of(message: Message, manifest: Manifest, hooks: Hooks) -> Address:
    """The address of a message.

    Raises:
        NotFoundError: there is nobody of that name any more, or no such channel.
        ManifestError: the file with the address cannot be read.
    """
    place = message.channel.partition(":")[0]
    index = int(place) if place.isdecimal() else 0
    if message.to.startswith(RECEIVER):
        hook = _at(hooks(message.to.removeprefix(RECEIVER)), index, message)
        return Address(hook.url or _written(hook.url_file), webhook=True)
    contact = _at(manifest.reach(message.to) or (), index, message)
    return Address(contact.url or _written(contact.url_file), webhook=False)


def other_channels(message: Message, manifest: Manifest, category: Category | None) -> list[str]:
    """The channels on which somebody is tried after the message's own."""
    if message.to.startswith(RECEIVER):
        return []
    contacts = manifest.reach(message.to) or ()
    ways = channels(contacts, category) if category else [f"{n}:{one.kind}" for n, one in enumerate(contacts)]
    tried = int(message.channel.partition(":")[0] or 0)
    return [way for way in ways if int(way.partition(":")[0]) > tried]


def _at(there: Sequence[H], index: int, message: Message) -> H:
    if index >= len(there):
        raise NotFoundError(
            f"{message.to} has no channel {message.channel} any more", hint="see `contacts` in platform.toml"
        )
    return there[index]


def _written(file: Path | None) -> str:
    if file is None:
        raise NotFoundError("neither an address nor a file with one is given", hint="see [[people]] and [[contacts]]")
    return read_secret(file)
