"""Bundles: what is exported verifies, with the verifier alone too, and no change of it does."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcops.core.errors import EvidenceError, UsageError
from nvcops.core.evidence import Entry, commitment, signed_entry
from nvcops.core.evidence.bundle import Disclosure, Part, Verification, seal, verify_bundle
from nvcops.core.evidence.checkpoint import open_checkpoint, sign_checkpoint, sign_note, verifier_key
from nvcops.core.evidence.entry import encode
from nvcops.core.evidence.tiles import TiledTree, grow
from nvcops.core.evidence.verify_evidence import SEAL, leaf_hash

HERE = Path(__file__).parent
SIGNED = json.loads((HERE / "ssh_signatures.json").read_text(encoding="utf-8"))[0]
ORIGIN = "bank.example/operations"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = verifier_key(ORIGIN, KEY)
SALT = bytes(32)
MAIL = commitment("ann@bank.example", SALT)
ROSTER = {"ann": [SIGNED["public_key"] + " ann@desk"], "bob": ["ssh-ed25519 AAAA"]}
DISCLOSED = [Disclosure(MAIL, SALT, "ann@bank.example")]


def entry(number: int, **body: Any) -> Entry:
    return Entry(
        id=f"e{number}", time="2026-01-05T13:00:00Z", kind="step.finished", run="r1", body={"n": number, **body}
    )


def some_entries(size: int) -> list[bytes]:
    """Entries with an approval at index 1 and a commitment at index 2."""
    made = [entry(number) for number in range(size)]
    approval = msgspec.structs.replace(entry(1), kind="approval", actor="ann")
    made[1:3] = [signed_entry(approval, SIGNED["statement"], SIGNED["signature"]), entry(2, mail=MAIL)][: size - 1]
    return [encode(item) for item in made]


def bundle(entries: list[bytes], start: int, stop: int, heads: list[int], **changes: Any) -> bytes:
    """A bundle of a log of these entries with checkpoints over the heads."""
    leaves = [leaf_hash(item) for item in entries]
    tiles = grow(lambda _level, _number: b"", 0, leaves)
    tree = TiledTree(lambda level, number: tiles[level, number])
    notes = [sign_checkpoint(ORIGIN, size, tree.range_hash(0, size), KEY, time=1) for size in heads]
    part = Part(start, entries[start:stop], [open_checkpoint(note, VKEY) for note in notes])
    options = {"roster": ROSTER, "disclosed": DISCLOSED if start <= 2 < stop else ()} | changes
    return seal(part, tree, ORIGIN, KEY, **options)


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {item.name: tar.extractfile(item).read() for item in tar}  # type: ignore[union-attr]


def sealed(files: dict[str, bytes]) -> bytes:
    """What somebody who has the log's key can make of other members: the rest must hold by itself."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    archive = sink.getvalue()
    return archive + sign_note(f"{SEAL}\n{hashlib.sha256(archive).hexdigest()}\n", ORIGIN, KEY).encode()


def failing(lines: list[Verification]) -> dict[str, int | None]:
    return {line.check: line.first_bad for line in lines if not line.holds}


SMALL = bundle(some_entries(7), 0, 5, [3, 7])


def test_a_bundle_verifies() -> None:
    lines = verify_bundle(SMALL, VKEY)
    assert [line.check for line in lines] == ["seal", "tree", "entries", "duties", "disclosed"]
    assert not failing(lines)
    assert "you gave" in lines[0].sentence
    assert "5 entries from index 0 on lead to the roots of 2 checkpoints" in lines[1].sentence
    assert "1 statements of people" in lines[2].sentence
    assert "0 approvals by somebody else" in lines[3].sentence
    assert "1 disclosed" in lines[4].sentence


def test_without_a_key_it_says_whose_word_that_is() -> None:
    lines = verify_bundle(SMALL)
    assert not failing(lines)
    assert "FOUND IN THE BUNDLE" in lines[0].sentence
    assert VKEY in lines[0].sentence


