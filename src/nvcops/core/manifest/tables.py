"""`platform.toml` as types. The commented example, platforms/nvc-bank/platform.toml, is their documentation."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from nvcops.core.manifest.base import Bound, CacheUrl, HostAndPort, HttpPath, Name, Repository, Table, Url
from nvcops.core.manifest.database import DatabaseEntry
from nvcops.core.manifest.delivery import ChangesEntry, DeliveryEntry
from nvcops.core.manifest.operations import (
    AlertsEntry,
    Contact,
    Contacted,
    IncidentsEntry,
    ObjectiveEntry,
    OncallEntry,
    RecordsEntry,
    WatchEntry,
)
from nvcops.core.schedule import HolidayCountry, TimeRange, When
from nvcops.core.units import Bytes, Count, Ratio, Seconds


class Platform(Table, frozen=True, kw_only=True):
    name: Name
    title: str
    time_zone: str = "UTC"
    state: Path


class Instance(Table, frozen=True, kw_only=True):
    name: Name
    url: Url


class Series(Table, frozen=True, kw_only=True):
    """The names of a service's own metrics."""

    requests: str
    status_label: str = "status"
    latency: str
    route_label: str = "route"
    probe_routes: tuple[str, ...] = ()
    outcomes: str | None = None
    outcome_label: str = "outcome"
    outcome_title: str = "outcomes"
    pool_waiting: str | None = None


class Events(Table, frozen=True, kw_only=True):
    """The names of a service's own security events in its log; `subject` is the field with the pseudonym of who."""

    sign_in_failures: tuple[str, ...] = ()
    lock_outs: tuple[str, ...] = ()
    privilege_changes: tuple[str, ...] = ()
    subject: str = "subject"


class ServiceEntry(Table, frozen=True, kw_only=True):
    name: Name
    url: Url
    ca_file: Path | None = None
    ready: HttpPath = "/"
    version: HttpPath | None = None
    metrics: HttpPath | None = None
    series: Series | None = None
    events: Events | None = None
    deadline: Seconds = Seconds(2)
    log: Path | None = None
    instances: tuple[Instance, ...] = ()


class CacheNamespace(Table, frozen=True, kw_only=True):
    """A kind of keys: `pattern` as of SCAN. A disposable one is made anew by its service when it is gone."""

    name: Name
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    about: str = ""
    disposable: bool = False


class CacheEntry(Table, frozen=True, kw_only=True):
    name: Name = "cache"
    url: CacheUrl
    password_file: Path | None = None
    password_env: str | None = None
    deadline: Seconds = Seconds(1)
    namespaces: tuple[CacheNamespace, ...] = ()


class ProxyEntry(Table, frozen=True, kw_only=True):
    name: Name = "proxy"
    socket: Path
    backends: tuple[str, ...] = ()
    deadline: Seconds = Seconds(1)


class CertificateEntry(Table, frozen=True, kw_only=True):
    name: str
    address: HostAndPort
    ca_file: Path | None = None
    deadline: Seconds = Seconds(2)


class DiskEntry(Table, frozen=True, kw_only=True):
    name: str
    path: Path
    quota: Bytes | None = None


class Objectives(Table, frozen=True, kw_only=True):
    """The runbook's figures, over `window`."""

    window: Seconds = Seconds(86400)
    availability: Ratio = Ratio(0.999)
    response_mean: Seconds = Seconds(0.2)
    error_ratio: Ratio = Ratio(0.001)


class MetricsEntry(Table, frozen=True, kw_only=True):
    """How often the services' metrics are fetched, and how long they are kept."""

    interval: Seconds = Seconds(15)
    raw: Seconds = Seconds(48 * 3600)
    rollups: Seconds = Seconds(400 * 86400)


