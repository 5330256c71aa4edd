"""A platform in memory: slots, a balancer that counts, a schema, and a clock; any of its calls can fail or be the last.

What it counts is drawn: requests by weight, bad ones by the rate of the release that a slot runs.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.desk import MemoryRecords

from nvcops.core.errors import NotFoundError, Refused, TargetError, Unreachable
from nvcops.core.manifest import parse
from nvcops.core.releases import Migration, Release
from nvcops.core.rollouts import Balanced, Occupied
from nvcops.core.target import Answer, Question, Target

NOW = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
OLD, NEW, NEXT = "a" * 64, "b" * 64, "c" * 64
MAIN, SPARE = ("bank-1", "bank-2"), ("bank-3", "bank-4")

MANIFEST = """
[platform]
name = "test"
title = "Test"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
ready = "/readyz"
version = "/version"
metrics = "/metrics"
instances = [{ name = "bank-1", url = "http://127.0.0.1:1" }, { name = "bank-2", url = "http://127.0.0.1:1" }]
[services.series]
requests = "requests_total"
latency = "seconds"
probe_routes = ["/readyz"]
[control]
start = ["start", "{name}"]
stop = ["stop", "{name}"]
running = ["running", "{name}"]
[database]
port = 5432
name = "bank"
user = "nvcops"
primary = { name = "db-1", host = "127.0.0.1" }
[delivery]
service = "bank"
store = "store"
root = "root"
backend = "bank"
spare = [{ name = "bank-3", url = "http://127.0.0.1:1" }, { name = "bank-4", url = "http://127.0.0.1:1" }]
builders = [{ name = "ci", key = "ssh-ed25519 AAAA" }]
migrate = ["migrate", "{release}"]
self_test = ["test", "{url}"]
applied = "SELECT name, sha256 FROM applied"
ready_within = "2 s"
default = "quick"
strategies = [
    { name = "quick", steps = [{ set_weight = 10 }, { pause = "2 s" }, { set_weight = 50 }] },
    { name = "asks", steps = [{ set_weight = 10 }, { pause = "" }] },
]
analysis = { warm_up = "5 s", time_limit = "30 min", margin = 3.0 }
[changes]
required = false
[evidence]
origin = "test"
"""


class Killed(BaseException):
    """The deployer is dead."""


@dataclass
class Slot:
    digest: str = ""
    running: bool = False
    started: str = ""
    since: float = 0.0
    weight: int = 0
    requests: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Nature:
    """What a release is like. `ready`: None: never, else after so many seconds; `lasts`: it dies after so many."""

    errors: float = 0.01
    ready: float | None = 0.0
    lasts: float | None = None
    tested: bool = True
    says: str | None = None
    growth: float = 0.0
    metrics: bool = True
    counts: str = "requests_total"


@dataclass
class World:
    """All of it. `point` is passed before and after each change: there it can be killed, or fail."""

    manifest: Any
    natures: dict[str, Nature]
    kill_at: int = 0
    fail_at: Mapping[int, Callable[[], Exception]] = field(default_factory=dict)
    fails: Callable[[str, tuple[Any, ...]], bool] = lambda *_: False
    slots: dict[str, Slot] = field(default_factory=lambda: {name: Slot() for name in (*MAIN, *SPARE)})
    laid_: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in (*MAIN, *SPARE)})
    applied: list[tuple[str, str]] = field(default_factory=list)
    releases: dict[str, Release] = field(default_factory=dict)
    records: MemoryRecords = field(default_factory=MemoryRecords)
    kept: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    seconds: float = 0.0
    passed: int = 0
    did: list[str] = field(default_factory=list)
    rate: float = 200.0
    draws: random.Random = field(default_factory=lambda: random.Random(7))
    on_second: Callable[[World], None] = lambda _: None
    served_by_none: float = 0.0
    lingers: bool = False

    # --- the clock ---

    def advance(self, seconds: float) -> None:
        """Time goes by, and customers come."""
        self.seconds += seconds
        for slot in self.slots.values():
            lasts = self.natures[slot.digest].lasts if slot.digest else None
            if slot.running and lasts is not None and self.seconds - slot.since > lasts:
                slot.running = False
        serving = [one for one in self.slots.values() if one.weight and self.ready(one)]
        all_ = sum(one.weight for one in serving)
        if not all_:
            self.served_by_none += seconds
        for one in serving:
            count = int(self.rate * seconds * one.weight / all_)
            one.requests += count
            one.failed += sum(self.draws.random() < self.natures[one.digest].errors for _ in range(count))
        self.on_second(self)

    def ready(self, slot: Slot) -> bool:
        nature = self.natures.get(slot.digest)
        return (
            slot.running
            and nature is not None
            and nature.ready is not None
            and (self.seconds - slot.since >= nature.ready)
        )

    def now(self) -> dt.datetime:
        return NOW + dt.timedelta(seconds=self.seconds)

    # --- where it can break ---

    def point(self, what: str, *arguments: Any) -> None:
        """A place at which the deployer can be killed, or the call fail."""
        self.passed += 1
        if self.passed == self.kill_at:
            raise Killed(what)
        if failing := self.fail_at.get(self.passed):
            raise failing()
        if self.fails(what, arguments):
            raise Unreachable(f"{what} {arguments} fails")

    def changed(self, what: str, *arguments: Any) -> None:
        self.did.append(" ".join([what, *map(str, arguments)]))
        self.passed += 1
        if self.passed == self.kill_at:
            raise Killed(what)

    # --- core.rollouts.Slots ---

    def lay(self, slot: str, digest: str) -> None:
        self.point("lay", slot, digest)
        self.laid_[slot].add(digest)
        self.changed("lay", slot, digest[:1])

    def laid(self, slot: str) -> Sequence[str]:
        return sorted(self.laid_[slot])

    def look(self, slot: str) -> Occupied:
        one = self.slots[slot]
        return Occupied(slot=slot, digest=one.digest, running=one.running)

    def put(self, slot: str, digest: str) -> None:
        self.point("put", slot, digest)
        one = self.slots[slot]
        if digest not in self.laid_[slot]:
            raise Refused(f"{digest} is not on the host of {slot}")
        if not (one.running and one.digest == digest):
            one.running = False
            one.digest, one.running, one.since, one.started = digest, True, self.seconds, f"t{self.passed}"
        self.changed("put", slot, digest[:1])

    def stop(self, slot: str) -> None:
        self.point("stop", slot)
        self.slots[slot].running = False
        self.changed("stop", slot)

    def migrate(self, digest: str, *, contract: bool) -> None:
        self.point("migrate", digest)
        names = {name for name, _ in self.applied}
        for one in self.releases[digest].migrations:
            if one.name not in names and (contract or not one.contract):
                self.applied.append((one.name, one.sha256))
        self.changed("migrate", digest[:1], contract)

    def self_test(self, slot: str, digest: str) -> str:
        self.point("self_test", slot, digest)
        if not self.natures[digest].tested:
            raise Refused("the payment was refused")
        return "a payment was settled"

    def forget(self, slot: str, digest: str) -> int:
        self.point("forget", slot, digest)
        if self.slots[slot].digest == digest:
            return 0
        self.laid_[slot].discard(digest)
        self.changed("forget", slot, digest[:1])
        return 1 << 20

    def remove(self, digest: str) -> int:
        self.point("remove", digest)
        return self.releases.pop(digest).size

    # --- the others ---

    def rows(self, _sql: str) -> list[dict[str, Any]]:
        return [{"name": name, "sha256": sha} for name, sha in self.applied]

    def ask(self, questions: Sequence[Question]) -> list[Answer | TargetError]:
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer | TargetError:
        one = self.slots[question.instance]
        if not one.running:
            return Unreachable("connection refused")
        nature = self.natures[one.digest]
        status, body = 200, b""
        if question.path == "/readyz":
            status = 200 if self.ready(one) else 503
        elif question.path == "/version":
            said = one.digest if nature.says is None else nature.says
            body = json.dumps({"version": f"v{one.digest[:1]}", "release": said, "started": one.started}).encode()
        elif not nature.metrics:
            status = 404
        else:
            memory = (64 << 20) + nature.growth * (self.seconds - one.since)
            body = (
                "# TYPE process_resident_memory_bytes gauge\n"
                f"process_resident_memory_bytes {memory}\n"
                "# TYPE requests_total counter\n"
                f'{nature.counts}{{route="/pay"}} {one.requests}\n'
                "# TYPE seconds histogram\n"
                f'seconds_bucket{{route="/pay",le="0.1"}} {one.requests - one.failed}\n'
                f'seconds_bucket{{route="/pay",le="+Inf"}} {one.requests}\n'
            ).encode()
        return Answer(status, 0.001, body, self.now())

    def verify(self, digest: str) -> Release:
        if digest not in self.releases:
            raise NotFoundError(f"there is no release {digest[:8]}")
        return self.releases[digest]

    def find(self, wanted: str) -> Release:
        for one in self.releases.values():
            if wanted in (one.version, one.digest):
                return one
        raise NotFoundError(f"there is no release {wanted!r}", hint="`nvcops release list`")


class Balancer:
    """The twin of core.rollouts.Balancer."""

    def __init__(self, world: World) -> None:
        self.world = world

    def look(self) -> list[Balanced]:
        if self.world.fails("balancer.look", ()):
            raise Unreachable("the balancer does not answer")
        return [
            Balanced(
                slot=name,
                weight=one.weight,
                healthy=self.world.ready(one),
                sessions=0,
                requests=one.requests,
                failed=one.failed,
            )
            for name, one in self.world.slots.items()
        ]

    def share(self, weights: Mapping[str, int]) -> None:
        self.world.point("share", dict(weights))
        for name, weight in sorted(weights.items(), key=lambda pair: -pair[1]):
            self.world.slots[name].weight = weight
        self.world.changed("share", " ".join(map(str, weights.values())))

    def drain(self, slot: str, deadline_s: float) -> bool:
        self.world.point("drain", slot)
        assert deadline_s > 0
        self.world.slots[slot].weight = 0
        self.world.changed("drain", slot)
        return not self.world.lingers


class Looks:
    """The twin of core.rollouts.Looks."""

    def __init__(self, world: World) -> None:
        self.world = world

    def lines(self, rollout: str, step: int) -> list[bytes]:
        return list(self.world.kept.get((rollout, step), []))

    def append(self, rollout: str, step: int, line: bytes) -> None:
        self.world.point("append", rollout, step)
        self.world.kept.setdefault((rollout, step), []).append(line)
        self.world.changed("append")

    def forget(self, keep: Collection[str]) -> int:
        gone = [key for key in self.world.kept if key[0] not in keep]
        for key in gone:
            del self.world.kept[key]
        return len({run for run, _ in gone})


def release(digest: str, version: str, *migrations: Migration, built: int = 0) -> Release:
    at = NOW + dt.timedelta(hours=built)
    return Release(
        digest=digest, name="bank", version=version, size=1 << 20, built=at, builder="ci", migrations=migrations
    )


def world(**changed: Any) -> World:
    """The old release serves from the main slots; the new one is kept, and good."""
    manifest = parse(changed.pop("text", MANIFEST), Path("/nowhere/platform.toml"))
    natures = {OLD: Nature(), NEW: changed.pop("nature", Nature()), NEXT: Nature()}
    here = World(manifest, natures, **changed)
    base = Migration(name="0001_expand_base.sql", sha256="1")
    more = Migration(name="0002_expand_more.sql", sha256="2")
    here.releases = {
        OLD: release(OLD, "1.0", base),
        NEW: release(NEW, "2.0", base, more, built=1),
    }
    here.applied = [(base.name, base.sha256)]
    for name in MAIN:
        here.slots[name] = Slot(digest=OLD, running=True, started="t0", since=-3600.0, weight=100)
        here.laid_[name].add(OLD)
    return here


def target_of(here: World) -> Target:
    """The world as a procedure sees it."""
    parts: dict[str, Any] = {
        "manifest": here.manifest,
        "services": here,
        "database": here,
        "standbys": [],
        "cache": None,
        "proxy": None,
        "host": here,
        "metrics": None,
        "logs": None,
        "control": None,
        "slots": here,
        "balancer": Balancer(here),
        "looks": Looks(here),
        "releases": SimpleNamespace(
            verify=here.verify,
            find=here.find,
            remove=here.remove,
            list=lambda: sorted(here.releases.values(), key=lambda one: one.built, reverse=True),
        ),
        "records": here.records,
    }
    return Target(**parts)
