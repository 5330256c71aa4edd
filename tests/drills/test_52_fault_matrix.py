"""The fault matrix of the backups: each kind of damage is found and rightly named, and nothing whole is blamed.

The repository is real: full and incremental backups, and the log through a promotion, sealed with a key. Seeds choose
the victims; a failure prints its seed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "nvcops" / "examine"))

import damages
import examine_world
from damages import another_key, with_sealing
from examine_world import Pair, Rest, grown, pair
from hands import ALSO, DEEP, KINDS, MORE, entries, segments

from nvcops.adapters.backup import examine
from nvcops.adapters.backup.pack import Sealing
from nvcops.core.backups import Entry, Kind
from nvcops.core.checks import Verdict
from nvcops.core.manifest.tables import Keep, KeepTable
from nvcops.core.units import Seconds
from nvcops.recovery import retention

SEED = int(os.environ.get("NVCOPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
ROUNDS = 8
SAMPLE = 14
CLEAN_AUDITS = 200
SAMPLE_AUDITS = 15
Rehearse = Callable[..., Any]


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with examine_world.at_rest(tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing moves in a repository at rest: a second look need not wait."""
    monkeypatch.setattr(examine, "_PAUSES_S", (0.01, 0.01, 0.01))


def found_by(rehearse: Rehearse, target: Any, *, deep: bool) -> tuple[Verdict, set[tuple[str, str]]]:
    """The procedure's verdict, and cause and subject of each of its lines about the chain."""
    run = rehearse("backup-audit", target, deep=deep)
    lines = [line for line in run.findings if line.check == "recovery.chain" and line.verdict is Verdict.CRITICAL]
    for line in lines:
        assert line.next_step, line
        assert "lost:" in line.observed, line
    return run.verdict, {(line.observed.partition(":")[0], line.subject) for line in lines}


