"""The locked requirements: every package with its version, and the digests of the files that may be installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nvcops.core.errors import UsageError

PACKAGES_MAX = 10_000
_HASH = re.compile(r"\s--hash[=\s](\S+)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_HINT = "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes one; nothing else belongs into it"


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock: `name` is canonical, `marker` says where it is installed at all (empty: everywhere)."""

    name: str
    version: str
    sha256: tuple[str, ...]
    marker: str = ""


def read_lock(text: str, name: str) -> tuple[Locked, ...]:
    """The packages of a lock by their names; `name` is what errors call it.

    Raises:
        UsageError: something in it is not pinned by `==` and SHA-256, or is no requirement.
    """
    found: dict[str, Locked] = {}
    for number, line in _logical_lines(text):
        locked = _locked(line, f"{name}:{number}")
        if locked.name in found:
            raise UsageError(f"{name}:{number}: {locked.name} stands in it twice", hint=_HINT)
        found[locked.name] = locked
    if not found:
        raise UsageError(f"{name} locks nothing", hint=_HINT)
    if len(found) > PACKAGES_MAX:
        raise UsageError(f"{name} locks more than {PACKAGES_MAX:,} packages", hint=_HINT)
    return tuple(found[name] for name in sorted(found))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, joined where a backslash ends them, with the number of their first."""
    began, joined = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        began = began or number
        joined += line.removesuffix("\\") + " "
        if not line.endswith("\\"):
            if joined.strip():
                yield began, joined.strip()
            began, joined = 0, ""
    if joined.strip():
        yield began, joined.strip()


def _locked(line: str, where: str) -> Locked:
    try:
        requirement = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement as error:
        raise UsageError(f"{where}: {line.split(maxsplit=1)[0]!r} is no locked requirement", hint=_HINT) from error
    pins = list(requirement.specifier)
    if requirement.url or len(pins) != 1 or pins[0].operator != "==" or "*" in pins[0].version:
        raise UsageError(f"{where}: {requirement.name} is not pinned by ==", hint=_HINT)
    hashes = [_SHA256.fullmatch(text) for text in _HASH.findall(line)]
    digests = sorted({match[1] for match in hashes if match})
    if not digests or not all(hashes):
        raise UsageError(f"{where}: {requirement.name} has no SHA-256, or another hash", hint=_HINT)
    marker = str(requirement.marker or "")
    return Locked(canonicalize_name(requirement.name), pins[0].version, tuple(digests), marker)
