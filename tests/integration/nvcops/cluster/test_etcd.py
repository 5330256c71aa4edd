"""The lease in a real etcd: read, and taken away only from the one who has it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import pytest

from nvclab.parts.etcd import Etcd as EtcdServer
from nvclab.parts.process import free_ports
from nvcops.adapters.etcd import Etcd
from nvcops.core.errors import Unreachable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    folder = tmp_path_factory.mktemp("etcd")
    clients, peers = free_ports(2)
    etcd = EtcdServer(clients, peers, folder / "data", folder / "etcd.log")
    etcd.launch()
    etcd.process.wait_until(etcd.ready, 60)
    yield etcd
    etcd.stop()


@pytest.fixture
def etcd(server: EtcdServer) -> Etcd:
    return Etcd([f"http://127.0.0.1:{server.port}"], 5.0)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(etcd: Etcd, key: str, value: str, lease: str = "") -> None:
    body = {"key": encoded(key), "value": encoded(value), **({"lease": lease} if lease else {})}
    asyncio.run(etcd.tell("/v3/kv/put", body))


def test_a_lease_is_taken_only_from_whoever_has_it(etcd: Etcd) -> None:
    put(etcd, "/service/one/leader", "db-1")
    put(etcd, "/service/other/leader", "db-1")
    assert not asyncio.run(etcd.delete_if("/service/one/leader", "db-2"))
    assert asyncio.run(etcd.delete_if("/service/one/leader", "db-1"))
    assert not asyncio.run(etcd.delete_if("/service/one/leader", "db-1"))
    assert asyncio.run(etcd.read("/service/one/")) == {}
    assert [kept.value for kept in asyncio.run(etcd.read("/service/other/")).values()] == ["db-1"]


def test_what_is_left_of_a_lease(etcd: Etcd) -> None:
    lease = asyncio.run(etcd.tell("/v3/lease/grant", {"TTL": 60}))["ID"]
    put(etcd, "/service/leased/leader", "db-1", lease)
    kept = asyncio.run(etcd.read("/service/leased/"))["leader"]
    assert kept.lease == lease
    assert 0 < asyncio.run(etcd.lease_left(kept.lease)) <= 60
    assert asyncio.run(etcd.lease_left("12345")) == -1


def test_a_member_that_is_gone_keeps_nobody_waiting(etcd: Etcd, server: EtcdServer) -> None:
    put(etcd, "/service/some/leader", "db-1")
    gone = f"http://127.0.0.1:{free_ports(1)[0]}"
    some = Etcd([gone, f"http://127.0.0.1:{server.port}"], 5.0)
    assert asyncio.run(some.read("/service/some/"))["leader"].value == "db-1"
    assert asyncio.run(some.delete_if("/service/some/leader", "db-1"))
    with pytest.raises(Unreachable):
        asyncio.run(Etcd([gone], 5.0).read("/service/some/"))
