from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nvcops.adapters.runs import conduct
from nvcops.delivery import analysis_live
from nvcops.delivery import rollout as acts

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Waiting takes no time: the clock of the world that a test puts in here goes on instead."""
    here: dict[str, Any] = {}

    def sleep(seconds: float) -> None:
        here["world"].advance(seconds)

    fake = SimpleNamespace(monotonic=lambda: here["world"].seconds, sleep=sleep)
    monkeypatch.setattr(acts, "time", fake)
    monkeypatch.setattr(analysis_live, "time", fake)
    monkeypatch.setattr(conduct, "_RETRY_AFTER_S", 0.0)
    return here
