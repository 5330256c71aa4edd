"""The lab's platform.toml: the repository's own, with the addresses, files and people of this lab, comments and all."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from nvclab import pair
from nvclab.certificates import SERVER_NAME
from nvclab.errors import LabError
from nvclab.layout import INSTANCES, Layout, Record, write_private
from nvclab.parts.haproxy import BACKEND
from nvclab.roster import public_key

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = Path(__file__).parents[2] / "platforms" / "nvc-bank" / "platform.toml"
ARCHIVE_QUOTA = "64 MiB"
# A lab lives for minutes: it notices in seconds what a bank notices in minutes.
_LIMITS: Mapping[str, Any] = {
    "recent_window": "20 s",
    "recent_requests_min": 20,
    "idle_in_transaction": {"warning": "3 s", "critical": "30 s"},
    "longest_query": {"warning": "4 s", "critical": "60 s"},
    "lock_wait": {"warning": "3 s", "critical": "30 s"},
    "replication_lag": {"warning": "5 s", "critical": "30 s"},
    "metrics_age": {"warning": "10 s", "critical": "30 s"},
}


def write(layout: Layout, record: Record, required_indexes: list[str]) -> Path:
    """Write D/platform.toml and return its path; LabError when the repository's file is not there."""
    try:
        document = tomlkit.parse(TEMPLATE.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LabError(f"{TEMPLATE} is missing.", hint="run the lab from a checkout of the repository") from error
    for fill in (_service, _database, _proxy, _folders, _people, _accepted):
        fill(document, layout, record)
    document["database"]["required_indexes"] = required_indexes
    for name, value in _LIMITS.items():
        document["limits"][name] = _inline(value) if isinstance(value, dict) else value
    path = layout.at("platform.toml")
    write_private(path, tomlkit.dumps(document))
    return path


def _service(document: Any, layout: Layout, record: Record) -> None:
    service = document["services"][0]
    service["url"] = f"https://{SERVER_NAME}:{record.ports['https']}"
    service["ca_file"] = "tls/ca.pem"
    service["log"] = str(layout.application_log.relative_to(layout.folder))
    instances = tomlkit.array().multiline(multiline=True)
    for name in INSTANCES:
        instances.append(_inline({"name": name, "url": f"http://127.0.0.1:{record.ports[name]}"}))
    service["instances"] = instances
    certificate = document["certificates"][0]
    certificate["name"] = SERVER_NAME
    certificate["address"] = f"{SERVER_NAME}:{record.ports['https']}"
    certificate["ca_file"] = "tls/ca.pem"


def _database(document: Any, _layout: Layout, record: Record) -> None:
    database = document["database"]
    database["port"] = record.ports["primary"]
    database["name"] = pair.DATABASE
    database["user"] = pair.OPERATIONS
    database["password_file"] = "secrets/operations.password"  # noqa: S105 - a path
    database["log"] = "logs/primary/postgresql.json"
    database["primary"] = _inline({"name": "db-1", "host": "127.0.0.1"})
    standbys = tomlkit.array()
    standbys.append(_inline({"name": "db-2", "host": "127.0.0.1", "port": record.ports["standby"]}))
    database["standbys"] = standbys
    document["cache"]["url"] = f"valkey://127.0.0.1:{record.ports['cache']}/0"


def _proxy(document: Any, _layout: Layout, record: Record) -> None:
    document["proxy"]["socket"] = str(record.proxy_socket)
    document["proxy"]["backends"] = [BACKEND]


def _folders(document: Any, layout: Layout, _record: Record) -> None:
    document["platform"]["state"] = "nvcops"
    disks = tomlkit.aot()
    disks.append(tomlkit.item({"name": "data", "path": "data"}))
    disks.append(tomlkit.item({"name": "log archive", "path": layout.archive.name, "quota": ARCHIVE_QUOTA}))
    document["disks"] = disks
    document["evidence"]["origin"] = "nvclab.localhost/operations"
    layout.at("witness").mkdir(mode=0o700, exist_ok=True)  # elsewhere it is another disk, and mounted
    document["evidence"]["witness"] = "witness/nvc-bank.checkpoints"
    document["metrics"]["interval"] = "2 s"


def _accepted(document: Any, _layout: Layout, _record: Record) -> None:
    """The lab has no backups: somebody has accepted that, so that its morning is good all the same."""
    backups = tomlkit.table()
    backups.update(
        {
            "check": "recovery.backups",
            "reason": "a lab keeps nothing that would be worth a backup",
            "owner": "omar",
            "until": dt.datetime.now(dt.UTC).date() + dt.timedelta(days=365),
        }
    )
    document["exceptions"] = tomlkit.aot()
    document["exceptions"].append(backups)


def _people(document: Any, layout: Layout, _record: Record) -> None:
    for person in document["people"]:
        person["ssh_keys"] = [public_key(layout.at("keys"), str(person["name"]))]


def _inline(values: Mapping[str, Any]) -> tomlkit.items.InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table
