"""`nvcops release ...` as a person or a pipeline calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nvcops.cli.app import nvcops
from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError, ManifestError, NotAllowed, NotFoundError, UsageError
from release_world import World, write_key

TEXT = """
[platform]
name = "shop"
title = "Shop"
time_zone = "Europe/Berlin"
state = "state"
[evidence]
origin = "shop.example.com/operations"
[[services]]
name = "shop"
url = "http://127.0.0.1:1"
version = "/version"
instances = [{instances}]
"""
DELIVERY = """
[delivery]
service = "shop"
store = "releases"
builders = [{{ name = "lab", key = "{key}" }}]
spare = [{spare}]
[[delivery.hosts]]
slots = ["shop-1", "shop-2", "shop-3", "shop-4", "spare-1", "spare-2"]
address = "ops@shop.example.com"
root = "/srv/shop"
"""
Call = Callable[..., Result]


def slots(word: str, count: int) -> str:
    return ", ".join(f'{{ name = "{word}-{n}", url = "http://127.0.0.1:{n}" }}' for n in range(1, count + 1))


@pytest.fixture
def platform(lab: World) -> Path:
    path = lab.folder / "platform.toml"
    delivery = DELIVERY.format(key=lab.store.builders[0].key, spare=slots("spare", 2))
    path.write_text(TEXT.format(instances=slots("shop", 4)) + delivery)
    return path


@pytest.fixture
def call(platform: Path) -> Call:
    def run(*arguments: object) -> Result:
        given = ["release", *map(str, arguments), "--target", str(platform)]
        return CliRunner().invoke(nvcops, given, standalone_mode=False)

    return run


@pytest.fixture
def build(call: Call, lab: World) -> Call:
    def run(version: str, *more: object) -> Result:
        return call("build", lab.source, "--package", "shop", "--version", version, "--key", lab.key, *more)

    return run


def said(result: Result) -> Any:
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def test_a_release_is_built_listed_verified_and_shown(build: Call, call: Call) -> None:
    assert "nothing was built yet" in call("list").stdout
    assert "there is no release to verify" in call("verify").stdout
    first = said(build("1.0", "--json"))
    assert first["fresh"]
    again = build("1.0")
    assert "was built before: shop 1.0" in again.stdout
    assert first["release"]["digest"] in again.stdout
    assert "… reading" in again.stderr
    assert [one["version"] for one in said(call("list", "--json"))["releases"]] == ["1.0"]
    assert first["release"]["digest"][:16] in call("list").stdout
    verified = call("verify", "1.0")
    assert verified.return_value == Verdict.OK
    assert "signed by lab" in verified.stdout
    shown = call("show", first["release"]["digest"][:8]).stdout
    assert "alpha 1.2.3  licence not known" in shown
    assert "migrations   2, the last is 0002_contract_goods.sql" in shown
    assert "against" not in shown


def test_what_a_release_brings_is_shown_against_the_one_before(build: Call, call: Call, lab: World) -> None:
    build("1.0")
    (lab.source / "shop" / "new.py").write_text("")
    (lab.source / "shop" / "migrations" / "0003_contract_more.sql").write_text("")
    lock = lab.source / "requirements.txt"
    lock.write_text(lock.read_text().replace("alpha==1.2.3", "alpha==1.3.0"))
    build("1.1")
    shown = call("show", "1.1").stdout
    assert "against 1.0" in shown
    assert "~ alpha 1.2.3 -> 1.3.0" in shown
    assert "+ 0003_contract_more.sql, which removes what the other release may need" in shown
    assert "2 new files, 0 changed, 0 removed" in shown
    back = said(call("show", "1.0", "--against", "1.1", "--json"))
    assert back["difference"]["withdrawn"] == ["0003_contract_more.sql"]
    assert back["statement"]["predicateType"] == "https://slsa.dev/provenance/v1"
    assert back["statement"]["_type"] == "https://in-toto.io/Statement/v1"


def test_what_does_not_verify_is_said_and_decides_the_exit_code(build: Call, call: Call, lab: World) -> None:
    one, other = (said(build(version, "--json"))["release"]["digest"] for version in ("1.0", "1.1"))
    artifact = bytearray(lab.artifact(one).read_bytes())
    artifact[len(artifact) // 2] ^= 4
    lab.artifact(one).write_bytes(artifact)
    everything = call("verify")
    assert everything.return_value == Verdict.CRITICAL
    assert f"✗ the artifact {one[:16]} was changed" in everything.stdout
    assert f"✓ {other[:16]}" in everything.stdout
    assert call("verify", "1.1").return_value == Verdict.OK
    assert call("list").return_value == Verdict.OK  # what was signed of it still fits
    assert isinstance(call("show", "1.0").exception, EvidenceError)
    os.truncate(lab.artifact(one), 10)
    listed = call("list")
    assert listed.return_value == Verdict.WARNING
    assert "passed over: the artifact" in listed.stderr
    assert call("verify").return_value == Verdict.CRITICAL
    assert said(call("verify", "--json"))["troubles"][0].startswith(f"the artifact {one[:16]} has 10 bytes")


def test_what_cannot_be_built_is_one_sentence(build: Call, call: Call, lab: World) -> None:
    write_key(lab.folder / "mallory")
    refused = call("build", lab.source, "--package", "shop", "--version", "1", "--key", lab.folder / "mallory")
    assert isinstance(refused.exception, NotAllowed)
    assert isinstance(build("../1").exception, UsageError)
    assert isinstance(build("1", "--lock", "missing.txt").exception, UsageError)
    assert isinstance(build("1", "--revision", "main").exception, UsageError)
    assert isinstance(call("show", "9.9").exception, NotFoundError)
    assert isinstance(call("verify", "9.9").exception, NotFoundError)
    assert not lab.store.folder.exists()


def test_a_platform_without_delivery_says_so(call: Call, platform: Path) -> None:
    platform.write_text(platform.read_text().partition("[delivery]")[0])
    error = call("list").exception
    assert isinstance(error, ManifestError)
    assert "has no [delivery]" in error.sentence


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_the_revision_is_the_commit_and_says_what_was_changed_since(build: Call, lab: World) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Dana", "-c", "user.email=dana@example.com", "-c", "init.defaultBranch=main"]
        argv = ["git", *who, "-C", str(lab.source), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    git("init", "-q")
    assert isinstance(build("1.0").exception, UsageError)  # there is no commit yet
    git("add", ".")
    git("commit", "-q", "-m", "A shop")
    commit = git("rev-parse", "HEAD")
    (lab.source / "notes.txt").write_text("not part of it")
    assert said(build("1.0", "--json"))["release"]["revision"] == commit
    (lab.source / "shop" / "more.py").write_text("")
    assert said(build("1.1", "--json"))["release"]["revision"] == f"{commit}-dirty"
    assert said(build("1.2", "--json", "--revision", ""))["release"]["revision"] == ""
    assert said(build("1.3", "--json", "--revision", "a" * 40))["release"]["revision"] == "a" * 40
