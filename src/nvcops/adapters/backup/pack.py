"""How an object is stored: blocks of zstandard, each sealed with AES-256-GCM where there is a key.

    object = head, block ..., end        each of them begins with a skippable frame of zstandard (RFC 8878, 3.1.2)
    head   = "NVCPACK1", key id (8 bytes, zeros: not encrypted), salt (32 bytes, zeros likewise)
    block  = stored bytes, raw bytes (each 4 bytes, little-endian), and after it so many stored bytes
    end    = the same, raw bytes 0

What is not encrypted can be read by `zstd -d`. A block is one frame of at most 1 MiB, so it is packed and unpacked by
one call that leaves Python's lock. Each object has an AES key of its own (HKDF-SHA-256 of the key file's key and the
salt); the nonce is the block's number, and the end is sealed too: no block can be changed, moved, dropped or cut off.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nvcops.adapters.files import read_secret
from nvcops.core.errors import ManifestError, NvcopsError, StateError

BLOCK_BYTES = 1 << 20
_LEVEL = 1
_MAGIC = b"NVCPACK1"
_SKIP = 0x184D2A5E  # one of the sixteen numbers that begin a frame which every reader of zstandard passes over
_HEAD = struct.Struct("<II8s8s32s")
_BLOCK = struct.Struct("<IIII")
_STORED_MAX = BLOCK_BYTES + (BLOCK_BYTES >> 7) + 512  # what does not compress grows a little, and a tag follows
_KEY_BYTES = 32
_ID_BYTES = 8


class Damaged(NvcopsError):
    """What is stored is not what was stored."""

    exit_code = 2


class Truncated(Damaged):
    """The end of what was stored is missing."""


class WrongKey(StateError):
    """It is encrypted with another key, or no key is named."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """The encryption key of a repository; None: nothing is encrypted."""

    key: bytes | None = field(default=None, repr=False)

    @property
    def key_id(self) -> str:
        """First 16 hex digits of the key's SHA-256; empty without a key.

        >>> Sealing(bytes(32)).key_id
        '66687aadf862bd77'
        """
        return hashlib.sha256(self.key).hexdigest()[: 2 * _ID_BYTES] if self.key else ""

    def cipher(self, salt: bytes) -> AESGCM:
        """The cipher of one object."""
        if self.key is None:
            raise WrongKey("it is encrypted, and no key is named", hint="[backups] key_file names it")
        return AESGCM(HKDF(SHA256(), _KEY_BYTES, salt, _MAGIC).derive(self.key))


def read_sealing(key_file: Path | None, repository: Path | None) -> Sealing:
    """The key that the manifest names: 32 bytes as Base64 in a file that only its owner may read.

    Raises:
        ManifestError: the file cannot be read, holds no such key, or lies in the folder of what it is to protect.
    """
    if key_file is None:
        return Sealing()
    if repository is not None and key_file.resolve().is_relative_to(repository.resolve()):
        raise ManifestError(
            f"{key_file} lies inside the repository {repository}: whoever takes one has the other",
            hint="keep the key elsewhere, and a copy of it in a safe",
        )
    try:
        key = base64.b64decode(read_secret(key_file), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ManifestError(f"{key_file} holds no key: 32 bytes as Base64", hint="openssl rand -base64 32 makes one")
    return Sealing(key)


def seal(chunks: Iterable[bytes], sealing: Sealing) -> Iterator[bytes]:
    """Pack raw chunks of any size; yields what is to be stored, about a block at a time."""
    salt = os.urandom(32) if sealing.key else bytes(32)
    cipher = sealing.cipher(salt) if sealing.key else None
    key_id = bytes.fromhex(sealing.key_id) if sealing.key else bytes(_ID_BYTES)
    yield _HEAD.pack(_SKIP, _HEAD.size - 8, _MAGIC, key_id, salt)
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
    number = 0
    for number, block in enumerate(_blocks(chunks), 1):
        packed = compressor.compress(block)
        stored = len(packed) + (16 if cipher else 0)
        head = _BLOCK.pack(_SKIP, 8, stored, len(block))
        yield head
        yield cipher.encrypt(_nonce(number), packed, head) if cipher else packed
    head = _BLOCK.pack(_SKIP, 8, 16 if cipher else 0, 0)
    yield head + (cipher.encrypt(_nonce(number + 1), b"", head) if cipher else b"")


def unseal(file: BinaryIO, sealing: Sealing) -> Iterator[bytes]:
    """The raw bytes of a stored object, a block (at most 1 MiB) at a time.

    Raises:
        Damaged, Truncated, WrongKey: whatever was yielded before is as it was stored.
    """
    cipher = _opened(file, sealing)
    decompressor = zstandard.ZstdDecompressor()
    number = 0
    while True:
        number += 1
        head = _exactly(file, _BLOCK.size)
        magic, size, stored, raw = _BLOCK.unpack(head)
        if (magic, size) != (_SKIP, 8) or stored > _STORED_MAX or raw > BLOCK_BYTES:
            raise Damaged("a block's head is damaged")
        packed = _exactly(file, stored)
        if cipher is not None:
            packed = _decrypted(cipher, number, packed, head)
        if raw == 0:
            break
        yield _decompressed(decompressor, packed, raw)
    if packed or file.read(1):
        raise Damaged("something follows its end")


def key_id_of(file: BinaryIO) -> str:
    """The id of the key that an object names in its head, empty: none; raises Damaged where it has no such head."""
    magic, size, name, key_id, _ = _HEAD.unpack(_exactly(file, _HEAD.size))
    if (magic, size, name) != (_SKIP, _HEAD.size - 8, _MAGIC):
        raise Damaged("its head is damaged, or it is none of ours")
    return "" if key_id == bytes(_ID_BYTES) else str(key_id.hex())


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """The same bytes in blocks: whole chunks where they fit, copied only where they do not."""
    kept = bytearray()
    for chunk in chunks:
        rest = memoryview(chunk)
        if kept:
            missing = BLOCK_BYTES - len(kept)
            kept += rest[:missing]
            rest = rest[missing:]
            if len(kept) < BLOCK_BYTES:
                continue
            yield bytes(kept)
            kept.clear()
        while len(rest) >= BLOCK_BYTES:
            yield rest[:BLOCK_BYTES]
            rest = rest[BLOCK_BYTES:]
        kept += rest
    if kept:
        yield bytes(kept)


def _opened(file: BinaryIO, sealing: Sealing) -> AESGCM | None:
    magic, size, name, key_id, salt = _HEAD.unpack(_exactly(file, _HEAD.size))
    if (magic, size, name) != (_SKIP, _HEAD.size - 8, _MAGIC):
        raise Damaged("its head is damaged, or it is none of ours")
    if key_id == bytes(_ID_BYTES):
        return None
    if sealing.key is not None and key_id.hex() != sealing.key_id:
        raise WrongKey(
            f"it is encrypted with the key {key_id.hex()}, and [backups] key_file is the key {sealing.key_id}",
            hint="name the key file of that time",
        )
    return sealing.cipher(salt)


def _decrypted(cipher: AESGCM, number: int, packed: bytes, head: bytes) -> bytes:
    try:
        return cipher.decrypt(_nonce(number), packed, head)
    except InvalidTag:
        raise Damaged("an encrypted block is damaged") from None


def _decompressed(decompressor: zstandard.ZstdDecompressor, packed: bytes, raw: int) -> bytes:
    try:
        if zstandard.frame_content_size(packed) != raw:
            raise Damaged("a block's size is not what its head says")
        return decompressor.decompress(packed)
    except zstandard.ZstdError as error:
        raise Damaged(f"a block cannot be unpacked: {error}") from None


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if data is None or len(data) == size:
        return data or b""
    parts = [data]
    while missing := size - sum(map(len, parts)):
        if not (data := file.read(missing)):
            raise Truncated("its end is missing")
        parts.append(data)
    return b"".join(parts)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
