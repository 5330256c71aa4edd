"""How it looks, at a real server: soon again, twice at once, never for long, and sure of whose fault it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from watching import WAIT_S, Watched, WebServer, probe, watching

from nvcops.adapters import probes as adapter
from nvcops.adapters.probes import open_prober, prober
from nvcops.adapters.probes.asking import Asker
from nvcops.adapters.probes.prober import AGAIN_S, LoopProber
from nvcops.core.errors import Refused
from nvcops.core.manifest import Manifest
from nvcops.core.watch import Look, Probe


def test_a_server_that_is_well_is_looked_at_each_interval_on_a_connection_that_is_kept(
    web: WebServer, platform: Manifest
) -> None:
    with watching(open_prober(platform, [probe("door", "http", url=web.url, path="/ok", contains="fine")])) as watch:
        looks = watch.next("door", 15)
    assert [look.why for look in looks] == [""] * 15
    assert all(look.known and look.seconds is not None for look in looks)
    # Ten looks on a connection; a moment in which this machine was slow may have cost a second look beside one.
    assert 2 <= web.connections() < 15


def test_who_refuses_is_looked_at_again_at_once_and_recovers(web: WebServer, platform: Manifest) -> None:
    slow = probe("door", "http", interval=2.0, url=web.url, path="/ok")
    with watching(open_prober(platform, [slow])) as watch:
        watch.next("door")
        web.stop()
        first, second = watch.until_bad("door")
        assert "connection refused" in first.why
        assert (second.time - first.time).total_seconds() < 2.0 - 2 * AGAIN_S, "it waited for the interval"
        web.start()
        watch.until(lambda: not watch.of("door")[-1].why)


def test_who_is_frozen_is_found_out_by_two_looks_that_wait_side_by_side(web: WebServer, platform: Manifest) -> None:
    with watching(open_prober(platform, [probe("door", "http", interval=1, deadline=2, url=web.url)])) as watch:
        watch.next("door")
        web.send(signal.SIGSTOP)
        try:
            first, second = watch.until_bad("door")
        finally:
            web.send(signal.SIGCONT)
        assert "did not answer within 2 s" in first.why
        assert (second.time - first.time).total_seconds() < 2.0, "the second waited for the end of the first"
        watch.until(lambda: not watch.of("door")[-1].why)


def test_an_answer_that_is_not_the_one_says_what_it_was(web: WebServer, platform: Manifest) -> None:
    probes = [
        probe("unready", "http", url=web.url, path="/unready"),
        probe("other", "http", url=web.url, path="/ok", expect=204),
        probe("words", "http", url=web.url, path="/ok", contains="password"),
        probe("expected", "http", url=web.url, path="/unready", expect=503),
        probe("tcp", "tcp", address=f"127.0.0.1:{web.port}"),
        probe("nobody", "tcp", address="127.0.0.1:1"),
    ]
    with watching(open_prober(platform, probes)) as watch:
        said = {one.name: watch.next(one.name)[0] for one in probes}
    assert said["unready"].why == "answers 503: the database does not answer"
    assert said["other"].why == "answers 200 instead of 204"
    assert said["words"].why == "answers without 'password'"
    assert said["expected"].why == said["tcp"].why == ""
    assert said["nobody"].why == "127.0.0.1:1 does not answer: connection refused"
    assert all(look.known for look in said.values())


class Broken:
    """Whoever asks and has a bug."""

    twice, patient = True, False

    async def ask(self, *, fresh: bool) -> float | None:
        raise ZeroDivisionError(f"a bug, fresh {fresh}")

    async def close(self) -> None:
        raise AssertionError("not reached by a look")


class Good(Broken):
    async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002
        return 7.0

    async def close(self) -> None:
        """Nothing is kept."""


class BrokenButCloses(Broken):
    async def close(self) -> None:
        """Nothing is kept."""


def test_one_probe_s_bug_is_unknown_and_is_not_the_others() -> None:
    def make(one: Probe) -> Asker:
        if one.name == "unmade":
            raise Refused("no such part")
        return BrokenButCloses() if one.name == "bug" else Good()

    names = ("bug", "unmade", "good")
    with watching(LoopProber([probe(name, "tcp", interval=0.05) for name in names], make)) as watch:
        said = {name: watch.next(name, 5) for name in names}
    assert {(look.why, look.value, look.known) for look in said["good"]} == {("", 7.0, True)}
    assert all(not look.known and "ZeroDivisionError: a bug" in look.why for look in said["bug"])
    assert {look.why for look in said["unmade"]} == {"no such part"}


def test_who_hears_too_slowly_is_told_that_looks_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "_WAITING_MAX", 5)
    go_on = threading.Event()

    def slow(watch: Watched, looks: Sequence[Look]) -> None:
        go_on.wait(WAIT_S)
        watch.tell(looks)

    with watching(LoopProber([probe("a", "tcp", interval=0.02)], lambda _: Good()), slow) as watch:
        time.sleep(1.0)
        go_on.set()
        lost = watch.until(lambda: [look for look in watch.of("a") if "lost" in look.why])
    assert not lost[0].known


def test_what_hearing_raises_ends_the_watch_and_is_raised() -> None:
    def raising(_: Watched, looks: Sequence[Look]) -> None:
        raise Refused(f"{len(looks)} looks are not wanted")

    with watching(LoopProber([probe("a", "tcp", interval=0.02)], lambda _: Good()), raising) as watch:
        end = time.monotonic() + WAIT_S
        while watch.error is None:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert isinstance(watch.error, Refused)


def test_nothing_to_look_at_is_no_reason_to_end(platform: Manifest) -> None:
    with watching(adapter.open_prober(platform, [])) as watch:
        time.sleep(0.5)
    assert (watch.looks, watch.error) == ([], None)


def test_lateness_does_not_add_up() -> None:
    """Looks that take a third of their interval: as many as there are intervals, not fewer by what they took."""

    class Slowish(Good):
        async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002
            time.sleep(0.03)  # noqa: ASYNC251 - the loop is busy: nothing runs in the meantime
            return None

    def forty_intervals(watch: Watched) -> float:
        first, *_, last = watch.next("a", 41)
        return (last.time - first.time).total_seconds() / 0.1

    with watching(LoopProber([probe("a", "tcp", interval=0.1)], lambda _: Slowish())) as watch:
        assert min(forty_intervals(watch) for _ in range(2)) < 46, "40 looks and what each took: 52 intervals"


CHILD = """
import json, resource, sys, threading
from pathlib import Path
from watching import PLATFORM, probe
from nvcops.adapters.probes import open_prober
from nvcops.core import manifest
url, path, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
kept = []
prober = open_prober(manifest.parse(PLATFORM, Path("platform.toml")), [
    probe("door", "http", interval=0.5, deadline=1.0, url=url, path=path)])
