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
    from collections.abc import Iterable, Mapping

    from nvclab.bank_data import House

_DEFAULT = "quick"
_OWNER = ("secrets", "owner.url")
APPLIED = "SELECT name, sha256 FROM bank.applied_migration ORDER BY number"
# A lab lives for minutes, and its customers are few: what a bank proves in an hour must be said in a minute.
_ANALYSIS: Mapping[str, Any] = {"warm_up": "3 s", "time_limit": "90 s", "interval": "1 s", "edges": [], "prove": []}
_TIMES = {"rollback_window": "2 min", "ready_within": "25 s", "drain_within": "10 s"}
# A bank whose requests do not fail, and that answers within milliseconds, proves nothing in a minute: who wants the
# canary's verdict in a lab gives both releases a share of errors (`nvclab release good errors=0.02`).
_QUICK = (("set_weight", 10), ("pause", "3 s"), ("set_weight", 50), ("pause", "3 s"))
_ELSEWHERE = ("delivery.hosts", "delivery.aws", "delivery.stages")


def without(text: str, *tables: str) -> str:
    r"""A platform.toml without some tables and what is below them; the headings stay.

    >>> without("[a]\nx = 1\n[a.b]\ny = 1\n# --- c ---\n[[c]]\nz = 1\n", "a")
    '# --- c ---\n[[c]]\nz = 1\n'
    """
    kept, dropped = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith(("[", "# ---")):
            name = line.strip("[] \n").partition("]")[0]
            dropped = line.startswith("[") and any(name == one or name.startswith(f"{one}.") for one in tables)
        if not dropped:
            kept.append(line)
    return "".join(kept)


def template(text: str, record: Record) -> str:
    """The repository's platform.toml without what this lab does not have."""
    return without(text, *(_ELSEWHERE if has_slots(record) else ("delivery",)))


def fill(document: Any, layout: Layout, record: Record, house: House) -> None:
    """Say where this lab's slots and releases are; a lab without slots delivers nothing."""
    if not has_slots(record):
        return
    delivery = Delivery(layout)
    table = document.setdefault("delivery", tomlkit.table())
    table["service"] = document["services"][0]["name"]
    table["store"] = str(delivery.store.relative_to(layout.folder))
    table["root"] = str(delivery.root.relative_to(layout.folder))
    table["environments"] = str(delivery.environments.relative_to(layout.folder))
    table["state_file"] = "data/haproxy.state"
    table["backend"] = BACKEND
    table["applied"] = APPLIED
    table["migrate"] = _bank("migrate", "--kind", "{kind}", NVCBANK_ADMIN_URL_FILE=str(layout.at(*_OWNER)))
    table["self_test"] = _self_test(house)
    table.update(_TIMES)
    table["spare"] = _rows({"name": name, "url": f"http://127.0.0.1:{record.ports[name]}"} for name in SPARE)
    table["builders"] = _rows([{"name": BUILDER, "key": delivery.builder()}])
    table["default"] = _DEFAULT
    table.setdefault("analysis", tomlkit.table()).update(_ANALYSIS)
    strategies = table.setdefault("strategies", tomlkit.aot())
    strategies.insert(0, tomlkit.item({"name": _DEFAULT, "steps": _rows({key: value} for key, value in _QUICK)}))


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


def _rows(rows: Iterable[Mapping[str, Any]]) -> tomlkit.items.Array:
    """Tables, one in a line each."""
    array = tomlkit.array().multiline(multiline=True)
    for row in rows:
        inline = tomlkit.inline_table()
        inline.update(row)
        array.append(inline)
    return array
