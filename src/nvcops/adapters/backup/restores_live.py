"""The live data at one LSN, to compare a copy with: a standby's replay rests while a snapshot is taken.

Pause, snapshot and resume are sent as one message: the server goes through it to its end even when we are killed in
the middle. A note in the state folder says that it is under way; the next run looks whether it was left paused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from nvcops.adapters.backup import restores_look as look
from nvcops.adapters.backup.repository import Repository
from nvcops.adapters.backup.spool import receiver_state
from nvcops.adapters.evidence.files import private_folder
from nvcops.core.backups import lsn_bytes
from nvcops.core.errors import DeadlineExceeded, Refused, StateError, TargetError
from nvcops.core.manifest import Server
from nvcops.core.restores import LiveSnapshot

_NOTE = "paused-standby"
_CATCH_UP_S = 60.0
_COVERED_S = 60.0
_LOOK_S = 0.01
_ATTEMPTS = 3
_CLOCK = """
SELECT clock_timestamp(), pg_current_wal_flush_lsn()::text,
       ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
"""
_MARK = "SELECT pg_create_restore_point(%s)::text"
_BOTH = """
BEGIN;
SELECT pg_wal_replay_pause();
DO $$
DECLARE patience int := 2000;
BEGIN
    WHILE pg_get_wal_replay_pause_state() <> 'paused' LOOP
        patience := patience - 1;
        IF patience = 0 THEN RAISE EXCEPTION 'replay does not pause'; END IF;
        PERFORM pg_sleep(0.001);
    END LOOP;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM pg_wal_replay_resume();
    RAISE;
END $$;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT pg_last_wal_replay_lsn()::text;
SELECT pg_wal_replay_resume();
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The platform's live servers, and the folder in which a pause is noted."""

    repository: Repository
    state: Path

    def snapshot(self, run: str) -> LiveSnapshot:
        """Read the books at one LSN, and how long the repository took to have the log up to there.

        Raises:
            Refused: there is no standby whose replay may rest.
            TargetError: the servers do not answer.
        """
        source = self.repository.source
        clock, flushed, timeline = source.rows(_CLOCK)[0]
        covered_s = self._covered(flushed)
        server, session = self._standby()
        with session:
            lsn = self._at_rest(run, server, session, flushed)
            self._mark(run)
            books = look.books(session, source.database.name)
        return LiveSnapshot(
            server=server.name, lsn=lsn, clock=clock, timeline=timeline, books=tuple(books), covered_s=covered_s
        )

    def wake(self, run: str) -> list[str]:
        """Let a standby go on replaying that another run (or this one, before it was killed) left paused."""
        note = self.state / _NOTE
        if not note.exists():
            return []
        name = note.read_text(encoding="utf-8").strip()
        server = next((known for known in self.repository.source.database.standbys if known.name == name), None)
        if server is None:
            note.unlink()
            return []
        with self._session(server) as session:
            woken = _resume(session)
        note.unlink()
        return [f"{run}: let {name} replay again, which a killed run had paused"] if woken else []

    def _covered(self, flushed: str) -> float | None:
        """Seconds until the repository has the log up to a position."""
        began = time.monotonic()

        def there() -> bool:
            state = receiver_state(self.repository)
            return bool(state.received_lsn) and lsn_bytes(state.received_lsn) >= lsn_bytes(flushed)

        if there():
            return 0.0
        return time.monotonic() - began if _within(_COVERED_S, there) else None

    def _mark(self, run: str) -> None:
        """Write a record behind the snapshot, and wait until the repository has it: that is where the copy stops."""
        marked = self.repository.source.rows(_MARK, f"nvcops {run}"[:60])[0][0]
        if self._covered(marked) is None:
            raise DeadlineExceeded(
                f"the repository did not have the log up to {marked} within {_COVERED_S:g} s",
                hint="`nvcops run backup-status`: is the transaction log being received?",
            )

    def _standby(self) -> tuple[Server, look.Session]:
        """The first standby that answers, in recovery, and is not paused by somebody else."""
        why = "the platform has no standby: there is nothing to compare the copy with"
        for server in self.repository.source.database.standbys:
            try:
                session = self._session(server)
            except TargetError as error:
                why = error.sentence
                continue
            recovering = session.execute("SELECT pg_is_in_recovery()").fetchone()
            if recovering and recovering[0]:
                paused = session.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()
                if paused and paused[0] == "not paused":
                    return server, session
                why = f"the replay of {server.name} is paused by somebody"
            session.close()
        raise Refused(why, hint="the drill compares with a standby whose replay may rest for milliseconds")

    def _session(self, server: Server) -> look.Session:
        source = self.repository.source
        conninfo = make_conninfo(
            "",
            host=server.host,
            port=str(server.port or source.database.port),
            user=source.user,
            password=source.password,
            sslmode="verify-full" if source.database.ca_file else None,
            sslrootcert=str(source.database.ca_file) if source.database.ca_file else None,
        )
        return look.connected(conninfo, source.database.name)

    def _at_rest(self, run: str, server: Server, session: look.Session, flushed: str) -> str:
        """Open the snapshot at one LSN, which has everything up to `flushed`."""
        reached = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"

        def caught_up() -> bool:
            row = session.execute(reached, (flushed,)).fetchone()
            return bool(row and row[0])

        if not _within(_CATCH_UP_S, caught_up):
            raise DeadlineExceeded(f"{server.name} did not replay up to {flushed} within {_CATCH_UP_S:g} s")
        note = private_folder(self.state) / _NOTE
        note.write_text(server.name, encoding="utf-8")
        lsn = ""
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    lsn = _paused(session)
                    break
                except psycopg.Error as error:  # a conflict with what is being replayed
                    session.rollback()
                    if attempt == _ATTEMPTS:
                        raise StateError(
                            f"the replay of {server.name} cannot rest: {look.first_line(error)}"
                        ) from error
        finally:
            if not lsn:
                self.wake(run)
        note.unlink()
        return lsn


def _paused(session: look.Session) -> str:
    """Send all in one message; the LSN is the only text that comes back in the last transaction."""
    cursor = session.execute(_BOTH)
    lsn = ""
    while True:
        if cursor.description and (row := cursor.fetchone()) and isinstance(row[0], str) and "/" in row[0]:
            lsn = row[0]
        if not cursor.nextset():
            return lsn


def _resume(session: look.Session) -> bool:
    """Whether it was paused, and now goes on."""
    row = session.execute("SELECT pg_is_in_recovery() AND pg_get_wal_replay_pause_state() <> 'not paused'").fetchone()
    if row and row[0]:
        session.execute("SELECT pg_wal_replay_resume()")
        return True
    return False


def _within(deadline_s: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
    return True
