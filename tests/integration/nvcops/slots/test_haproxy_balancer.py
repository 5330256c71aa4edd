"""Weights, as the real HAProxy takes them, splits by them, and keeps them over a restart."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import balancer_world
import pytest
from balancer_world import World

from nvcops.adapters.haproxy import HAProxy
from nvcops.adapters.haproxy_balancer import HAProxyBalancer
from nvcops.core.errors import DeadlineExceeded, Refused, StateError, Unreachable


@pytest.fixture
def shop() -> Iterator[World]:
    with balancer_world.world() as made:
        yield made


def weights(balancer: HAProxyBalancer) -> dict[str, int]:
    return {seen.slot: seen.weight for seen in balancer.look()}


def requests(balancer: HAProxyBalancer) -> dict[str, int | None]:
    return {seen.slot: seen.requests for seen in balancer.look()}


@pytest.mark.parametrize(
    "shares",
    [
        {"main-1": 45, "main-2": 45, "spare-1": 10},
        {"main-1": 0, "main-2": 90, "spare-1": 10},
        {"main-1": 25, "main-2": 25, "spare-1": 50},
        {"main-1": 99, "main-2": 100, "spare-1": 1},
        {"main-1": 0, "main-2": 0, "spare-1": 100},
    ],
)
def test_roundrobin_splits_by_weights_exactly(shop: World, shares: dict[str, int]) -> None:
    balancer, total = shop.balancer(), sum(shares.values())
    balancer.share(shares)
    first = shop.ask(sum(shop.weights.values()))  # the weights before have an effect on where it begins
    for slot, weight in shares.items():
        assert abs(first[slot] / first.total() - weight / total) <= 0.03, (slot, first)
    before = requests(balancer)
    for _ in range(3):
        assert shop.ask(total) == {slot: weight for slot, weight in shares.items() if weight}
    after = requests(balancer)
    assert {slot: (after[slot] or 0) - (before[slot] or 0) for slot in shares} == {
        slot: 3 * weight for slot, weight in shares.items()
    }, "what it counts is what came"


def test_what_is_seen_of_each_slot(shop: World) -> None:
    balancer = shop.balancer()
    balancer.share({"main-1": 0, "main-2": 100, "spare-1": 0})
    shop.ask(5)
    shop.ask(3, "/fail")
    (seen,) = [one for one in balancer.look() if one.slot == "main-2"]
    assert (seen.weight, seen.healthy, seen.sessions, seen.requests, seen.failed) == (100, True, 0, 8, 3)
    shop.servers["spare-1"].stop()
    shop.until(lambda: not next(one for one in balancer.look() if one.slot == "spare-1").healthy)
    assert {one.slot for one in shop.balancer(slots=("main-1", "main-9")).look()} == {"main-1"}


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("way", ["/fail", "/broken", "/slow", "refused"])
def test_every_way_to_fail_counts(way: str, retried: bool) -> None:
    """One slot fails a third of the requests; where others are tried then, no customer sees it, and it counts still."""
    with balancer_world.world(retried=retried, patient=True) as shop:
        balancer = shop.balancer()
        balancer.share(dict.fromkeys(balancer_world.SLOTS, 100))
        shop.servers["spare-1"].way = "/" if way == "refused" else way
        if way == "refused":
            shop.servers["spare-1"].stop()
        said = shop.ask(9)
        seen = {one.slot: one for one in balancer.look()}
    spare, tries = seen["spare-1"], seen["spare-1"].requests or 0
    assert (seen["main-1"].failed, seen["main-2"].failed) == (0, 0)
    assert tries >= 3
    assert spare.failed == tries, "all of its, each once"
    assert said["main-1"] + said["main-2"] == (9 if retried and way != "/fail" else 6)


def test_weights_outlive_a_restart_by_the_file(shop: World) -> None:
    balancer, shares = shop.balancer(), {"main-1": 45, "main-2": 45, "spare-1": 10}
    balancer.share(shares)
    shop.ask(10)
    shop.restart()
    assert weights(balancer) == shares
    assert set(requests(balancer).values()) == {0}, "a restart begins to count anew"
    said = shop.ask(110)
    assert all(abs(said[slot] - 1.1 * weight) <= 2 for slot, weight in shares.items()), said
    balancer.share({"spare-1": 0, "main-1": 100})
    shop.restart()
    assert weights(balancer) == {"main-1": 100, "main-2": 45, "spare-1": 0}
    assert shop.ask(50)["spare-1"] == 0
    balancer.share({"spare-1": 30})
    assert shop.ask(35)["spare-1"] > 0, "drained before the restart, and taken back into service after it"


@pytest.mark.parametrize("kept", [None, "garbage\n", "1\n# be_id be_name srv_id\ncut off", ""])
def test_without_a_file_that_it_can_read_the_configuration_counts(shop: World, kept: str | None) -> None:
    balancer = shop.balancer()
    balancer.share({"main-1": 45, "main-2": 45, "spare-1": 10})
    shop.state.unlink() if kept is None else shop.state.write_text(kept)
    shop.restart()
    assert weights(balancer) == shop.weights, "a spare slot has the weight 0 there: it gets nothing by accident"


def test_a_weight_that_was_changed_in_the_configuration_counts_more_than_the_file(shop: World) -> None:
    shop.balancer().share({"main-1": 45, "main-2": 45, "spare-1": 10})
    shop.weights["main-1"] = 60
    shop.restart()
    assert weights(shop.balancer()) == {"main-1": 60, "main-2": 45, "spare-1": 10}


def test_a_drained_slot_finishes_what_it_began(shop: World) -> None:
    balancer = shop.balancer()
    balancer.share({"main-1": 0, "main-2": 0, "spare-1": 100})
    said: list[object] = []
    slow = threading.Thread(target=lambda: said.append(shop.ask(1, "/slow")))
    slow.start()
    shop.until(lambda: {one.slot: one.sessions for one in balancer.look()}["spare-1"] == 1)
    balancer.share({"main-1": 50, "main-2": 50})
    assert balancer.drain("spare-1", 0.3) is False
    assert shop.ask(20)["spare-1"] == 0
    shop.servers["spare-1"].over.set()
    assert balancer.drain("spare-1", 10) is True
    slow.join(10)
    assert said == [{"spare-1": 1}]


def test_what_it_cannot_take_changes_nothing(shop: World) -> None:
    balancer = shop.balancer(slots=("main-1", "main-2", "spare-1", "main-9"))
    with pytest.raises(Refused, match="has no server shop/main-9"):
        balancer.share({"main-1": 1, "main-9": 10})
    with pytest.raises(Refused, match="cannot have the weight 257"):
        balancer.share({"main-1": 1, "main-2": 257})
    shop.command("set server shop/main-2 state maint")
    with pytest.raises(Refused, match="shop/main-2 is in maintenance: somebody put it there"):
        balancer.share({"main-1": 1, "main-2": 10})
    assert weights(balancer) == {"main-1": 100, "main-2": 0, "spare-1": 0}
    with pytest.raises(Refused, match="has no backend 'nothing'"):
        shop.balancer(backend="nothing").look()
    balancer.share({})
    assert not shop.state.exists()


def test_only_the_slots_that_are_named_are_changed(shop: World) -> None:
    balancer = shop.balancer()
    balancer.share({"spare-1": 11})
    assert weights(balancer) == {"main-1": 100, "main-2": 100, "spare-1": 11}
    rows = [line.split(",") for line in shop.command("show stat").splitlines() if line.startswith("other,main-1,")]
    assert rows[0][18] == "7", "another backend has a server of that name"


def test_a_state_that_cannot_be_written_is_said(shop: World, tmp_path: Path) -> None:
    balancer = shop.balancer(state_file=tmp_path / "gone" / "state")
    with pytest.raises(StateError, match="cannot be used"):
        balancer.share({"spare-1": 10})
    assert weights(balancer)["spare-1"] == 10, "it was taken: the next call writes it down"
    shop.balancer().share({"spare-1": 10})
    assert [path.name for path in shop.folder.glob(".state*")] == []
    assert shop.state.stat().st_mode & 0o777 == 0o644


def test_a_proxy_that_is_frozen_gone_or_somebody_else(shop: World, tmp_path: Path) -> None:
    balancer = shop.balancer(proxy=HAProxy(name="proxy", socket=shop.socket, deadline_s=0.3))
    assert shop.child
    shop.child.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.3 s"):
            balancer.share({"spare-1": 10})
    finally:
        shop.child.send_signal(signal.SIGCONT)
    shop.kill()
    with pytest.raises(Unreachable, match="connection refused"):
        balancer.look()
    with pytest.raises(Unreachable, match="no such file"):
        shop.balancer(proxy=HAProxy(name="proxy", socket=tmp_path / "none", deadline_s=1)).look()


class Pretender:
    """Something that listens on a runtime socket and says what the test wants, answer by answer."""

    def __init__(self, path: Path, *answers: str) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.thread = threading.Thread(target=self.serve, args=(answers,), daemon=True)
        self.thread.start()

    def serve(self, answers: tuple[str, ...]) -> None:
        for answer in answers:
            connection, _ = self.listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer.encode())

    def close(self) -> None:
        self.thread.join(10)
        self.listening.close()


def statistics(weight: int) -> str:
    columns = "# pxname,svname,scur,stot,status,weight,econ,eresp,hrsp_5xx,type,\n"
    return columns + f"shop,main-1,0,0,UP,{weight},0,0,0,2,\n"


def states(weight: int) -> str:
    columns = "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight"
    return f"1\n# {columns}\n3 shop 1 main-1 127.0.0.1 2 0 {weight} 100\n\n"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (("SSH-2.0-OpenSSH",), "did not show its servers: 'SSH-2.0-OpenSSH'"),
        (("",), "did not show its servers: ''"),
        ((statistics(100), "", statistics(100)), "did not take the weights: main-1 has 100"),
        ((statistics(100), "Permission denied\n", statistics(100)), "it said 'Permission denied'"),
        ((statistics(100), "\n\n", statistics(50), states(100)), "did not take the weights: main-1 has 100"),
        ((statistics(100), "\n\n", statistics(50), "?"), "did not show its servers' state"),
    ],
    ids=["ssh", "nothing", "not taken", "not allowed", "restarted before it was written down", "no state"],
)
def test_answers_that_do_not_fit_are_refused(tmp_path: Path, answers: tuple[str, ...], sentence: str) -> None:
    with balancer_world.tempfile.TemporaryDirectory(prefix="nvcops-") as name:
        pretender = Pretender(Path(name) / "s", *answers)
        try:
            proxy = HAProxy(name="proxy", socket=Path(name) / "s", deadline_s=5)
            balancer = HAProxyBalancer(proxy=proxy, backend="shop", slots=("main-1",), state_file=tmp_path / "state")
            with pytest.raises(Refused, match=sentence):
                balancer.share({"main-1": 50})
        finally:
            pretender.close()
    assert not (tmp_path / "state").exists()
