"""The example's [delivery] is its documentation: it shows every key that there is."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from nvcops.core import manifest
from nvcops.core.manifest.delivery import (
    Analysis,
    AwsListener,
    Builder,
    DeliveryEntry,
    RolloutStep,
    Slot,
    SshHost,
    Strategy,
    TargetGroup,
)
from nvcops.core.manifest.strategies import BUILT_IN, COMPARED_MIN, mistakes
from nvcops.delivery.looks import INSTANCES_MIN

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
TABLES = (DeliveryEntry, Analysis, SshHost, Slot, Builder, RolloutStep, Strategy, AwsListener, TargetGroup)
ELSEWHERE = {"analysis", "aws", "hosts", "stages", "strategies"}  # tables of their own


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_the_example_shows_every_key(table: type[msgspec.Struct]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    part = text[text.index("\n[delivery]\n") : text.index("\n# --- who is woken")]
    for name in table.__struct_fields__:
        shown = re.search(rf"(?m)(^|[{{ ]){name} = ", part) or (name in ELSEWHERE and f"delivery.{name}]" in text)
        assert shown or name == "stages", name  # the pipeline's own test looks at those


def test_the_example_shows_the_defaults_of_an_analysis() -> None:
    read = manifest.parse(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE)
    assert read.delivery is not None
    assert msgspec.structs.replace(read.delivery.analysis, edges=(), prove=()) == Analysis()


def test_the_strategies_that_are_there_go_with_two_main_and_two_spare_slots() -> None:
    assert [list(mistakes(strategy.steps, 2, 2)) for strategy in BUILT_IN] == [[], [], []]
    assert COMPARED_MIN == INSTANCES_MIN
