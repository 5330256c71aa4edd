"""What a restored copy proves: the lines about it, the same whether it was a drill or in earnest."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence

from nvcops.core.backups import Entry, Kind, RestoreFigures
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import RecoveryEntry
from nvcops.core.restores import (
    Book,
    Broken,
    Ledger,
    LiveSnapshot,
    Looked,
    Purpose,
    Replayed,
    RestorePlan,
    Unpacked,
    Verification,
)
from nvcops.core.units import Bytes, Seconds
from nvcops.recovery.forecast import Forecast

# --- Rules ---

PLAN = Check("restore.plan", "Restore plan", "")
PAGES = Check("restore.pages", "Pages and indexes", "restore an older backup; `nvcops run backup-audit`")
CONSTRAINTS = Check("restore.constraints", "Constraints", "is it so in the live data too? else restore an older backup")
INVARIANTS = Check("restore.invariants", "Invariants", "is it so in the live data too? else restore an older backup")
LEDGER = Check("restore.acknowledged", "Acknowledged work", "the missing keys: what did their customers see?")
BOOKS = Check("restore.books", "Books", "the copy's rows cannot be counted: its log; an older backup")
SAME = Check("restore.same", "Equal to the live data", "compare the table's rows in both: which of the two is wrong?")
REACHED = Check("restore.reached", "Point in time", "is the transaction log being received? `nvcops run backup-audit`")
TIME = Check("restore.time", "Recovery time", "quicker disks, or more full backups")
FORECAST = Check("restore.forecast", "Forecast", "")
LOSS = Check("restore.loss", "Loss if the primary had died", "[backups]: is pg_receivewal synchronous and running?")
TIDIED = Check("restore.tidied", "Tidied up", "")
_SHOWN = 5


def plan_finding(plan: RestorePlan, forecast: Forecast) -> Finding:
    """What is going to be restored, in one line."""
    return PLAN.finding(Verdict.OK, plan_sentence(plan, forecast), subject=plan.backup)


def plan_sentence(plan: RestorePlan, forecast: Forecast) -> str:
    """The plan for a person: from what, until where, how much, how long."""
    increments = f" and {len(plan.chain) - 1} before it" if len(plan.chain) > 1 else ""
    return (
        f"{plan.backup}{increments}, log {plan.first_segment} to {plan.last_segment}, up to {target_text(plan)}: "
        f"{Bytes(plan.bytes)} of data, {Bytes(plan.wal_bytes)} of log, needs {Bytes(plan.needed)} of "
        f"{Bytes(plan.free)} free, about {forecast}"
    )


def target_text(plan: RestorePlan) -> str:
    """Until where it goes."""
    target = plan.target
    if target.time:
        return f"{target.time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    return target.lsn or target.name or "the end of the log"


def verification_findings(seen: Verification) -> list[Finding]:
    """Every look at the copy."""
    return [
        _looked(PAGES, seen.pages, "relations, no corruption"),
        _looked(CONSTRAINTS, seen.constraints, "hold"),
        _looked(INVARIANTS, seen.invariants, "hold"),
        ledger_finding(seen.ledger),
        *book_findings(seen.books),
    ]


def _looked(check: Check, looked: Looked, well: str) -> Finding:
    """What was not looked at is UNKNOWN; anything that was found broken is CRITICAL.

    >>> _looked(PAGES, Looked(things=3), "relations").observed, _looked(PAGES, Looked(), "").verdict.name
    ('3 relations', 'UNKNOWN')
    """
    if looked.skipped:
        return check.unknown(looked.skipped)
    if broken := _really(looked) or looked.broken:
        shown = "; ".join(_broken(each.database, each.subject, each.sentence) for each in broken[:_SHOWN])
        more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        told = f"{shown}{more}"
        return check.finding(Verdict.CRITICAL, told) if _really(looked) else check.unknown(told)
    if not looked.things:
        return check.unknown("there was nothing to look at")
    return check.finding(Verdict.OK, f"{looked.things:,} {well}")


def _really(looked: Looked) -> tuple[Broken, ...]:
    """What does not hold, without what could not be looked at."""
    return tuple(broken for broken in looked.broken if not broken.unknown)


def _broken(database: str, subject: str, sentence: str) -> str:
    return f"{database}: {subject}: {sentence}" if database else f"{subject}: {sentence}"


def sound(seen: Verification) -> bool:
    """Whether the copy may stand in the live one's place: what is missing in it was lost anyway."""
    return not any(_really(looked) for looked in (seen.pages, seen.constraints, seen.invariants))


