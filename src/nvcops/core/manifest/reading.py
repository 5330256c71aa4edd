"""Reading a manifest is pure: text in, types out, each mistake with its line and a hint. Adapters read the files."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from nvcops.core.errors import ManifestError
from nvcops.core.manifest.base import CacheUrl, HostAndPort, HttpPath, Name, Repository, Url
from nvcops.core.manifest.contradictions import contradictions
from nvcops.core.manifest.lines import Place, line_of
from nvcops.core.manifest.probe_options import PathOptions
from nvcops.core.manifest.tables import Manifest, ProcedureEntry
from nvcops.core.schedule import HolidayCountry, TimeRange, When
from nvcops.core.units import Count, Quantity


def parse(text: str, path: Path) -> Manifest:
    """Read the manifest's text; `path` is its file, to which relative paths in it refer.

    Raises:
        ManifestError: with file, line and what is expected.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(
            f"{path}: this is not TOML: {error}", hint="a string stands in quotes, a table in [ ]"
        ) from error
    try:
        manifest = msgspec.convert(document, Manifest, dec_hook=_reader(path.parent), strict=True)
    except msgspec.ValidationError as error:
        raise _explained(error, document, text, path) from error
    for place, sentence, hint in contradictions(manifest):
        raise ManifestError(f"{path}:{line_of(text, place)}: {sentence}", hint=hint)
    return manifest


def _reader(folder: Path) -> Any:
    def read(kind: type, written: object) -> object:
        if kind is Path:
            if not isinstance(written, str) or not written:
                raise ValueError(f"{written!r} is not a path")
            try:
                return folder / Path(written).expanduser()
            except RuntimeError as error:
                raise ValueError(f"{written!r}: there is no such home folder") from error
        if kind is Repository or kind is PathOptions:
            return kind.read(written, folder)
        if issubclass(kind, Quantity | Count | When | TimeRange | HolidayCountry):
            return kind.read(written)
        raise ValueError(f"{written!r} cannot stand here")

    return read


def _pattern(kind: Any) -> str:
    return str(kind.__metadata__[0].pattern)


_AT = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_MISSING = re.compile(r"Object missing required field `(.+)`")


_PATTERNS = {
    _pattern(Name): "a name: lower case letters, digits, dots and hyphens",
    _pattern(Url): 'an address like "https://bank.example.com"',
    _pattern(CacheUrl): 'an address like "valkey://cache.example.com:6379/0"',
    _pattern(HttpPath): 'a path that begins with "/"',
    _pattern(HostAndPort): 'an address like "bank.example.com:443"',
}


def _explained(error: msgspec.ValidationError, document: dict[str, Any], text: str, path: Path) -> ManifestError:
    """The library's message as a sentence with line and hint."""
    message = str(error)
    place: Place = ()
    if match := _AT.search(message):
        message = message[: match.start()]
        place = tuple(int(i) if i.isdigit() else key or i for key, i in _STEP.findall(match["path"]))
        place = _with_the_key(place, document, path)
    for pattern, meaning in _PATTERNS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", meaning)
    hint = "platforms/nvc-bank/platform.toml explains every key"
    if match := _UNKNOWN.match(message):
        known = _known_keys(place)
        near = difflib.get_close_matches(match[1], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        message, place = f"unknown key {match[1]!r}", (*place, match[1])
    elif match := _MISSING.match(message):
        message = f"{_written(place) or 'the file'} has no {match[1]!r}"
    elif place:
        message = f"{_written(place)}: {message[:1].lower()}{message[1:]}"
    return ManifestError(f"{path}:{line_of(text, place)}: {message}", hint=hint)


def _with_the_key(place: Place, document: dict[str, Any], path: Path) -> Place:
    """The library leaves out which key of [procedures] is meant: it is the first whose table cannot be read."""
    if place[:2] != ("procedures", "..."):
        return place
    for key, entry in document["procedures"].items():
        try:
            msgspec.convert(entry, ProcedureEntry, dec_hook=_reader(path.parent))
        except msgspec.ValidationError:
            return ("procedures", key, *place[2:])
    return ("procedures", *place[2:])


def _written(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _struct(kind: Any) -> Any:
    """The struct behind a type, Bound[Seconds] included; None where it is no struct."""
    origin = getattr(kind, "__origin__", kind)
    return origin if msgspec.inspect.is_struct_type(origin) else None


def _known_keys(place: Place) -> list[str]:
    """The keys of the table at a place, from the types."""
    kind: Any = Manifest
    for part in place:
        if isinstance(part, str) and _struct(kind):
            kind = next((f.type for f in msgspec.structs.fields(kind) if f.encode_name == part), object)
        for _ in range(3):  # Optional[tuple[X, ...]], dict[str, X]: down to the X
            inner = [a for a in getattr(kind, "__args__", ()) if a not in (type(None), Ellipsis, str)]
            if _struct(kind) or not inner:
                break
            kind = inner[-1]
    kind = _struct(kind) or kind
    return [f.encode_name for f in msgspec.structs.fields(kind)] if _struct(kind) else []
