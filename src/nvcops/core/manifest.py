"""`platform.toml` as types. The commented example, platforms/nvc-bank/platform.toml, is their documentation.

Reading a manifest is pure: text in, types out, each mistake with its line and a hint. Adapters read the files it names.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import tomllib
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from nvcops.core.errors import ManifestError
from nvcops.core.schedule import HolidayCountry, TimeRange, When
from nvcops.core.units import Bytes, Count, Quantity, Ratio, Seconds

T = TypeVar("T", Seconds, Ratio, Count)
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]{0,62}$")]
Url = Annotated[str, msgspec.Meta(pattern="^https?://[^\\s/]+[^\\s]*$")]
CacheUrl = Annotated[str, msgspec.Meta(pattern="^(valkey|redis)://[^\\s]+$")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
HttpPath = Annotated[str, msgspec.Meta(pattern="^/")]
HostAndPort = Annotated[str, msgspec.Meta(pattern="^[^\\s:]+:[0-9]{1,5}$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the manifest: a key it does not know is a mistake."""


class Bound(_Table, Generic[T], frozen=True, kw_only=True):
    """Where a reading becomes a WARNING and where it becomes CRITICAL."""

    warning: T
    critical: T


class Platform(_Table, frozen=True, kw_only=True):
    name: Name
    title: str
    time_zone: str = "UTC"
    state: Path


class Instance(_Table, frozen=True, kw_only=True):
    name: Name
    url: Url


class Series(_Table, frozen=True, kw_only=True):
    """The names of a service's own metrics."""

    requests: str
    status_label: str = "status"
    latency: str
    outcomes: str | None = None
    outcome_label: str = "outcome"
    outcome_title: str = "outcomes"


class Events(_Table, frozen=True, kw_only=True):
    """The names of a service's own security events in its log; `subject` is the field with the pseudonym of who."""

    sign_in_failures: tuple[str, ...] = ()
    lock_outs: tuple[str, ...] = ()
    privilege_changes: tuple[str, ...] = ()
    subject: str = "subject"


class ServiceEntry(_Table, frozen=True, kw_only=True):
    name: Name
    url: Url
    ca_file: Path | None = None
    ready: HttpPath = "/"
    version: HttpPath | None = None
    metrics: HttpPath | None = None
    series: Series | None = None
    events: Events | None = None
    deadline: Seconds = Seconds(2)
    log: Path | None = None
    instances: tuple[Instance, ...] = ()


class Server(_Table, frozen=True, kw_only=True):
    """A PostgreSQL server; without a port it listens where the primary does."""

    name: Name
    host: str
    port: Port | None = None


class DatabaseEntry(_Table, frozen=True, kw_only=True):
    port: Port = 5432
    name: str
    user: str
    password_file: Path | None = None
    password_env: str | None = None
    deadline: Seconds = Seconds(2)
    log: Path | None = None
    primary: Server
    standbys: tuple[Server, ...] = ()
    required_indexes: tuple[str, ...] = ()


class CacheEntry(_Table, frozen=True, kw_only=True):
    name: Name = "cache"
    url: CacheUrl
    password_file: Path | None = None
    password_env: str | None = None
    deadline: Seconds = Seconds(1)


class ProxyEntry(_Table, frozen=True, kw_only=True):
    name: Name = "proxy"
    socket: Path
    backends: tuple[str, ...] = ()
    deadline: Seconds = Seconds(1)


class CertificateEntry(_Table, frozen=True, kw_only=True):
    name: str
    address: HostAndPort
    ca_file: Path | None = None
    deadline: Seconds = Seconds(2)


class DiskEntry(_Table, frozen=True, kw_only=True):
    name: str
    path: Path
    quota: Bytes | None = None


class Objectives(_Table, frozen=True, kw_only=True):
    """The runbook's figures, over `window`."""

    window: Seconds = Seconds(86400)
    availability: Ratio = Ratio(0.999)
    response_mean: Seconds = Seconds(0.2)
    error_ratio: Ratio = Ratio(0.001)


