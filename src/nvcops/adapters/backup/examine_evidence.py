"""The catalogue's head as the newest audit put it into the evidence: what a lost state folder does not take along."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import msgspec

from nvcops.adapters.backup.examine_catalogue import Remembered
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.evidence.log import FOLDER
from nvcops.core.backups import CATALOGUE_CHECK
from nvcops.core.errors import StateError

_ENTRIES_MAX = 200
_HEAD = re.compile(r"newest: (\d+) ([0-9a-f]{64})")
_QUERY = "SELECT data FROM entry WHERE run LIKE 'backup-%' AND instr(data, ?) ORDER BY idx DESC LIMIT ?"


class _Finding(msgspec.Struct):
    check: str
    subject: str = ""
    observed: str = ""


class _Body(msgspec.Struct):
    findings: tuple[_Finding, ...] = ()


class _Verdict(msgspec.Struct):
    body: _Body


def head_in_evidence(repository: Repository) -> dict[int, Remembered]:
    """Number and digest of the catalogue's newest entry at the last audit of this repository; empty: there is none.

    The number 0 stands for one that was begun anew and was empty then.

    Raises:
        StateError: the evidence cannot be read.
    """
    path = repository.state.parent / FOLDER / "log.sqlite"
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute(_QUERY, (CATALOGUE_CHECK.encode(), _ENTRIES_MAX)).fetchall()
    except sqlite3.Error as error:
        raise StateError(f"the evidence in {path} cannot be read: {error}", hint="look at its permissions") from error
    for (data,) in rows:
        for finding in _findings(bytes(data)):
            match = _HEAD.search(finding.observed)
            if match and (finding.check, finding.subject) == (CATALOGUE_CHECK, str(repository.entry.repository)):
                return {int(match[1]): Remembered(match[2], "")} if int(match[1]) else {}
    return {}


def _findings(data: bytes) -> tuple[_Finding, ...]:
    try:
        return msgspec.json.decode(data, type=_Verdict).body.findings
    except msgspec.DecodeError:
        return ()  # another kind of entry, which has none
