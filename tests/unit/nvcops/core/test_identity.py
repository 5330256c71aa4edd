"""Statements, keys and the roster; what a person may say is tested with real runs in the integration tests."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.adapters import identity_ssh
from nvcops.adapters.identity_ssh import Signer, find_signer
from nvcops.core.errors import NotAllowed, UsageError
from nvcops.core.evidence import utc
from nvcops.core.identity import (
    Say,
    SignedStatement,
    Statement,
    check_second_person,
    check_signed,
    find_key,
    fingerprint,
    shared_keys,
)
from nvcops.core.manifest import Person

NOW = dt.datetime(2026, 11, 23, 13, tzinfo=dt.UTC)


def make_key(path: Path, *, kind: str = "ed25519") -> str:
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_private_key(SECP256R1())
    form = serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path.with_suffix(".pub").write_text(f"{line} somebody@desk\n")
    return line


def person(name: str, *keys: str, role: str = "operator") -> Person:
    return msgspec.convert({"name": name, "full_name": name, "roles": [role], "ssh_keys": list(keys)}, Person)


@pytest.fixture
def dana(tmp_path: Path) -> Signer:
    return Signer(person("dana", make_key(tmp_path / "dana")), tmp_path / "dana")


def statement(**changed: str) -> Statement:
    said = Statement(
        kind=Say.ATTESTATION,
        platform="tanks",
        run="tanks-check@2026-11-23T13:00Z",
        procedure="tanks-check",
        actor="dana",
        subject="reviewed",
        time=utc(NOW),
        note="looked – nothing new",
        content_hash="c0ffee",
    )
    return msgspec.structs.replace(said, **changed)


@pytest.fixture(params=["ssh-keygen", "no ssh-keygen"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way of signing; a machine may lack the first."""
    if request.param == "no ssh-keygen":
        monkeypatch.setattr(identity_ssh.shutil, "which", lambda _name: None)
    elif shutil.which("ssh-keygen") is None:
        pytest.skip("this machine has no ssh-keygen")
    return str(request.param)


@pytest.mark.usefixtures("tool")
def test_what_is_signed_is_known_to_be_dana_s(dana: Signer) -> None:
    assert check_signed([dana.person], dana.sign(statement()), NOW) == fingerprint(dana.person.ssh_keys[0])


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize(
    "changed",
    [{name: "other"} for name in ("platform", "run", "procedure", "subject", "note", "content_hash")]
    + [{"time": utc(NOW + dt.timedelta(seconds=1))}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_signature_fits_no_other_statement(dana: Signer, changed: dict[str, str]) -> None:
    signed = dana.sign(statement())
    with pytest.raises(NotAllowed, match="is not valid"):
        check_signed([dana.person], SignedStatement(statement(**changed), signed.signature), NOW)


def test_a_statement_is_fresh(dana: Signer) -> None:
    signed = dana.sign(statement())
    for minutes in (-15, 15):
        assert check_signed([dana.person], signed, NOW + dt.timedelta(minutes=minutes))
    for minutes in (-16, 16):
        with pytest.raises(NotAllowed, match="sign it again"):
            check_signed([dana.person], signed, NOW + dt.timedelta(minutes=minutes))


def test_a_note_has_a_limit(dana: Signer) -> None:
    with pytest.raises(NotAllowed, match="2000 are the limit"):
        check_signed([dana.person], dana.sign(statement(note="x" * 2001)), NOW)


@pytest.mark.parametrize(("role", "may"), [("operator", False), ("approver", True), ("auditor", False)])
def test_only_an_approver_approves(tmp_path: Path, role: str, may: bool) -> None:
    someone = Signer(person("dana", make_key(tmp_path / "dana"), role=role), tmp_path / "dana")
    signed = someone.sign(statement(kind=Say.APPROVAL))
    if may:
        assert check_signed([someone.person], signed, NOW)
    else:
        with pytest.raises(NotAllowed, match=f"their roles are {role}"):
            check_signed([someone.person], signed, NOW)


def test_a_key_has_one_fingerprint_the_one_that_openssh_shows(tmp_path: Path) -> None:
    line = make_key(tmp_path / "key")
    assert fingerprint(line) == fingerprint(f"{line} a comment")
    if shutil.which("ssh-keygen"):
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
        ).stdout
        assert fingerprint(line) in shown.split()


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5"]
)
def test_what_is_no_key_is_said(line: str) -> None:
    with pytest.raises(ValueError, match="is no SSH public key"):
        fingerprint(line)


def test_a_roster_in_which_two_people_share_a_key_is_refused(tmp_path: Path) -> None:
    line, other = make_key(tmp_path / "a"), make_key(tmp_path / "b")
    people = [person("dana", line), person("omar", other, f"{line} omar@desk"), person("eve", "nonsense")]
    assert [(index, says.partition(":")[0]) for index, says in shared_keys(people)] == [
        (1, "'omar' has the same SSH key as 'dana'"),
        (2, "'nonsense' is no SSH public key"),
    ]
    with pytest.raises(NotAllowed, match="for 'dana' and 'omar'"):
        find_key(people[:2], line)


