"""What is urgent does not wait for a run that only asks for an approval; for one that did anything it does."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from platform_file import evidence, signer

from nvcops import wiring
from nvcops.adapters.runs.door import Runs
from nvcops.cli.run import make_way, run_procedure
from nvcops.core import procedures
from nvcops.core.errors import LockHeld, NvcopsError
from nvcops.core.runs import RunState


def urgent() -> procedures.Procedure:
    return replace(procedures.find("tanks-fill"), urgent=True)


def run_of(entry: procedures.Procedure, folder: Path, person: str | None) -> int:
    given: dict[str, Any] = {"dry_run": False, "wait": False, "as_json": False}
    key = folder / person if person else None
    return run_procedure(entry, target_path=folder / "platform.toml", person=person, key=key, acts=1, **given)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> None:
    """The command finds the runs of the tanks open: a process has one engine."""
    monkeypatch.setattr(wiring, "open_runs", lambda *_, **__: nullcontext(runs))


@pytest.mark.usefixtures("door")
def test_what_only_asks_for_an_approval_is_cancelled_in_the_persons_name(runs: Runs, folder: Path) -> None:
    asks = runs.start(procedures.find("tanks-empty"), signer=signer(runs.manifest, folder, "dana"))
    assert asks.state is RunState.WAITING
    assert run_of(urgent(), folder, "omar") == 0
    after = runs.show(asks.id)
    assert (after.state, after.error) == (RunState.CANCELLED, "cancelled by omar")
    assert runs.list()[0].state is RunState.CONCLUDED
    said = [entry for entry in evidence(folder) if entry.run == asks.id]
    assert "omar" in {entry.actor for entry in said}, "it stands in the evidence who cancelled it"


@pytest.mark.usefixtures("door")
def test_nobody_is_cancelled_by_who_did_not_sign_or_is_not_urgent(
    runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = runs.start(procedures.find("tanks-empty"), signer=signer(runs.manifest, folder, "dana"))
    with pytest.raises(LockHeld):
        run_of(procedures.find("tanks-fill"), folder, "omar")
    monkeypatch.setenv("NVCOPS_KEY", str(folder / "nobody"))
    with pytest.raises(NvcopsError) as unsigned:
        run_of(urgent(), folder, None)
    assert not isinstance(unsigned.value, LockHeld), "whoever needs a change must sign, before anything else"
    assert runs.show(asks.id).state is RunState.WAITING


def test_what_did_something_is_waited_for(runs: Runs, folder: Path) -> None:
    half = runs.start(procedures.find("tanks-morning"))
    assert half.state is RunState.WAITING
    entry = replace(urgent(), lock=procedures.find("tanks-morning").lock)
    assert not make_way(runs, entry, signer(runs.manifest, folder, "omar"))
    assert runs.show(half.id).state is RunState.WAITING
