"""Signing with SSH keys: by `ssh-keygen -Y sign` (agent, passphrase, hardware), else with an Ed25519 key file."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvcops.core.errors import NotAllowed, UsageError
from nvcops.core.evidence.verify_evidence import NAMESPACE
from nvcops.core.identity import Person, SignedStatement, Statement, find_key

_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_SIGNING_S_MAX = 120  # a person may have to type a passphrase or touch a hardware key


@dataclass(frozen=True, slots=True)
class Signer:
    """A person of the roster and the file of the key that speaks for them: private, or public for one in the agent."""

    person: Person
    key: Path

    @property
    def name(self) -> str:
        """Their handle in the roster."""
        return self.person.name

    def sign(self, statement: Statement) -> SignedStatement:
        """Sign a statement.

        Raises:
            NotAllowed: the key cannot sign.
        """
        message = statement.encoded()
        tool = shutil.which("ssh-keygen")
        signature = _by_tool(tool, self.key, message) if tool else _by_file(self.key, message)
        return SignedStatement(statement, signature)


def find_signer(
    people: Sequence[Person], name: str | None, key: Path | None, environ: Mapping[str, str], home: Path | None
) -> Signer:
    """Who speaks: `--as NAME --key FILE`, else NVCOPS_PERSON and NVCOPS_KEY, else the first of ~/.ssh in the roster.

    Raises:
        UsageError: the key file cannot be read.
        NotAllowed: the key is nobody's, or another person's than was named.
    """
    name = name or environ.get("NVCOPS_PERSON") or None
    given = key or (_expanded(Path(environ["NVCOPS_KEY"])) if environ.get("NVCOPS_KEY") else None)
    candidates = [given] if given else sorted((home / ".ssh").glob("*.pub"))[:100] if home else []
    for candidate in candidates:
        person = _owner(people, candidate, strict=given is not None)
        if person and name in (None, person.name):
            return Signer(person, _private_of(candidate.absolute()))  # it is used from another folder
        if given:
            whose = f"{person.name!r}'s" if person else "not in the roster"
            raise NotAllowed(f"the key {given} is {whose}", hint="`--as NAME --key FILE` name a person and their key")
    who = f"no key of {name!r}" if name else "no key that the roster knows"
    raise NotAllowed(
        f"{who} was found in {home / '.ssh' if home else 'a home folder: there is none'}",
        hint="give one with --key FILE, or put the .pub line into [[people]]",
    )


def _expanded(key: Path) -> Path:
    try:
        return key.expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"NVCOPS_KEY is {key}, and there is no such home folder", hint="write the whole path"
        ) from error


def _owner(people: Sequence[Person], key: Path, *, strict: bool) -> Person | None:
    try:
        return find_key(people, _public_line(key))
    except (OSError, ValueError, TypeError) as error:  # TypeError: the library's word for a passphrase
        if strict:
            raise UsageError(
                f"{key} cannot be used as a key: {error}", hint="it is a file like ~/.ssh/id_ed25519"
            ) from error
        return None


def _public_line(key: Path) -> str:
    """The public key of a key file: its own line, that of the .pub beside it, or read from the private key."""
    if key.suffix == ".pub":
        return _first_line(key)
    beside = key.with_name(key.name + ".pub")
    if beside.exists():
        return _first_line(beside)
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_ssh_private_key(key.read_bytes(), None)
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return private.public_key().public_bytes(encoding, form).decode()


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return lines.readline(10_000).strip()


def _private_of(key: Path) -> Path:
    """The private key beside a public one, where there is one; else the public one stands for a key of the agent."""
    private = key.with_suffix("") if key.suffix == ".pub" else key
    return private if private.exists() else key


def _by_tool(tool: str, key: Path, message: bytes) -> str:
    command = [tool, "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    with tempfile.TemporaryDirectory(prefix="nvcops-sign-") as folder:
        # A file, not standard input: ssh-keygen asks for a passphrase on the terminal and must not wait for a pipe.
        (Path(folder) / "statement").write_bytes(message)
        try:
            done = subprocess.run(
                [*command, "statement"], cwd=folder, capture_output=True, timeout=_SIGNING_S_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotAllowed(f"ssh-keygen could not sign with {key}: {error}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise NotAllowed(f"ssh-keygen could not sign with {key}: {said[-1]}")
        return (Path(folder) / "statement.sig").read_text(encoding="ascii")


def _by_file(key: Path, message: bytes) -> str:
    """Sign with an Ed25519 key file that has no passphrase: what a machine without openssh-client can do."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    hint = "install openssh-client for keys with a passphrase, in an agent or in hardware"
    try:
        private = serialization.load_ssh_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise NotAllowed(f"{key} cannot sign: {error}", hint=hint) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise NotAllowed(f"{key} is no Ed25519 key", hint=hint)
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    public = b"".join(_strings(b"ssh-ed25519", raw))
    digest = hashlib.new(_HASH.decode(), message).digest()
    signed = _MAGIC + b"".join(_strings(NAMESPACE.encode(), b"", _HASH, digest))
    signature = b"".join(_strings(b"ssh-ed25519", private.sign(signed)))
    blob = _MAGIC + (1).to_bytes(4, "big") + b"".join(_strings(public, NAMESPACE.encode(), b"", _HASH, signature))
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def _strings(*parts: bytes) -> Iterator[bytes]:
    for part in parts:
        yield len(part).to_bytes(4, "big") + part


def home_folder() -> Path | None:
    """Where this process's user is at home; None for one without an account, as containers have it."""
    try:
        return Path.home()
    except RuntimeError:
        return None
