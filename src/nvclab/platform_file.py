"""The lab's platform.toml: the repository's own, with the addresses, files and people of this lab, comments and all."""

from __future__ import annotations

import base64
import pwd
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from nvclab import database_roles, platform_delivery
from nvclab.certificates import SERVER_NAME
from nvclab.cluster import HOSTS, SCOPE
from nvclab.errors import LabError
from nvclab.layout import INSTANCES, OPERATIONS, Layout, Record, write_private
from nvclab.parts.account import NOBODY, is_root
from nvclab.parts.haproxy import BACKEND
from nvclab.parts.postgres import ADMINISTRATOR
from nvclab.parts.postgres_binaries import find_binaries
from nvclab.release import lay
from nvclab.roster import public_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvclab.bank_data import House

_CHECKOUT = Path(__file__).parents[2]
TEMPLATE = _CHECKOUT / "platforms" / "nvc-bank" / "platform.toml"
INVARIANTS = _CHECKOUT / "src" / "nvcbank" / "books.sql"
IMPACT = INVARIANTS.with_name("impact.sql")
# The customers' keys begin with the payer's account; the ledger knows a key by the digest of payer and key.
SETTLED = """
SELECT asked.key
FROM unnest(%(keys)s::text[]) AS asked (key)
JOIN bank.account a ON a.id = substring(asked.key FROM '^([0-9]{1,18})[.]')::bigint
JOIN bank.transfer t
    ON t.idempotency_key = substring(sha256(convert_to(a.customer_id || ' ' || asked.key, 'UTF8')) FOR 16)
WHERE t.outcome = 'settled'
"""
ARCHIVE_QUOTA = "64 MiB"
_CHANNELS = ("push", "email")
_SLOW = "500 ms"
_ROUTING_FILE = "alertmanager.yml"
# As nvcops routes where no file says, but for the times: a lab says within seconds what a bank says after minutes.
_ROUTING = """\
route:
  receiver: {policy}
  group_by: [alertname, service]
  group_wait: 3s
  group_interval: 5s
  repeat_interval: 4h
  routes:
    - receiver: {policy}
      matchers: ['category="critical"']
      group_wait: 0s
receivers:
  - name: {policy}
inhibit_rules:
  - source_matchers: ['category="critical"']
    target_matchers: ['category=~"high|medium|low"']
    equal: [alertname, service, instance, probe, slo]
"""
# A lab lives for minutes: it notices in seconds what a bank notices in minutes.
_LIMITS: Mapping[str, Any] = {
    "recent_window": "20 s",
    "recent_requests_min": 20,
    "idle_in_transaction": {"warning": "3 s", "critical": "30 s"},
    "longest_query": {"warning": "4 s", "critical": "60 s"},
    "lock_wait": {"warning": "3 s", "critical": "30 s"},
    "replication_lag": {"warning": "5 s", "critical": "30 s"},
    "metrics_age": {"warning": "10 s", "critical": "30 s"},
    "archive_lag": {"warning": "10 s", "critical": "60 s"},
}


def write(layout: Layout, record: Record, required_indexes: list[str], house: House) -> Path:
    """Write D/platform.toml and return its path; LabError when the repository's file is not there."""
    try:
        document = tomlkit.parse(platform_delivery.template(TEMPLATE.read_text(encoding="utf-8"), record))
    except FileNotFoundError as error:
        raise LabError(f"{TEMPLATE} is missing.", hint="run the lab from a checkout of the repository") from error
    for fill in (_service, _database, _proxy, _folders, _people, _backups, _recovery, _control, _cluster, _alerts):
        fill(document, layout, record)
    document["database"]["required_indexes"] = required_indexes
    document["watch"]["probes"] = _probes(str(document["services"][0]["name"]), layout, house)
    for name, value in _LIMITS.items():
        document["limits"][name] = _inline(value) if isinstance(value, dict) else value
    platform_delivery.fill(document, layout, record, house)
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
    database["name"] = database_roles.DATABASE
    database["user"] = database_roles.OPERATIONS
    database["password_file"] = _secret("operations")
    database["log"] = f"logs/{'db-1' if _is_cluster(record) else 'primary'}/postgresql.json"
    database["primary"] = _inline({"name": "db-1", "host": "127.0.0.1"})
    standbys = tomlkit.array()
    standbys.append(_inline({"name": "db-2", "host": "127.0.0.1", "port": record.ports["standby"]}))
    database["standbys"] = standbys
    upkeep = database["upkeep"]
    upkeep["user"] = database_roles.UPKEEP
    upkeep["password_file"] = _secret("upkeep")
    del upkeep["window"]
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


def _backups(document: Any, layout: Layout, _record: Record) -> None:
    backups = document["backups"]
    backups["repository"] = str(layout.at("backups"))
    backups["user"] = database_roles.BACKUP
    backups["password_file"] = _secret("backup")
    backups["superuser"] = ADMINISTRATOR
    backups["binaries"] = str(find_binaries().folder)
    if is_root():
        backups["account"] = pwd.getpwuid(NOBODY).pw_name
    backups["key_file"] = _key_file(layout)
    backups["application"] = str(lay(layout.at("releases")).parent)
    backups["configuration"] = [
        "platform.toml",
        "data/haproxy.cfg",
        "tls/ca.pem",
        "tls/bank.pem",
        "secrets/service.url",
    ]
    backups["configuration_secrets"] = ["*.key", "*.pem", "*.password", "*.url"]


