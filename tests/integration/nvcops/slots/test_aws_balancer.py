"""Weights of a listener's target groups, against moto's server: AWS' own answers, without AWS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "s3"))

from s3_server import credentials, server

from nvclab.parts.process import free_ports
from nvcops.adapters.aws_balancer import AwsBalancer
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.manifest.delivery import AwsListener, TargetGroup

__all__ = ["credentials", "server"]
SLOTS = ("main-1", "main-2", "spare-1")
REGION = "eu-central-1"


@dataclass
class Cloud:
    """A load balancer with one listener before a target group for each slot."""

    url: str
    listener: str
    groups: Mapping[str, str]
    instance: str

    def client(self, service: str) -> Any:
        return boto3.session.Session().client(service, endpoint_url=self.url, region_name=REGION)

    def balancer(self, **changes: object) -> AwsBalancer:
        groups = tuple(TargetGroup(slot=slot, arn=arn) for slot, arn in self.groups.items())
        entry = AwsListener(listener=self.listener, groups=groups, endpoint=self.url)
        return AwsBalancer(msgspec.structs.replace(entry, **changes))

    def count(self, slot: str, metric: str, value: float) -> None:
        names = {
            "LoadBalancer": "/".join(self.listener.split("/")[1:4]),
            "TargetGroup": self.groups[slot].rpartition(":")[2],
        }
        dimensions = [{"Name": name, "Value": said} for name, said in names.items()]
        data = [{"MetricName": metric, "Dimensions": dimensions, "Value": value, "Unit": "Count"}]
        self.client("cloudwatch").put_metric_data(Namespace="AWS/ApplicationELB", MetricData=data)


@pytest.fixture
def cloud(server: Any, credentials: None) -> Cloud:
    del credentials
    made = Cloud(server.url, "", {}, "")
    machines, balancers = made.client("ec2"), made.client("elbv2")
    network = machines.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        machines.create_subnet(VpcId=network, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{REGION}{zone}")
        for number, zone in enumerate("ab")
    ]
    ids = [subnet["Subnet"]["SubnetId"] for subnet in subnets]
    machine = machines.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, SubnetId=ids[0])
    made.instance = machine["Instances"][0]["InstanceId"]
    name = f"shop-{ids[0][-8:]}"
    balancer = balancers.create_load_balancer(Name=name, Subnets=ids)["LoadBalancers"][0]["LoadBalancerArn"]
    made.groups = {
        slot: balancers.create_target_group(Name=f"{slot}-{ids[0][-8:]}", Protocol="HTTP", Port=80, VpcId=network)[
            "TargetGroups"
        ][0]["TargetGroupArn"]
        for slot in SLOTS
    }
    forward = {
        "TargetGroups": [
            {"TargetGroupArn": arn, "Weight": 0 if slot == "spare-1" else 100} for slot, arn in made.groups.items()
        ],
        "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60},
    }
    made.listener = balancers.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "ForwardConfig": forward}],
    )["Listeners"][0]["ListenerArn"]
    return made


def weights(balancer: AwsBalancer) -> dict[str, int]:
    return {seen.slot: seen.weight for seen in balancer.look()}


def test_weights_are_set_at_once_and_read_back(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    assert weights(balancer) == {"main-1": 100, "main-2": 100, "spare-1": 0}
    balancer.share({"main-1": 45, "main-2": 45, "spare-1": 10})
    assert weights(balancer) == {"main-1": 45, "main-2": 45, "spare-1": 10}
    balancer.share({"spare-1": 0})
    balancer.share({})
    assert weights(cloud.balancer()) == {"main-1": 45, "main-2": 45, "spare-1": 0}
    answer = cloud.client("elbv2").describe_listeners(ListenerArns=[cloud.listener])
    forward = answer["Listeners"][0]["DefaultActions"][0]["ForwardConfig"]
    assert forward["TargetGroupStickinessConfig"] == {"Enabled": True, "DurationSeconds": 60}, "the rest is as it was"


def test_what_cloudwatch_has_nothing_of_is_unknown_and_not_0(cloud: Cloud) -> None:
    for slot, counted in {"main-1": (70, 2), "main-2": (50, None), "spare-1": (None, 3)}.items():
        for metric, value in zip(("RequestCount", "HTTPCode_Target_5XX_Count"), counted, strict=True):
            if value is not None:
                cloud.count(slot, metric, value)
    cloud.count("main-1", "RequestCount", 5)
    cloud.count("main-1", "TargetConnectionErrorCount", 1)
    seen = {one.slot: (one.requests, one.failed, one.sessions) for one in cloud.balancer().look()}
    assert seen == {"main-1": (75, 3, None), "main-2": (50, None, None), "spare-1": (None, None, None)}


def test_a_group_without_targets_is_not_healthy(cloud: Cloud) -> None:
    cloud.client("elbv2").register_targets(TargetGroupArn=cloud.groups["main-1"], Targets=[{"Id": cloud.instance}])
    assert {one.slot: one.healthy for one in cloud.balancer().look()} == {
        "main-1": True,
        "main-2": False,
        "spare-1": False,
    }


def test_what_it_cannot_take_changes_nothing(cloud: Cloud) -> None:
    balancer, before = cloud.balancer(), weights(cloud.balancer())
    with pytest.raises(Refused, match="forwards to no target group of the slot main-9"):
        balancer.share({"main-1": 1, "main-9": 1})
    with pytest.raises(Refused, match="cannot have the weight 257"):
        balancer.share({"main-1": 257})
    with pytest.raises(Refused, match="would forward to nobody"):
        balancer.share(dict.fromkeys(SLOTS, 0))
    assert weights(balancer) == before


def test_a_rule_is_split_as_a_listener_is(cloud: Cloud) -> None:
    groups = [{"TargetGroupArn": arn, "Weight": 1} for arn in cloud.groups.values()]
    rule = cloud.client("elbv2").create_rule(
        ListenerArn=cloud.listener,
        Priority=1,
        Conditions=[{"Field": "path-pattern", "Values": ["/pay"]}],
        Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
    )["Rules"][0]["RuleArn"]
    balancer = cloud.balancer(listener=rule)
    balancer.share({"spare-1": 7})
    assert weights(balancer) == {"main-1": 1, "main-2": 1, "spare-1": 7}
    assert weights(cloud.balancer())["spare-1"] == 0


def test_a_listener_that_is_not_there_or_forwards_to_nobody(cloud: Cloud) -> None:
    with pytest.raises(Refused, match="AWS refuses what is asked about the listener app/shop"):
        cloud.balancer(listener=f"{cloud.listener[:-4]}0000").look()
    cloud.client("elbv2").modify_listener(
        ListenerArn=cloud.listener,
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}],
    )
    with pytest.raises(Refused, match="forwards to nobody"):
        cloud.balancer().look()


def test_a_drained_slot_gets_nothing_and_is_given_its_time(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    assert balancer.drain("main-1", 0.1)
    assert weights(balancer) == {"main-1": 0, "main-2": 100, "spare-1": 0}


def test_nobody_answers_or_nobody_may_ask(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unreachable, match="AWS cannot be asked about the listener app/shop"):
        cloud.balancer(endpoint=f"http://127.0.0.1:{port}").look()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(Refused, match="there are no complete credentials"):
        cloud.balancer().look()
