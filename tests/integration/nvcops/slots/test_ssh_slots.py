"""Slots of hosts that are reached by ssh: the same verbs, through a real ssh server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ssh_world
from slots_world import SLOTS, World, world
from ssh_world import SshServer

from nvcops.adapters.slots.asking import ask, held
from nvcops.adapters.slots.slots import ReleaseSlots
from nvcops.core.errors import DeadlineExceeded, LockHeld, Refused, Unreachable
from nvcops.core.rollouts import Occupied

pytestmark = pytest.mark.skipif(not ssh_world.PROGRAM.exists(), reason=ssh_world.WHY_NOT)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[World]:
    made = world(tmp_path / "shop", tmp_path / "it's a $(host) root")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def server(shop: World, tmp_path: Path) -> Iterator[SshServer]:
    with ssh_world.running(tmp_path / "sshd", shop.folder) as started:
        yield started


def slots_of(shop: World, server: SshServer, told: dict[str, str] | None = None, **host: object) -> ReleaseSlots:
    return shop.slots(root="", hosts=server.table(SLOTS, shop.root, **host), **(told or {}))


def test_a_release_goes_its_way_on_another_host(shop: World, server: SshServer) -> None:
    old, new = shop.build("1.0").digest, shop.build("1.1").digest
    slots = slots_of(shop, server, {"self_test": '["sh", "-c", "echo $0; pwd", "it\'s {slot} {url}"]'})
    for digest in (old, new):
        slots.lay("main-1", digest)
        slots.lay("main-1", digest)
    assert set(slots.laid("main-2")) == {old, new}
    assert slots.look("main-1") == Occupied(slot="main-1")
    slots.put("main-1", old)
    assert shop.says("main-1") == old
    slots.put("main-1", new)
    assert shop.says("main-1") == new
    assert slots.look("main-1") == Occupied(slot="main-1", digest=new, running=True)
    said = slots.self_test("main-1", new).splitlines()
    assert said == [f"it's main-1 {slots.urls['main-1']}", str(shop.root / "releases" / new)]
    with pytest.raises(Refused, match=r"127\.0\.0\.1: the release .* is in the slot main-1"):
        slots.forget("main-1", new)
    assert slots.forget("main-1", old) > 0
    slots.stop("main-1")
    assert slots.look("main-1") == Occupied(slot="main-1", digest=new)
    assert not shop.left()


def test_an_old_process_behind_a_new_pointer_is_seen_there_too(shop: World, server: SshServer) -> None:
    old, new, slots = shop.build("1.0").digest, shop.build("1.1").digest, slots_of(shop, server)
    for digest in (old, new):
        slots.lay("spare-1", digest)
    slots.put("spare-1", old)
    ask(slots.hosts["spare-1"], "point", 20, root=str(shop.root), slot="spare-1", digest=new, wait_s=1)
    assert slots.look("spare-1") == Occupied(slot="spare-1", digest=new, running=False)
    slots.put("spare-1", new)
    assert shop.says("spare-1") == new


def test_what_was_changed_or_is_missing_on_the_host(shop: World, server: SshServer) -> None:
    old, new, slots = shop.build("1.0").digest, shop.build("1.1").digest, slots_of(shop, server)
    for digest in (old, new):
        slots.lay("main-1", digest)
    slots.put("main-1", old)
    (shop.root / "releases" / new / "app/shop/__main__.py").write_text("print('mine')")
    with pytest.raises(Refused, match=r"127\.0\.0\.1: .* is not what was released: app/shop/__main__\.py was changed"):
        slots.put("main-1", new)
    with pytest.raises(Refused, match="is not what was released"):
        slots.lay("main-1", new)
    slots.forget("main-1", new)
    with pytest.raises(Refused, match="is not laid here"):
        slots.put("main-1", new)
    slots.lay("main-1", new)
    slots.put("main-1", new)
    assert shop.says("main-1") == new


def test_bytes_that_change_on_the_way_are_not_laid(shop: World, server: SshServer) -> None:
    """As if the line or the host's disk changed a byte: the host compares what lies on its disk with what was sent."""
    release, slots = shop.build("1.0"), slots_of(shop, server)
    frame = b'{"path":"app/shop/a.py","size":3,"sha256":"' + b"0" * 64 + b'","executable":false}\nabcnull\n'
    host = slots.hosts["main-1"]
    with pytest.raises(Refused, match="its digest differs"):
        ask(host, "lay", 20, [frame], root=host.root, digest=release.digest, size=3, wait_s=1)
    with pytest.raises(Refused, match="ended too early"):
        ask(host, "lay", 20, [frame[:-8]], root=host.root, digest=release.digest, size=3, wait_s=1)
    evil = frame.replace(b"app/shop/a.py", b"../../escaped")
    with pytest.raises(Refused, match="leads out of its folder"):
        ask(host, "lay", 20, [evil], root=host.root, digest=release.digest, size=3, wait_s=1)
    assert slots.laid("main-1") == []
    assert not shop.left()