class Limits(Table, frozen=True, kw_only=True):
    """Thresholds of single readings."""

    recent_window: Seconds = Seconds(300)
    recent_requests_min: int = 20
    connections: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.95))
    idle_in_transaction: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(300))
    longest_query: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(600))
    lock_wait: Bound[Seconds] = Bound(warning=Seconds(10), critical=Seconds(60))
    replication_lag: Bound[Seconds] = Bound(warning=Seconds(10), critical=Seconds(60))
    cache_hit: Bound[Ratio] = Bound(warning=Ratio(0.95), critical=Ratio(0.8))
    dead_rows: Bound[Ratio] = Bound(warning=Ratio(0.2), critical=Ratio(0.5))
    slow_query_mean: Bound[Seconds] = Bound(warning=Seconds(0.1), critical=Seconds(1))
    disk_used: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.9))
    clock_offset: Bound[Seconds] = Bound(warning=Seconds(2), critical=Seconds(30))
    certificate_days: Bound[Count] = Bound(warning=Count(30), critical=Count(7))
    cache_memory: Bound[Ratio] = Bound(warning=Ratio(0.8), critical=Ratio(0.95))
    cache_misses: Bound[Ratio] = Bound(warning=Ratio(0.2), critical=Ratio(0.5))
    cache_lasting: Bound[Ratio] = Bound(warning=Ratio(0.1), critical=Ratio(0.5))
    cache_key: Bound[Bytes] = Bound(warning=Bytes(1 << 20), critical=Bytes(64 << 20))
    cache_fragmentation: Bound[Count] = Bound(warning=Count(2), critical=Count(4))
    cache_evictions: Bound[Count] = Bound(warning=Count(1), critical=Count(1000))
    failed_sign_ins_per_minute: Bound[Count] = Bound(warning=Count(30), critical=Count(300))
    metrics_age: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(300))
    backup_age: Bound[Seconds] = Bound(warning=Seconds(7 * 3600), critical=Seconds(13 * 3600))
    archive_lag: Bound[Seconds] = Bound(warning=Seconds(60), critical=Seconds(600))
    slot_retained: Bound[Bytes] = Bound(warning=Bytes(1 << 30), critical=Bytes(4 << 30))
    recovery_time: Bound[Seconds] = Bound(warning=Seconds(2 * 3600), critical=Seconds(4 * 3600))
    restore_drill_age: Bound[Seconds] = Bound(warning=Seconds(8 * 86400), critical=Seconds(15 * 86400))
    repository_left: Bound[Seconds] = Bound(warning=Seconds(14 * 86400), critical=Seconds(3 * 86400))


class Exemption(Table, frozen=True, kw_only=True):
    """A line that somebody has accepted as it is, until a date."""

    check: str
    reason: str
    owner: Name
    until: dt.date


class Person(Table, frozen=True, kw_only=True):
    name: Name
    full_name: str
    roles: tuple[Literal["operator", "approver", "auditor"], ...]
    ssh_keys: tuple[str, ...] = ()
    contacts: tuple[Contact, ...] = ()


class Calendar(Table, frozen=True, kw_only=True):
    holidays: HolidayCountry | None = None
    closed: tuple[dt.date, ...] = ()
    business_hours: TimeRange = TimeRange.read("09:00-18:00")
    missed_after: Seconds = Seconds(1800)


class ProcedureEntry(Table, frozen=True, kw_only=True):
    when: When


class EvidenceEntry(Table, frozen=True, kw_only=True):
    origin: str
    witness: Path | None = None


