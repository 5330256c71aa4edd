"""All that is looked at in a restored copy: pages and indexes, constraints, invariants, the ledger, the books."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass

import psycopg
from psycopg import sql

from nvcops.adapters.backup import restores_look as look
from nvcops.adapters.backup.clone import Clone
from nvcops.core.errors import NvcopsError, StateError
from nvcops.core.manifest import RecoveryEntry
from nvcops.core.progress import tell
from nvcops.core.restores import Broken, Ledger, Looked, Verification

_START_S = 600.0
_AMCHECK_S = 24 * 3600.0
_LINES_MAX = 100
_CHECK_UNIQUE_FROM = 17
_INSTALLED = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'amcheck')"
_RELATIONS = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm', 't', 'S', 'i')"
_AMCHECK_IS_THERE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """A look at a copy, and whose database it is: `database` is the one with the invariants and the ledger."""

    clone: Clone
    recovery: RecoveryEntry
    database: str

    def carry_out(self, acknowledged_before: dt.datetime | None) -> Verification:
        """Run the copy's server for as long as it takes.

        Raises:
            CloneEnded: the server does not come up.
        """
        began = time.monotonic()
        with self.clone.running(deadline_s=_START_S) as conninfo:
            with look.connected(conninfo, "template1") as session:
                names = look.databases(session)
            tell(0, 0, "looking at pages and indexes")
            pages = self._pages(conninfo, names)
            constraints, books = Looked(), []
            for name in names:
                tell(0, 0, f"looking at {name}")
                with look.connected(conninfo, name, read_only=False) as session:
                    constraints = _both(constraints, look.constraints(session, name))
                with look.connected(conninfo, name) as session:
                    books += look.books(session, name)
            invariants, ledger = self._what_the_manifest_says(conninfo, names, acknowledged_before)
        return Verification(
            pages=pages,
            constraints=constraints,
            invariants=invariants,
            ledger=ledger,
            books=tuple(books),
            seconds=time.monotonic() - began,
        )

    def _what_the_manifest_says(
        self, conninfo: str, names: list[str], before: dt.datetime | None
    ) -> tuple[Looked, Ledger]:
        if self.database not in names:
            absent = Broken(database=self.database, subject=self.database, sentence="the database is not there")
            return Looked(broken=(absent,)), Ledger(skipped="its database is not there")
        with look.connected(conninfo, self.database) as session:
            return self._invariants(session), self._ledger(session, before)

    def _invariants(self, session: look.Session) -> Looked:
        """Invariants that cannot be read say nothing about the data: whoever needs them must not wait for a file."""
        if self.recovery.invariants is None:
            return Looked(skipped="platform.toml names no [recovery] invariants")
        try:
            return look.invariants(session, self.database, look.read_invariants(self.recovery.invariants))
        except NvcopsError as error:
            return Looked(skipped=error.sentence)

    def _ledger(self, session: look.Session, before: dt.datetime | None) -> Ledger:
        """The same of the journal: it may be lost with a host, or torn in its middle."""
        if self.recovery.acknowledgements is None:
            return Ledger(skipped="platform.toml names no [recovery.acknowledgements]")
        try:
            return look.ledger(session, self.recovery.acknowledgements, before)
        except NvcopsError as error:
            return Ledger(before=before, skipped=error.sentence)

    def _pages(self, conninfo: str, names: list[str]) -> Looked:
        """Run pg_amcheck over all databases; the extension that it needs is gone again afterwards."""
        with look.connected(conninfo, "template1") as session:
            if not _first(session, _AMCHECK_IS_THERE):
                return Looked(skipped="PostgreSQL's extension amcheck is not installed")
        ours, relations = [], 0
        for name in names:
            with look.connected(conninfo, name) as session:
                relations += int(_first(session, _RELATIONS))
                ours += [] if _first(session, _INSTALLED) else [name]
        try:
            broken = self._amcheck()
        finally:
            for name in ours:
                with look.connected(conninfo, name, read_only=False) as session:
                    session.execute(sql.SQL("DROP EXTENSION IF EXISTS amcheck"))
        return Looked(things=relations, broken=broken)

    def _amcheck(self) -> tuple[Broken, ...]:
        """What it finds. 0 is well and 2 is corrupt; whatever else it ends with, it has not looked at everything."""
        tools, clone = self.clone.tools, self.clone
        arguments = ["--all", "--heapallindexed", "--install-missing", "--no-password"]
        arguments += ["--checkunique"] if tools.major >= _CHECK_UNIQUE_FROM else []
        arguments += ["--host", str(clone.sockets), "--port", "5432", "--username", clone.superuser]
        arguments += ["--maintenance-db", "template1"]
        done = tools.run("pg_amcheck", *arguments, deadline_s=_AMCHECK_S, quiet=clone.quiet)
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        if done.code not in (0, 2) or (done.code == 2 and not lines):
            raise StateError(f"pg_amcheck ended with {done.code}: {done.said}")
        return tuple(Broken(database="", subject="pg_amcheck", sentence=_readable(line)) for line in lines[:_LINES_MAX])


def _first(session: look.Session, question: str) -> int:
    try:
        row = session.execute(question.encode()).fetchone()
    except psycopg.Error as error:
        raise StateError(f"the copy refuses a question: {look.first_line(error)}") from error
    return int(row[0]) if row else 0


def _both(one: Looked, other: Looked) -> Looked:
    return Looked(things=one.things + other.things, broken=(*one.broken, *other.broken)[:_LINES_MAX])


def _readable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:400]