def check(rest: Rest, rehearse: Rehearse, name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    deep = name in DEEP or chance.random() < 0.3
    verdict, found = found_by(rehearse, rest.target, deep=deep)
    assert (verdict, found) == (Verdict.OK, set()), f"before {name}, seed {seed}"
    try:
        wanted = KINDS[name](rest, chance)
        verdict, found = found_by(rehearse, rest.target, deep=deep)
        more = {each for each in found - wanted if each[0] not in ALSO and name not in MORE}
        assert wanted <= found, f"{name}, seed {seed}: not found: {wanted - found} among {found}"
        assert not more, f"{name}, seed {seed}: blamed as well: {more}"
        assert verdict is Verdict.CRITICAL
    finally:
        rest.put_back()


@pytest.mark.drill
@pytest.mark.sample
@pytest.mark.usefixtures("hurried")
def test_damage_is_found_and_named(rest: Rest, rehearse: Rehearse) -> None:
    assert len(KINDS) >= 20
    for name in random.Random(SEED).sample(sorted(KINDS), SAMPLE):
        check(rest, rehearse, name, SEED)


@pytest.mark.drill
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_the_whole_matrix(rest: Rest, rehearse: Rehearse, turn: int) -> None:
    for name in KINDS:
        check(rest, rehearse, name, SEED + turn)
    verdict, found = found_by(rehearse, rest.target, deep=True)
    assert (verdict, found) == (Verdict.OK, set())


@pytest.mark.drill
@pytest.mark.sample
@pytest.mark.usefixtures("hurried")
def test_several_damages_at_once_are_all_found(rest: Rest, rehearse: Rehearse) -> None:
    chance = random.Random(SEED)
    try:
        wanted = damages.several(rest, chance)
        verdict, found = found_by(rehearse, rest.target, deep=True)
        assert wanted <= found, SEED
        assert verdict is Verdict.CRITICAL
    finally:
        rest.put_back()


@pytest.mark.drill
@pytest.mark.sample
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("sealing", [another_key(), Sealing()], ids=["another key", "no key"])
def test_a_wrong_key_is_no_corruption(rest: Rest, rehearse: Rehearse, sealing: Sealing) -> None:
    rest.forget()
    try:
        verdict, found = found_by(rehearse, with_sealing(rest, sealing), deep=True)
        causes = {cause for cause, _ in found}
        assert "wrong-key" in causes
        assert causes <= {"wrong-key", *ALSO}, found
        assert verdict is Verdict.CRITICAL
    finally:
        rest.put_back()


@pytest.mark.drill
@pytest.mark.sample
def test_a_repository_out_of_reach_is_unknown(rest: Rest, rehearse: Rehearse) -> None:
    away = rest.pair.folder.with_name("away")
    gone = dataclasses.replace(rest.repository.store, folder=away / "repository")
    backups = type(rest.pair.backups)(dataclasses.replace(rest.repository, store=gone))
    run = rehearse("backup-audit", dataclasses.replace(rest.target, backups=backups))
    assert run.verdict is Verdict.UNKNOWN
    assert "cannot be reached" in run.findings[0].observed


@pytest.mark.drill
@pytest.mark.sample
@pytest.mark.usefixtures("hurried")
def test_what_is_lost_is_said(rest: Rest) -> None:
    """A hole before the newest full backup costs the time until that one ended, and no more."""
    last_full = entries(rest)[3].database
    assert last_full is not None
    before = [file for file in segments(rest) if file.name[8:] < last_full.first_segment[8:]]
    try:
        rest.repository.store.delete([before[-1].key])
        (fault,) = rest.pair.backups.examine(deep=False).faults
        assert fault.subject == before[-1].name
        assert fault.lost.startswith("every point from ")
        assert f"to {last_full.stop_time:%Y-%m-%d %H:%M:%S} UTC ({last_full.stop_lsn})" in fault.lost
    finally:
        rest.put_back()


@pytest.mark.drill
@pytest.mark.sample
def test_a_killed_audit_leaves_nothing_behind(rest: Rest) -> None:
    script = (
        "import sys; from pathlib import Path; from nvcops.wiring import load;"
        "from nvcops.adapters.target import connect; target = connect(load(Path(sys.argv[1])));"
        "print('begun', flush=True)\nwhile True: target.backups.examine(deep=True)"
    )
    chance = random.Random(SEED)
    manifest = str(rest.pair.folder / "platform.toml")
    try:
        for _ in range(3):
            child = subprocess.Popen([sys.executable, "-c", script, manifest], stdout=subprocess.PIPE)
            assert child.stdout is not None
            with child.stdout:
                assert child.stdout.readline() == b"begun\n"
                time.sleep(chance.random() * 0.5)
                child.send_signal(signal.SIGKILL)
                child.wait()
            audit = rest.pair.backups.examine(deep=False)
            assert audit.faults == ()
            assert not list((rest.state / "backups").glob("examine-*"))
    finally:
        rest.put_back()


# --- no false alarm: audits of a repository that lives ---


class Life:
    """Customers' traffic, finished segments, backups and retention, all at once, until it is stopped."""

    def __init__(self, made: Pair) -> None:
        self.made = made
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.removed = 0
        self.threads = [threading.Thread(target=self._go, args=(act,)) for act in (self._traffic, self._backups)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
        assert not self.errors, self.errors

    def _go(self, act: Callable[[], None]) -> None:
        try:
            while not self.stop.is_set():
                act()
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits
            self.errors.append(error)

    def _traffic(self) -> None:
        self.made.write(800)
        self.stop.wait(0.1)
        if random.random() < 0.15:
            self.made.next_segment()

    def _backups(self) -> None:
        self.made.back_up(full=self.made.taken % 3 == 0)
        self._retain()
        self.stop.wait(1.5)

    def _retain(self) -> None:
        """Keep two full backups and what builds upon them, whatever their age."""
        backups, now = self.made.backups, dt.datetime.now(dt.UTC)
        keep = KeepTable(database=Keep(count=2, age=Seconds(0)))
        plan = retention.plan(backups.catalogue(), backups.segments(), keep, now)
        if plan.ids or plan.log:
            name = f"{now:%Y%m%dT%H%M%S%f}Z-D"
            draft = Entry(number=0, id=name, kind=Kind.REMOVAL, platform="test-bank", began=now, ended=now)
            backups.remove(plan.ids, plan.log, draft=draft)
            self.removed += len(plan.ids)


def audited(made: Pair, count: int) -> Life:
    """Audit a living repository again and again, every fifth time deeply; no fault, ever."""
    ends = []
    with Life(made) as life:
        for number in range(count):
            audit = made.backups.examine(deep=number % 5 == 4)
            assert audit.faults == (), f"audit {number}"
            ends.append(audit.newest_lsn)
            assert not life.errors, life.errors
    assert len(set(ends)) > count / 10, "the repository did not live"
    return life


@pytest.mark.drill
@pytest.mark.sample
def test_audits_of_a_living_repository(tmp_path: Path) -> None:
    with pair(tmp_path) as made:
        grown(made)
        audited(made, SAMPLE_AUDITS)


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_hundreds_of_audits_of_a_living_repository(tmp_path: Path) -> None:
    with pair(tmp_path) as made:
        grown(made)
        life = audited(made, CLEAN_AUDITS)
        assert life.removed > 0


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_audits_during_a_promotion(tmp_path: Path) -> None:
    """The log goes on upon a new timeline while it is being audited."""
    with pair(tmp_path) as made:
        made.receive()
        made.until(lambda: made.backups.receiver().slot_active)
        made.write()
        made.back_up(full=True)
        made.write()
        made.received()
        stop, audits = threading.Event(), []
        auditor = threading.Thread(target=lambda: _until(stop, lambda: audits.append(made.backups.examine(deep=False))))
        auditor.start()
        try:
            time.sleep(0.5)
            made.promote()
            made.until(lambda: made.backups.receiver().slot_active)
            made.write()
            made.next_segment()
            made.write()
            made.received()
        finally:
            stop.set()
            auditor.join(60)
        assert [audit.faults for audit in audits if audit.faults] == []
        final = made.backups.examine(deep=True)
        assert final.faults == ()
        assert len(audits) > 3


def _until(stop: threading.Event, act: Callable[[], None]) -> None:
    while not stop.is_set():
        act()
