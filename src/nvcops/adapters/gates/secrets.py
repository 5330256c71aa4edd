"""Secrets: what looks like a password, a key or a token in any file of a release; detect-secrets looks."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell, files_below, read_bytes, read_said
from nvcops.adapters.gates.process import run, tool
from nvcops.adapters.releases.contents import ABOUT, SBOM
from nvcops.core.gates import GateLine, GateReport, judged

# Digests of the lock are no secrets. A release does not excuse itself by a comment: what is accepted stands in the
# manifest, by its hash.
_FLAGS = (
    "--all-files",
    "--no-verify",
    "--exclude-lines=--hash=sha256:[0-9a-f]{64}",
    "--disable-filter=detect_secrets.filters.allowlist.is_line_allowlisted",
    "--disable-filter=detect_secrets.filters.heuristic.is_lock_file",
)
_OF_DIGESTS = (ABOUT, SBOM)  # elsewhere 64 hex digits may be a key
_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """What looks like a secret; its hash is SHA-1, as detect-secrets names secrets in its baselines."""

    type: str
    filename: str
    hashed_secret: str
    line_number: int


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What detect-secrets says, by file."""

    version: str
    results: dict[str, list[Suspect]]


def judge(asked: Asked) -> GateReport:
    """Scan all files. `accepted` lists the hashes of what a person looked at and found to be no secret."""
    scanner = tool(asked, "detect-secrets")
    files = sum(1 for _ in files_below(asked.folder))
    for name in _OF_DIGESTS:
        _without_digests(asked.folder / name)
    ended = run([scanner, "-C", str(asked.folder), "scan", *_FLAGS, "."], work=asked.work, folder=asked.folder)
    if ended.code:
        raise CannotTell(f"detect-secrets ended with {ended.code}: {ended.said}")
    said = read_said(ended.output.encode(), Scan, "detect-secrets")
    accepted = {word.lower() for word in asked.words("accepted")}
    suspects = [one for found in said.results.values() for one in found if one.hashed_secret.lower() not in accepted]
    return judged([_line(one) for one in suspects], files, "files", tool=f"detect-secrets {said.version}")


def _line(found: Suspect) -> GateLine:
    text = f"{found.type}, in {found.filename} (hash {found.hashed_secret})"  # never the secret itself
    return GateLine(rule=found.type, text=text, file=found.filename, line=found.line_number)


def _without_digests(path: Path) -> None:
    """Take the digests out of this copy of a file that is made of them: each looks like a key."""
    if path.is_file():
        text = _DIGEST.sub(b"digest", read_bytes(path))
        path.unlink()
        path.write_bytes(text)


def seed(asked: Asked) -> Asked:
    """A release with a private key in a file that is called after the fault."""
    folder = Path(asked.work) / "seeded"
    folder.mkdir(parents=True, exist_ok=True)
    begin = "-----BEGIN {} PRIVATE KEY-----".format("RSA")  # in two parts: this very file holds no secret
    (folder / f"{SEEDED}.pem").write_text(f"{begin}\nMIIEpAIBAAKCAQEA\n", encoding="utf-8")
    (folder / "good.py").write_text("VALUE = 1\n", encoding="utf-8")
    return msgspec.structs.replace(asked, release=str(folder))
