from __future__ import annotations

import pytest

from nvclab.errors import LabError, UnknownFault
from nvclab.faults import catalogue


def test_every_fault_says_what_it_does_and_who_sees_it() -> None:
    assert len(catalogue.KINDS) >= 17
    text = catalogue.as_text()
    for entry in catalogue.as_data():
        assert entry["does"].endswith(".")
        assert entry["seen_by"]
        assert entry["name"] in text


def test_an_unknown_fault_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownFault, match="stop-standbi") as raised:
        catalogue.find("stop-standbi")
    assert raised.value.hint == "did you mean stop-standby?"


def test_options_have_defaults_and_types() -> None:
    assert catalogue.read_options("skew-clock", ["offset_s=-90"]) == {"instance": "bank-1", "offset_s": -90.0}
    assert catalogue.read_options("exhaust-connections", []) == {"leave": 0}


@pytest.mark.parametrize("word", ["leave=many", "leave", "colour=red", "=1"])
def test_a_wrong_option_is_refused(word: str) -> None:
    with pytest.raises(LabError) as raised:
        catalogue.read_options("exhaust-connections", [word])
    assert "leave=0" in raised.value.hint
