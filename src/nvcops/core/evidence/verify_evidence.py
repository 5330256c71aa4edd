"""Verify evidence offline: python verify_evidence.py BUNDLE [--key VKEY].

One file, on purpose: it needs Python and `cryptography`, nothing of nvcops, and a copy lies in every bundle.
It ends with 0 when everything holds, with 2 when something does not, with 3 when there is nothing to verify.
Formats: RFC 6962 (tree), RFC 8785 (entries), C2SP signed-note, tlog-checkpoint, tlog-cosignature; PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
except ImportError:
    sys.stderr.write("the Python package `cryptography` is missing: python -m pip install cryptography\n")
    raise SystemExit(3) from None

SEAL = "nvcops.evidence/bundle@v1"
NAMESPACE = "nvcops"
NOTE, COSIGNATURE = 1, 4
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
FIELDS = {"id", "time", "kind", "platform", "run", "procedure", "actor", "subject", "body"}
ARMOR = re.compile(r"\s*-----BEGIN SSH SIGNATURE-----\s([^-]+)-----END SSH SIGNATURE-----\s*")


class InvalidError(ValueError):
    """It does not verify: a sentence, and the first bad index where one can be named."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry (RFC 6962, section 2.1); 0x00 keeps leaves and nodes apart."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: its perfect subtrees, the widest first. Enough for the root at every size."""

    def __init__(self) -> None:
        self.size, self.nodes = 0, list[bytes]()

    def push(self, digest: bytes, height: int = 0) -> None:
        """Append a perfect subtree of 2**height leaves."""
        width = self.size >> height
        while width & 1:
            digest = node_hash(self.nodes.pop(), digest)
            width >>= 1
        self.nodes.append(digest)
        self.size += 1 << height

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        digest = self.nodes[-1] if self.nodes else hashlib.sha256(b"").digest()
        for node in reversed(self.nodes[:-1]):
            digest = node_hash(node, digest)
        return digest


def blocks(start: int, stop: int) -> list[int]:
    """The heights of the widest perfect subtrees that together cover the leaves from start to stop."""
    heights: list[int] = []
    while start < stop:
        heights.append(min((stop - start).bit_length(), (start & -start or stop).bit_length()) - 1)
        start += 1 << heights[-1]
    return heights


def unbase64(text: str) -> bytes:
    """Strict: two spellings of the same bytes would be a change that nobody sees."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise InvalidError(f"{text[:20]!r}... is not the one base64 spelling of its bytes")
    return data


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Four bytes that say which key signed, and how."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def read_vkey(vkey: str) -> tuple[str, bytes]:
    """The name and the Ed25519 key of a verifier key, as in `example.com/log+1234abcd+BASE64`."""
    name, short, body = [*vkey.strip().split("+", 2), "", ""][:3]
    data = unbase64(body)
    if len(data) != 33 or data[0] != NOTE or key_id(name, NOTE, data[1:]).hex() != short:
        raise InvalidError(f"{vkey.strip()[:60]!r} is not a verifier key")
    return name, data[1:]


def open_note(note: str, vkey: str) -> tuple[list[str], int | None]:
    """The lines of a note that the key signed, and the time of its cosignature (seconds since 1970), if it has one."""
    (name, raw), time, signed = read_vkey(vkey), None, False
    text, _, tail = note.rpartition("\n\n")
    public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    for line in tail.removesuffix("\n").split("\n"):
        signer, blob = [*line.removeprefix("\u2014 ").split(" "), ""][:2]
        data = unbase64(blob)
        if f"\u2014 {signer} {blob}" != line or not tail.endswith("\n"):
            raise InvalidError("a signed note is malformed")
        try:
            if (signer, data[:4]) == (name, key_id(name, NOTE, raw)):
                public.verify(data[4:], f"{text}\n".encode())
                signed = True
            elif (signer, data[:4]) == (name, key_id(name, COSIGNATURE, raw)):
                time = int.from_bytes(data[4:12], "big")
                public.verify(data[12:], f"cosignature/v1\ntime {time}\n{text}\n".encode())
        except InvalidSignature:
            raise InvalidError(f"a signature of {name} does not verify") from None
    if not signed:
        raise InvalidError(f"it is not signed by {name}")
    return text.split("\n"), time


def read_checkpoint(note: str, vkey: str) -> tuple[int, bytes, int | None]:
    """Size, root and time of a checkpoint whose signatures verify."""
    lines, time = open_note(note, vkey)
    if len(lines) != 3 or lines[0] != read_vkey(vkey)[0] or not re.fullmatch(r"0|[1-9]\d{0,17}", lines[1]):
        raise InvalidError("a checkpoint is malformed, or another log's")
    return int(lines[1]), unbase64(lines[2]), time


def ssh_strings(blob: bytes, count: int) -> list[bytes]:
    """Exactly `count` length-prefixed strings."""
    found: list[bytes] = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if end > len(blob):
            break
        found, blob = [*found, blob[4:end]], blob[end:]
    if blob or len(found) != count:
        raise InvalidError("an SSH signature is malformed")
    return found


