"""`nvcops alerts`: what fires, who silenced what and why, and the same rules for a Prometheus beside us."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import click

from nvcops import wiring
from nvcops.alerts import export
from nvcops.alerts import silences as silencing
from nvcops.alerts.readings import budgets
from nvcops.changes.excluding import excluded
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_option
from nvcops.cli.deciding import deciding, looking, moment, signed
from nvcops.cli.report import local
from nvcops.core import schedule
from nvcops.core.alerts import Alert, Category
from nvcops.core.errors import StateError
from nvcops.core.procedures import planned
from nvcops.core.records import Reading
from nvcops.core.units import Ratio, Seconds
from nvcops.health.watch import probes_of

_SHOWN_MAX = 1_000
_EXPORTS = {
    "prometheus": lambda manifest: export.prometheus_rules(manifest, probes_of(manifest)),
    "alertmanager": export.alertmanager_config,
    "openslo": export.openslo,
}


@click.group()
def alerts() -> None:
    """See what fires, silence it with a reason, and hand the rules to others."""


@alerts.command("list")
@target_option
@click.option("--all", "everything", is_flag=True, help="With those that are over and still remembered.")
@json_option
def list_alerts(target_path: Path | None, everything: bool, as_json: bool) -> int:
    """List what fires, the gravest first; ends with 2 while something critical does, with 1 while anything does."""
    at = schedule.now()
    with looking(target_path) as (reading, _manifest, zone):
        where = {} if everything else {"ends__isnull": True}
        found = [alert for one in Category for alert in _of_category(reading, one, where)]
        silenced = silencing.silences(reading, at)
    firing = [alert for alert in found if alert.firing(at)]
    shown = found if everything else firing

    def lines() -> Iterator[str]:
        for alert in shown:
            by = silencing.muting(silenced, alert.labels, at)
            stands = "over" if not alert.firing(at) else f"silenced by {by.author}" if by else "fires"
            since = local(alert.starts, zone)
            yield f"{alert.category.upper():<9} {since}  {alert.name}: {alert.summary}  ({stands}, said {alert.times}x)"
        if not shown:
            yield "nothing fires"

    answer(shown, as_json, lines)
    return 2 if any(alert.category is Category.CRITICAL for alert in firing) else 1 if firing else 0


def _of_category(reading: Reading, category: Category, where: dict[str, bool]) -> list[Alert]:
    """Of each category for itself: a storm of minor ones, or what is over, hides nothing critical."""
    return reading.find(Alert, category=category, order="-starts", limit=_SHOWN_MAX, **where)


@signed
@alerts.command()
@click.argument("matchers")
@click.option("--for", "ahead", required=True, help='For how long, as "2 h".')
@click.option("--from", "start", help='From when on, as "2026-11-24 09:00"; default: now.')
@click.option("--reason", required=True, help="Why nobody needs to be told.")
@target_option
@json_option
def silence(  # noqa: PLR0913, PLR0917 - the flags of a command line
    matchers: str,
    ahead: str,
    start: str | None,
    reason: str,
    target_path: Path | None,
    as_json: bool,
    person: str | None,
    key: Path | None,
) -> None:
    """Silence what all MATCHERS match, as in 'alertname="ProbeDown", service="bank"'; you are told before it ends."""
    with deciding(target_path, (person, key), "alerts", "silence", f"{matchers}: {reason}") as by:
        zone, starts = by.zone, moment(start, by.zone, by.at)
        done = silencing.silence(
            by.desk,
            manifest=by.manifest,
            matchers=matchers,
            starts=starts,
            ends=moment(f"+{ahead}", by.zone, starts),
            author=by.person,
            reason=reason,
            at=by.at,
        )
    answer(done, as_json, lambda: [f"{done.id}: until {local(done.ends, zone)}"])


@alerts.command("silences")
@target_option
@json_option
def list_silences(target_path: Path | None, as_json: bool) -> None:
    """List what is silenced, by whom, and why."""
    with looking(target_path) as (reading, _manifest, zone):
        found = silencing.silences(reading, schedule.now())

    def lines() -> Iterator[str]:
        for one in found:
            times = f"{local(one.starts, zone)}  {local(one.ends, zone)}"
            yield f"{times}  {silencing.in_words(one)}  {one.reason} ({one.author}, {one.id})"
        if not found:
            yield "nothing is silenced"

    answer(found, as_json, lines)


@signed
@alerts.command()
@click.argument("silence_id")
@target_option
@json_option
def expire(silence_id: str, target_path: Path | None, as_json: bool, person: str | None, key: Path | None) -> None:
    """End a silence now."""
    with deciding(target_path, (person, key), "alerts", "expire", silence_id) as by:
        done = silencing.expire(by.desk, silence_id, manifest=by.manifest, person=by.person, at=by.at)
    answer(done, as_json, lambda: [f"{done.id} is over"])


@alerts.command("budgets")
@target_option
@json_option
def list_budgets(target_path: Path | None, as_json: bool) -> int:
    """Show each objective's budget, as it was and without approved maintenance; ends with 2 when one is spent."""
    manifest = wiring.load(manifest_path(target_path))
    target, at = wiring.connect(manifest), schedule.now()
    longest = max((objective.window for objective in manifest.slos), default=Seconds(0))
    since = at - dt.timedelta(seconds=longest)
    took = target.runs.approved(since, at) if target.runs else []
    try:
        with wiring.open_records(manifest) as records, records.reading() as reading:
            took += excluded(reading, since, at)
    except StateError as error:
        notify(f"{error.sentence}: what changes took is not left out")
    found = budgets(manifest, target.metrics, at, planned(took))

    def lines() -> Iterator[str]:
        for one in found:
            yield (
                f"{one.service} {one.objective}: {one.target} over {one.window}, {_left(one.raw_left)} is left"
                f" ({one.raw.bad:,.0f} bad of {one.raw.total:,.0f})"
            )
            if one.changes:
                yield f"  {_left(one.corrected_left)} without {one.left_out_s} of {', '.join(one.changes)}"
        if not found:
            yield "no objective is named: [[slos]] in platform.toml"

    answer(found, as_json, lines)
    return 2 if any(one.corrected_left is not None and one.corrected_left <= 0 for one in found) else 0


def _left(share: Ratio | None) -> str:
    return "an unknown part" if share is None else str(Ratio(round(share, 3)))


@alerts.command("export")
@click.argument("form", type=click.Choice(sorted(_EXPORTS)))
@target_option
def export_rules(form: str, target_path: Path | None) -> None:
    """Print our rules as a Prometheus rule file, an Alertmanager's configuration that routes to us, or OpenSLO."""
    click.echo(_EXPORTS[form](wiring.load(manifest_path(target_path))), nl=False)