class Keep(Table, frozen=True, kw_only=True):
    """How many of a kind are kept at least, and for how long."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    age: Seconds


class KeepTable(Table, frozen=True, kw_only=True):
    """Of the database, `count` is of full backups: two at least."""

    database: Keep = Keep(count=2, age=Seconds(35 * 86400))
    application: Keep = Keep(count=5, age=Seconds(90 * 86400))
    configuration: Keep = Keep(count=5, age=Seconds(365 * 86400))
    logs: Keep = Keep(count=7, age=Seconds(400 * 86400))


class BackupsEntry(Table, frozen=True, kw_only=True):
    repository: Repository
    engine: Literal["native", "pgbackrest"] = "native"
    stanza: Name = "main"
    engine_config: Path | None = None
    endpoint: Url | None = None
    region: str | None = None
    user: str = "nvcops_backup"
    password_file: Path | None = None
    password_env: str | None = None
    superuser: str = "postgres"
    binaries: Path | None = None
    account: str | None = None
    key_file: Path | None = None
    spool: Path | None = None
    scratch: Path | None = None
    slot: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,63}$")] = "nvcops"
    synchronous: bool = False
    full_every: Seconds = Seconds(7 * 86400)
    rate_max: Bytes | None = None
    application: Path | None = None
    configuration: tuple[Path, ...] = ()
    configuration_secrets: tuple[str, ...] = ("*.key", "*.pem", "*password*", "*secret*", "id_*")
    keep: KeepTable = KeepTable()


class Acknowledgements(Table, frozen=True, kw_only=True):
    """A journal of what customers were told, as JSON lines, and the query that says which of it a database has."""

    journal: Path
    time: str = "time"
    key: str = "key"
    outcome: str = "outcome"
    settled: tuple[str, ...] = ("settled",)
    unknown: tuple[str, ...] = ("unknown",)
    query: str


class RecoveryEntry(Table, frozen=True, kw_only=True):
    """What must hold in a restored database, and where the primary's data lies on this host."""

    data: Path | None = None
    invariants: Path | None = None
    acknowledgements: Acknowledgements | None = None


class ControlEntry(Table, frozen=True, kw_only=True):
    """Programs, without a shell; `{name}` becomes the part's name, `{kind}` what is done to its host."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    rebuild: tuple[str, ...] = ()
    fence: tuple[str, ...] = ()
    break_host: tuple[str, ...] = ()
    mend_host: tuple[str, ...] = ()
    deadline: Seconds = Seconds(60)


class ClusterMember(Table, frozen=True, kw_only=True):
    """A database server, and the address of its Patroni."""

    name: Name
    url: Url


class ClusterEntry(Table, frozen=True, kw_only=True):
    scope: Name
    namespace: HttpPath = "/service/"
    members: tuple[ClusterMember, ...]
    etcd: tuple[Url, ...]
    deadline: Seconds = Seconds(2)
    guard: bool = False
    guard_interval: Seconds = Seconds(0.5)
    guard_after: Seconds = Seconds(2)


class Manifest(Table, frozen=True, kw_only=True):
    """All of platform.toml. What a platform does not have is left out, and is then not checked."""

    platform: Platform
    services: tuple[ServiceEntry, ...] = ()
    database: DatabaseEntry | None = None
    cache: CacheEntry | None = None
    proxy: ProxyEntry | None = None
    certificates: tuple[CertificateEntry, ...] = ()
    disks: tuple[DiskEntry, ...] = ()
    metrics: MetricsEntry = MetricsEntry()
    objectives: Objectives = Objectives()
    slos: tuple[ObjectiveEntry, ...] = ()
    watch: WatchEntry = WatchEntry()
    records: RecordsEntry = RecordsEntry()
    alerts: AlertsEntry = AlertsEntry()
    oncall: OncallEntry = OncallEntry()
    incidents: IncidentsEntry = IncidentsEntry()
    contacts: tuple[Contacted, ...] = ()
    limits: Limits = Limits()
    backups: BackupsEntry | None = None
    recovery: RecoveryEntry = RecoveryEntry()
    control: ControlEntry = ControlEntry()
    cluster: ClusterEntry | None = None
    delivery: DeliveryEntry | None = None
    changes: ChangesEntry = ChangesEntry()
    exceptions: tuple[Exemption, ...] = ()
    people: tuple[Person, ...] = ()
    calendar: Calendar = Calendar()
    procedures: dict[Name, ProcedureEntry] = msgspec.field(default_factory=dict)
    evidence: EvidenceEntry

    def person(self, name: str) -> Person | None:
        """The roster's entry for a name."""
        return next((person for person in self.people if person.name == name), None)

    def reach(self, name: str) -> tuple[Contact, ...] | None:
        """How somebody of [[people]] or [[contacts]] is reached; None where nobody has that name."""
        named: list[Person | Contacted] = [*self.people, *self.contacts]
        return next((one.contacts for one in named if one.name == name), None)
