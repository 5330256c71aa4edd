"""Not one byte of a bundle can be changed without the verifier saying so."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from nvcops.adapters.evidence.log import open_log
from nvcops.core.errors import UsageError
from nvcops.core.evidence import Entry
from nvcops.core.evidence.bundle import verify_bundle

NOW = dt.datetime(2026, 1, 5, 13, tzinfo=dt.UTC)


def exported(folder: Path, size: int) -> bytes:
    with open_log(folder, origin="bank.example/operations") as log:
        for start in range(0, size, 5_000):
            log.append(
                [
                    Entry(id=f"e{number}", time="2026-01-05T13:00:00Z", kind="step.finished", body={"n": number})
                    for number in range(start, min(start + 5_000, size))
                ]
            )
        log.checkpoint(NOW)
        log.export(0, size, folder / "bundle")
    return (folder / "bundle").read_bytes()


def is_refused(data: bytearray) -> bool:
    try:
        return not all(line.holds for line in verify_bundle(bytes(data)))
    except UsageError:
        return True


def assert_refused(data: bytes, at: int, bit: int) -> None:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    assert is_refused(changed), f"bit {bit} of byte {at} was changed"


@pytest.mark.drill
def test_every_byte_of_a_small_bundle(tmp_path: Path) -> None:
    data = exported(tmp_path, 5)
    assert not is_refused(bytearray(data))
    for at in range(len(data)):
        assert_refused(data, at, at % 8)


@pytest.mark.drill
@pytest.mark.sample
def test_some_bytes_of_a_large_bundle(tmp_path: Path) -> None:
    data, chance = exported(tmp_path, 10_000), random.Random(1)
    assert not is_refused(bytearray(data))
    for _ in range(40):
        assert_refused(data, chance.randrange(len(data)), chance.randrange(8))
