"""Whose signature counts, and that nothing of an envelope can be changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.adapters.releases.signing import PAYLOAD_TYPE, load_signing_key, opened
from nvcops.core.errors import EvidenceError, ManifestError, NotAllowed
from nvcops.core.manifest.delivery import Builder
from release_world import write_key

PAYLOAD = b'{"what":"was built"}'


@pytest.fixture
def builders(tmp_path: Path) -> tuple[Builder, ...]:
    return tuple(Builder(name=name, key=write_key(tmp_path / name)) for name in ("ci", "spare"))


@pytest.fixture
def envelope(tmp_path: Path, builders: tuple[Builder, ...]) -> bytes:
    return load_signing_key(tmp_path / "ci", builders).sign(PAYLOAD)


def test_it_opens_to_its_payload_and_the_name_of_the_key(tmp_path: Path, builders: tuple[Builder, ...]) -> None:
    for name in ("ci", "spare"):
        signed = load_signing_key(tmp_path / name, builders).sign(PAYLOAD)
        assert opened(signed, builders, "it") == (PAYLOAD, name)


def test_the_signature_is_over_the_encoding_that_dsse_defines(envelope: bytes, builders: tuple[Builder, ...]) -> None:
    document = json.loads(envelope)
    public = serialization.load_ssh_public_key(builders[0].key.encode())
    signed = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(PAYLOAD), PAYLOAD)
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), signed)  # type: ignore[union-attr, call-arg]
    assert base64.b64decode(document["payload"]) == PAYLOAD


def test_each_changed_byte_of_it_is_refused(envelope: bytes, builders: tuple[Builder, ...]) -> None:
    for at in range(len(envelope)):
        changed = bytearray(envelope)
        changed[at] ^= 1
        with pytest.raises(EvidenceError):
            opened(bytes(changed), builders, "it")


def test_each_shorter_one_is_refused(envelope: bytes, builders: tuple[Builder, ...]) -> None:
    for size in range(len(envelope)):
        with pytest.raises(EvidenceError):
            opened(envelope[:size], builders, "it")


def changed(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(envelope)
    change(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda one: one.update(payload=base64.b64encode(b"{}").decode()), "not signed by a builder"),
        (lambda one: one.update(payloadType="text/plain"), "none of ours"),
        (lambda one: one.update(more=1), "none of ours"),
        (lambda one: one.update(signatures=[]), "not signed by a builder"),
        (lambda one: one.update(signatures=None), "no signed envelope"),
        (lambda one: one["signatures"].append(one["signatures"][0]), "no signed envelope"),
        (lambda one: one["signatures"][0].update(keyid="0" * 64), "not signed by a builder"),
        (lambda one: one["signatures"][0].update(sig=""), "not signed by a builder"),
        (lambda one: one["signatures"][0].pop("sig"), "no signed envelope"),
        (lambda one: one.update(payload=one["payload"] + "===="), "no signed envelope|none of ours"),
    ],
)
def test_what_is_not_signed_as_it_stands_is_refused(
    envelope: bytes, builders: tuple[Builder, ...], change: Callable[[dict[str, Any]], object], why: str
) -> None:
    with pytest.raises(EvidenceError, match=why):
        opened(changed(envelope, change), builders, "it")


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'"x"', b"[" * 100_000, b"\xff"])
def test_what_is_no_envelope_is_refused(builders: tuple[Builder, ...], text: bytes) -> None:
    with pytest.raises(EvidenceError, match="no signed envelope"):
        opened(text, builders, "it")


def test_a_key_that_nobody_named_does_not_count(tmp_path: Path, envelope: bytes, builders: tuple[Builder, ...]) -> None:
    with pytest.raises(EvidenceError, match="not signed by a builder"):
        opened(envelope, builders[1:], "it")
    with pytest.raises(EvidenceError, match="nobody's signature"):
        opened(envelope, (), "it")
    write_key(tmp_path / "mallory")
    with pytest.raises(NotAllowed, match="is no builder's") as error:
        load_signing_key(tmp_path / "mallory", builders)
    assert error.value.hint.startswith('[[delivery.builders]] key = "ssh-ed25519 ')


def of_kind(private: Any) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    data: bytes = private.private_bytes(encoding, form, serialization.NoEncryption())
    return data


def sealed() -> bytes:
    """A key file whose head says that it needs a passphrase."""
    begin, *body, end = of_kind(Ed25519PrivateKey.generate()).splitlines()
    magic, none = b"openssh-key-v1\0", b"\0\0\0\x04none"
    raw = base64.b64decode(b"".join(body))
    words = [b"aes256-ctr", b"bcrypt", b"\0\0\0\x10" + b"s" * 16 + b"\0\0\0\x10"]
    head = magic + b"".join(len(word).to_bytes(4, "big") + word for word in words)
    changed = raw.replace(magic + none + none + b"\0\0\0\0", head, 1)
    assert changed != raw
    at = len(head) + 4 + 4 + int.from_bytes(changed[len(head) + 4 : len(head) + 8], "big")  # behind the public key
    secret = changed[at + 4 :].ljust(-len(changed[at + 4 :]) // 16 * -16, b"\0")  # whole blocks of the cipher
    changed = changed[:at] + len(secret).to_bytes(4, "big") + secret
    return b"\n".join([begin, base64.b64encode(changed), end, b""])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (of_kind(rsa.generate_private_key(65537, 2048)), "is no Ed25519 key"),
        (of_kind(ec.generate_private_key(ec.SECP256R1())), "is no Ed25519 key"),
        (sealed(), "password"),
        (b"", "cannot sign"),
        (b"ssh-ed25519 AAAA", "cannot sign"),
        (b"\xff" * 100, "cannot sign"),
    ],
    ids=["rsa", "ecdsa", "passphrase", "empty", "public", "noise"],
)
def test_a_file_that_cannot_sign_is_refused(
    tmp_path: Path, builders: tuple[Builder, ...], data: bytes, why: str
) -> None:
    (tmp_path / "key").write_bytes(data)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(NotAllowed, match=why):
        load_signing_key(tmp_path / "key", builders)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, builders: tuple[Builder, ...], mode: int) -> None:
    (tmp_path / "ci").chmod(mode)
    with pytest.raises(NotAllowed, match=rf"others may read the key .* \(mode {mode:04o}\)") as error:
        load_signing_key(tmp_path / "ci", builders)
    assert "chmod 0600" in error.value.hint


def test_a_key_that_is_missing_or_a_folder_is_refused(tmp_path: Path, builders: tuple[Builder, ...]) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(NotAllowed, match="cannot be read"):
            load_signing_key(path, builders)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----", "\u00e9"])
def test_a_builder_without_a_key_is_a_fault_of_the_manifest(envelope: bytes, line: str) -> None:
    with pytest.raises(ManifestError, match="the builder ci"):
        opened(envelope, (Builder(name="ci", key=line),), "it")


def test_a_builder_with_a_key_of_another_kind_is_a_fault_of_the_manifest(envelope: bytes) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    with pytest.raises(ManifestError, match="no Ed25519 key"):
        opened(envelope, (Builder(name="ci", key=line),), "it")