def _recovery(document: Any, layout: Layout, record: Record) -> None:
    recovery = document["recovery"]
    recovery["data"] = str(layout.at("data", "db-1", "data") if _is_cluster(record) else layout.at("data", "primary"))
    recovery["invariants"] = str(INVARIANTS)
    recovery["acknowledgements"]["journal"] = "customers/acknowledgements.jsonl"
    recovery["acknowledgements"]["query"] = tomlkit.string(SETTLED.lstrip(), multiline=True)


def _control(document: Any, layout: Layout, _record: Record) -> None:
    control = document["control"]
    for verb in ("start", "stop", "running", "rebuild"):
        control[verb] = _program(layout, "part", verb, "{name}")
    for key, verb in (("fence", "fence"), ("break_host", "{kind}"), ("mend_host", "mend")):
        control[key] = _program(layout, "host", verb, "{name}")
    control["deadline"] = "90 s"


def _cluster(document: Any, _layout: Layout, record: Record) -> None:
    if not _is_cluster(record):
        return
    cluster = tomlkit.table()
    cluster["scope"] = SCOPE
    members = tomlkit.array().multiline(multiline=True)
    for host in HOSTS:
        members.append(_inline({"name": host, "url": f"http://127.0.0.1:{record.ports[f'{host} rest']}"}))
    cluster["members"] = members
    cluster["etcd"] = [f"http://127.0.0.1:{record.ports['etcd']}"]
    cluster["guard"] = True
    document["cluster"] = cluster


def _is_cluster(record: Record) -> bool:
    return "etcd" in record.ports


def _program(layout: Layout, *words: str) -> list[str]:
    return [sys.executable, "-m", "nvclab", *words, "--dir", str(layout.folder)]


def _secret(name: str) -> str:
    return f"secrets/{name}.password"


def _key_file(layout: Layout) -> str:
    """The key that encrypts backups: 32 bytes as base64, made once."""
    path = layout.at("secrets", "backup.key")
    if not path.exists():
        write_private(path, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    return str(path.relative_to(layout.folder))


def _people(document: Any, layout: Layout, record: Record) -> None:
    """Everybody who can be woken has two channels at the pager: the second is for when the first fails."""
    for person in document["people"]:
        person["ssh_keys"] = [public_key(layout.at("keys"), str(person["name"]))]
    for somebody in (*document["people"], *document["contacts"]):
        channels = tomlkit.array().multiline(multiline=True)
        for kind in _CHANNELS:
            url = f"json://127.0.0.1:{record.ports['pager']}/{somebody['name']}/{kind}"
            channels.append(_inline({"kind": kind, "url": url}))
        somebody["contacts"] = channels


def _alerts(document: Any, layout: Layout, record: Record) -> None:
    for objective in document["slos"]:
        if objective["indicator"] == "latency":
            objective["threshold"] = _SLOW  # a lab shares its two cores with all that looks at it
    policy = document["oncall"]["policies"][0]["name"]
    write_private(layout.at(_ROUTING_FILE), _ROUTING.format(policy=policy))
    document["alerts"]["routing"] = _ROUTING_FILE
    document["alerts"]["listen"] = f"127.0.0.1:{record.ports[OPERATIONS]}"
    document["incidents"]["status_page"] = "status"
    document["incidents"]["impact"] = str(IMPACT)
    if (_CHECKOUT / ".git").exists():
        document["incidents"]["repository"] = str(_CHECKOUT)


def _probes(service: str, layout: Layout, house: House) -> tomlkit.items.AoT:
    """What the bank's own customer does each second: pays, and looks at the account's entries."""
    paid = {"from_account": house.account, "to_account": house.other, "amount": 1, "currency": house.currency}
    pay = {
        "path": "/v1/payments",
        "body": {**paid, "reference": "synthetic"},
        "expect": 201,
        "answer": {"status": "settled"},
    }
    look = {"path": f"/v1/accounts/{house.account}/entries?limit=1"}
    probes = tomlkit.aot()
    probes.append(_as_customer(("payments", service), pay, layout, house))
    probes.append(_as_customer(("statements", service), look, layout, house, signal="partial-outage"))
    return probes


def _as_customer(
    names: tuple[str, str], step: dict[str, Any], layout: Layout, house: House, **labels: str
) -> tomlkit.items.Table:
    name, service = names
    table = tomlkit.table()
    table.update({"name": name, "kind": "payment", "service": service, "category": "critical"})
    if labels:
        table["labels"] = _inline(labels)
    options = tomlkit.table()
    sign_in = {"path": "/v1/sessions", "body": {"login": house.login, "password": "{password}"}, "expect": 201}
    options["password_file"] = str(house.password_file.relative_to(layout.folder))
    options["sign_in"] = _inline(sign_in)
    steps = tomlkit.array()
    steps.append(_inline(step))
    options["steps"] = steps
    options.add(tomlkit.nl())
    table["options"] = options
    return table


def _inline(values: Mapping[str, Any]) -> tomlkit.items.InlineTable:
    """A table in one line, and what stands in it."""
    table = tomlkit.inline_table()
    table.update({key: _inline(value) if isinstance(value, dict) else value for key, value in values.items()})
    return table