def verify_sshsig(message: bytes, armored: str, namespace: str = NAMESPACE) -> str:
    """The public key (as `ssh-ed25519 AAAA...`) whose signature over the message verifies."""
    found = ARMOR.fullmatch(armored)
    blob = unbase64("".join(found[1].split())) if found else b""
    if blob[:10] != b"SSHSIG\x00\x00\x00\x01":
        raise InvalidError("it is not an SSH signature")
    key, space, reserved, name, signature = ssh_strings(blob[10:], 5)
    if space != namespace.encode() or name not in (b"sha256", b"sha512"):
        raise InvalidError(f"the SSH signature is for {space[:40]!r} with {name[:10]!r}, not for {namespace!r}")
    parts = (space, reserved, name, hashlib.new(name.decode(), message).digest())
    signed = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    algorithm, raw = ssh_strings(signature, 2)
    line = f"{key[4 : 4 + int.from_bytes(key[:4], 'big')].decode('ascii')} {base64.b64encode(key).decode()}"
    try:
        public = serialization.load_ssh_public_key(line.encode())
        if isinstance(public, ed25519.Ed25519PublicKey) and algorithm == b"ssh-ed25519":
            public.verify(raw, signed)
        elif isinstance(public, ec.EllipticCurvePublicKey) and algorithm == b"ecdsa-sha2-nistp256":
            r, s = (int.from_bytes(part, "big") for part in ssh_strings(raw, 2))
            public.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        elif isinstance(public, rsa.RSAPublicKey) and algorithm == b"rsa-sha2-512":
            public.verify(raw, signed, padding.PKCS1v15(), hashes.SHA512())
        else:
            raise InvalidError(f"SSH signatures of the kind {algorithm[:40]!r} are not accepted")
    except (InvalidSignature, UnsupportedAlgorithm, NotImplementedError):
        raise InvalidError("the SSH signature does not verify") from None
    return line