def proven(seen: Verification, recovery: RecoveryEntry) -> bool:
    """Whether the copy is good: sound, whole, and all of it looked at that can be or that the manifest names.

    >>> holds, nothing = Looked(things=1), Looked(skipped="not installed")
    >>> rest = {"constraints": holds, "invariants": nothing, "ledger": Ledger(), "books": (), "seconds": 1}
    >>> [proven(Verification(pages=pages, **rest), RecoveryEntry()) for pages in (holds, nothing)]
    [True, False]
    """
    asked = [seen.pages, seen.constraints, *([seen.invariants] if recovery.invariants else [])]
    return (
        not any(looked.skipped or looked.broken for looked in asked)
        and seen.pages.things > 0
        and not seen.ledger.missing
        and not (recovery.acknowledgements and seen.ledger.skipped)
        and not any(book.trouble for book in seen.books)
    )


def ledger_finding(ledger: Ledger) -> Finding:
    """Everything that a customer was told is there.

    >>> ledger_finding(Ledger(acknowledged=1200)).observed
    'all 1,200 are there'
    """
    if ledger.skipped:
        return LEDGER.unknown(ledger.skipped)
    before = f" before {ledger.before.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f} UTC" if ledger.before else ""
    if not ledger.acknowledged:
        return LEDGER.unknown(f"nothing was acknowledged{before}")
    if ledger.missing:
        keys = ", ".join(ledger.missing_keys[:_SHOWN])
        missing = f"{ledger.missing:,} of {ledger.acknowledged:,} acknowledged{before} are missing: {keys}"
        return LEDGER.finding(Verdict.CRITICAL, missing, limit="0 missing")
    return LEDGER.finding(Verdict.OK, f"all {ledger.acknowledged:,}{before} are there", limit="0 missing")


def book_findings(books: Sequence[Book]) -> list[Finding]:
    """The books in one line: rows and fingerprint of all tables; each table's own are in the run's journal."""
    unread = [BOOKS.unknown(book.trouble, subject=f"{book.database}.{book.table}") for book in books if book.trouble]
    read = [book for book in books if not book.trouble]
    rows = sum(book.rows for book in read)
    said = f"{len(read):,} tables, {rows:,} rows, fingerprint {fingerprint(read)}"
    return [*unread, BOOKS.finding(Verdict.OK, said)] if read else unread


def fingerprint(books: Iterable[Book]) -> str:
    """One digest of many books."""
    digest = hashlib.sha256()
    for book in sorted(books, key=lambda book: (book.database, book.table)):
        digest.update(f"{book.database}.{book.table} {book.rows} {book.fingerprint}\n".encode())
    return digest.hexdigest()


