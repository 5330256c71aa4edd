"""What a person may type wrong: a sentence, a hint, exit code 3, and nothing done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Quiet

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "platforms" / "nvc-bank" / "platform.toml"
MISTAKES = json.loads((ROOT / "tests/unit/nvcops/core/manifest_mistakes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--nonsense", "--nonsense"),
        ("nonsense", "nonsense"),
        ("run daily-health-check --nonsense", "--nonsense"),
        ("run daily-helth-check", "daily-health-check"),
        ("describe dayly-health", "daily-health-check"),
        ("due --days 0", "0"),
        ("due --days many", "many"),
        ("show no-such-run", "no-such-run"),
        ("resume no-such-run", "no-such-run"),
        ("cancel no-such-run", "no-such-run"),
        ("approve no-such-run step", "no-such-run"),
        ("attest no-such-run step --note n", "no-such-run"),
        ("evidence prove 999999", "the log is empty"),
        ("attest no-such-run step --note \udcff", "is not UTF-8"),
        ("evidence verify no-such-bundle", "no-such-bundle"),
        ("run daily-health-check --as nobody", "nobody"),
        ("run daily-health-check --as dana --key /nowhere/key", "/nowhere/key"),
    ],
)
def test_a_wrong_word(quiet: Quiet, refused: Callable[..., str], words: str, says: str) -> None:
    assert says in refused(quiet.nvcops(*words.split()))


@pytest.mark.parametrize(
    "kind", ["missing", "empty folder", "binary", "under a file", "a circle of links", "too large"]
)
def test_a_manifest_that_cannot_be_read(quiet: Quiet, refused: Callable[..., str], kind: str) -> None:
    path = quiet.nvcops.folder / "other.toml"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(bytes(range(256)))
    elif kind == "under a file":
        path = quiet.manifest / "other.toml"
    elif kind == "a circle of links":
        path.symlink_to(path)
    elif kind == "too large":
        path.write_text("# much\n" * 200_000, encoding="utf-8")
    said = refused(quiet.nvcops("run", "daily-health-check", "--target", path))
    assert "other.toml" in said
    assert "hint: " in said


@pytest.mark.parametrize("case", MISTAKES[::5], ids=[case["mistake"] for case in MISTAKES[::5]])
def test_a_mistake_in_a_manifest(quiet: Quiet, refused: Callable[..., str], case: dict[str, str]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace(case["replace"], case["by"], 1)
    quiet.manifest.write_text(text, encoding="utf-8")
    said = refused(quiet.nvcops("run", "daily-health-check"))
    assert case["says"] in said
    assert "platform.toml:" in said


def test_no_manifest_at_all(quiet: Quiet, refused: Callable[..., str]) -> None:
    quiet.manifest.unlink()
    assert "nvcops init" in refused(quiet.nvcops("run", "daily-health-check"))


@pytest.mark.parametrize("kind", ["missing", "readable by others", "empty", "folder", "variable not set"])
def test_a_password_that_cannot_be_taken(quiet: Quiet, refused: Callable[..., str], kind: str) -> None:
    secret = quiet.nvcops.folder / "password"
    if kind in ("readable by others", "empty"):
        secret.write_text("t0p-secret\n" if kind != "empty" else "", encoding="utf-8")
        secret.chmod(0o644 if kind != "empty" else 0o600)
    elif kind == "folder":
        secret.mkdir(mode=0o700)
    line = 'password_env = "NO_SUCH_VARIABLE"' if kind == "variable not set" else 'password_file = "password"'
    quiet.write(('user = "watcher"', f'user = "watcher"\n{line}'))
    said = refused(quiet.nvcops("run", "daily-health-check"))
    assert "hint: " in said
    assert ("NO_SUCH_VARIABLE" if kind == "variable not set" else str(secret)) in said


@pytest.mark.parametrize("kind", ["missing", "no certificate"])
def test_an_authority_that_cannot_be_read(quiet: Quiet, refused: Callable[..., str], kind: str) -> None:
    if kind != "missing":
        (quiet.nvcops.folder / "ca.pem").write_text("nothing", encoding="utf-8")
    quiet.write(("[database]\n", 'ca_file = "ca.pem"\n\n[database]\n'))
    said = refused(quiet.nvcops("run", "daily-health-check"))
    assert "ca.pem" in said
    assert "platform.toml:" in said


def test_a_stranger_is_refused_and_that_is_evidence(quiet: Quiet, refused: Callable[..., str]) -> None:
    morning = json.loads(quiet.nvcops("run", "morning-health-check", "--json").stdout)["id"]
    stranger = quiet.nvcops.folder / "stranger.pub"
    stranger.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINKTHpRJMNIYv4mJboe7Q5A++37FHrEt5pZ2DU/GRdYk\n")
    words = ("attest", morning, "security-alerts-reviewed", "--note", "n", "--key", stranger)
    assert "not in the roster" in refused(quiet.nvcops(*words))
    assert quiet.nvcops("evidence", "export", "--run", morning, "--output", "bundle").returncode == 0
    said = (quiet.nvcops.folder / "bundle").read_bytes()
    assert said.count(b'"kind":"refusal"') == 1
    assert b"stranger.pub is not in the roster" in said
