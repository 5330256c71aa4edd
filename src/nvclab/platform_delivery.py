"""The part of the lab's platform.toml that says how the bank is delivered: slots, builders, programs, quick times."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import tomlkit

from nvclab.delivery import ALONE, BUILDER, Delivery
from nvclab.layout import SPARE, Layout, Record
from nvclab.parts.haproxy import BACKEND

if TYPE_CHECKING:
    from nvclab.bank_data import House

APPLIED = "SELECT name, sha256 FROM bank.applied_migration ORDER BY number"
# A lab lives for minutes, and its customers are few: what a bank proves in an hour must be said in a minute.
_ANALYSIS = {"warm_up": "3 s", "time_limit": "60 s", "interval": "1 s"}
_TIMES = {"rollback_window": "2 min", "ready_within": "25 s", "drain_within": "10 s"}


def fill(document: Any, layout: Layout, record: Record, house: House) -> None:
    """Say where this lab's slots and releases are; a lab without slots delivers nothing."""
    document.pop("delivery", None)
    if not has_slots(record):
        return
    delivery = Delivery(layout)
    table = tomlkit.table()
    table["service"] = document["services"][0]["name"]
    table["store"] = str(delivery.store.relative_to(layout.folder))
    table["root"] = str(delivery.root.relative_to(layout.folder))
    table["environments"] = str(delivery.environments.relative_to(layout.folder))
    table["state_file"] = "data/haproxy.state"
    table["backend"] = BACKEND
    table["applied"] = APPLIED
    table["migrate"] = _bank(
        "migrate", "--kind", "{kind}", NVCBANK_ADMIN_URL_FILE=str(layout.at("secrets", "owner.url"))
    )
    table["self_test"] = _self_test(house)
    table.update(_TIMES)
    table["spare"] = _tables({"name": name, "url": f"http://127.0.0.1:{record.ports[name]}"} for name in SPARE)
    table["builders"] = _tables([{"name": BUILDER, "key": delivery.builder()}])
    analysis = tomlkit.table()
    analysis.update(_ANALYSIS)
    table["analysis"] = analysis
    document["delivery"] = table


def has_slots(record: Record) -> bool:
    """Whether the lab was started with them."""
    return SPARE[0] in record.ports


def _self_test(house: House) -> list[str]:
    words = ["self-test", "--url", "{url}", "--login", house.login, "--currency", house.currency]
    words += ["--from-account", str(house.account), "--to-account", str(house.other)]
    return _bank(*words, NVCBANK_SELF_TEST_PASSWORD_FILE=str(house.password_file))


def _bank(*words: str, **environment: str) -> list[str]:
    """A command of the release's own bank, told what it needs."""
    told = {"PYTHONPATH": "{release}/app", **environment}
    env = shutil.which("env") or "env"
    return [env, *(f"{name}={value}" for name, value in told.items()), sys.executable, *ALONE, "-m", "nvcbank", *words]


def _tables(rows: Any) -> tomlkit.items.AoT:
    tables = tomlkit.aot()
    for row in rows:
        tables.append(tomlkit.item(row))
    return tables