def canonical_json(value: Any) -> bytes:
    """RFC 8785 JSON, for values without fractions and with ASCII names: what people sign, and what is committed to."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def commitment(value: Any, salt: bytes) -> str:
    """What stands in an entry in place of personal data: SHA-256 of a secret salt of 32 bytes and its JSON."""
    return "salted-sha256:" + hashlib.sha256(salt + canonical_json(value)).hexdigest()


def check_signed(entry: dict[str, Any], signers: list[str]) -> str:
    """An approval or attestation holds when a key of its actor signed a statement about this very entry: that key."""
    statement = entry["body"]["statement"]
    for name in {"kind", "run", "actor"} | set(statement) & (FIELDS - {"id", "body"}):
        if statement.get(name) != entry[name]:
            raise InvalidError(f"the signed statement says another {name!r} than the entry")
    key = verify_sshsig(canonical_json(statement), entry["body"]["signature"])
    if f'{entry["actor"]} namespaces="{NAMESPACE}" {key}' not in signers:
        raise InvalidError(f"the key that signed is not one of {entry['actor']!r} in the roster")
    return key


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that stands twice would let two readers see two different entries."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


class Bundle:
    """An exported part of a log: a tar, and behind it the log's seal over all of the tar's bytes."""

    def __init__(self, data: bytes, key: str = "") -> None:
        self.tar, mark, seal = data.rpartition(SEAL.encode())
        with tarfile.open(fileobj=io.BytesIO(self.tar), mode="r:") as tar:
            files = {item.name: tar.extractfile(item) for item in tar}
            self.members = {name: file.read() for name, file in files.items() if file}
        self.seal, self.given, self.key = (mark + seal).decode(), key, key or self.members["log.vkey"].decode()
        self.edges = json.loads(self.members["edges.json"])
        self.start, self.size = int(self.edges["start"]), int(self.edges["size"])
        self.lines = self.members["entries.jsonl"].split(b"\n")[:-1]
        self.signers = self.members["allowed_signers"].decode().splitlines()
        self.said, self.executed = list[tuple[int, dict[str, Any], str]](), list[tuple[int, str, str]]()

    def check_seal(self) -> str:
        """Every byte of the file is as the log's key sealed it."""
        if open_note(self.seal, self.key)[0] != [SEAL, hashlib.sha256(self.tar).hexdigest()]:
            raise InvalidError("the file is not as it was sealed: something in it was changed")
        told = "that you gave" if self.given else f"FOUND IN THE BUNDLE; is it the log's? {self.key.strip()}"
        return f"all {len(self.tar):,} bytes are sealed by the key {told}"

    def check_tree(self) -> str:
        """The entries lead to the roots that the log signed."""
        notes = [text.decode() for name, text in self.members.items() if name.startswith("checkpoint/")]
        heads = dict(read_checkpoint(note, self.key)[:2] for note in notes)
        leaves, known = [leaf_hash(line) for line in self.lines], self.members["leaves"]
        wrong = next((at for at, leaf in enumerate([*leaves, b""]) if leaf != known[32 * at : 32 * at + 32]), None)
        spans = [*blocks(0, self.start), *[0] * len(leaves), *blocks(self.start + len(leaves), self.size)]
        nodes = [*map(unbase64, self.edges["left"]), *leaves, *map(unbase64, self.edges["right"])]
        edge, good = Frontier(), self.start
        for height, node in zip(spans, nodes, strict=False):  # a missing entry makes them uneven: no root then
            edge.push(node, height)
            if edge.size in heads and edge.root() == heads[edge.size]:
                good = edge.size
                del heads[edge.size]
        if wrong is not None or heads or not leaves or not self.start + len(leaves) <= good == self.size:
            first_bad = good if wrong is None else self.start + wrong
            raise InvalidError("the entries do not lead to the signed roots", first_bad)
        return f"{len(leaves):,} entries from index {self.start} on lead to the roots of {len(notes)} checkpoints"

    def check_entries(self) -> str:
        """Every entry is well formed, no id stands twice, and what people said is signed by them."""
        seen = set[str]()
        for index, line in enumerate(self.lines, self.start):
            try:
                entry = json.loads(line, object_pairs_hook=once)
                if set(entry) != FIELDS or not TIME.fullmatch(entry["time"]) or entry["id"] in seen:
                    raise InvalidError("malformed, or its id stands twice")
                seen.add(entry["id"])
                if entry["kind"] in ("approval", "attestation") or "signature" in entry["body"]:
                    self.said.append((index, entry, check_signed(entry, self.signers)))
                elif entry["kind"] == "change.executing":
                    self.executed.append((index, entry["run"], entry["body"]["run_id"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidError(f"entry {index} is not valid: {error}", index) from None
        return f"{len(seen):,} are well formed, {len(self.said)} statements of people among them carry their signature"

    def keys(self, entry: dict[str, Any], key: str) -> set[str]:
        """The key that signed an entry, and every other of its actor."""
        mine = f'{entry["actor"]} namespaces="{NAMESPACE}" '
        return {key, *(line.removeprefix(mine) for line in self.signers if line.startswith(mine))}

    def check_duties(self) -> str:
        """Nobody approved what they asked for, or carried out what they approved: by every key, whatever their name."""
        asked = {entry["run"]: self.keys(entry, key) for _, entry, key in self.said if entry["kind"] == "request"}
        given, apart, unseen = dict[tuple[str, str], set[str]](), 0, 0
        for index, entry, key in self.said:
            if entry["kind"] not in ("approval", "break-glass"):
                continue
            run, change = entry["run"], entry["run"].startswith("change/")
            before = given.setdefault((run, entry["kind"]), set())
            author = asked.get(run, set()) if entry["kind"] == "approval" else set()
            mine = self.keys(entry, key)
            if mine & author or (change and mine & before):
                who = "asked for it" if mine & author else f"said this {entry['kind']} before"
                raise InvalidError(f"entry {index}: {entry['actor']!r} {who}, by key", index)
            before |= mine
            if entry["kind"] == "approval":
                apart, unseen = apart + (run in asked), unseen + (run not in asked)
        for index, change_run, run in self.executed:
            if asked.get(run, set()) & given.get((change_run, "approval"), set()):
                raise InvalidError(f"entry {index}: who carried {change_run} out approved it, by key", index)
        return f"{apart} approvals by somebody else than asked; of {unseen} the request is not in the bundle"

    def check_disclosed(self) -> str:
        """Every disclosed value is the one that an entry commits to."""
        lines = self.members["disclosed.jsonl"].splitlines()
        for item in map(json.loads, lines):
            stands = commitment(item["value"], bytes.fromhex(item["salt"]))
            if f'"{stands}"'.encode() not in self.members["entries.jsonl"]:
                raise InvalidError(f"no entry commits to the disclosed value {item['value']!r}")
        return f"{len(lines)} disclosed values are those that entries commit to"


def verify(data: bytes, key: str = "") -> list[tuple[str, bool, str, int | None]]:
    """What was checked, whether it holds, a sentence, and the first bad index. `key` is the verifier key to trust."""
    bundle, checks = Bundle(data, key), list[tuple[str, bool, str, "int | None"]]()
    for name in ("seal", "tree", "entries", "duties", "disclosed"):
        try:
            checks.append((name, True, getattr(bundle, f"check_{name}")(), None))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = error.args if isinstance(error, InvalidError) else (f"malformed: {error!r}",)
            checks.append((name, False, said[0], said[1] if len(said) > 1 else None))
    return checks


def main(arguments: list[str]) -> int:
    """Print a line per check, with the first bad index."""
    try:
        if len(arguments) not in (1, 3) or arguments[1:2] not in ([], ["--key"]):
            raise ValueError("usage: python verify_evidence.py BUNDLE [--key VKEY]")  # noqa: TRY301 - one way out
        checks = verify(Path(arguments[0]).read_bytes(), *arguments[2:])
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        print(f"nothing to verify: {error}", file=sys.stderr)  # noqa: T201 - a door of its own
        return 3
    for name, holds, says, first_bad in checks:
        at = "" if first_bad is None else f" (first bad index {first_bad})"
        print(f"{'OK   ' if holds else 'WRONG'}  {name:<10}  {says}{at}")  # noqa: T201 - a door of its own
    return 0 if all(holds for _, holds, *_ in checks) else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
