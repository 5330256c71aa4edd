from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from nvcops.adapters.discovery.found import (
    CacheFound,
    Choice,
    DatabaseFound,
    Found,
    LogFound,
    Note,
    PersonFound,
    SeriesFound,
    ServiceFound,
    StandbyFound,
)
from nvcops.adapters.discovery.toml import render
from nvcops.core.manifest import CacheEntry, DatabaseEntry, Events, Instance, Manifest, Server, parse

HOSTILE = 'x"\n[database]\nuser = "evil"\x7f\x1b[31m\\'
EVENTS = Events(sign_in_failures=("login.failed",), subject="who")
PATH = Path("/somewhere/platform.toml")


def found(**changes: object) -> Found:
    service = ServiceFound(url="http://shop.example.com", ready="/health")
    person = PersonFound(
        name="dana",
        full_name="Dana",
        key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA dana",
    )
    return Found(**{"host": "ops-1", "time_zone": "UTC", "person": person, "service": service, **changes})  # type: ignore[arg-type]


def read(answer: Found) -> Manifest:
    return parse(render(answer, name="shop", title="Shop", state="state"), PATH)


def database(**changes: object) -> DatabaseFound:
    entry = DatabaseEntry(name="shop", user="nvcops", primary=Server(name="db-1", host="db.example.com"))
    return DatabaseFound(**{"entry": entry, "version": "17.1", **changes})  # type: ignore[arg-type]


def test_the_least_that_can_be_found_is_a_valid_manifest() -> None:
    manifest = read(found())
    assert manifest.services[0].ready == "/health"
    assert (manifest.database, manifest.cache, manifest.proxy, manifest.disks) == (None, None, None, ())
    assert manifest.people[0].ssh_keys == (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA dana",
    )


def test_all_that_can_be_found_is_written() -> None:
    requests, latency = Choice("r_total", "code", "why"), Choice("l_seconds", "", "why", ("m_seconds",))
    everything = found(
        service=ServiceFound(
            url="https://shop.example.com",
            ready="/ready",
            version="/version",
            metrics="/metrics",
            series=SeriesFound(
                requests=requests, latency=latency, outcomes=Choice("o", "result", ""), outcome_title="o"
            ),
            instances=(Instance(name="shop-1", url="http://10.0.0.1:80"),),
            ca_file=Path("/etc/ca.pem"),
        ),
        database=database(
            standbys=(
                StandbyFound(name="s", host="10.0.0.3", reached=True),
                StandbyFound(name="t", host="", reached=False),
            ),
            log="/var/log/postgresql.json",
            data_directory="/var/lib/postgresql",
            indexes=("by_buyer",),
        ),
        cache=CacheFound(entry=CacheEntry(url="valkey://c:6379/0", password_env="CACHE"), version="Valkey 9"),
        proxy_socket=Path("/run/haproxy.sock"),
        backends=("shop", "shop-2"),
        certificate="shop.example.com:443",
        log=LogFound(path=Path("/var/log/shop.log"), names=("login.failed", "sold"), events=EVENTS),
    )
    manifest = read(everything)
    assert manifest.services[0].series
    assert manifest.services[0].series.status_label == "code"
    assert manifest.services[0].events == EVENTS
    assert manifest.database
    assert [standby.host for standby in manifest.database.standbys] == ["10.0.0.3"]
    assert manifest.database.required_indexes == ()
    assert manifest.cache
    assert manifest.cache.password_env == "CACHE"
    assert manifest.proxy
    assert manifest.proxy.backends == ("shop", "shop-2")
    assert manifest.certificates[0].address == "shop.example.com:443"
    assert manifest.disks[0].path == Path("/var/lib/postgresql")


def test_series_are_in_force_only_when_both_are_known() -> None:
    half = SeriesFound(requests=Choice("r_total", "code", "why"), outcomes=Choice("o", "result", ""))
    service = ServiceFound(url="http://shop", ready="/", metrics="/metrics", series=half)
    text = render(found(service=service), name="shop", title="Shop", state="state")
    assert parse(text, PATH).services[0].series is None
    assert '# requests = "r_total"' in text


def test_without_the_comment_signs_the_hints_are_valid_too() -> None:
    """So that a hint can be put into force by removing the sign before it."""
    text = render(found(database=database(indexes=("by_buyer",))), name="shop", title="Shop", state="state")
    hints = [
        line.removeprefix("# ")
        for line in text.splitlines()
        if " = " in line or line.startswith(("# [cache]", "# [proxy]"))
    ]
    for hint in hints:
        tomllib.loads(hint)
    taken = parse(text.replace("# required_indexes", "required_indexes"), PATH)
    assert taken.database
    assert taken.database.required_indexes == ("by_buyer",)


@pytest.mark.parametrize("where", ["note", "series", "standby", "version", "log", "backend", "person", "index"])
def test_what_a_server_says_cannot_write_a_line_of_the_file(where: str) -> None:
    notes = (Note("cache", False, HOSTILE, HOSTILE),) if where == "note" else ()
    person = PersonFound(name="dana", full_name=HOSTILE if where == "person" else "Dana")
    choice = Choice(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)) if where == "series" else Choice("a", "b", "c")
    service = ServiceFound(
        url="http://shop",
        ready="/",
        series=SeriesFound(requests=choice, latency=choice, outcomes=choice, outcome_title=choice.name),
    )
    base = database(
        standbys=(StandbyFound(name=HOSTILE, host=HOSTILE, reached=False),) if where == "standby" else (),
        version=HOSTILE if where == "version" else "17",
        log=HOSTILE if where == "log" else "",
        indexes=(HOSTILE,) if where == "index" else (),
    )
    backends = (HOSTILE,) if where == "backend" else ()
    names = (HOSTILE,) if where == "log" else ("a",)
    log = LogFound(path=Path("/log"), names=names, events=Events(sign_in_failures=names))
    manifest = read(
        found(
            service=service,
            database=base,
            person=person,
            notes=notes,
            backends=backends,
            proxy_socket=Path("/s"),
            log=log,
        )
    )
    assert manifest.database
    assert manifest.database.user == "nvcops"
