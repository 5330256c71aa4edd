"""Faults between the primary and its standby."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvclab.errors import PartFailed
from nvclab.faults.kind import Kind

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre
    from nvclab.parts.postgres import Postgres

_DEADLINE_S = 30.0
# A password file's missing entry, a moved primary: the standby asks where nobody listens.
_NOWHERE = "host=127.0.0.1 port=1 connect_timeout=1"


@dataclass
class PausedReplay:
    """The standby receives everything and applies nothing."""

    centre: DataCentre

    def inject(self) -> str:
        _ask(self.centre.standby, "SELECT pg_wal_replay_pause()")
        _wait(self.centre.standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'", "replay is not paused")
        return "the standby's replay is paused"

    def heal(self) -> str:
        _ask(self.centre.standby, "SELECT pg_wal_replay_resume()")
        _wait(self.centre.standby, "SELECT NOT pg_is_wal_replay_paused()", "replay is still paused")
        return "the standby replays again"


@dataclass
class StoppedReceiver:
    """The standby answers queries, and receives nothing any more."""

    centre: DataCentre

    def inject(self) -> str:
        self.centre.standby.reload(primary_conninfo=_NOWHERE)
        _wait(self.centre.primary, "SELECT count(*) = 0 FROM pg_stat_replication", "the receiver is still there")
        return "the standby's WAL receiver finds no primary"

    def heal(self) -> str:
        self.centre.standby.reload()
        question = "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'"
        _wait(self.centre.primary, question, "the standby does not stream")
        return "the standby streams again"


def _ask(server: Postgres, question: str) -> bool:
    with server.connect() as connection:
        row = connection.execute(question).fetchone()
    return bool(row and row[0])


def _wait(server: Postgres, question: str, otherwise: str) -> None:
    """Wait until the answer is true; PartFailed with the sentence `otherwise` when it does not become so."""
    end = time.monotonic() + _DEADLINE_S
    while not _ask(server, question):
        if time.monotonic() > end:
            raise PartFailed(f"After {_DEADLINE_S:g} s, {otherwise}.", hint=server.process.tail())
        time.sleep(0.1)


KINDS = [
    Kind(
        "pause-replay",
        "Pauses the standby's replay: it receives WAL and applies none of it.",
        "database: replication lag",
        lambda centre, _: PausedReplay(centre),
    ),
    Kind(
        "stop-wal-receiver",
        "Points the standby at a primary that is not there: it answers, and receives nothing.",
        "database: replication is not streaming",
        lambda centre, _: StoppedReceiver(centre),
    ),
]
