"""A log in a folder of its own, and entries for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvcops.adapters.evidence.log import EvidenceLog, open_log
from nvcops.core.evidence import Entry

ORIGIN = "bank.example/operations"


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime(2026, 1, 5, 13, tzinfo=dt.UTC)


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[], EvidenceLog]:
    """Open the test's log once more, as another process would; the witness lies on "another disk"."""
    (tmp_path / "elsewhere").mkdir()
    return lambda: open_log(tmp_path / "state", origin=ORIGIN, witness=tmp_path / "elsewhere" / "witness")


@pytest.fixture
def log(reopen: Callable[[], EvidenceLog]) -> Iterator[EvidenceLog]:
    with reopen() as opened:
        yield opened


@pytest.fixture
def entry() -> Callable[..., Entry]:
    """The n-th entry of a test."""

    def make(number: int, run: str = "r1", **body: object) -> Entry:
        minute, second = divmod(number, 60)
        time = f"2026-01-05T{13 + minute // 60:02d}:{minute % 60:02d}:{second:02d}Z"
        return Entry(id=f"e{number}", time=time, kind="step.finished", run=run, body={"n": number, **body})

    return make
