"""What every command shares: which platform, and how its answer is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from nvcops.core.errors import UsageError

_PLACES = (Path("platform.toml"), Path(".lab/platform.toml"), Path("/etc/nvcops/platform.toml"))

target_option = click.option(
    "--target",
    "-t",
    "target_path",
    type=click.Path(path_type=Path),
    envvar="NVCOPS_TARGET",
    help="The platform.toml of what is operated. Default: ./platform.toml, the lab's, or /etc/nvcops/platform.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


def manifest_path(given: Path | None) -> Path:
    """The manifest that was asked for, or the first that stands in a usual place."""
    if given is not None:
        return given / "platform.toml" if given.is_dir() else given
    for place in _PLACES:
        if place.exists():
            return place
    raise UsageError(
        f"no platform.toml: neither {', '.join(map(str, _PLACES[:-1]))} nor {_PLACES[-1]} exists",
        hint="name one with --target, write one with `nvcops init`, or start a lab with `nvclab up`",
    )


def answer(value: Any, as_json: bool, lines: Callable[[], Any]) -> None:
    """Print a value as JSON, or as the lines that a person reads."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2))
        return
    for line in lines():
        click.echo(plain(line))


def target_flag(given: Path | None) -> str:
    """How the platform must be named in a command that we print."""
    return f" --target {given}" if given and "NVCOPS_TARGET" not in os.environ else ""


def plain(text: str) -> str:
    r"""Text without what could steer a terminal: much of it was said by servers.

    >>> plain("ready\x1b[2J\n")
    'ready?[2J\n'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def notify(sentence: str) -> None:
    """What does not stop a command and should not go unnoticed."""
    aside(plain(f"nvcops: {sentence}"), fg="yellow")


def aside(text: str, *, nl: bool = True, fg: str | None = None) -> None:
    """Write to stderr. One that is full or gone must not stop what is being done: then nobody hears it."""
    try:
        click.echo(click.style(text, fg=fg) if fg else text, err=True, nl=nl)
    except OSError:
        forget(sys.stderr)


def forget(stream: TextIO) -> None:
    """What is still in its buffer goes nowhere, instead of failing once more at the very end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
