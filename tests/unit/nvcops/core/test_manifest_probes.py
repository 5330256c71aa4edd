"""[[watch.probes]]: what is taken, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.core import manifest
from nvcops.core.errors import ManifestError
from nvcops.core.manifest.probe_options import KINDS, PaymentOptions, read_options

EXAMPLE = Path(__file__).parents[4] / "platforms" / "nvc-bank" / "platform.toml"
WITHOUT_PARTS = """
[platform]
name = "shop"
title = "Shop"
state = "state"

[evidence]
origin = "shop.example.com/operations"
"""


def parse(probe: str, base: str | None = None) -> manifest.Manifest:
    base = EXAMPLE.read_text(encoding="utf-8") if base is None else base
    return manifest.parse(base + f'\n[[watch.probes]]\nname = "mine"\n{probe}\n', EXAMPLE)


@pytest.mark.parametrize(
    "probe",
    [
        'kind = "http"\nservice = "bank"\noptions = { instance = "bank-1", path = "/healthz", contains = "alive" }',
        'kind = "http"\noptions = { url = "https://other.example.com", ca_file = "ca.pem", expect = 204 }',
        'kind = "tcp"\noptions = { address = "db-1.example.com:5432" }',
        'kind = "tls"\noptions = { address = "bank.example.com:443", days = 14 }',
        'kind = "sql"\noptions = { servers = ["db-2"], role = "standby", query = "SELECT 1", at_most = 1 }',
        'kind = "queue"\noptions = { query = "SELECT count(*) FROM outbox", at_most = 100 }',
        'kind = "replication"\noptions = { slot = "nvcops", retained = "1 GiB" }',
        'kind = "cache"',
        'kind = "proxy"\noptions = { backend = "bank", servers_min = 2 }',
        'kind = "process"\noptions = { pid_file = "/run/worker.pid" }',
        'kind = "disk"\noptions = { disk = "data", used = "95 %" }',
        'kind = "payment"\nservice = "bank"\noptions = { steps = [{ path = "/x", body = { a = 1 }, every = 5 }] }',
    ],
)
def test_each_kind_is_taken(probe: str) -> None:
    (entry,) = parse(probe).watch.probes
    assert isinstance(read_options(entry.kind, entry.options), KINDS[entry.kind])


def test_files_are_relative_to_the_manifest() -> None:
    options = '{ password_file = "secret", sign_in = { path = "/s", body = {} }, steps = [{ path = "/x" }] }'
    (entry,) = parse(f'kind = "payment"\nservice = "bank"\noptions = {options}').watch.probes
    read = read_options(entry.kind, entry.options)
    assert isinstance(read, PaymentOptions)
    assert read.password_file == EXAMPLE.parent / "secret"


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        ('kind = "http"', "neither a service nor a `url`"),
        ('kind = "http"\nservice = "bank"\noptions = { instance = "bank-9" }', "'bank-9'"),
        ('kind = "http"\nservice = "bank"\noptions = { expct = 200 }', "unknown field `expct`"),
        ('kind = "http"\nservice = "bank"\noptions = { expect = 99 }', ">= 100"),
        ('kind = "http"\nservice = "shop"', "there is no service 'shop'"),
        ('kind = "tcp"', "missing required field `address`"),
        ('kind = "tcp"\noptions = { address = "nowhere" }', "address"),
        ('kind = "sql"\noptions = { servers = ["db-9"] }', "'db-9'"),
        ('kind = "replication"', "`standby` or at a `slot`"),
        ('kind = "replication"\noptions = { standby = "db-2", lag = 10 }', "has no unit"),
        ('kind = "disk"\noptions = { disk = "moon" }', "'moon'"),
        ('kind = "process"', "`part` or at a `pid_file`"),
        ('kind = "payment"\nservice = "bank"\noptions = { steps = [] }', "length"),
        ('kind = "ping"', "ping"),
        ('kind = "cache"\n[[watch.probes]]\nname = "mine"\nkind = "cache"', "stands twice"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_line(probe: str, says: str) -> None:
    with pytest.raises(ManifestError, match=r"platform\.toml:[0-9]+: ") as error:
        parse(probe)
    assert says in error.value.sentence


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        ('kind = "cache"', "there is no [cache]"),
        ('kind = "proxy"\noptions = { backend = "bank" }', "there is no [proxy]"),
        ('kind = "sql"', "there is no [database]"),
        ('kind = "process"\noptions = { part = "worker" }', "[control] has no `running`"),
    ],
)
def test_what_is_not_there_is_not_probed(probe: str, says: str) -> None:
    with pytest.raises(ManifestError) as error:
        parse(probe, WITHOUT_PARTS)
    assert says in error.value.sentence
