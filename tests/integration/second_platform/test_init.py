from __future__ import annotations

import json
import subprocess
import tomllib
from typing import TYPE_CHECKING

from nvclab.parts import valkey

if TYPE_CHECKING:
    from tests.integration.second_platform.conftest import Shop


def notes(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    return {note["part"]: note for note in json.loads(ended.stdout)["notes"]}


def test_it_finds_a_shop_that_is_not_ours(shop: Shop) -> None:
    ended = shop.init("--name", "tickets")
    assert ended.returncode == 0, ended.stderr
    written = tomllib.loads(shop.manifest.read_text(encoding="utf-8"))
    (service,) = written["services"]
    assert (service["ready"], service["version"], service["metrics"]) == ("/health", "/version", "/metrics")
    assert service["series"] == {
        "requests": "shop_requests_total",
        "status_label": "code",
        "latency": "shop_request_duration_seconds",
        "outcomes": "shop_orders_total",
        "outcome_label": "result",
        "outcome_title": "orders",
    }
    assert service["events"]["sign_in_failures"] == ["shop.login.wrong_password"]
    assert service["events"]["subject"] == "customer"
    assert written["database"]["log"].endswith("log/postgresql.json")
    assert [disk["path"] for disk in written["disks"]] == [str(shop.database.data)]
    (person,) = written["people"]
    assert person["name"] == "dana"
    assert person["ssh_keys"][0].startswith("ssh-ed25519 ")
    assert "it could also be shop_mails_total" in ended.stdout
    assert f"next     nvcops run daily-health-check --target {shop.manifest}" in ended.stdout


def test_no_secret_is_written_or_printed(shop: Shop) -> None:
    ended = shop.init("--json")
    everything = ended.stdout + ended.stderr + shop.manifest.read_text(encoding="utf-8")
    assert "t0p-secret" not in everything
    assert "shop-pw" not in everything
    assert "PRIVATE KEY" not in everything
    assert f'password_file = "{shop.folder / "watcher.password"}"' in everything


def test_a_second_time_needs_force(shop: Shop) -> None:
    shop.init()
    shop.manifest.write_text("mine", encoding="utf-8")
    again = shop.init()
    assert again.returncode == 3
    assert "exists already" in again.stderr
    assert shop.manifest.read_text(encoding="utf-8") == "mine"
    assert shop.init("--force").returncode == 0
    assert "[[services]]" in shop.manifest.read_text(encoding="utf-8")
    assert not list(shop.folder.glob(".platform.toml*"))


def test_what_is_missing_is_said_with_what_to_do(shop: Shop) -> None:
    shop.sql("REVOKE pg_monitor FROM watcher")
    shop.sql("DROP EXTENSION pg_stat_statements")
    shop.database.reload(log_destination="stderr")
    said = notes(shop.init("--json", "--cache", "valkey://127.0.0.1:1/0", "--proxy-socket", "/nowhere.sock"))
    assert said["privileges"]["hint"] == 'GRANT pg_monitor TO "watcher"'
    assert "CREATE EXTENSION" in str(said["pg_stat_statements"]["hint"])
    for part in ("privileges", "pg_stat_statements", "database log", "disk", "cache", "proxy"):
        assert not said[part]["found"], part
        assert said[part]["hint"], part
    written = tomllib.loads(shop.manifest.read_text(encoding="utf-8"))
    assert not {"cache", "proxy", "disks"} & written.keys()


def test_half_a_platform_is_better_than_none(shop: Shop) -> None:
    shop.process.stop()
    ended = shop.init()
    assert ended.returncode == 0
    written = tomllib.loads(shop.manifest.read_text(encoding="utf-8"))
    assert "services" not in written
    assert "database" in written
    assert "does not answer: connection refused" in shop.manifest.read_text(encoding="utf-8")


def test_a_shop_without_its_database_is_written_with_the_path_that_says_so(shop: Shop) -> None:
    shop.database.stop()
    ended = shop.init("--json")
    assert ended.returncode == 0
    assert "/health answers 503" in str(notes(ended)["service"]["text"])
    assert not notes(ended)["database"]["found"]


def test_a_wrong_password_is_said_and_not_repeated(shop: Shop) -> None:
    wrong = shop.folder / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("wr0ng-secret\n", encoding="utf-8")
    where = f"postgresql://watcher@127.0.0.1:{shop.database.port}/tickets"
    ended = shop.nvcops("init", "--database", where, "--database-password-file", wrong)
    assert ended.returncode == 3
    assert "password authentication failed" in ended.stderr
    assert "wr0ng-secret" not in ended.stdout + ended.stderr
    assert not shop.manifest.exists()


def test_a_cache_is_found(shop: Shop) -> None:
    with valkey.temporary() as cache:
        ended = shop.init("--json", "--cache", f"valkey://127.0.0.1:{cache.port}/0")
    assert str(notes(ended)["cache"]["text"]).startswith("Valkey ")
    assert tomllib.loads(shop.manifest.read_text(encoding="utf-8"))["cache"]["url"].endswith("/0")
