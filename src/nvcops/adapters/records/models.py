"""The tables: one model for each kind of record, made from its struct, with the indexes by which it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from django.db import models

from nvcops.adapters.records.columns import Column, columns_of
from nvcops.core import alerts, changes, gates, incidents, oncall, releases, rollouts

_ASKED_BY: dict[type[msgspec.Struct], tuple[tuple[str, ...], ...]] = {
    alerts.Alert: (("ends", "expires"), ("expires",)),
    alerts.Group: (("due",),),
    alerts.Member: (("group",), ("fingerprint",)),
    alerts.Silence: (("ends",),),
    oncall.Override: (("rotation", "ends"),),
    oncall.Page: (("resolved", "next"), ("about",), ("incident",)),
    oncall.Message: (("state", "due"), ("page",), ("incident",)),
    oncall.Reach: (("person", "sent"),),
    oncall.Beat: (),
    incidents.Incident: (("state",), ("detected",), ("resolved",)),
    incidents.IncidentAlert: (("incident",), ("fingerprint",), ("ends",)),
    incidents.Event: (("incident", "time"),),
    incidents.Tick: (("incident",),),
    incidents.ActionItem: (("incident",), ("closed", "due")),
    incidents.Clock: (("incident",), ("met", "due")),
    releases.Admission: (("digest",), ("stage", "time")),
    gates.GateControl: (),
    rollouts.Rollout: (("phase",), ("began",), ("new",)),
    changes.Change: (("state",), ("requested",), ("digest",), ("began",), ("ended",)),
}


@dataclass(frozen=True)
class Kind:
    """A kind of record and its table. `indexed` are the places of the texts that stand in an index."""

    record: type[msgspec.Struct]
    model: type[models.Model]
    columns: tuple[Column, ...]
    indexed: tuple[int, ...]

    @property
    def key(self) -> str:
        """The name of the first field."""
        return self.columns[0].name

    @property
    def table(self) -> str:
        """The table's name."""
        return f"records_{self.record.__name__.lower()}"


def _kind(record: type[msgspec.Struct], asked_by: tuple[tuple[str, ...], ...]) -> Kind:
    columns = columns_of(record)
    fields: dict[str, Any] = {column.name: column.built(key=column is columns[0]) for column in columns}
    indexes = [models.Index(fields=list(names), name=_index_name(record, names)) for names in asked_by]
    meta = type("Meta", (), {"app_label": "records", "indexes": indexes})
    model = type(record.__name__, (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
    named = {columns[0].name}.union(*asked_by)
    texts = [n for n, column in enumerate(columns) if column.name in named and column.field is models.TextField]
    return Kind(record, model, columns, tuple(texts))


def _index_name(record: type[msgspec.Struct], names: tuple[str, ...]) -> str:
    return "_".join((record.__name__.lower(), *names))


KINDS: dict[type[msgspec.Struct], Kind] = {record: _kind(record, asked) for record, asked in _ASKED_BY.items()}