def test_another_key_does_not_verify_it() -> None:
    other = verifier_key(ORIGIN, Ed25519PrivateKey.generate())
    assert set(failing(verify_bundle(SMALL, other))) == {"seal", "tree"}


def test_the_same_part_gives_the_same_bytes() -> None:
    assert bundle(some_entries(7), 0, 5, [3, 7]) == SMALL


def test_it_tells_no_more_about_people_than_it_must() -> None:
    assert members(SMALL)["allowed_signers"].decode().split()[0] == "ann"
    assert b"bob" not in SMALL
    assert b"desk" not in SMALL
    assert members(bundle(some_entries(7), 3, 5, [7]))["allowed_signers"] == b""
    assert b"ann@bank.example" not in bundle(some_entries(7), 0, 5, [7], disclosed=())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, 700))
def test_every_part_of_every_log_verifies(data: st.DataObject, size: int) -> None:
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    inside = data.draw(st.sets(st.integers(start + 1, stop), max_size=3))
    heads = sorted({*inside, data.draw(st.integers(stop, size))})
    assert not failing(verify_bundle(bundle(some_entries(size), start, stop, heads), VKEY))


@pytest.mark.parametrize("start", range(7))
def test_no_changed_byte_goes_unseen(start: int) -> None:
    """Every seventh byte of the tar, and all of the seal; the drill changes every byte."""
    tar = SMALL.rindex(SEAL.encode())
    for at in [*range(start * 7, tar, 49), *range(tar + start, len(SMALL), 7)]:
        changed = bytearray(SMALL)
        changed[at] ^= 1 << at % 8
        assert is_refused(bytes(changed)), f"byte {at} was changed"


def is_refused(data: bytes) -> bool:
    try:
        return bool(failing(verify_bundle(data)))
    except UsageError:
        return True


@pytest.mark.parametrize("cut", [1, 2, 100, 500, 5000])
def test_a_cut_or_longer_file_is_refused(cut: int) -> None:
    assert is_refused(SMALL[:-cut])
    assert is_refused(SMALL[cut:])
    assert is_refused(SMALL + b"x" * cut)


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 10240, b"PK\x03\x04" + b"\0" * 100, SEAL.encode()])
def test_what_is_no_bundle_is_called_so(data: bytes) -> None:
    with pytest.raises(UsageError, match="not an evidence bundle"):
        verify_bundle(data)


def lines_of(data: bytes) -> list[bytes]:
    return members(data)["entries.jsonl"].splitlines(keepends=True)