class MetricsEntry(_Table, frozen=True, kw_only=True):
    """How often the services' metrics are fetched, and how long they are kept."""

    interval: Seconds = Seconds(15)
    raw: Seconds = Seconds(48 * 3600)
    rollups: Seconds = Seconds(400 * 86400)


class Limits(_Table, frozen=True, kw_only=True):
    """Thresholds of single readings."""

    recent_window: Seconds = Seconds(300)
    recent_requests_min: int = 20
    connections: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.95))
    idle_in_transaction: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(300))
    longest_query: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(600))
    lock_wait: Bound[Seconds] = Bound(warning=Seconds(10), critical=Seconds(60))
    replication_lag: Bound[Seconds] = Bound(warning=Seconds(10), critical=Seconds(60))
    cache_hit: Bound[Ratio] = Bound(warning=Ratio(0.95), critical=Ratio(0.8))
    dead_rows: Bound[Ratio] = Bound(warning=Ratio(0.2), critical=Ratio(0.5))
    slow_query_mean: Bound[Seconds] = Bound(warning=Seconds(0.1), critical=Seconds(1))
    disk_used: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.9))
    clock_offset: Bound[Seconds] = Bound(warning=Seconds(2), critical=Seconds(30))
    certificate_days: Bound[Count] = Bound(warning=Count(30), critical=Count(7))
    cache_memory: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.95))
    cache_evictions: Bound[Count] = Bound(warning=Count(1), critical=Count(1000))
    failed_sign_ins_per_minute: Bound[Count] = Bound(warning=Count(30), critical=Count(300))
    metrics_age: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(300))


_STAYS_HIGH = frozenset({"cache_hit", "certificate_days"})


class Exemption(_Table, frozen=True, kw_only=True):
    """A line that somebody has accepted as it is, until a date."""

    check: str
    reason: str
    owner: Name
    until: dt.date


class Person(_Table, frozen=True, kw_only=True):
    name: Name
    full_name: str
    roles: tuple[Literal["operator", "approver", "auditor"], ...]
    ssh_keys: tuple[str, ...] = ()


class Calendar(_Table, frozen=True, kw_only=True):
    holidays: HolidayCountry | None = None
    closed: tuple[dt.date, ...] = ()
    business_hours: TimeRange = TimeRange.read("09:00-18:00")
    missed_after: Seconds = Seconds(1800)


class ProcedureEntry(_Table, frozen=True, kw_only=True):
    when: When


class EvidenceEntry(_Table, frozen=True, kw_only=True):
    origin: str
    witness: Path | None = None


class BackupsEntry(_Table, frozen=True, kw_only=True):
    repository: Path


class Manifest(_Table, frozen=True, kw_only=True):
    """All of platform.toml. What a platform does not have is left out, and is then not checked."""

    platform: Platform
    services: tuple[ServiceEntry, ...] = ()
    database: DatabaseEntry | None = None
    cache: CacheEntry | None = None
    proxy: ProxyEntry | None = None
    certificates: tuple[CertificateEntry, ...] = ()
    disks: tuple[DiskEntry, ...] = ()
    metrics: MetricsEntry = MetricsEntry()
    objectives: Objectives = Objectives()
    limits: Limits = Limits()
    backups: BackupsEntry | None = None
    exceptions: tuple[Exemption, ...] = ()
    people: tuple[Person, ...] = ()
    calendar: Calendar = Calendar()
    procedures: dict[Name, ProcedureEntry] = {}
    evidence: EvidenceEntry

    def person(self, name: str) -> Person | None:
        """The roster's entry for a name."""
        return next((person for person in self.people if person.name == name), None)


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
    for place, sentence, hint in _contradictions(manifest):
        raise ManifestError(f"{path}:{line_of(text, place)}: {sentence}", hint=hint)
    return manifest


