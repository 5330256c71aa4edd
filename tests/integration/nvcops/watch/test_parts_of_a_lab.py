"""Every probe that follows from a manifest, against the real parts: good when all is well, and who sees which fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from watching import watching

from nvclab import running
from nvcops.adapters.files import load_manifest
from nvcops.adapters.probes import open_prober
from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest
from nvcops.core.watch import Probe
from nvcops.health.watch import probes_of

# What a fault must bring down; whatever else is critical is told by the last column to be expected, too.
FAULTS = {
    "stop-cache": {"cache.cache", "front-door.bank"},
    "expire-certificate": {"certificate.localhost"},
    "raise-error-rate": {"statements"},
    "exhaust-connections": {"connections.db-1"},
    "stop-standby": {"server.db-2"},
    "stop-wal-receiver": {"replication.db-2"},
    "stop-instance": {"instance.bank-1"},
    "freeze-instance": {"instance.bank-1"},
}
NOT_CRITICAL = ("stop-standby", "stop-wal-receiver", "stop-instance")


@pytest.fixture(scope="module")
def lab() -> Iterator[running.Lab]:
    with running.temporary(users=5) as lab:
        yield lab


@pytest.fixture(scope="module")
def manifest(lab: running.Lab) -> Manifest:
    return load_manifest(Path(lab.folder / "platform.toml"))


@pytest.fixture(scope="module")
def quick(manifest: Manifest) -> list[Probe]:
    """The probes that are looked at each second; nobody serves here, so nobody receives from the backups' slot."""
    return [probe for probe in probes_of(manifest) if probe.labels.get("role") != "slot"]


def test_without_a_fault_every_probe_is_good(manifest: Manifest, quick: list[Probe]) -> None:
    with watching(open_prober(manifest, quick)) as watch:
        for probe in quick:
            if probe.interval <= 15:
                watch.until(lambda name=probe.name: any(not look.why for look in watch.of(name)[-1:]))
    values = {look.probe: look.value for look in watch.looks}
    assert values["backend.bank"] == 2
    assert values["replication.db-2"] is not None
    assert 170 < (values["certificate.localhost"] or 0) < 400
    assert 0 < (values["connections.db-1"] or 0) < 1
    assert 0 < (values["disk.data"] or 0) < 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_by_whom_it_concerns_and_then_no_more(
    lab: running.Lab, manifest: Manifest, quick: list[Probe], fault: str
) -> None:
    with watching(open_prober(manifest, quick)) as watch:
        watch.until(lambda: not any(look.why for name in FAULTS[fault] for look in watch.of(name)[-1:]))
        lab.run("fault", fault)
        try:
            for name in FAULTS[fault]:
                watch.until_bad(name)
        finally:
            lab.run("heal", fault)
        for name in FAULTS[fault]:
            watch.until(lambda name=name: not watch.of(name)[-1].why)
    if fault in NOT_CRITICAL:
        critical = {probe.name for probe in quick if probe.category is Category.CRITICAL}
        in_a_row = {
            name
            for name in critical
            for first, second in zip(watch.of(name), watch.of(name)[1:], strict=False)
            if first.why and second.why and first.known and second.known
        }
        assert not in_a_row, "that wakes somebody for a part that another stands in for"