def same_finding(live: LiveSnapshot, copy: Sequence[Book]) -> Finding:
    """The copy has the same rows as the live data had at that LSN, table by table.

    >>> from nvcops.core.restores import Book
    >>> one = Book(database="b", table="t", rows=2, fingerprint="7")
    >>> when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> live = LiveSnapshot(server="db-2", lsn="0/5", clock=when, timeline=1, books=(one,), covered_s=0.0)
    >>> same_finding(live, [one]).verdict.name, same_finding(live, []).observed
    ('OK', 'differs from db-2 at 0/5: t is not in the copy')
    """
    databases = {book.database for book in live.books}
    mine = {(book.database, book.table): book for book in copy if book.database in databases}
    theirs = {(book.database, book.table): book for book in live.books}
    differing = [f"{table} is not in the copy" for _, table in theirs if (_, table) not in mine]
    differing += [f"{table} is only in the copy" for _, table in mine if (_, table) not in theirs]
    differing += [_difference(theirs[key], mine[key]) for key in theirs if key in mine and theirs[key] != mine[key]]
    at = f"{live.server} at {live.lsn}"
    unread = [book.table for book in (*live.books, *mine.values()) if book.trouble]
    if unread:
        return SAME.unknown(f"{', '.join(unread[:_SHOWN])} could not be read", subject=at)
    if differing:
        return SAME.finding(Verdict.CRITICAL, f"differs from {at}: {'; '.join(differing[:_SHOWN])}")
    rows = sum(book.rows for book in live.books)
    return SAME.finding(Verdict.OK, f"{len(theirs)} tables and {rows:,} rows as on {at}")


def _difference(live: Book, copy: Book) -> str:
    if live.rows != copy.rows:
        return f"{live.table} has {copy.rows:,} rows instead of {live.rows:,}"
    return f"{live.table} has as many rows, but not the same"


def reached_finding(plan: RestorePlan, replayed: Replayed) -> Finding:
    """Where the copy stands."""
    last = replayed.last_commit
    commit = f", last commit {last.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f} UTC" if last else ""
    said = f"{replayed.lsn} on the way to {target_text(plan)}" if plan.target.lsn != replayed.lsn else replayed.lsn
    return REACHED.finding(Verdict.OK, said + commit)


def forecast_finding(forecast: Forecast, seconds: float) -> Finding:
    """By how much the forecast missed.

    >>> forecast_finding(Forecast(seconds=8, low=6, high=12, learnt=3), 10).observed
    '8 s forecast, 10 s taken: 20 % off'
    """
    off = abs(forecast.seconds - seconds) / max(seconds, 0.001)
    return FORECAST.finding(
        Verdict.OK, f"{Seconds(forecast.seconds)} forecast, {Seconds(seconds)} taken: {off:.0%} off".replace("%", " %")
    )


def figures_of(
    plan: RestorePlan, unpacked: Unpacked, replayed: Replayed, seen: Verification, forecast: Forecast, *, good: bool
) -> RestoreFigures:
    """What the restore took, for the catalogue."""
    lost = seen.ledger.oldest_missing
    return RestoreFigures(
        backup=plan.backup,
        target=target_text(plan),
        bytes=plan.bytes,
        wal_bytes=replayed.wal_bytes,
        fetch_s=unpacked.seconds,
        replay_s=replayed.seconds,
        verify_s=seen.seconds,
        seconds=unpacked.seconds + replayed.seconds + seen.seconds,
        forecast_s=forecast.seconds,
        acknowledged=seen.ledger.acknowledged,
        missing=seen.ledger.missing,
        rpo_s=max((replayed.log_read - lost).total_seconds(), 0.0) if lost else None,
        good=good,
        drill=plan.purpose is Purpose.DRILL,
    )


def failed_figures(plan: RestorePlan, forecast: Forecast) -> RestoreFigures:
    """Of a restore that came to nothing: it took no time from which a forecast could learn."""
    return RestoreFigures(
        backup=plan.backup,
        target=target_text(plan),
        bytes=plan.bytes,
        wal_bytes=plan.wal_bytes,
        fetch_s=0.0,
        replay_s=0.0,
        verify_s=0.0,
        seconds=0.0,
        forecast_s=forecast.seconds,
        drill=plan.purpose is Purpose.DRILL,
    )


def entry_of(
    figures: RestoreFigures,
    number: str,
    platform: str,
    times: tuple[dt.datetime, dt.datetime],
    actor: str,
) -> Entry:
    """The draft of the catalogue's entry about a restore."""
    began, ended = times
    return Entry(
        number=0,
        id=number,
        kind=Kind.RESTORE,
        platform=platform,
        began=began,
        ended=ended,
        of=(figures.backup,),
        restore=figures,
        actor=actor,
    )