LINES = lines_of(SMALL)
TAMPERED = {
    "changed": ([*LINES[:3], LINES[3].replace(b'"n":3', b'"n":4'), LINES[4]], 3),
    "deleted": ([*LINES[:2], *LINES[3:]], 2),
    "first deleted": (LINES[1:], 0),
    "last deleted": (LINES[:-1], 4),
    "reordered": ([LINES[0], LINES[1], LINES[3], LINES[2], LINES[4]], 2),
    "inserted": ([*LINES[:3], LINES[3].replace(b'"n":3', b'"n":9'), *LINES[3:]], 3),
    "doubled": ([*LINES, LINES[4]], 5),
    "all deleted": ([], 0),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_the_first_bad_index_is_named(name: str) -> None:
    """Even for somebody who could seal the bundle again: the entries must lead to the signed roots."""
    lines, first_bad = TAMPERED[name]
    found = failing(verify_bundle(sealed(members(SMALL) | {"entries.jsonl": b"".join(lines)}), VKEY))
    assert found["tree"] == first_bad
    assert "seal" not in found


def test_a_change_that_also_forges_the_leaves_is_put_behind_the_last_good_checkpoint() -> None:
    lines, _ = TAMPERED["changed"]
    leaves = b"".join(leaf_hash(line[:-1]) for line in lines)
    forged = members(SMALL) | {"entries.jsonl": b"".join(lines), "leaves": leaves}
    assert failing(verify_bundle(sealed(forged), VKEY)) == {"tree": 3}


@pytest.mark.parametrize(
    "name", ["checkpoint/3", "checkpoint/7", "leaves", "edges.json", "allowed_signers", "entries.jsonl"]
)
def test_a_member_that_was_taken_out_is_missed(name: str) -> None:
    rest = {other: content for other, content in members(SMALL).items() if other != name}
    if name == "checkpoint/3":  # one more tree head inside adds nothing that the last one does not show
        assert not failing(verify_bundle(sealed(rest), VKEY))
    else:
        assert is_refused(sealed(rest))


def test_a_sealed_entry_is_still_checked_for_its_form() -> None:
    twice = LINES[3].replace(b'{"actor":""', b'{"actor":"","actor":"bob"')
    for bad in (
        twice,
        b"{}\n",
        b"x\n",
        b"\xff\n",
        LINES[2],
        LINES[3].replace(b"2026", b"26"),
        LINES[3][:-2] + b',"x":1}\n',
    ):
        entries = b"".join([*LINES[:3], bad, LINES[4]])
        assert failing(verify_bundle(sealed(members(SMALL) | {"entries.jsonl": entries}), VKEY))["entries"] == 3, bad


def test_a_signature_that_does_not_hold_is_named() -> None:
    entries = some_entries(5)
    unsigned = encode(msgspec.structs.replace(entry(3), kind="attestation", actor="ann"))
    lines = verify_bundle(bundle([*entries[:3], unsigned, entries[4]], 0, 5, [5]), VKEY)
    assert failing(lines) == {"entries": 3}
    request = msgspec.structs.replace(entry(3), kind="request", actor="ann", body={"signature": SIGNED["signature"]})
    lines = verify_bundle(bundle([*entries[:3], encode(request), entries[4]], 0, 5, [5]), VKEY)
    assert failing(lines) == {"entries": 3}, "what carries a signature of any kind must hold"
    lines = verify_bundle(bundle(entries, 0, 5, [5], roster={"bob": ROSTER["ann"]}), VKEY)
    assert failing(lines) == {"entries": 1}
    assert "not one of 'ann' in the roster" in lines[2].sentence


def test_a_disclosed_value_must_be_the_committed_one() -> None:
    other = Disclosure(commitment("bob@bank.example", SALT), SALT, "bob@bank.example")
    assert set(failing(verify_bundle(bundle(some_entries(5), 0, 5, [5], disclosed=[other]), VKEY))) == {"disclosed"}
    with pytest.raises(EvidenceError, match="do not fit the commitment"):
        bundle(some_entries(5), 0, 5, [5], disclosed=[Disclosure(MAIL, SALT, "bob@bank.example")])


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The verifier as it lies in the bundle, in a folder with nothing else."""
    command = [sys.executable, "-I", "verify_evidence.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_verifier_in_the_bundle_verifies_it_alone(tmp_path: Path) -> None:
    code = members(SMALL)["verify_evidence.py"]
    assert code.count(b"\n") <= 340
    assert b"nvcops" not in b"".join(line for line in code.splitlines() if b"import" in line)
    (tmp_path / "verify_evidence.py").write_bytes(code)
    (tmp_path / "good").write_bytes(SMALL)
    (tmp_path / "bad").write_bytes(SMALL.replace(b'"n":3', b'"n":4'))
    (tmp_path / "none").write_bytes(b"hello")
    good = run_alone(tmp_path, "good", "--key", VKEY)
    assert (good.returncode, good.stdout.count("OK ")) == (0, 5), good.stderr
    assert run_alone(tmp_path, "good").returncode == 0
    bad = run_alone(tmp_path, "bad", "--key", VKEY)
    assert bad.returncode == 2
    assert "first bad index 3" in bad.stdout
    assert run_alone(tmp_path, "good", "--key", verifier_key(ORIGIN, Ed25519PrivateKey.generate())).returncode == 2
    for arguments in (["none"], ["missing"], [], ["good", "bad"], ["good", "--kee", VKEY], ["."]):
        unusable = run_alone(tmp_path, *arguments)
        assert (unusable.returncode, unusable.stdout) == (3, ""), arguments
        assert unusable.stderr.count("\n") == 1
