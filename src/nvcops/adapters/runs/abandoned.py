"""Runs that cannot go on by themselves: their worker is gone, or their procedure is not what it was."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.adapters.runs import workers
from nvcops.adapters.runs.store import RunStore
from nvcops.core import procedures
from nvcops.core.errors import NotFoundError
from nvcops.core.runs import RunRecord, RunState, StepKind
from nvcops.core.schedule import now


class Abandoned(msgspec.Struct, frozen=True):
    """A run whose worker died (`gone`), or has not been heard of (it may hang, or its host may be gone)."""

    run: RunRecord
    gone: bool
    crashes: int
    silent_since: float


def find_abandoned(store: RunStore) -> Sequence[Abandoned]:
    """All of them. `silent_since` is the worker's last sign of life in seconds since 1970, 0 when it left none."""
    moment = now().timestamp()
    found = []
    for record in store.find([RunState.RUNNING], limit=1000):
        holder = workers.find(store.ops, record.worker)
        if holder is None or holder.gone or holder.silent(moment):
            gone, last = holder is None or holder.gone, holder.heartbeat if holder else 0.0
            found.append(Abandoned(record, gone, store.crashes(record.id), last))
    return found


def changed_since(record: RunRecord) -> str:
    """The procedure of a run, or one that it included, whose code is another than when the run met it; "" if none."""
    for name, content_hash in met_by(record).items():
        try:
            if procedures.find(name).content_hash != content_hash:
                return name
        except NotFoundError:
            return name
    return ""


def met_by(record: RunRecord) -> dict[str, str]:
    """The procedure of a run and those that it included, with the content that they had when the run met them."""
    included = (step for step in record.steps if step.kind is StepKind.INCLUDE and step.ended)
    return {record.procedure: record.content_hash} | {step.name.rpartition("/")[2]: step.result for step in included}
