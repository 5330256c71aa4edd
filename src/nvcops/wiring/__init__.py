"""The one module that knows every room: it fills the runbook, and puts a platform's adapters together."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nvcops import alerts, changes, database, delivery, health, housekeeping, incidents, oncall, recovery, security
from nvcops.adapters.evidence.export import verify_file as verify_bundle
from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.adapters.files import load_manifest, read_secret, routing_text, secrets
from nvcops.adapters.identity_ssh import find_signer
from nvcops.adapters.releases.store import ReleaseStore, open_releases
from nvcops.adapters.runs.door import Runs
from nvcops.adapters.runs.evidence import Notify
from nvcops.adapters.runs.schedule import cadences
from nvcops.adapters.runs.serve import Job, Life, Server
from nvcops.alerts.routing_file import read_routing
from nvcops.core import procedures, schedule
from nvcops.core.backups import Backups
from nvcops.core.cluster import Failover
from nvcops.core.errors import ManifestError, NotFoundError, UsageError
from nvcops.core.evidence import Entry, Redactor
from nvcops.core.incidents import Incident
from nvcops.core.manifest import Manifest
from nvcops.core.records import Records
from nvcops.core.runs import RunRecord, StepRecord
from nvcops.core.target import Target

if TYPE_CHECKING:
    from nvcops.incidents.impact import Impact
    from nvcops.wiring.watch import Watch

__all__ = [
    "ROOMS",
    "EvidenceLater",
    "ReleaseStore",
    "backups",
    "cadences",
    "connect",
    "cost",
    "find_signer",
    "keep_records",
    "load",
    "open_evidence",
    "open_records",
    "open_releases",
    "open_runs",
    "receiver",
    "run_of",
    "server",
    "verify_bundle",
    "watch",
]

CHECKPOINT_EVERY_S = 300.0


def _modules(room: ModuleType) -> Iterator[ModuleType]:
    yield room
    for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        yield importlib.import_module(found.name)  # before the walk does: it would pass over what does not import


ROOMS = tuple(
    module
    for room in (health, database, recovery, security, alerts, oncall, incidents, housekeeping, delivery, changes)
    for module in _modules(room)
)


def load(path: Path) -> Manifest:
    """A platform's manifest, with its procedures known.

    Raises:
        ManifestError: with file, line and hint.
    """
    manifest = load_manifest(path)
    named = [(f"procedures.{name}", name) for name in manifest.procedures]
    named += [("changes.standard", name) for entry in manifest.changes.standard for name in entry.procedures]
    for table, name in named:
        try:
            procedures.find(name)
        except NotFoundError as error:
            raise ManifestError(f"{path}: [{table}]: {error.sentence}", hint=error.hint) from error
    return manifest


def open_evidence(manifest: Manifest) -> EvidenceLog:
    """The platform's evidence log; no secret that its manifest or its routing names can get into it."""
    return open_log(
        manifest.platform.state,
        origin=manifest.evidence.origin,
        witness=manifest.evidence.witness,
        redactor=Redactor([*secrets(manifest), *_addresses_of_hooks(manifest)]),
    )


def _addresses_of_hooks(manifest: Manifest) -> list[str]:
    """The webhooks' addresses that stand in files; what cannot be read is no secret that we could write down."""
    found: list[str] = []
    with suppress(ManifestError):
        for file in _files_of_hooks(manifest.alerts.routing, routing_text(manifest)):
            with suppress(ManifestError):
                found.append(read_secret(file))
    return found


@lru_cache(maxsize=8)
def _files_of_hooks(path: Path | None, text: str | None) -> tuple[Path, ...]:
    """Read once for each text: the log is opened every few seconds."""
    receivers = read_routing(text, path).receivers.values() if path and text else ()
    return tuple(hook.url_file for receiver in receivers for hook in receiver.webhooks if hook.url_file)


@dataclass(frozen=True, slots=True)
class EvidenceLater:
    """The platform's evidence log, opened when there is something to append."""

    manifest: Manifest

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """See core.evidence.Log."""
        with open_evidence(self.manifest) as log:
            return log.append(entries)


def connect(manifest: Manifest) -> Target:
    """The platform as a procedure sees it; nothing is asked yet.

    Raises:
        ManifestError: a secret cannot be read.
    """
    from nvcops.adapters import target  # the drivers take longer to load than most commands to answer
    from nvcops.wiring.alarm import DeskAlarm

    return replace(target.connect(manifest), alarm=DeskAlarm(manifest))


