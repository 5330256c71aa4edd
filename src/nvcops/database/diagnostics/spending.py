"""On what the database spends its time: by statement, by change, by share of what an answer may take, with plans."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import TargetError, UsageError
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.runs import conduct
from nvcops.core.statements import Inside, Statements, Waits
from nvcops.core.target import Target
from nvcops.core.units import Count, Ratio, Seconds
from nvcops.core.workload import Statement, Workload
from nvcops.database.diagnostics.causes import slower
from nvcops.database.diagnostics.chains import lasting
from nvcops.database.diagnostics.db_diagnostics import answered
from nvcops.database.diagnostics.plans import Plan, summarised, told
from nvcops.database.texts import shown
from nvcops.database.topics import unknown

_WEEK = dt.timedelta(days=7)
_PLANS_MAX = 3
_LOGGED_MAX = 50_000  # lines of the server's log in which plans are looked for
_SAMPLE_S_MAX = 60.0
TOP_MAX = 50

# --- Facts ---


class Objective(msgspec.Struct, frozen=True):
    """How long an answer of a service may take, and how many answers there were in the time."""

    service: str
    allowed_s: float
    answers: float


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked in a time, and in the week before it. `trouble` says why nothing is known, `helps` what helps."""

    start: dt.datetime
    trouble: str = ""
    helps: str = ""
    now: Workload | None = None
    before: Workload | None = None
    objectives: tuple[Objective, ...] = ()
    plans: tuple[Plan, ...] = ()
    waits: Waits = Waits(observed_s=0.0)
    inside: Inside = Inside(tracked=False)


def length(written: str, what: str) -> float:
    """A duration as an option has it, in seconds.

    >>> length("24 h", "--since"), length("", "--sample")
    (86400.0, 0.0)
    >>> length("soon", "-s")
    Traceback (most recent call last):
    nvcops.core.errors.UsageError: -s: 'soon' is not a duration: the units are us, ms, s, min, h, d (as in "200 ms")
    """
    try:
        return float(Seconds.read(written)) if written else 0.0
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from error


@conduct(deadline="180 s", idempotent=True)
def spending(target: Target, start: dt.datetime, end: dt.datetime, sample_s: float) -> Spending:
    """Add up what the database was asked, and how its costliest statements are planned."""
    kept = target.statements
    if kept is None:
        return Spending(start=start, trouble="nothing is kept of statements")
    waits = kept.sample(min(sample_s, _SAMPLE_S_MAX)) if sample_s else kept.waits(start, end)
    try:
        now = kept.between(start, end)
    except TargetError as error:
        return Spending(start=start, trouble=error.sentence, helps=error.hint, waits=waits)
    before = kept.between(start - _WEEK, start)
    inside = _inside(kept)
    return Spending(
        start=start,
        now=now,
        before=before if before.until <= start else None,  # else it is all that the server ever counted
        objectives=tuple(_objectives(target, now.since or start, end)),
        plans=tuple(_plans(target, kept, [*now.statements[:_PLANS_MAX], *inside.statements], end)),
        waits=waits,
        inside=inside,
    )


def _inside(kept: Statements) -> Inside:
    """The costliest statements inside of functions; where that cannot be read, what is asked is told all the same."""
    try:
        seen = kept.inside()
    except TargetError:
        return Inside(tracked=False)
    return msgspec.structs.replace(seen, statements=seen.statements[:_PLANS_MAX])


def _objectives(target: Target, start: dt.datetime, end: dt.datetime) -> Iterator[Objective]:
    for entry in target.manifest.services:
        count, _ = answered(target, entry, start, end)
        if count:
            yield Objective(entry.name, allowed(entry, target.manifest), count)


def allowed(entry: ServiceEntry, manifest: Manifest) -> float:
    """How long an answer of a service may take: by its objective of latency, else by that of the platform."""
    latency = [one.threshold for one in manifest.slos if one.service == entry.name and one.threshold]
    return float(min(latency, default=manifest.objectives.response_mean))


def _plans(target: Target, kept: Statements, worst: Sequence[Statement], end: dt.datetime) -> Iterator[Plan]:
    """As they were carried out, where auto_explain logs them as JSON; else as they would be."""
    logged = _logged(target, {one.id for one in worst}, end)
    for one in worst:
        if one.id in logged:
            yield summarised(one.id, "auto_explain", logged[one.id])
            continue
        try:
            planned = kept.plan(one.text)
        except TargetError as error:
            yield Plan(statement=one.id, trouble=f"no plan: {error.sentence}")
        else:
            yield summarised(one.id, f"EXPLAIN on {planned.server}", planned.explained)


