"""The commands."""

from __future__ import annotations

import click

from nvcops.cli.aftermath import write_postmortem
from nvcops.cli.alerts import alerts
from nvcops.cli.backups import backups, receive_wal
from nvcops.cli.changes import changes
from nvcops.cli.evidence import evidence
from nvcops.cli.incidents import ack, assign, incident, incidents, note, resolve_incident
from nvcops.cli.init import init
from nvcops.cli.oncall import oncall
from nvcops.cli.pipeline import pipeline
from nvcops.cli.releases import release
from nvcops.cli.rollouts import (
    abort,
    analysis,
    deploy,
    promote,
    retry,
    rollback,
    rollout_history,
    status,
    verify_analysis,
)
from nvcops.cli.roster import acknowledge, calendar, confirm, contacts, pages, take_in
from nvcops.cli.run import run
from nvcops.cli.runbook import describe, due, list_
from nvcops.cli.runs import approve, attest, cancel, list_runs, resume, show_run
from nvcops.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nvcops", prog_name="nvcops")
def nvcops() -> None:
    """Run an operations runbook, verify it, and prove it.

    Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage.
    """


for _command in (pages, acknowledge, confirm, contacts, calendar, take_in):
    oncall.add_command(_command)

for _command in (deploy, rollback, retry, abort, promote, status, rollout_history, analysis, verify_analysis):
    release.add_command(_command)

for _command in (
    list_,
    describe,
    due,
    run,
    list_runs,
    show_run,
    resume,
    cancel,
    approve,
    attest,
    serve,
    incidents,
    incident,
    ack,
    assign,
    note,
    resolve_incident,
    write_postmortem,
    alerts,
    oncall,
    backups,
    receive_wal,
    changes,
    evidence,
    release,
    pipeline,
    init,
):
    nvcops.add_command(_command)