def test_the_requester_is_known_by_name_and_by_every_key(tmp_path: Path) -> None:
    first, second = make_key(tmp_path / "1"), make_key(tmp_path / "2")
    people = [person("dana", first), person("omar", second, make_key(tmp_path / "3"))]
    third = fingerprint(people[1].ssh_keys[1])
    check_second_person(people, "omar", fingerprint(second), "dana", fingerprint(first))
    for requester, key in (("omar", ""), ("dana", fingerprint(second)), ("dana", third)):
        with pytest.raises(NotAllowed, match="requested this run"):
            check_second_person(people, "omar", fingerprint(second), requester, key)


def test_who_speaks_is_found_by_flag_by_environment_or_by_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    people = [person("dana", make_key(home / ".ssh/id_b")), person("omar", make_key(tmp_path / "omar"))]
    make_key(home / ".ssh/id_a")
    (home / ".ssh/broken.pub").write_text("no key")

    assert find_signer(people, None, None, {}, home).name == "dana", "the first that the roster knows"
    assert find_signer(people, None, None, {"NVCOPS_KEY": str(tmp_path / "omar")}, home).name == "omar"
    assert find_signer(people, None, tmp_path / "omar.pub", {}, home).key == tmp_path / "omar", (
        "the private one beside it"
    )
    with pytest.raises(NotAllowed, match="no key of 'omar' was found"):
        find_signer(people, None, None, {"NVCOPS_PERSON": "omar"}, home)
    with pytest.raises(NotAllowed, match="is 'omar''s"):
        find_signer(people, "dana", tmp_path / "omar", {}, home)
    with pytest.raises(NotAllowed, match="is not in the roster"):
        find_signer(people, None, home / ".ssh/id_a", {}, home)
    with pytest.raises(UsageError, match="cannot be used as a key"):
        find_signer(people, None, tmp_path / "absent", {}, home)


def test_a_key_of_the_agent_stands_for_itself(tmp_path: Path) -> None:
    line = make_key(tmp_path / "id")
    (tmp_path / "id").unlink()
    assert find_signer([person("dana", line)], "dana", tmp_path / "id.pub", {}, tmp_path).key == tmp_path / "id.pub"


def test_without_ssh_keygen_other_keys_cannot_sign_and_the_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(person("dana", make_key(tmp_path / "dana", kind="ecdsa")), tmp_path / "dana")
    monkeypatch.setattr(identity_ssh.shutil, "which", lambda _name: None)
    with pytest.raises(NotAllowed, match="is no Ed25519 key") as refused:
        signer.sign(statement())
    assert refused.value.hint.startswith("install openssh-client")


def test_a_key_with_a_passphrase_is_for_ssh_keygen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = shutil.which("ssh-keygen")
    if tool is None:
        pytest.skip("this machine has no ssh-keygen")
    key = tmp_path / "dana"
    subprocess.run([tool, "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    dana = person("dana", (tmp_path / "dana.pub").read_text())
    monkeypatch.setattr(identity_ssh.shutil, "which", lambda _name: None)
    with pytest.raises(NotAllowed, match="cannot sign") as refused:
        Signer(dana, key).sign(statement())
    assert "passphrase" in refused.value.hint
    (tmp_path / "dana.pub").unlink()
    with pytest.raises(UsageError, match="cannot be used as a key"):
        find_signer([dana], "dana", key, {}, tmp_path)


def test_a_key_that_ssh_keygen_cannot_use_is_said(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("this machine has no ssh-keygen")
    line = make_key(tmp_path / "dana")
    (tmp_path / "dana").write_text("no key")
    with pytest.raises(NotAllowed, match="ssh-keygen could not sign with"):
        Signer(person("dana", line), tmp_path / "dana").sign(statement())


def test_a_key_named_from_here_signs_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [person("dana", make_key(tmp_path / "dana"))]
    monkeypatch.chdir(tmp_path)
    signer = find_signer(people, "dana", Path("dana"), {}, None)
    assert check_signed(people, signer.sign(statement()), NOW)


def test_whoever_has_no_home_folder_names_a_key(tmp_path: Path) -> None:
    people = [person("dana", make_key(tmp_path / "dana"))]
    with pytest.raises(NotAllowed, match="there is none"):
        find_signer(people, None, None, {}, None)
    with pytest.raises(UsageError, match="no such home folder"):
        find_signer(people, None, None, {"NVCOPS_KEY": "~nobody-of-this-name/id"}, None)


def test_a_user_without_an_account_has_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(identity_ssh.Path, "home", _no_home)
    assert identity_ssh.home_folder() is None


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
