from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nvcops.adapters.discovery.found import Wishes
from nvcops.cli.init import _suggested_name, init
from nvcops.core.errors import NvcopsError, StateError, Unreachable, UsageError
from nvcops.core.manifest import DatabaseEntry, Server

NOWHERE = "http://127.0.0.1:1"


def refused(folder: Path, *flags: str) -> NvcopsError:
    """The error with which `init` ends; nothing is written."""
    before = sorted(folder.iterdir())
    ended = CliRunner().invoke(init, ["--output", str(folder / "platform.toml"), *flags])
    assert isinstance(ended.exception, NvcopsError), ended.output
    assert sorted(folder.iterdir()) == before
    return ended.exception


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "nothing to ask"),
        (["--service", "shop.example.com"], "--service takes an address like"),
        (["--service", "ftp://shop.example.com"], "--service takes an address like"),
        (["--service", "http://shop:port"], "--service takes an address like"),
        (["--service", "http://shop/?a=b"], "without ?"),
        (["--service", NOWHERE, "--instance", "one"], "--instance takes NAME=URL"),
        (["--service", NOWHERE, "--instance", "One=http://x"], "not 'One'"),
        (["--service", NOWHERE, "--name", "The Shop"], "not 'The Shop'"),
        (["--service", NOWHERE, "--person", "Dana Whitfield"], "not 'Dana Whitfield'"),
        (["--service", NOWHERE, "--ca-file", "/nowhere/ca.pem"], "/nowhere/ca.pem is not there"),
        (["--service", NOWHERE, "--cache", "http://cache"], "--cache takes an address like"),
        (["--database", "mysql://db/shop"], "--database takes an address like"),
        (["--database", "postgresql://db/shop?sslmode=require"], "parameters after ?"),
    ],
)
def test_a_wrong_flag_is_said_in_a_sentence(tmp_path: Path, flags: list[str], says: str) -> None:
    error = refused(tmp_path, *flags)
    assert isinstance(error, UsageError)
    assert says in error.sentence
    assert error.hint


@pytest.mark.parametrize(
    ("flag", "address"),
    [
        ("--database", "postgresql://nvcops:t0p-secret@db/shop"),
        ("--cache", "valkey://:t0p-secret@cache:6379/0"),
        ("--service", "http://nvcops:t0p-secret@shop"),
        ("--service", "t0p-secret"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path, flag: str, address: str) -> None:
    error = refused(tmp_path, *(["--service", NOWHERE] if flag != "--service" else []), flag, address)
    assert isinstance(error, UsageError)
    assert "t0p-secret" not in error.sentence + error.hint


def test_nothing_that_answers_means_no_file(tmp_path: Path) -> None:
    error = refused(tmp_path, "--service", NOWHERE, "--database", "postgresql://nvcops@127.0.0.1:1/shop")
    assert isinstance(error, Unreachable)
    assert error.sentence.count("does not answer") == 2
    assert error.exit_code == 3


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "platform.toml"
    path.write_text("mine", encoding="utf-8")
    error = refused(tmp_path, "--service", NOWHERE)
    assert "exists already" in error.sentence
    assert "--force" in error.hint
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_not_there_is_said_before_anybody_is_asked(tmp_path: Path) -> None:
    ended = CliRunner().invoke(init, ["--service", NOWHERE, "--output", str(tmp_path / "no" / "platform.toml")])
    assert isinstance(ended.exception, UsageError)
    assert "is not there" in ended.exception.sentence


@pytest.mark.parametrize("kind", ["missing", "open", "empty"])
def test_a_password_file_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "password"
    if kind != "missing":
        secret.write_text("t0p-secret\n" if kind == "open" else "", encoding="utf-8")
        secret.chmod(0o644 if kind == "open" else 0o600)
    error = refused(
        tmp_path, "--database", "postgresql://nvcops@127.0.0.1:1/shop", "--database-password-file", str(secret)
    )
    assert str(secret) in error.sentence
    assert "t0p-secret" not in error.sentence + error.hint
    assert error.exit_code == 3


@pytest.mark.parametrize(
    ("service", "database", "name"),
    [
        ("https://shop.example.com:8443", "", "shop"),
        ("http://127.0.0.1:80", "Ticket_Office", "ticket-office"),
        ("http://localhost", "", "platform"),
        ("http://[::1]:80", "", "platform"),
    ],
)
def test_the_platform_is_named_after_its_address(service: str, database: str, name: str) -> None:
    entry = DatabaseEntry(name=database, user="u", primary=Server(name="db", host="h")) if database else None
    assert _suggested_name(Wishes(service=service, database=entry)) == name


def test_a_disk_without_room_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvcops.cli.init import _write

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateError, match="no space left on device"):
        _write(tmp_path / "platform.toml", "text", force=False)
    assert not list(tmp_path.iterdir())
