"""Our audit over pgBackRest's repository: what it calls well, and is not, is found and named.

What pgBackRest itself said of each fault is printed: `pytest -s` shows it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from nvcops.core.backups import Audit, Cause, Entry

from .conftest import Platform

SEED = random.randrange(1 << 32)


@contextmanager
def changed(path: Path) -> Iterator[Path]:
    """A file of the repository that is damaged, for as long as the block lasts."""
    kept = path.with_name(f".{path.name}.kept")
    shutil.copy2(path, kept)
    stat = path.stat()
    shutil.chown(kept, stat.st_uid, stat.st_gid)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)


def flip(path: Path, count: int = 64) -> None:
    """Turn over that many bytes at one place."""
    content = bytearray(path.read_bytes())
    at = random.Random(SEED).randrange(len(content) // 3, len(content) * 2 // 3)
    for place in range(at, min(at + count, len(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)


def said(platform: Platform) -> dict[str, tuple[int, str]]:
    """What pgBackRest says of its own repository: exit code and text of each of its three ways to look."""
    program = platform.backups.program
    asked = {"check": (), "info": (), "verify": ("--output=text", "--verbose")}
    done = {command: program.run(command, *flags) for command, flags in asked.items()}
    for command, ended in done.items():
        print(f"pgbackrest {command}: exit {ended.code}: {ended.output.strip()[:600]} {ended.error.strip()[:300]}")
    return {command: (ended.code, ended.output) for command, ended in done.items()}


def audited(platform: Platform) -> Audit:
    found = platform.backups.examine(deep=True)
    print(
        f"seed {SEED}:", *(f"{fault.cause} {fault.subject}: {fault.sentence} ({fault.lost})" for fault in found.faults)
    )
    return found


@pytest.fixture
def middle(taken: list[Entry]) -> str:
    """A segment between the two backups, which the points between them need."""
    assert taken[0].database is not None
    return f"{int(taken[0].database.first_segment, 16) + 2:024X}"


def test_a_whole_repository_has_no_faults(platform: Platform, taken: list[Entry]) -> None:
    whole = platform.backups.examine(deep=True)
    assert whole.faults == ()
    assert whole.backups == len(taken)
    assert whole.oldest is not None
    assert whole.newest is not None
    assert whole.oldest <= whole.newest
    again = platform.backups.examine(deep=False)
    assert again.faults == ()
    assert again.examined_bytes < whole.examined_bytes / 2
    assert not list(platform.backups.repository.state.glob("pgbackrest-*")), "nothing is left in the scratch folder"


def test_a_deleted_segment_is_named_while_the_tool_calls_all_well(platform: Platform, middle: str) -> None:
    with changed(platform.segment(middle)) as segment:
        segment.unlink()
        for deep in (False, True):
            faults = platform.backups.examine(deep=deep).faults
            assert [(fault.cause, fault.subject) for fault in faults] == [(Cause.MISSING, middle)]
            assert "every point from" in faults[0].lost
        assert [code for code, _ in said(platform).values()] == [0, 0, 0]
        assert "missing: 0, checksum invalid: 0" in said(platform)["verify"][1]


def test_flipped_log_is_named(platform: Platform, middle: str) -> None:
    with changed(platform.segment(middle)) as segment:
        flip(segment)
        faults = audited(platform).faults
        assert [fault.subject for fault in faults] == [middle]
        assert faults[0].cause in (Cause.CORRUPT, Cause.TRUNCATED)
        assert said(platform)["verify"][0] == 0


def test_a_truncated_segment_is_named(platform: Platform, middle: str) -> None:
    with changed(platform.segment(middle)) as segment:
        raw = zstandard.ZstdDecompressor().stream_reader(segment.read_bytes()).read()
        segment.write_bytes(zstandard.compress(raw[: len(raw) // 2]))
        assert [(f.cause, f.subject) for f in audited(platform).faults] == [(Cause.TRUNCATED, middle)]


def test_log_that_was_written_wrong_is_found_though_its_digest_fits(platform: Platform, middle: str) -> None:
    """As from a bad disk under pg_wal: the archive has exactly what the server wrote."""
    from hashlib import sha1

    with changed(platform.segment(middle)) as segment:
        raw = bytearray(zstandard.ZstdDecompressor().stream_reader(segment.read_bytes()).read())
        raw[200:264] = bytes(byte ^ 0xFF for byte in raw[200:264])
        forged = segment.with_name(f"{middle}-{sha1(raw, usedforsecurity=False).hexdigest()}.zst")
        segment.unlink()
        forged.write_bytes(zstandard.compress(bytes(raw)))
        try:
            faults = audited(platform).faults
            assert [(fault.cause, fault.subject) for fault in faults] == [(Cause.INVALID, middle)]
            assert "pg_waldump" in faults[0].sentence
            assert said(platform)["verify"][0] == 0
        finally:
            forged.unlink()


def test_one_segment_with_two_contents_is_named(platform: Platform, middle: str) -> None:
    segment = platform.segment(middle)
    other = segment.with_name(f"{middle}-{20 * 'ab'}.zst")
    shutil.copy2(segment, other)
    try:
        assert (Cause.DIFFERENT, middle) in [(f.cause, f.subject) for f in audited(platform).faults]
    finally:
        other.unlink()


def test_a_flipped_file_of_a_base_backup_is_named_and_so_is_what_builds_upon_it(
    platform: Platform, taken: list[Entry]
) -> None:
    file = max((platform.repository / "backup" / "main" / taken[0].id).rglob("*.zst"), key=lambda f: f.stat().st_size)
    with changed(file) as stored:
        flip(stored)
        faults = audited(platform).faults
        assert (Cause.CORRUPT, taken[0].id) in [(fault.cause, fault.subject) for fault in faults]
        assert {fault.subject for fault in faults} == {taken[0].id, taken[1].id}
        assert said(platform)["verify"][0] == 0


def test_a_missing_file_of_a_base_backup_is_named_by_listing_alone(platform: Platform, taken: list[Entry]) -> None:
    file = platform.repository / "backup" / "main" / taken[0].id / "pg_data" / "PG_VERSION.zst"
    with changed(file) as stored:
        stored.unlink()
        faults = platform.backups.examine(deep=False).faults
        assert (Cause.MISSING, taken[0].id) in [(fault.cause, fault.subject) for fault in faults]
        assert any("PG_VERSION" in fault.sentence for fault in faults)


def test_an_edited_manifest_is_named(platform: Platform, taken: list[Entry]) -> None:
    with changed(platform.repository / "backup" / "main" / taken[1].id / "backup.manifest.copy") as manifest:
        manifest.write_bytes(manifest.read_bytes().replace(b'"size":', b'"size":1', 1))
        faults = platform.backups.examine(deep=False).faults
        assert [(fault.cause, fault.subject) for fault in faults] == [(Cause.EDITED, taken[1].id)]
