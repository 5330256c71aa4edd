"""A listener of an AWS load balancer splits a service's traffic between target groups: one for each slot.

What differs from a proxy that we may ask anything:
* A listener's weights are set in one call, all at once, and stay: nothing needs to be written down for a restart.
* Counts come from CloudWatch, a minute or two late, and only where something came: a series that is missing is unknown,
  never 0. They are counted since the beginning of the year in UTC, so that they do not depend on who asks, and when.
* Nobody says how many requests are under way: a drained slot is waited for as long as the deadline allows.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nvcops.core import schedule
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.manifest.delivery import AwsListener
from nvcops.core.rollouts import Balanced

WEIGHT_MAX = 256
_NAMESPACE = "AWS/ApplicationELB"
_DAY_S = 86_400
_FAILED = ("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount")
_CREDENTIALS = "boto3 finds credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role"
_RIGHTS = (
    "they need elasticloadbalancing:DescribeListeners, DescribeRules, DescribeTargetHealth, DescribeTargetGroups, "
    "ModifyListener, ModifyRule, and cloudwatch:GetMetricData"
)
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_UNKNOWN_KEYS = ("InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "UnrecognizedClientException")


@dataclass(frozen=True, slots=True)
class AwsBalancer:
    """See core.rollouts.Balancer."""

    entry: AwsListener
    _clients: dict[str, Any] = field(default_factory=dict)

    def look(self) -> list[Balanced]:
        """All slots whose target group the listener forwards to."""
        weights = self._weights()
        counts = self._counts(list(weights))
        return [
            Balanced(
                slot=slot,
                weight=weight,
                healthy=self._healthy(slot),
                sessions=None,
                requests=counts[slot].get("RequestCount"),
                failed=_failed(counts[slot]),
            )
            for slot, weight in weights.items()
        ]

    def share(self, weights: Mapping[str, int]) -> None:
        """Set weights, all at once; read back.

        Raises:
            Refused: the listener did not take them, or forwards to no target group of a slot that is named.
        """
        if not weights:
            return
        now = self._weights()
        for slot, weight in weights.items():
            if slot not in now:
                raise Refused(
                    f"{self._name} forwards to no target group of the slot {slot}",
                    hint="[[delivery.aws.groups]] names its target group, and the listener's default action has it",
                )
            if not 0 <= weight <= WEIGHT_MAX:
                raise Refused(f"{slot} cannot have the weight {weight}", hint=f"0 to {WEIGHT_MAX}")
        wanted = now | dict(weights)
        if not any(wanted.values()):
            raise Refused(f"{self._name} would forward to nobody", hint="one of the slots has to have a weight")
        self._set(wanted)
        if (found := self._weights()) != wanted:
            wrong = ", ".join(f"{slot} has {found.get(slot)}" for slot in wanted if found.get(slot) != wanted[slot])
            raise Refused(
                f"{self._name} did not take the weights: {wrong}", hint="somebody else sets them: set them again"
            )

    def drain(self, slot: str, deadline_s: float) -> bool:
        """Give a slot no new requests, and let all the time pass: nobody says when what it began is over."""
        self.share({slot: 0})
        time.sleep(deadline_s)
        return True

    # --- the listener ---

    @property
    def _name(self) -> str:
        return "the listener " + "/".join(self.entry.listener.split("/")[1:3])

    @property
    def _is_rule(self) -> bool:
        return ":listener-rule/" in self.entry.listener

    def _actions(self) -> list[dict[str, Any]]:
        with self._errors():
            if self._is_rule:
                answer = self._client("elbv2").describe_rules(RuleArns=[self.entry.listener])
                return [dict(action) for action in answer["Rules"][0]["Actions"]]
            answer = self._client("elbv2").describe_listeners(ListenerArns=[self.entry.listener])
            return [dict(action) for action in answer["Listeners"][0]["DefaultActions"]]

    def _forward(self, actions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        for action in actions:
            if action["Type"] == "forward":
                return action
        raise Refused(
            f"{self._name} forwards to nobody", hint="its action is to be `forward` to weighted target groups"
        )

    def _weights(self) -> dict[str, int]:
        groups = self._forward(self._actions()).get("ForwardConfig", {}).get("TargetGroups", [])
        weights = {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
        return {group.slot: weights[group.arn] for group in self.entry.groups if group.arn in weights}

    def _set(self, weights: Mapping[str, int]) -> None:
        """What else the listener does (authentication, stickiness, groups that are no slots) stays as it is."""
        actions = self._actions()
        forward = self._forward(actions)
        slots = {group.arn: group.slot for group in self.entry.groups}
        for group in forward["ForwardConfig"]["TargetGroups"]:
            if group["TargetGroupArn"] in slots:
                group["Weight"] = weights[slots[group["TargetGroupArn"]]]
        forward.pop("TargetGroupArn", None)  # the short form for one group alone
        with self._errors():
            if self._is_rule:
                self._client("elbv2").modify_rule(RuleArn=self.entry.listener, Actions=actions)
            else:
                self._client("elbv2").modify_listener(ListenerArn=self.entry.listener, DefaultActions=actions)

    def _healthy(self, slot: str) -> bool:
        """Whether it has targets, and all of them are well; one that is being taken out is none any more."""
        with self._errors():
            answer = self._client("elbv2").describe_target_health(TargetGroupArn=self._group(slot))
        states = [one["TargetHealth"]["State"] for one in answer["TargetHealthDescriptions"]]
        there = [state for state in states if state != "draining"]
        return bool(there) and all(state == "healthy" for state in there)

    def _group(self, slot: str) -> str:
        return next(group.arn for group in self.entry.groups if group.slot == slot)

    # --- the counts ---

    def _counts(self, slots: Sequence[str]) -> dict[str, dict[str, int]]:
        """By slot and series; what CloudWatch has nothing of is not in it."""
        balancer = "/".join(self.entry.listener.split("/")[1:4])  # the dimension is `app/NAME/ID`
        wanted = [(slot, metric) for slot in slots for metric in ("RequestCount", *_FAILED)]
        queries = [
            _query(f"q{number}", metric, balancer, self._group(slot)) for number, (slot, metric) in enumerate(wanted)
        ]
        now = schedule.now()
        start = now.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        sums = self._sums(queries, start, now + dt.timedelta(days=1))
        counts: dict[str, dict[str, int]] = {slot: {} for slot in slots}
        for number, (slot, metric) in enumerate(wanted):
            if f"q{number}" in sums:
                counts[slot][metric] = round(sums[f"q{number}"])
        return counts

    def _sums(self, queries: Sequence[dict[str, Any]], start: dt.datetime, end: dt.datetime) -> dict[str, float]:
        sums: dict[str, float] = {}
        if not queries:
            return sums
        with self._errors():
            pages = self._client("cloudwatch").get_paginator("get_metric_data")
            for page in pages.paginate(MetricDataQueries=list(queries), StartTime=start, EndTime=end):
                for series in page["MetricDataResults"]:
                    if series["Values"]:
                        sums[series["Id"]] = sums.get(series["Id"], 0.0) + sum(series["Values"])
        return sums

    # --- AWS ---

    def _client(self, service: str) -> Any:
        """A client, made when it is first needed: loading the library takes longer than most commands to answer."""
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            config = Config(
                connect_timeout=float(self.entry.deadline),
                read_timeout=float(self.entry.deadline),
                retries={"mode": "standard", "total_max_attempts": 3},
            )
            region = self.entry.region or self.entry.listener.split(":")[3]
            self._clients[service] = boto3.session.Session().client(
                service, endpoint_url=self.entry.endpoint, region_name=region, config=config
            )
        return self._clients[service]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise Refused(f"there are no complete credentials for {self._name}", hint=_CREDENTIALS) from error
        except BotoCoreError as error:
            raise Unreachable(
                f"AWS cannot be asked about {self._name}: {error}",
                hint="look at the network, and [delivery.aws] region",
            ) from error
        except ClientError as error:
            code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
            hint = _CREDENTIALS if code in _UNKNOWN_KEYS else _RIGHTS if code in _DENIED else "[delivery.aws] listener"
            raise Refused(f"AWS refuses what is asked about {self._name}: {said or code}", hint=hint) from error


def _query(number: str, metric: str, balancer: str, group: str) -> dict[str, Any]:
    dimensions = [
        {"Name": "LoadBalancer", "Value": balancer},
        {"Name": "TargetGroup", "Value": group.rpartition(":")[2]},
    ]
    stat = {
        "Metric": {"Namespace": _NAMESPACE, "MetricName": metric, "Dimensions": dimensions},
        "Period": _DAY_S,
        "Stat": "Sum",
    }
    return {"Id": number, "MetricStat": stat, "ReturnData": True}


def _failed(counts: Mapping[str, int]) -> int | None:
    """Requests that failed. CloudWatch keeps a series from its first event on: before that it is not known to be kept.

    >>> _failed({"RequestCount": 10, "HTTPCode_Target_5XX_Count": 2, "TargetConnectionErrorCount": 1})
    3
    >>> _failed({"RequestCount": 10}), _failed({"HTTPCode_Target_5XX_Count": 2})
    (None, None)
    """
    answered, unreached = (counts.get(metric) for metric in _FAILED)
    if "RequestCount" not in counts or answered is None:
        return None
    return answered + (unreached or 0)