def _logged(target: Target, wanted: set[int], end: dt.datetime) -> dict[int, dict[str, Any]]:
    """The newest plans of these statements that the primary has logged in the last hour."""
    source = target.manifest.database.primary.name if target.manifest.database else ""
    if source not in target.logs.sources or not wanted:
        return {}
    found: dict[int, dict[str, Any]] = {}
    try:
        events = target.logs.events(source, end - dt.timedelta(hours=1), end, {"postgresql.log"})
        for event in itertools.islice(events, _LOGGED_MAX):
            statement, plan = logged_plan(event.fields)
            if statement in wanted and plan:
                found[statement] = plan
    except TargetError:
        return {}  # the log is one of two ways: EXPLAIN is the other
    return found


def logged_plan(fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    r"""The statement's id and the plan of a line that auto_explain wrote with log_format = json; of others none.

    >>> logged_plan({"query_id": 5, "message": 'duration: 3.1 ms  plan:\n{"Plan": {"Node Type": "Result"}}'})
    (5, {'Plan': {'Node Type': 'Result'}})
    >>> logged_plan({"query_id": 5, "message": "duration: 3.1 ms  statement: SELECT 1"})
    (0, {})
    """
    message = str(fields.get("message", ""))
    before, _, plan = message.partition("plan:\n")
    if not before.startswith("duration:") or not plan.startswith("{"):
        return 0, {}
    try:
        return int(fields.get("query_id", 0)), msgspec.json.decode(plan, type=dict[str, Any])
    except (ValueError, msgspec.DecodeError):
        return 0, {}


# --- Rules ---

SPENT = Check("performance.spent", "Time spent", "EXPLAIN it; scripts/optimize_indexes.py, scripts/update_db_stats.py")
CHANGED = Check("performance.changed", "Slower than before", "what changed? its plan, its table's size, its statistics")
SHARE = Check("performance.objective", "Share of an answer", SPENT.next_step)
WAITED = Check("performance.waited", "Waits over time", "scripts/db_diagnostics.py names who holds up whom")
INSIDE = Check("performance.inside", "Inside of functions", "EXPLAIN (GENERIC_PLAN) it")
_ALONE = f"; it would show the call alone, see {INSIDE.title!r}"
_VARIABLES = "; a function's own variables have no plan outside of it: auto_explain.log_nested_statements logs it"
_WAITS_TOLD = 5


_CALL = re.compile(r"^(\s|/\*.*?\*/)*(select\s+(\*\s+from\s+)?|call\s+)[\w.\"]+\s*\(", re.IGNORECASE | re.DOTALL)


def calls(text: str) -> bool:
    """Whether a statement begins with the call of a function: what costs is inside of it.

    >>> calls("SELECT bank.post_payments($1)"), calls("/* pay */ SELECT * FROM post($1, $2)"), calls("CALL tidy()")
    (True, True, True)
    >>> calls("SELECT id FROM account"), calls("UPDATE account SET a = abs($1)")
    (False, False)
    """
    return bool(_CALL.match(text))


def _planned(plan: Plan | None, without: str) -> str:
    """A plan behind a statement; `without` says why there may be none."""
    if plan is None:
        return ""
    return f" [{plan.means}: {told(plan)}]" if plan.means else f" [{told(plan)}{without}]"


def inside_findings(seen: Spending, now: Workload) -> list[Finding]:
    """What functions ask inside, with plans; or why nobody knows, where statements call functions."""
    calling = [one for one in now.statements if calls(one.text)]
    if not seen.inside.tracked:
        if not calling:
            return []
        share = Ratio(sum(one.total_s for one in calling) / (sum(one.total_s for one in now.statements) or 1.0))
        how = "ALTER SYSTEM SET pg_stat_statements.track = 'all'"
        why = f"{share} of the time is in calls of functions; what they ask inside is not counted: {how}"
        return [INSIDE.finding(Verdict.OK, why)]
    plans = {plan.statement: plan for plan in seen.plans}
    lines = []
    for one in seen.inside.statements:
        spent = f"{lasting(one.total_s)} in {Count(one.calls)} calls of {Seconds(one.mean_s)}: {shown(one.text)}"
        observed = f"{spent}{_planned(plans.get(one.id), _VARIABLES)}"
        lines.append(INSIDE.finding(Verdict.OK, observed))
    return lines


def spending_findings(seen: Spending, top: int) -> list[Finding]:
    """Where the time goes: only what got slower is a trouble, the rest is there to be read."""
    waited = waited_finding(seen.waits)
    if seen.now is None:
        line = unknown(SPENT, seen.trouble, seen.helps) if seen.helps else SPENT.unknown(seen.trouble)
        return [line, waited]
    return [
        *_spent(seen, seen.now, top),
        *inside_findings(seen, seen.now),
        *_changed(seen, seen.now),
        *_shares(seen, seen.now),
        waited,
    ]


def _spent(seen: Spending, now: Workload, top: int) -> Iterator[Finding]:
    everything = sum(one.total_s for one in now.statements) / max(now.share, 1e-9)
    plans = {plan.statement: plan for plan in seen.plans}
    window = f"since {now.since:%Y-%m-%d %H:%M} UTC" if now.since else "since it counts"
    for one in now.statements[:top]:
        share = Ratio(one.total_s / everything if everything else 0.0)
        spent = (
            f"{share} of the time {window}: {lasting(one.total_s)} in {Count(one.calls)} calls of {Seconds(one.mean_s)}"
        )
        yield SPENT.finding(
            Verdict.OK, f"{spent}: {shown(one.text)}{_planned(plans.get(one.id), _ALONE if calls(one.text) else '')}"
        )
    if not now.statements:
        yield SPENT.finding(Verdict.OK, f"nothing was asked {window}")


def _changed(seen: Spending, now: Workload) -> Iterator[Finding]:
    if seen.before is None:
        yield CHANGED.finding(Verdict.OK, "nothing is known of the week before: `nvcops serve` keeps it")
        return
    found = slower(now, seen.before)
    for one, usual, _ in found:
        observed = f"{Seconds(one.mean_s)} on average, {Seconds(usual.mean_s)} in the week before: {shown(one.text)}"
        yield CHANGED.finding(Verdict.WARNING, observed)
    if not found:
        yield CHANGED.finding(Verdict.OK, f"none of {len(now.statements)} statements")


def _shares(seen: Spending, now: Workload) -> Iterator[Finding]:
    """What of the time that an answer may take is spent in the database, and by which statements."""
    for one in seen.objectives:
        each = [(statement.total_s / one.answers, statement) for statement in now.statements]
        whole = sum(seconds for seconds, _ in each)
        worst = ", ".join(
            f"{Seconds(seconds)} ({Ratio(seconds / one.allowed_s)}) by {shown(statement.text, 50)}"
            for seconds, statement in each[:3]
        )
        observed = f"{Seconds(whole)} of the {Seconds(one.allowed_s)} that an answer may take: {worst}"
        yield SHARE.finding(Verdict.OK, observed, subject=one.service)


def waited_finding(waits: Waits) -> Finding:
    """What active sessions did over a time: a picture, without a limit.

    >>> from nvcops.core.statements import Waited
    >>> seen = (Waited(kind="IO", event="DataFileRead", seconds=6.0), Waited(kind="", event="", seconds=3.0, query=5))
    >>> waited_finding(Waits(observed_s=4.0, waited=seen)).observed
    '2.2 sessions at a time in 4 s: 66.7 % IO: DataFileRead, 33.3 % working'
    >>> waited_finding(Waits(observed_s=0.0)).observed
    'nobody looked: `nvcops serve` does each second; --sample "10 s" looks now'
    """
    if not waits.observed_s:
        return WAITED.finding(Verdict.OK, 'nobody looked: `nvcops serve` does each second; --sample "10 s" looks now')
    sums: dict[str, float] = {}
    for one in waits.waited:
        sums[one.title] = sums.get(one.title, 0.0) + one.seconds
    whole = sum(sums.values()) or 1.0
    ranked = sorted(sums.items(), key=lambda item: -item[1])[:_WAITS_TOLD]
    parts = ", ".join(f"{Ratio(seconds / whole)} {title}" for title, seconds in ranked)
    at_a_time = f"{waits.sessions:.1f} sessions at a time in {lasting(waits.observed_s)}"
    return WAITED.finding(Verdict.OK, f"{at_a_time}: {parts}" if parts else f"{at_a_time}: nobody was active")
