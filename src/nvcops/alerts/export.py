"""Our rules and objectives in the words of others: Prometheus rule files, Alertmanager, OpenSLO. Pure.

Whoever has a Prometheus can let it evaluate the same rules, and we take its alerts: directly, as if we were its
Alertmanager, or through an Alertmanager that routes to us.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import yaml

from nvcops.alerts.indicators import share_of
from nvcops.alerts.promql import READY_JOB, counted, duration, expression
from nvcops.alerts.rules import Rule, rules_of
from nvcops.core.errors import UsageError
from nvcops.core.manifest import Manifest, ObjectiveEntry, ServiceEntry
from nvcops.core.slo import BURN, BURN_WINDOWS
from nvcops.core.units import Seconds
from nvcops.core.watch import WATCHED, Probe

WEBHOOK = "/v1/webhook/alertmanager"
_OPENSLO = "openslo/v1"
_LABEL_MAX = 63
_REPEAT_MIN = Seconds(10)


def prometheus_rules(manifest: Manifest, probes: Sequence[Probe] = ()) -> str:
    """The rules as a Prometheus rule file, for `rule_files`; as YAML."""
    group = {
        "name": manifest.platform.name,
        "interval": duration(manifest.metrics.interval),
        "rules": [_rule(rule) for rule in rules_of(manifest, probes)],
    }
    jobs = ", ".join([*(service.name for service in manifest.services), READY_JOB.format(service="NAME"), WATCHED])
    return _written(f"Rules of {manifest.platform.title}. Scrape jobs that they expect: {jobs}.", {"groups": [group]})


def _rule(rule: Rule) -> dict[str, Any]:
    hold = {"for": duration(rule.hold)} if rule.hold else {}
    return {
        "alert": rule.alert,
        "expr": expression(rule),
        **hold,
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }


def alertmanager_config(manifest: Manifest, url: str | None = None) -> str:
    """An Alertmanager's configuration that routes everything to us; as YAML.

    Grouping, repeating, silences are ours, so that it passes on each alert by itself and again before we take its
    silence for its end. `url` is where it reaches us, where that is not the address that we listen at.

    Raises:
        UsageError: nothing says where we are reached, or we forget alerts sooner than an Alertmanager repeats them.
    """
    alerts = manifest.alerts
    if url is None and (alerts.listen is None or alerts.listen.rpartition(":")[0] in ("0.0.0.0", "[::]")):  # noqa: S104 - looked for, not listened at
        raise UsageError(
            "nothing says at which address an Alertmanager reaches us", hint="name it: --url http://HOST:PORT"
        )
    again = Seconds(int(alerts.resolve_after / 2))
    if again < _REPEAT_MIN:
        sentence = f"[alerts] resolve_after of {alerts.resolve_after} is too short for an Alertmanager"
        raise UsageError(
            sentence, hint=f"it says an alert again each {_REPEAT_MIN} at best: at least {2 * _REPEAT_MIN} s"
        )
    webhook: dict[str, Any] = {
        "url": (url or f"http://{alerts.listen}").rstrip("/") + WEBHOOK,
        "send_resolved": True,
        "max_alerts": 0,
    }
    if alerts.token_file is not None:
        webhook["http_config"] = {"authorization": {"type": "Bearer", "credentials_file": str(alerts.token_file)}}
    route = {
        "receiver": WATCHED,
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": duration(_REPEAT_MIN / 2),
        "repeat_interval": duration(again),
    }
    config = {"route": route, "receivers": [{"name": WATCHED, "webhook_configs": [webhook]}]}
    return _written(f"All alerts go to nvcops, which groups, repeats and silences: {manifest.platform.title}.", config)


_TARGET = {
    "apiVersion": _OPENSLO,
    "kind": "AlertNotificationTarget",
    "metadata": {"name": WATCHED},
    "spec": {"target": "webhook", "description": "nvcops, which knows who is on call"},
}


def openslo(manifest: Manifest) -> str:
    """The objectives as OpenSLO v1: services, a data source, objectives with their burn-rate conditions; as YAML."""
    services = {service.name: service for service in manifest.services}
    named = {objective.service for objective in manifest.slos}
    documents = [
        {
            "apiVersion": _OPENSLO,
            "kind": "Service",
            "metadata": {"name": label(name)},
            "spec": {"description": f"{name} of {manifest.platform.title}, at {services[name].url}"},
        }
        for name in services
        if name in named
    ]
    if manifest.slos:
        documents += [_data_source(manifest), _TARGET]
    documents += [_slo(objective, services[objective.service], manifest) for objective in manifest.slos]
    return _written(f"Objectives of {manifest.platform.title}.", *documents)


def _data_source(manifest: Manifest) -> dict[str, Any]:
    url = manifest.watch.prometheus
    details = {"url": url} if url else {}
    return {
        "apiVersion": _OPENSLO,
        "kind": "DataSource",
        "metadata": {"name": _source(manifest)},
        "spec": {"type": "Prometheus", "connectionDetails": details},
    }


def _source(manifest: Manifest) -> str:
    return label(manifest.platform.name, "prometheus")


def label(*parts: str) -> str:
    """A name as OpenSLO has them, a label of the DNS: what is too long ends with a digest.

    >>> label("bank.api", "errors"), len(label("x" * 60, "errors"))
    ('bank-api-errors', 63)
    """
    name = "-".join(parts).replace(".", "-").strip("-")
    if len(name) <= _LABEL_MAX:
        return name
    return f"{name[: _LABEL_MAX - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shorthand(span: float) -> str:
    """A duration in seconds as OpenSLO has them: a number of days, hours or minutes; of less than a minute, one.

    >>> shorthand(28 * 86400), shorthand(36 * 3600), shorthand(5400), shorthand(90)
    ('28d', '36h', '90m', '2m')
    """
    return duration(max(math.ceil(span / 60), 1) * 60)


def _slo(objective: ObjectiveEntry, service: ServiceEntry, manifest: Manifest) -> dict[str, Any]:
    name = label(objective.service, objective.name)
    return {
        "apiVersion": _OPENSLO,
        "kind": "SLO",
        "metadata": {"name": name, "displayName": f"{objective.service}: {objective.name}"},
        "spec": {
            "description": f"{objective.target} of what is counted is good ({objective.indicator}).",
            "service": label(objective.service),
            "indicator": {"metadata": {"name": name}, "spec": {"ratioMetric": _ratio(objective, service, manifest)}},
            "timeWindow": [{"duration": shorthand(objective.window), "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": objective.name, "target": float(objective.target)}],
            "alertPolicies": [_policy(name, rule) for rule in rules_of(manifest) if _burns(rule, objective)],
        },
    }


def _ratio(objective: ObjectiveEntry, service: ServiceEntry, manifest: Manifest) -> dict[str, Any]:
    share = share_of(objective, service)

    def query(text: str) -> dict[str, Any]:
        return {"metricSource": {"metricSourceRef": _source(manifest), "type": "Prometheus", "spec": {"query": text}}}

    part, total = counted(share.part, objective.window), counted(share.total, objective.window)
    return {"counter": False, share.kind: query(part), "total": query(total)}


def _burns(rule: Rule, objective: ObjectiveEntry) -> bool:
    mine = (objective.service, objective.name)
    return rule.family == "burn" and (rule.labels["service"], rule.labels["slo"]) == mine


def _policy(name: str, rule: Rule) -> dict[str, Any]:
    """OpenSLO has one window for each condition: the long one. That it goes on is said by the short one, in ours."""
    factor = float(rule.labels[BURN])
    window = next(window for window in BURN_WINDOWS if window.factor == factor)
    title = label(name, "burn", rule.labels[BURN])
    condition = {"kind": "burnrate", "op": "gt", "threshold": factor, "lookbackWindow": shorthand(window.long)}
    return {
        "kind": "AlertPolicy",
        "metadata": {"name": title},
        "spec": {
            "description": rule.annotations["summary"],
            "alertWhenBreaching": True,
            "alertWhenResolved": True,
            "alertWhenNoData": False,
            "conditions": [
                {
                    "kind": "AlertCondition",
                    "metadata": {"name": title},
                    "spec": {
                        "description": rule.annotations["description"],
                        "severity": rule.category.value,
                        "condition": condition,
                    },
                }
            ],
            "notificationTargets": [{"targetRef": WATCHED}],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as they are written."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _written(comment: str, *documents: dict[str, Any]) -> str:
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000)
    return f"# {comment} Written by nvcops; the manifest is the source.\n{text}"