def test_hosts_that_are_not_reached(shop: World, server: SshServer) -> None:
    with pytest.raises(Refused, match=r"127\.0\.0\.1 cannot be reached by ssh: .*denied"):
        slots_of(shop, server, identity=str(server.folder / "other_key")).laid("main-1")
    strangers = server.folder / "strangers"
    strangers.write_text(server.known_hosts.read_text().replace("AAAA", "AAAB", 1))
    with pytest.raises(Refused, match="verification failed"):
        slots_of(shop, server, known_hosts=str(server.folder / "nobody")).laid("main-1")
    with pytest.raises(Refused, match="verification failed"):
        slots_of(shop, server, known_hosts=str(strangers)).laid("main-1")
    with pytest.raises(Unreachable, match=r"cannot be reached by ssh: .*refused"):
        slots_of(shop, server, port=1).laid("main-1")
    with pytest.raises(Refused, match=r"there is no python9 on 127\.0\.0\.1"):
        slots_of(shop, server, python="python9").laid("main-1")


def test_a_unit_that_systemctl_does_not_know(shop: World, server: SshServer) -> None:
    digest = shop.build("1.0").digest
    slots = slots_of(shop, server, unit="shop@{slot}.service")
    slots.lay("main-1", digest)
    with pytest.raises(Refused, match=r"systemctl start shop@main-1\.service on 127\.0\.0\.1 ended with 1"):
        slots.put("main-1", digest)


def test_what_hangs_on_the_host_is_killed_there(shop: World, server: SshServer) -> None:
    late = shop.folder / "late"
    script = f"(sleep 4; touch {late}) & echo waiting; wait"
    told = {"self_test": f'["sh", "-c", "{script}", "{{url}}"]', "test_within": "1 s"}
    release, slots = shop.build("1.0"), slots_of(shop, server, told)
    slots.lay("main-1", release.digest)
    with pytest.raises(DeadlineExceeded, match=r"on 127\.0\.0\.1 did not end within 1 s, and was killed"):
        slots.self_test("main-1", release.digest)
    time.sleep(4.5)
    assert not late.exists()


def test_a_lock_ends_with_the_connection_that_holds_it(shop: World, server: SshServer) -> None:
    host = slots_of(shop, server).hosts["main-1"]
    with (
        held(host, "slot-main-1", 1),
        pytest.raises(LockHeld, match="slot-main-1 is being changed by somebody else"),
        held(host, "slot-main-1", 0.2),
    ):
        raise AssertionError("two hold it")
    with held(host, "slot-main-1", 10):
        pass


def test_a_login_shell_that_talks_is_told_apart(shop: World, server: SshServer) -> None:
    host, talking = slots_of(shop, server).hosts["main-1"], server.folder / "bin" / "talking"
    talking.write_text(f'#!/bin/sh\necho "Welcome to the host!"\nexec "{host.python}" "$@"\n')
    talking.chmod(0o755)
    assert slots_of(shop, server, python=str(talking)).laid("main-1") == []
