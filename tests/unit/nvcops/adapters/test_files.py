"""What an operator can get wrong around platform.toml is one sentence with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.adapters.files import load_manifest, read_secret, secret, secrets
from nvcops.core.errors import ManifestError

TEXT = """[platform]
name = "shop"
title = "Shop"
state = "state"

[[services]]
name = "web"
url = "http://127.0.0.1:1"
{service}

[database]
name = "shop"
user = "nvcops"
{database}
primary = {{ name = "db-1", host = "127.0.0.1" }}

[evidence]
origin = "shop.example.com/operations"
"""


def manifest(folder: Path, *, service: str = "", database: str = "") -> Path:
    path = folder / "platform.toml"
    path.write_text(TEXT.format(service=service, database=database), encoding="utf-8")
    return path


def password(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "password"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def test_a_good_manifest_is_read_with_its_files(tmp_path: Path) -> None:
    password(tmp_path, "s3cret\n", 0o400)
    loaded = load_manifest(manifest(tmp_path, database='password_file = "password"'))
    assert loaded.database is not None
    assert secret(loaded.database.password_file, None) == "s3cret"


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("s3cret", 0o640, "others may read it"),
        ("s3cret", 0o604, "others may read it"),
        ("\n", 0o600, "is empty"),
        (None, 0o600, "no such file"),
    ],
)
def test_a_password_file_is_looked_at_on_loading(tmp_path: Path, text: str | None, mode: int, says: str) -> None:
    if text is not None:
        password(tmp_path, text, mode)
    with pytest.raises(ManifestError, match=says) as error:
        load_manifest(manifest(tmp_path, database='password_file = "password"'))
    assert f"{tmp_path}/platform.toml:14: password_file:" in error.value.sentence
    assert error.value.hint
    assert "s3cret" not in str(error.value)


def test_authorities_are_looked_at_on_loading(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for name, says in (("ca.pem", "holds no certificates"), ("other.pem", "no such file")):
        with pytest.raises(ManifestError, match=says) as error:
            load_manifest(manifest(tmp_path, service=f'ca_file = "{name}"'))
        assert "platform.toml:9: ca_file:" in error.value.sentence


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "platform.toml"
    with pytest.raises(ManifestError, match="there is no file"):
        load_manifest(path)
    path.write_bytes(b'[platform]\nname = "caf\xe9"\n')
    with pytest.raises(ManifestError, match=r":2: this is not UTF-8"):
        load_manifest(path)
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ManifestError, match="larger than"):
        load_manifest(path)
    with pytest.raises(ManifestError, match="cannot be read: is a directory"):
        load_manifest(tmp_path)


def test_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_PASSWORD", raising=False)
    with pytest.raises(ManifestError, match="SHOP_PASSWORD is not set"):
        secret(None, "SHOP_PASSWORD")
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    assert secret(None, "SHOP_PASSWORD") == "s3cret"
    assert secret(None, None) is None


def test_a_password_is_its_first_line(tmp_path: Path) -> None:
    assert read_secret(password(tmp_path, "s3cret\r\nsecond\n")) == "s3cret"
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_secret(tmp_path / "password")


def test_what_is_secret_of_records_intake_and_contacts_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {
        "token": "a-token-of-the-api",
        "sms": "twilio://sid:gateway-passw0rd@from/to",
        "boss": "slack://T1/B2/C3",
        "beat": "https://h.example/uuid",
    }
    for name, text in held.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("RECORDS_PASSWORD", "of-the-records")
    written = manifest(tmp_path)
    more = """
[records]
host = "db-1.example.com"
password_env = "RECORDS_PASSWORD"

[alerts]
token_file = "token"

[watch]
heartbeat_url_file = "beat"

[[people]]
name = "dana"
full_name = "Dana"
roles = ["operator"]
contacts = [{ kind = "sms", url_file = "sms" }]

[[contacts]]
name = "cto"
title = "CTO"
kind = "management"
contacts = [{ kind = "chat", url_file = "boss" }]
"""
    written.write_text(written.read_text() + more)
    assert {*held.values(), "of-the-records", "gateway-passw0rd"} <= set(secrets(load_manifest(written)))
    (tmp_path / "sms").chmod(0o644)
    with pytest.raises(ManifestError, match=r"platform.toml:\d+: url_file: .*others may read it"):
        load_manifest(written)