def _reader(folder: Path) -> Any:
    def read(kind: type, written: object) -> object:
        if kind is Path:
            if not isinstance(written, str) or not written:
                raise ValueError(f"{written!r} is not a path")
            return folder / Path(written).expanduser()
        if issubclass(kind, Quantity | Count | When | TimeRange | HolidayCountry):
            return kind.read(written)
        raise ValueError(f"{written!r} cannot stand here")

    return read


def _contradictions(manifest: Manifest) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What the types cannot say: (place, sentence, hint)."""
    if manifest.platform.time_zone not in zoneinfo.available_timezones():
        near = difflib.get_close_matches(manifest.platform.time_zone, zoneinfo.available_timezones(), 1)
        yield (
            ("platform", "time_zone"),
            f"there is no time zone {manifest.platform.time_zone!r}",
            f"did you mean {near[0]!r}?" if near else 'names are like "America/New_York"',
        )
    yield from _swapped(manifest.limits)
    for table in ("services", "people"):
        seen: set[str] = set()
        for index, entry in enumerate(getattr(manifest, table)):
            if entry.name in seen:
                yield (table, index, "name"), f"the name {entry.name!r} stands twice in [[{table}]]", "names are unique"
            seen.add(entry.name)
    for index, exemption in enumerate(manifest.exceptions):
        if manifest.person(exemption.owner) is None:
            yield ("exceptions", index, "owner"), f"{exemption.owner!r} is nobody in [[people]]", "add the person"
    if not (manifest.services or manifest.database):
        yield (), "nothing is watched: there is neither a [[services]] nor a [database]", "`nvcops init` writes them"


def _swapped(limits: Limits) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    for name in Limits.__struct_fields__:
        bound = getattr(limits, name)
        if isinstance(bound, Bound):
            first, second = (bound.critical, bound.warning) if name in _STAYS_HIGH else (bound.warning, bound.critical)
            if first > second:
                yield ("limits", name), f"{name}: critical would come before warning", "swap the two"


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
    place: tuple[str | int, ...] = ()
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


def _with_the_key(place: tuple[str | int, ...], document: dict[str, Any], path: Path) -> tuple[str | int, ...]:
    """The library leaves out which key of [procedures] is meant: it is the first whose table cannot be read."""
    if place[:2] != ("procedures", "..."):
        return place
    for key, entry in document["procedures"].items():
        try:
            msgspec.convert(entry, ProcedureEntry, dec_hook=_reader(path.parent))
        except msgspec.ValidationError:
            return ("procedures", key, *place[2:])
    return ("procedures", *place[2:])


def _written(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _struct(kind: Any) -> Any:
    """The struct behind a type, Bound[Seconds] included; None where it is no struct."""
    origin = getattr(kind, "__origin__", kind)
    return origin if msgspec.inspect.is_struct_type(origin) else None


def _known_keys(place: tuple[str | int, ...]) -> list[str]:
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


_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    r"""The line on which a place of the document stands, or that of the nearest table around it; 1 at worst.

    >>> line_of('[a]\n\n[[b]]\nx = 1\n[[b]]\nx = 2\n', ("b", 1, "x"))
    6
    >>> line_of('[a]\nx = 1\n', ("a", "y"))
    1
    """
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    best = (0, 1)
    for number, line in enumerate(text.splitlines(), 1):
        found = table
        if header := _HEADER.match(line):
            found = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if found[:-1] in counts:  # [services.series] belongs to the latest [[services]]
                found = (*found[:-1], counts[found[:-1]], found[-1])
            if header[1] == "[[":
                counts[found] = counts.get(found, -1) + 1
                found = (*found, counts[found])
            table = found
        elif key := _KEY.match(line):
            found = (*table, *(part.strip("\"'") for part in key[1].split(".")))
        else:
            continue
        if place[: len(found)] == found and len(found) > best[0]:
            best = (len(found), number)
    return best[1]
