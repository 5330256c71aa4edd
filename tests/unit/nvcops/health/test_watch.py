"""Which probes follow from a manifest, and how grave each one's failure is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.core import manifest
from nvcops.core.alerts import Category
from nvcops.core.incidents import SIGNAL
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.probe_options import read_options
from nvcops.core.watch import Probe
from nvcops.health.watch import probes_of

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")


def read(text: str = TEXT, *more: str) -> Manifest:
    return manifest.parse("\n".join([text, *more]), EXAMPLE)


def by_name(text: str = TEXT, *more: str) -> dict[str, Probe]:
    return {probe.name: probe for probe in probes_of(read(text, *more))}


def test_everything_that_the_example_names_is_looked_at() -> None:
    probes = by_name()
    assert set(probes) == {
        "front-door.bank",
        "instance.bank-1",
        "instance.bank-2",
        "primary.db-1",
        "server.db-2",
        "replication.db-2",
        "slot.nvcops",
        "connections.db-1",
        "lock-wait.db-1",
        "idle-in-transaction.db-1",
        "longest-query.db-1",
        "cache.cache",
        "backend.bank",
        "certificate.bank.example.com",
        "disk.data",
        "disk.log-archive",
    }
    for probe in probes.values():
        read_options(probe.kind, probe.options)
        assert (probe.deadline, probe.recoveries) == (1, 3)


def test_what_stops_customers_is_critical_and_what_another_stands_in_for_is_not() -> None:
    critical = {name for name, probe in by_name().items() if probe.category is Category.CRITICAL}
    assert critical == {
        "front-door.bank",
        "primary.db-1",
        "connections.db-1",
        "backend.bank",
        "certificate.bank.example.com",
    }
    assert by_name()["instance.bank-1"].labels == {"role": "instance", "part": "bank-1", SIGNAL: "redundancy"}
    one = TEXT.replace('    { name = "bank-2", url = "http://bank-2.example.com:8080" },\n', "")
    alone = by_name(one[: one.index("\n[delivery]")] + one[one.index("# --- who is woken") :])
    assert alone["instance.bank-1"].category is Category.CRITICAL


def test_in_a_cluster_anybody_may_be_primary() -> None:
    left_out = TEXT[TEXT.index("# [cluster]") : TEXT.index("# guard = true")]
    cluster = "\n".join(line.removeprefix("# ") for line in left_out.splitlines())
    probes = by_name(TEXT, cluster)
    assert probes["primary.db-1"].options == {"servers": ["db-1", "db-2"], "role": "primary"}
    assert probes["connections.db-1"].options["servers"] == ["db-1", "db-2"]
    for name in ("db-1", "db-2"):
        assert probes[f"server.{name}"].category is Category.HIGH
        assert f"replication.{name}" in probes


def test_what_is_not_there_is_not_looked_at() -> None:
    text = '[platform]\nname = "a"\ntitle = "A"\nstate = "s"\n[[services]]\nname = "a"\nurl = "http://a.example.com"\n'
    assert set(by_name(text, '[evidence]\norigin = "a.example.com"')) == {"front-door.a"}


def test_an_added_probe_has_the_watch_s_numbers_unless_it_has_its_own() -> None:
    added = (
        '[[watch.probes]]\nname = "mine"\nkind = "payment"\nservice = "bank"\noptions = { steps = [{ path = "/" }] }'
    )
    mine = by_name(TEXT, added)["mine"]
    assert (mine.interval, mine.failures, mine.recoveries, mine.category) == (1, 2, 3, Category.CRITICAL)
    assert mine.labels[SIGNAL] == "payments"
    own = 'interval = "30 s"\ndeadline = "5 s"\nfailures = 4\nrecoveries = 1\ncategory = "low"'
    mine = by_name(TEXT, added.replace("options", f"{own}\noptions"))["mine"]
    assert (mine.interval, mine.deadline, mine.failures, mine.recoveries) == (30, 5, 4, 1)
    assert mine.category is Category.LOW


def test_an_added_probe_takes_the_place_of_a_derived_one_of_its_name() -> None:
    added = '[[watch.probes]]\nname = "front-door.bank"\nkind = "tcp"\noptions = { address = "bank.example.com:443" }'
    assert by_name(TEXT, added)["front-door.bank"].kind == "tcp"
    assert len(by_name(TEXT, added)) == len(by_name())


@pytest.mark.parametrize(("after", "interval", "failures"), [("30 s", 10, 3), ("12 s", 6, 2), ("3 s", 6, 1)])
def test_a_peer_is_silent_after_the_time_that_was_said(after: str, interval: float, failures: int) -> None:
    text = TEXT.replace('# peer = "http', 'peer = "http')
    text = text.replace('# peer_silent_after = "30 s"', f'peer_silent_after = "{after}"')
    peer = by_name(text)["peer.watch"]
    assert (peer.interval, peer.failures) == (interval, failures)
    assert peer.options == {"url": "http://ops-2.example.com:9780", "path": "/healthz"}


def test_a_watch_that_is_switched_off_looks_at_nothing() -> None:
    assert probes_of(read(TEXT.replace("[watch]\n", "[watch]\nenabled = false\n"))) == []
