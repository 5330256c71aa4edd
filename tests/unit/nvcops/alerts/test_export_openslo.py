"""What OpenSLO v1 asks of a document, written down here by hand: no package of its project checks it from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from msgspec import structs

from nvcops.alerts.export import openslo
from nvcops.core.manifest import Manifest, parse
from nvcops.core.units import Seconds
from rule_cases import manifest

LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
DURATION = {"type": "string", "pattern": "^[1-9][0-9]*[mhdwMQY]$"}
TEXT = {"type": "string", "minLength": 1, "maxLength": 1050}
Schema = dict[str, Any]


def whole(required: Schema, **allowed: Schema) -> Schema:
    """An object with these fields, and no others."""
    fields = {**required, **allowed}
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


def several(items: Schema, most: int | None = None) -> Schema:
    return {"type": "array", "minItems": 1, "items": items, **({"maxItems": most} if most else {})}


METADATA = whole({"name": LABEL}, displayName={"type": "string"}, labels={}, annotations={})
METRIC = whole(
    {"metricSource": whole({"spec": {"type": "object", "minProperties": 1}}, metricSourceRef=LABEL, type=TEXT)}
)
RATIO = {"oneOf": [whole({"counter": {"type": "boolean"}, "total": METRIC, part: METRIC}) for part in ("good", "bad")]}
CONDITION = whole(
    {
        "kind": {"const": "burnrate"},
        "op": {"enum": ["lte", "gte", "lt", "gt"]},
        "threshold": {"type": "number"},
        "lookbackWindow": DURATION,
    },
    alertAfter=DURATION,
)


def inline(kind: str, spec: Schema) -> Schema:
    return whole({"kind": {"const": kind}, "metadata": METADATA, "spec": spec})


POLICY = whole(
    {
        "conditions": several(
            inline("AlertCondition", whole({"severity": TEXT, "condition": CONDITION}, description=TEXT)), most=1
        ),
        "notificationTargets": several(whole({"targetRef": LABEL})),
    },
    description=TEXT,
    alertWhenBreaching={"type": "boolean"},
    alertWhenResolved={"type": "boolean"},
    alertWhenNoData={"type": "boolean"},
)
OBJECTIVE = whole({"target": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}}, displayName=TEXT)
SPECS = {
    "Service": whole({}, description=TEXT),
    "DataSource": whole({"type": TEXT, "connectionDetails": {"type": "object"}}, description=TEXT),
    "AlertNotificationTarget": whole({"target": TEXT}, description=TEXT),
    "SLO": whole(
        {
            "service": LABEL,
            "indicator": whole({"metadata": METADATA, "spec": whole({"ratioMetric": RATIO}, description=TEXT)}),
            "budgetingMethod": {"enum": ["Occurrences", "Timeslices", "RatioTimeslices"]},
            "objectives": several(OBJECTIVE),
            "timeWindow": several(whole({"duration": DURATION, "isRolling": {"const": True}}), most=1),
        },
        description=TEXT,
        alertPolicies=several(inline("AlertPolicy", POLICY)),
    ),
}


def example() -> Manifest:
    path = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
    return parse(path.read_text(encoding="utf-8"), path)


def awkward() -> Manifest:
    """With names of dots and of the greatest length, and a window of a day and a half."""
    shop = manifest()
    (service, *others), long = shop.services, "shop.of." + "x" * 50
    slos = tuple(
        structs.replace(one, service=long, name=f"{one.name}.{'y' * 40}", window=Seconds(36 * 3600))
        for one in shop.slos
    )
    return structs.replace(shop, services=(structs.replace(service, name=long), *others), slos=slos)


@pytest.mark.parametrize("of", [example, manifest, awkward])
def test_every_document_is_as_openslo_has_it(of: type[Manifest]) -> None:
    documents = list(yaml.safe_load_all(openslo(of())))
    assert {document["kind"] for document in documents} == set(SPECS)
    for document in documents:
        kind = document["kind"]
        schema = whole(
            {"apiVersion": {"const": "openslo/v1"}, "kind": {"const": kind}, "metadata": METADATA, "spec": SPECS[kind]}
        )
        jsonschema.Draft202012Validator(schema).validate(document)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)
    there = {name for kind, name in names if kind == "Service"}
    assert all(document["spec"]["service"] in there for document in documents if document["kind"] == "SLO")
