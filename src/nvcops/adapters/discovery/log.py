"""What a service's log looks like: whether its lines are events, and which of them are about security, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nvcops.adapters.discovery.found import LogFound, Note
from nvcops.adapters.logs import ServiceFormat
from nvcops.core.manifest import Events

_TAIL_BYTES = 1 << 20
_NAMES_MAX = 40
_SIGN_IN = re.compile(r"log-?_?in|sign-?_?in|session|auth|password", re.IGNORECASE)
_WRONG = re.compile(r"fail|wrong|refus|denied|invalid|bad|reject|unauth", re.IGNORECASE)
_LOCKED = re.compile(r"lock(ed|_?-?out)|blocked", re.IGNORECASE)
_PRIVILEGE = re.compile(r"role|privilege|permission|grant", re.IGNORECASE)
_PSEUDONYM = re.compile(r"[0-9a-f]{8,128}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_log(path: Path, notes: list[Note]) -> LogFound | None:
    """Look at the log's end; None, with a note, where it holds no events. An empty one may hold them tomorrow."""
    try:
        with path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, size - _TAIL_BYTES))
            lines = log.read(_TAIL_BYTES).splitlines()[1 if size > _TAIL_BYTES else 0 :]
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        notes.append(Note("log", False, f"{path} cannot be read: {why}", "nvcops reads it as the user that runs it"))
        return None
    events = [event for line in lines if (event := _event(line))]
    if lines and not events:
        hint = 'its lines should be JSON with "time" (RFC 3339) and "event"'
        notes.append(Note("log", False, f"{path} is no log of events", hint))
        return None
    text = f"{path}: {len(events)} of its last {len(lines)} lines are events" if lines else f"{path} is still empty"
    notes.append(Note("log", True, text))
    names = sorted({name for name, _ in events})[:_NAMES_MAX]
    chosen = _chosen(names, events)
    _events_note(chosen, notes)
    return LogFound(path=path, names=tuple(names), events=chosen)


def _event(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    """Name and fields of a line; None when it is no event."""
    try:
        name = ServiceFormat().head(line)[1]
        fields = msgspec.json.decode(line)
    except ValueError:  # the note says how many are
        return None
    return (name, fields) if name else None


def _chosen(names: Iterable[str], events: Iterable[tuple[str, Mapping[str, Any]]]) -> Events:
    """The names that speak of security.

    >>> names = ["order.made", "login.wrong_password", "account.locked", "role.granted"]
    >>> found = _chosen(names, [("login.wrong_password", {"event": "login.wrong_password", "who": "9f86d081884c7d65"})])
    >>> found.sign_in_failures, found.lock_outs, found.privilege_changes, found.subject
    (('login.wrong_password',), ('account.locked',), ('role.granted',), 'who')
    """
    locked = tuple(name for name in names if _LOCKED.search(name))
    failures = tuple(n for n in names if _SIGN_IN.search(n) and _WRONG.search(n) and n not in locked)
    changes = tuple(name for name in names if _PRIVILEGE.search(name) and name not in (*locked, *failures))
    fields = [fields for name, fields in events if name in (*failures, *locked)]
    return Events(
        sign_in_failures=failures, lock_outs=locked, privilege_changes=changes, subject=_subject(fields) or "subject"
    )


def _subject(events: list[Mapping[str, Any]]) -> str:
    """The first field that holds a pseudonym in every one of the events; empty where none does."""
    candidates = sorted(set.intersection(*(set(fields) for fields in events))) if events else []
    return next((key for key in candidates if all(_PSEUDONYM.fullmatch(str(e[key])) for e in events)), "")


def _events_note(events: Events, notes: list[Note]) -> None:
    if events.sign_in_failures:
        names = ", ".join((*events.sign_in_failures, *events.lock_outs, *events.privilege_changes))
        notes.append(Note("security events", True, f"by name: {names}"))
        return
    hint = "write the names of sign-in failures and lock-outs in [services.events], or no sign-in is watched"
    notes.append(Note("security events", False, "no event in the log is named like a failed sign-in", hint))
