from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvclab import platform_file
from nvclab.bank_data import House
from nvclab.layout import PORT_NAMES, SPARE, Layout, new_record
from nvcops.alerts.routing import default_routing
from nvcops.alerts.routing_file import routing_of
from nvcops.core.alerts import Category
from nvcops.core.manifest import Manifest, parse


@pytest.fixture
def written(tmp_path: Path) -> Path:
    layout = Layout(tmp_path / "a lab")
    layout.prepare()
    record = new_record({name: 20_000 + number for number, name in enumerate(PORT_NAMES)})
    house = House("own@bank.example", 3, 4, "EUR", layout.secret_file("customers"))
    return platform_file.write(layout, record, ["account_customer"], house)


@pytest.fixture
def manifest(written: Path) -> Manifest:
    return parse(written.read_text(encoding="utf-8"), written)


def test_operations_can_read_it_and_it_names_this_labs_parts(written: Path, manifest: Manifest) -> None:
    ports = dict(zip(PORT_NAMES, range(20_000, 20_100), strict=False))
    (service,) = manifest.services
    assert service.url == f"https://localhost:{ports['https']}"
    assert [instance.url for instance in service.instances] == [
        f"http://127.0.0.1:{ports['bank-1']}",
        f"http://127.0.0.1:{ports['bank-2']}",
    ]
    assert manifest.database is not None
    assert manifest.database.port == ports["primary"]
    assert manifest.database.standbys[0].port == ports["standby"]
    assert manifest.database.required_indexes == ("account_customer",)
    assert manifest.database.password_file == written.parent / "secrets" / "operations.password"
    assert manifest.platform.state == written.parent / "nvcops"
    assert manifest.disks[1].quota is not None


def test_each_person_has_a_key_of_their_own(manifest: Manifest) -> None:
    keys = [person.ssh_keys for person in manifest.people]
    assert len(keys) >= 2
    assert all(len(lines) == 1 and lines[0].startswith("ssh-ed25519 ") for lines in keys)
    assert len(set(keys)) == len(keys)


def test_the_comments_of_the_repositorys_file_are_kept(written: Path) -> None:
    template = platform_file.TEMPLATE.read_text(encoding="utf-8")
    headings = [line for line in template.splitlines() if line.startswith("# ---")]
    assert headings
    assert all(heading in written.read_text(encoding="utf-8") for heading in headings)


def test_everybody_who_can_be_woken_has_two_channels_at_the_pager(manifest: Manifest) -> None:
    pager = f"json://127.0.0.1:{20_000 + PORT_NAMES.index('pager')}"
    for somebody in (*manifest.people, *manifest.contacts):
        urls = [contact.url for contact in somebody.contacts]
        assert urls == [f"{pager}/{somebody.name}/push", f"{pager}/{somebody.name}/email"]
    assert {contact.name for contact in manifest.contacts} >= {"engineering-manager", "cto", "security-officer"}


def test_the_runbooks_times_are_kept_and_the_rest_lies_in_the_lab(written: Path, manifest: Manifest) -> None:
    template = parse(platform_file.TEMPLATE.read_text(encoding="utf-8"), platform_file.TEMPLATE)
    assert manifest.alerts.acknowledge == template.alerts.acknowledge
    assert manifest.incidents.respond == template.incidents.respond
    assert [(one.name, one.target) for one in manifest.slos] == [(one.name, one.target) for one in template.slos]
    assert manifest.oncall == template.oncall
    assert manifest.alerts.listen == f"127.0.0.1:{20_000 + PORT_NAMES.index('operations')}"
    assert manifest.incidents.status_page == written.parent / "status"
    assert manifest.records.host is None


def test_what_is_critical_is_routed_at_once_as_without_a_file(manifest: Manifest) -> None:
    assert manifest.alerts.routing is not None
    routing = routing_of(manifest, manifest.alerts.routing.read_text(encoding="utf-8"))
    assert not routing.warnings
    for labels in ({"category": "critical", "alertname": "a"}, {"category": "high", "alertname": "a"}):
        (ours,), (without,) = (way.root.leaves(labels) for way in (routing, default_routing(manifest)))
        assert (ours.receiver, ours.group_by) == (without.receiver, without.group_by)
        assert ours.group_wait <= without.group_wait
    assert routing.receivers["oncall"].policy == "oncall"
    assert len(routing.inhibit) == 1


def test_the_banks_own_customer_pays_and_looks(written: Path, manifest: Manifest) -> None:
    pay, look = manifest.watch.probes
    assert [probe.kind for probe in (pay, look)] == ["payment", "payment"]
    assert {probe.category for probe in (pay, look)} == {Category.CRITICAL}
    assert pay.options["steps"][0]["body"]["from_account"] == 3
    assert look.options["steps"][0]["path"] == "/v1/accounts/3/entries?limit=1"
    assert Path(pay.options["password_file"]) == written.parent / "secrets" / "customers.password"


def test_every_outcome_of_a_payment_is_good_or_the_customers_own(manifest: Manifest) -> None:
    ledger = (platform_file.INVARIANTS.parent / "migrations" / "0002_expand_ledger.sql").read_text(encoding="utf-8")
    outcomes = set(re.findall(r"'(\w+)'", ledger.partition("CREATE TYPE outcome AS ENUM (")[2].partition(");")[0]))
    assert len(outcomes) > 1
    (payments,) = [objective for objective in manifest.slos if objective.indicator == "outcomes"]
    assert {*payments.good, *payments.ignored} == outcomes


def test_a_lab_without_slots_delivers_nothing(written: Path, manifest: Manifest) -> None:
    assert manifest.delivery is None
    assert (
        "example.com"
        not in written.read_text(encoding="utf-8").partition("how it is delivered")[2].partition("# ---")[0]
    )


def test_a_lab_with_slots_says_where_they_are_and_how_a_release_is_tried(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a lab")
    layout.prepare()
    ports = {name: 20_000 + number for number, name in enumerate((*PORT_NAMES, *SPARE))}
    house = House("own@bank.example", 3, 4, "EUR", layout.secret_file("customers"))
    path = platform_file.write(layout, new_record(ports), [], house)
    delivery = parse(path.read_text(encoding="utf-8"), path).delivery
    assert delivery is not None
    assert [slot.url for slot in delivery.spare] == [f"http://127.0.0.1:{ports[name]}" for name in SPARE]
    assert delivery.root == layout.at("delivery")
    assert delivery.hosts == ()
    assert delivery.stages == ()
    assert delivery.default in {strategy.name for strategy in delivery.strategies}
    assert "own@bank.example" in delivery.self_test
    text = path.read_text(encoding="utf-8")
    headings = [
        line for line in platform_file.TEMPLATE.read_text(encoding="utf-8").splitlines() if line.startswith("# ---")
    ]
    assert all(heading in text for heading in headings)
