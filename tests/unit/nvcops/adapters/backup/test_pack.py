"""Objects, packed and sealed."""

from __future__ import annotations

import base64
import io
import os
import random
from pathlib import Path

import pytest
import zstandard

from nvcops.adapters.backup.pack import (
    BLOCK_BYTES,
    Damaged,
    Sealing,
    Truncated,
    WrongKey,
    read_sealing,
    seal,
    unseal,
)
from nvcops.core.errors import ManifestError

KEY = Sealing(os.urandom(32))
PLAIN = Sealing()


def chunks(seed: int, size: int) -> list[bytes]:
    """Random bytes and zeros, in chunks of any size."""
    chance = random.Random(seed)
    left, made = size, []
    while left:
        length = min(left, chance.choice([1, 4095, 70_000, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES]))
        made.append(chance.randbytes(length) if chance.random() < 0.5 else bytes(length))
        left -= length
    return made


def sealed(data: list[bytes], sealing: Sealing) -> bytes:
    return b"".join(seal(data, sealing))


def opened(stored: bytes, sealing: Sealing) -> bytes:
    return b"".join(unseal(io.BytesIO(stored), sealing))


@pytest.mark.parametrize("sealing", [PLAIN, KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 12345])
def test_what_is_sealed_is_unsealed(sealing: Sealing, size: int) -> None:
    data = chunks(size, size)
    stored = sealed(data, sealing)
    assert opened(stored, sealing) == b"".join(data)
    assert max((len(chunk) for chunk in unseal(io.BytesIO(stored), sealing)), default=0) <= BLOCK_BYTES


def test_without_a_key_every_reader_of_zstandard_can_read_it() -> None:
    data = chunks(1, 3 * BLOCK_BYTES + 5)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(sealed(data, PLAIN)), read_across_frames=True)
    assert reader.read() == b"".join(data)


@pytest.mark.parametrize("sealing", [PLAIN, KEY], ids=["plain", "encrypted"])
def test_every_flipped_byte_is_found(sealing: Sealing) -> None:
    data = chunks(2, 300_000)
    stored = sealed(data, sealing)
    chance = random.Random(3)
    places = [*range(100), *range(len(stored) - 60, len(stored)), *(chance.randrange(len(stored)) for _ in range(300))]
    for place in places:
        flipped = bytearray(stored)
        flipped[place] ^= 1 << chance.randrange(8)
        try:
            same = opened(bytes(flipped), sealing) == b"".join(data)
        except (Damaged, WrongKey):
            continue
        # A few bits mean nothing without a key (the salt); the catalogue's digest of what is stored covers them.
        assert same, f"byte {place} of {len(stored)}"
        assert not sealing.key


@pytest.mark.parametrize("sealing", [PLAIN, KEY], ids=["plain", "encrypted"])
def test_every_missing_end_is_found_and_named(sealing: Sealing) -> None:
    stored = sealed(chunks(4, 2 * BLOCK_BYTES), sealing)
    chance = random.Random(5)
    for length in [0, 1, 55, 56, 57, 72, *(chance.randrange(len(stored)) for _ in range(100)), len(stored) - 1]:
        with pytest.raises(Truncated):
            opened(stored[:length], sealing)
    with pytest.raises(Damaged, match="follows its end"):
        opened(stored + b"x", sealing)


def test_blocks_cannot_be_moved_or_taken_from_another_object() -> None:
    data = [bytes([number]) * BLOCK_BYTES for number in range(3)]
    one, other = sealed(data, KEY), sealed(data, KEY)
    assert one != other, "each object has a key of its own"
    with pytest.raises(Damaged):
        opened(one[:56] + other[56:], KEY)


def test_a_wrong_key_is_told_from_damage() -> None:
    stored = sealed([b"secret"], KEY)
    with pytest.raises(WrongKey, match=KEY.key_id):
        opened(stored, Sealing(os.urandom(32)))
    with pytest.raises(WrongKey, match="no key is named"):
        opened(stored, PLAIN)
    assert b"secret" not in stored
    assert opened(sealed([b"x"], PLAIN), KEY) == b"x", "what was kept before there was a key is still read"


def test_the_key_comes_from_a_private_file_elsewhere(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    text = base64.b64encode(KEY.key or b"").decode()
    for place, content, mode, said in [
        (tmp_path / "good", text, 0o600, ""),
        (tmp_path / "open", text, 0o644, "others may read it"),
        (tmp_path / "short", text[:20], 0o600, "holds no key"),
        (tmp_path / "words", "correct horse", 0o600, "holds no key"),
        (repository / "key", text, 0o600, "inside the repository"),
    ]:
        place.touch(mode=mode)
        place.chmod(mode)
        place.write_text(content, encoding="ascii")
        if said:
            with pytest.raises(ManifestError, match=said):
                read_sealing(place, repository)
        else:
            assert read_sealing(place, repository) == KEY
    assert read_sealing(None, repository) == PLAIN
    assert "key=" not in repr(KEY)