def cost(manifest: Manifest, incident: Incident) -> Impact:
    """What an incident cost so far, from the platform's own figures; each that cannot be had says why.

    Raises:
        ManifestError: a secret cannot be read.
    """
    from nvcops.incidents.impact import impact

    return impact(connect(manifest), incident, schedule.now())


def run_of(manifest: Manifest, run: str) -> RunRecord:
    """A run by its id.

    Raises:
        UsageError: no runs are kept here.
        NotFoundError: there is none.
    """
    journal = connect(manifest).runs
    if journal is None:
        raise UsageError("no runs are kept here", hint="an attestation says how it was done")
    return journal.run(run)


def backups(manifest: Manifest) -> Backups:
    """The platform's backups.

    Raises:
        ManifestError: there is no [backups], or a secret cannot be read.
    """
    from nvcops.adapters.target import open_backups

    return open_backups(manifest)


def receiver(manifest: Manifest) -> Life:
    """What receives the transaction log until it is told to stop: called in a thread that lives as long.

    Raises:
        ManifestError: there is no [backups], or a secret cannot be read.
    """
    from nvcops.adapters.backup.receiver import Receiver
    from nvcops.adapters.backup.repository import open_repository

    return Receiver(open_repository(manifest)).run


def open_records(manifest: Manifest) -> closing[Records]:
    """The platform's records of alerts, pages and incidents, for a `with` statement.

    Raises:
        ManifestError: a password cannot be read.
        StateError: they cannot be opened.
    """
    from nvcops.adapters import records  # Django takes longer to load than most commands to answer

    return closing(records.open_records(manifest))


def keep_records(manifest: Manifest) -> closing[Records]:
    """The same for whoever serves: they are opened as soon as they can be, and until then each question says why not.

    Raises:
        ManifestError: a password cannot be read.
    """
    from nvcops.adapters.records.later import KeptRecords

    return closing(KeptRecords(manifest))


def open_runs(manifest: Manifest, *, notify: Notify, kind: str = "cli") -> Runs:
    """The platform's runs. It connects to the platform and opens the evidence when they are needed."""
    return Runs(manifest, lambda: connect(manifest), lambda: open_evidence(manifest), notify=notify, kind=kind)


def watch(manifest: Manifest, records: Records, notify: Notify) -> Watch:
    """What `nvcops serve` watches the platform with.

    Raises:
        ManifestError: the routing's file, or a secret, cannot be read.
    """
    from nvcops.wiring.watch import Watch

    return Watch(manifest, connect(manifest), records, notify)


def server(
    runs: Runs,
    watched: Watch,
    on_step: Callable[[RunRecord, StepRecord], None],
    doors: Sequence[tuple[str, Life]] = (),
    jobs: Sequence[Job] = (),
) -> Server:
    """The worker behind `nvcops serve`: runs by the clock, the services' figures, alerts, a checkpoint now and then."""
    from nvcops.adapters.metrics.scrape import Scraper
    from nvcops.adapters.statements.sampler import Sampler

    scraper, sampler = Scraper.of(runs.manifest), Sampler.of(runs.manifest)

    def checkpoint() -> None:
        with open_evidence(runs.manifest) as log:
            if log.size():
                log.checkpoint(schedule.now())

    every: list[Job] = [(scraper.name, scraper.interval_s, scraper), ("checkpoint", CHECKPOINT_EVERY_S, checkpoint)]
    every += [*watched.jobs(EvidenceLater(runs.manifest)), *jobs]
    lives: list[tuple[str, Life]] = [*watched.lives(), *doors]
    if sampler is not None:
        lives.append((sampler.name, sampler.run))
    if runs.manifest.backups and runs.manifest.backups.engine == "native":
        lives.append(("transaction log", receiver(runs.manifest)))
    if runs.manifest.cluster and runs.manifest.cluster.guard:
        every.append(guard(runs))
    return Server(runs, every, lives, on_step=on_step)


def guard(runs: Runs) -> Job:
    """What fences a primary that is certainly gone and frees its lease; a run proves afterwards what came of it.

    Raises:
        ManifestError: there is no [cluster] of a [database], or a secret cannot be read.
    """
    from nvcops.adapters.programs import Programs
    from nvcops.adapters.target import guarded_cluster

    def told(failover: Failover) -> None:
        runs.notify(failover.sentence)
        options = {"old": failover.old, "guard": failover.sentence}
        runs.enqueue(procedures.find("fail-over"), failover.began, options, "guard")

    cluster = guarded_cluster(runs.manifest, Programs(runs.manifest.control))
    if cluster is None:
        raise ManifestError("there is nothing to guard: platform.toml has no [cluster] of a [database]")
    watch = cluster.guard(told)
    return watch.name, watch.interval_s, watch
