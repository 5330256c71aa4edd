"""A change as people decide it at the command line, over real records and real keys, to evidence verified offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from changes_house import House, build

from nvcops import wiring
from nvcops.core.errors import NotAllowed, UsageError

FREEZE = """
[[changes.freezes]]
name = "always"
start = 2020-01-01T00:00:00
end = 2120-01-01T00:00:00
reason = "the books are closed"
"""
ASK = ("changes", "request", "a new index", "--kind", "index", "--reason", "slow", "--rollback", "drop it", "--json")


def test_requested_approved_and_verified_offline(house: House) -> None:
    asked = json.loads(house.call(*ASK, by="dana").output)
    assert (asked["number"], asked["state"], asked["author"]) == (1, "requested", "dana")
    assert "not enough data" in asked["risk_why"]
    with pytest.raises(NotAllowed, match="'dana' requested C-1 and cannot approve it"):
        house.call("changes", "approve", "C-1", by="dana")
    with pytest.raises(NotAllowed, match="is not in the roster"):
        house.call("changes", "approve", "C-1", by="omar", key="stranger")
    done = house.json("changes", "approve", "C-1", "--note", "seen", by="omar")
    assert done["state"] == "approved"
    assert [one["person"] for one in done["approved_by"]] == ["omar"]
    with pytest.raises(UsageError, match="C-1 is approved, so it cannot be approved"):
        house.call("changes", "approve", "C-1", by="ines")
    shown = house.call("changes", "show", "C-1").output
    assert "approved by omar" in shown
    assert "SHA256:" in shown
    assert "C-1" in house.call("changes", "list").output
    said = house.verified("change/1")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 approvals by somebody else than asked" in said.stdout


def test_a_refusal_is_evidence(house: House) -> None:
    house.call(*ASK, by="dana")
    with pytest.raises(NotAllowed):
        house.call("changes", "approve", "1", by="dana")
    with wiring.open_evidence(wiring.load(house.platform)) as log:
        found = [(entry.kind, entry.actor) for _, entry in log.entries()]
    assert found == [("request", "dana"), ("change.requested", "dana"), ("refusal", "dana")]


def test_major_takes_an_executive_too(house: House) -> None:
    house.call(*ASK, "--category", "major", by="dana")
    assert house.json("changes", "approve", "1", by="omar")["state"] == "requested"
    assert "waits for an executive" in house.call("changes", "show", "1").output
    assert house.json("changes", "approve", "1", by="carla")["state"] == "approved"


def test_the_glass_is_broken_by_two_keys(tmp_path: Path) -> None:
    house = build(tmp_path, FREEZE)
    house.call(*ASK, by="dana")
    house.call("changes", "approve", "1", by="omar")
    assert house.call("changes", "freeze").return_value == 1
    assert "the freeze always holds" in house.call("changes", "freeze").output
    house.call("changes", "break-glass", "1", "--note", "payments stand still", by="ines")
    with pytest.raises(NotAllowed, match="broke the glass for C-1 already"):
        house.call("changes", "break-glass", "1", "--note", "again", by="ines")
    house.call("changes", "break-glass", "1", "--note", "I agree", by="carla")
    with pytest.raises(UsageError, match="may pass the freeze already"):
        house.call("changes", "break-glass", "1", "--note", "too", by="dana")
    said = house.verified("change/1")
    assert said.returncode == 0, said.stdout


def test_what_is_shown_of_nothing(house: House) -> None:
    assert "no change is open" in house.call("changes", "list").output
    assert "no data" in house.call("changes", "dora").output
    assert "not enough data: of 0 closed changes 0 failed" in house.call("changes", "risk").output
    assert "nothing is planned" in house.call("changes", "calendar").output
    assert house.call("changes", "freeze").return_value == 0
    figures = {one["name"]: one["value"] for one in house.json("changes", "dora")["figures"]}
    assert set(figures.values()) == {None}
    assert len(figures) == 4