def told(looks):
    for look in looks:
        print(json.dumps([look.why, look.known]), flush=True)
        if files and not kept:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
            try:
                while True:
                    kept.append(open("/dev/null"))
            except OSError:
                pass
prober.run(threading.Event(), told)
"""


def child(web: WebServer, path: str, files: int = 0) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CHILD, web.url, path, str(files)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)


def test_that_we_have_no_descriptors_says_nothing_about_who_is_asked(web: WebServer) -> None:
    with child(web, "/ok", files=64) as process:
        try:
            assert process.stdout
            said = [json.loads(process.stdout.readline()) for _ in range(12)]
        finally:
            process.kill()
    assert said[0] == ["", True]
    unknown = [why for why, known in said if not known]
    assert unknown
    assert all("too many open files" in why.lower() for why in unknown)
    assert not [why for why, known in said if known and why]


def test_that_we_stood_still_ourselves_says_nothing_about_who_is_asked(web: WebServer) -> None:
    """The answers take so long that a look is under way whenever we are stopped."""
    with child(web, "/slow/0.45") as process:
        try:
            assert process.stdout
            said = [json.loads(process.stdout.readline()) for _ in range(2)]
            for _ in range(4):
                process.send_signal(signal.SIGSTOP)
                time.sleep(1.6)
                process.send_signal(signal.SIGCONT)
                said += [json.loads(process.stdout.readline()) for _ in range(2)]
        finally:
            process.kill()
    assert [why for why, known in said if not known and "we ourselves stood still" in why]
    assert not [why for why, known in said if known and why]
