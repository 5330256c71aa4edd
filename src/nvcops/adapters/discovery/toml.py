"""What was found, as a commented platform.toml. Pure: the same findings give the same text.

What others said (names, sentences) is quoted where it is a value and stripped of line breaks where it is a comment, so
that no answer of a server can write a line of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from nvcops.adapters.discovery.found import (
    CacheFound,
    Choice,
    DatabaseFound,
    Found,
    LogFound,
    Note,
    PersonFound,
    SeriesFound,
    ServiceFound,
    StandbyFound,
)
from nvcops.core.manifest import CacheEntry, DatabaseEntry

_WIDTH = 118


def render(found: Found, *, name: str, title: str, state: str) -> str:
    """The text of platform.toml."""
    parts = (
        _head(found, name, title, state),
        _service(found.service, name, found),
        _database(found.database, found.notes),
        _cache(found.cache, found.notes),
        _proxy(found),
        _certificate(found),
        _disks(found.database),
        _rules(),
        _people(found.person),
        _proof(found.host, name),
    )
    return "\n".join(line for part in parts for line in (*part, "")).rstrip() + "\n"


def _head(found: Found, name: str, title: str, state: str) -> Iterator[str]:
    yield "# What is operated. Written by `nvcops init` from what answered; yours to edit from here on."
    yield "# platforms/nvc-bank/platform.toml explains every key that may stand here; quantities carry their unit."
    yield "# No secrets: a key that ends in _file names a file (mode 0600), one in _env an environment variable."
    yield ""
    yield "[platform]"
    yield f"name = {_quoted(name)}"
    yield f"title = {_quoted(title)}"
    yield f"time_zone = {_quoted(found.time_zone)}   # every time of day in this file"
    yield f"state = {_quoted(state)}   # our own files: runs, metrics, evidence; relative to this file"


def _service(service: ServiceFound | None, name: str, found: Found) -> Iterator[str]:
    if service is None:
        yield from _absent("service", found.notes, "[[services]]", 'name = "shop"', 'url = "https://shop.example.com"')
        return
    yield "[[services]]"
    yield f"name = {_quoted(name)}"
    yield f"url = {_quoted(service.url)}"
    if service.ca_file:
        yield f"ca_file = {_quoted(service.ca_file)}"
    yield f"ready = {_quoted(service.ready)}   # 200 means: sends me customers"
    yield from _path("version", service.version, "its JSON says which release runs, and its clock")
    yield from _path("metrics", service.metrics, "Prometheus text; without it no latency and no errors are known")
    if found.log:
        yield f"log = {_quoted(found.log.path)}   # JSON lines with time and event"
    else:
        yield '# log = "/var/log/shop/application.log"   # JSON lines with "time" and "event"; left out: not read'
    if service.instances:
        yield "instances = ["
        yield from (f"    {{ name = {_quoted(one.name)}, url = {_quoted(one.url)} }}," for one in service.instances)
        yield "]"
    else:
        yield '# instances = [{ name = "shop-1", url = "http://10.0.0.1:8080" }]   # where there are several behind it'
    if service.series:
        yield from ("", *_series(service.series))
    if found.log:
        yield from ("", *_events(found.log))


def _path(key: str, path: str, meaning: str) -> Iterator[str]:
    yield f"{key} = {_quoted(path)}" if path else f'# {key} = "/{key}"   # not found: {meaning}'


def _series(series: SeriesFound) -> Iterator[str]:
    whole = bool(series.requests and series.latency)
    off = "" if whole else "# "
    yield "# Chosen by type, labels and name: look whether it is what you mean."
    if not whole:
        yield "# Not complete, so not in force: both a counter of requests and a histogram of their latency are needed."
    yield f"{off}[services.series]"
    yield from _choice("requests", series.requests, off, "http_requests_total")
    if series.requests:
        yield f"{off}status_label = {_quoted(series.requests.label)}"
    yield from _choice("latency", series.latency, off, "http_request_duration_seconds")
    if series.outcomes:
        yield from _choice("outcomes", series.outcomes, off, "")
        yield f"{off}outcome_label = {_quoted(series.outcomes.label)}"
        yield f"{off}outcome_title = {_quoted(series.outcome_title)}"
    else:
        yield '# outcomes = "orders_total"   # a counter by outcome, the business figure; none was recognised'


def _choice(key: str, choice: Choice | None, off: str, example: str) -> Iterator[str]:
    if choice is None:
        yield f'# {key} = "{example}"   # nothing that looks like it was found'
        return
    yield from _comment(f"{key}: {choice.why}{_alternatives(choice)}")
    yield f"{off}{key} = {_quoted(choice.name)}"


def _events(log: LogFound) -> Iterator[str]:
    """In force as soon as failed sign-ins have a name: without them there is nothing to watch."""
    events = log.events
    off = "" if events.sign_in_failures else "# "
    yield from _comment("The names of its security events; seen in the log: " + (", ".join(log.names) or "none yet"))
    yield f"{off}[services.events]"
    for key in ("sign_in_failures", "lock_outs", "privilege_changes"):
        yield f"{off}{key} = [{', '.join(map(_quoted, getattr(events, key)))}]"
    yield f"{off}subject = {_quoted(events.subject)}   # the field with a pseudonym of who; anything else is not shown"


def _alternatives(choice: Choice) -> str:
    return f"; alternatives: {', '.join(choice.others)}" if choice.others else ""


def _database(database: DatabaseFound | None, notes: tuple[Note, ...]) -> Iterator[str]:
    if database is None:
        yield from _absent("database", notes, "[database]", 'name = "shop"', 'user = "nvcops"')
        return
    entry = database.entry
    yield from _comment(f"PostgreSQL {database.version}. The user needs pg_monitor, and SELECT on nothing else.")
    yield from (f"# {line}" for line in _lacks(notes, ("privileges", "pg_stat_statements", "statement log")))
    yield "[database]"
    yield f"port = {entry.port}"
    yield f"name = {_quoted(entry.name)}"
    yield f"user = {_quoted(entry.user)}"
    yield from _password(entry, "database-password")
    if database.log:
        yield f"log = {_quoted(database.log)}"
    else:
        yield from (f"# {line}" for line in _lacks(notes, ("database log",)))
        yield '# log = "/var/log/postgresql/postgresql.json"   # log_destination = jsonlog; left out: not read'
    yield f"primary = {{ name = {_quoted(entry.primary.name)}, host = {_quoted(entry.primary.host)} }}"
    yield from _standbys(database.standbys)
    names = ", ".join(map(_quoted, database.indexes))
    yield "# Indexes whose absence is CRITICAL; these are the most used now. Without it, only invalid ones are told."
    yield f"# required_indexes = [{names}]"


def _standbys(standbys: tuple[StandbyFound, ...]) -> Iterator[str]:
    entries = [_server(f"db-{number}", one.host) for number, one in enumerate(standbys, 2) if one.reached]
    if entries:
        yield f"standbys = [{', '.join(entries)}]"
    for number, one in enumerate(standbys, 2):
        if not one.reached:
            yield from _comment(f"A standby streams as {one.name!r}, but does not answer at this port: complete it.")
            yield f"# standbys = [{_server(f'db-{number}', one.host or 'its-host', port=True)}]"


def _server(name: str, host: str, *, port: bool = False) -> str:
    return f"{{ name = {_quoted(name)}, host = {_quoted(host)}{', port = 5432' if port else ''} }}"


def _password(entry: DatabaseEntry | CacheEntry, example: str) -> Iterator[str]:
    if entry.password_file:
        yield f"password_file = {_quoted(entry.password_file)}"
    elif entry.password_env:
        yield f"password_env = {_quoted(entry.password_env)}"
    else:
        yield f'# password_file = "/etc/nvcops/{example}"   # none was needed'


def _cache(cache: CacheFound | None, notes: tuple[Note, ...]) -> Iterator[str]:
    if cache is None:
        yield from _absent("cache", notes, "[cache]", 'url = "valkey://cache.example.com:6379/0"')
        return
    yield from _comment(cache.version)
    yield "[cache]"
    yield f"name = {_quoted(cache.entry.name)}"
    yield f"url = {_quoted(cache.entry.url)}"
    yield from _password(cache.entry, "cache-password")


def _proxy(found: Found) -> Iterator[str]:
    if not (found.backends and found.proxy_socket):
        yield from _absent("proxy", found.notes, "[proxy]", 'socket = "/run/haproxy/admin.sock"', 'backends = ["shop"]')
        return
    yield "[proxy]"
    yield f"socket = {_quoted(found.proxy_socket)}   # HAProxy's runtime socket"
    yield f"backends = [{', '.join(map(_quoted, found.backends))}]"


def _certificate(found: Found) -> Iterator[str]:
    if not found.certificate:
        yield "# No certificate was seen; a service behind https has one:"
        yield '# [[certificates]]\n# name = "shop.example.com"\n# address = "shop.example.com:443"'
        return
    yield "[[certificates]]"
    yield f"name = {_quoted(found.certificate.rpartition(':')[0])}"
    yield f"address = {_quoted(found.certificate)}"
    if found.service and found.service.ca_file:
        yield f"ca_file = {_quoted(found.service.ca_file)}"


def _disks(database: DatabaseFound | None) -> Iterator[str]:
    if database and database.data_directory:
        yield '[[disks]]\nname = "data"'
        yield f"path = {_quoted(database.data_directory)}"
    else:
        yield '# [[disks]]\n# name = "data"\n# path = "/var/lib/postgresql"   # its file system must not fill up'


def _rules() -> Iterator[str]:
    yield "# What must hold; these are the defaults. [limits] has many more, each with a default."
    yield '# [objectives]\n# window = "24 h"\n# availability = "99.9 %"'
    yield '# response_mean = "200 ms"\n# error_ratio = "0.1 %"'
    yield ""
    yield "# [calendar]"
    yield '# holidays = "US"   # public holidays by country code; left out: none are known'
    yield ""
    yield "# A line that somebody accepted until a date: it keeps its verdict, and does not decide the exit code."
    yield '# [[exceptions]]\n# check = "recovery.backups"\n# reason = "backups are being set up"'
    yield '# owner = "somebody of [[people]]"\n# until = 2026-12-31'


def _people(person: PersonFound) -> Iterator[str]:
    yield "# A person is who their SSH key says. An operator runs and attests, an approver approves another's request."
    yield "[[people]]"
    yield f"name = {_quoted(person.name)}"
    yield f"full_name = {_quoted(person.full_name)}"
    yield 'roles = ["operator"]   # approvals take a second person, with the role "approver"'
    if person.key:
        yield f"ssh_keys = [{_quoted(person.key)}]"
    else:
        yield "ssh_keys = []   # no key was found: `ssh-keygen -t ed25519`, then the line of its .pub file"


def _proof(host: str, name: str) -> Iterator[str]:
    yield "[evidence]"
    yield f"origin = {_quoted(f'{host}/{name}')}   # the log's name in every checkpoint"
    yield '# witness = "/mnt/witness/checkpoints"   # on another disk or host: shows a log that was put back'


def _absent(part: str, notes: tuple[Note, ...], *example: str) -> Iterator[str]:
    """A part that did not answer, or was not asked for: why, and how it would be written."""
    lacks = list(_lacks(notes, (part,))) or [f"No {part} was named."]
    for line in lacks:
        yield from _comment(line)
    yield from (f"# {line}" for line in example)


def _lacks(notes: tuple[Note, ...], parts: tuple[str, ...]) -> Iterator[str]:
    """What the notes say is missing of some parts, with what to do about it."""
    for note in notes:
        if note.part in parts and not note.found:
            yield _plain(f"Not found: {note.text}; {note.hint}" if note.hint else f"Not found: {note.text}")


def _comment(text: str) -> Iterator[str]:
    """Text as comment lines that fit the page."""
    line = "#"
    for word in _plain(text).split():
        if len(line) + len(word) >= _WIDTH and line != "#":
            yield line
            line = "#  "
        line += f" {word}"
    yield line


def _plain(text: str) -> str:
    r"""Text on one line, without control characters.

    >>> _plain("two\nlines\x1b[31m")
    'two lines [31m'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _quoted(value: str | Path) -> str:
    r"""A TOML string. JSON's quoting is TOML's, but for DEL, which TOML wants escaped.

    >>> _quoted('a "b"\n')
    '"a \\"b\\"\\n"'
    """
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
