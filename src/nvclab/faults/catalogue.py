"""All faults by name, and how they are written on a command line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from nvclab.errors import LabError, UnknownFault
from nvclab.faults import parts, replication, schema, sessions, surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvclab.faults.kind import Kind, Options, Value

KINDS: dict[str, Kind] = {
    kind.name: kind
    for module in (parts, replication, sessions, schema, surroundings)
    for kind in module.KINDS
}  # fmt: skip


def find(name: str) -> Kind:
    """The fault by that name; UnknownFault, with the nearest name as hint."""
    if name in KINDS:
        return KINDS[name]
    near = difflib.get_close_matches(name, KINDS, 1)
    hint = f"did you mean {near[0]}?" if near else "nvclab fault --list"
    raise UnknownFault(f"There is no fault called {name!r}.", hint=hint)


def read_options(name: str, written: Sequence[str]) -> Options:
    """The options of a fault from words like `instance=bank-2`, with defaults for the rest; LabError when wrong."""
    kind = find(name)
    options: Options = dict(kind.options)
    for word in written:
        key, equals, value = word.partition("=")
        if not equals or key not in options:
            known = ", ".join(f"{known}={value}" for known, value in kind.options.items()) or "none"
            raise LabError(f"{name} has no option {word!r}.", hint=f"its options with their defaults: {known}")
        options[key] = _converted(key, value, options[key])
    return options


def as_data() -> list[dict[str, Any]]:
    """The catalogue as plain data."""
    return [
        {"name": kind.name, "does": kind.does, "seen_by": kind.seen_by, "options": dict(kind.options)}
        for kind in KINDS.values()
    ]


def as_text() -> str:
    """The catalogue for a person."""
    lines = []
    for kind in KINDS.values():
        options = " ".join(f"[{key}={value}]" for key, value in kind.options.items())
        lines += [f"{kind.name} {options}".rstrip(), f"    {kind.does}", f"    seen by: {kind.seen_by}"]
    return "\n".join(lines)


def _converted(key: str, written: str, default: Value) -> Value:
    """A value of the default's type.

    >>> _converted("leave", "3", 0)
    3
    """
    try:
        return type(default)(written)
    except ValueError as error:
        raise LabError(f"{key} is a number, not {written!r}.", hint=f"for instance {key}={default}") from error
