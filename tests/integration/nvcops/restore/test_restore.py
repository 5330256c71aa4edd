"""Restores to every kind of point, what is seen in them, and what is refused."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from restore_world import FULL, INCREMENTAL, RestoreWorld

from conftest import Told
from nvcops.adapters.backup import spool
from nvcops.adapters.backup.catalogue import Catalogue
from nvcops.adapters.backup.clone import server_of
from nvcops.adapters.backup.local import LocalStore
from nvcops.adapters.backup.pack import Sealing
from nvcops.adapters.backup.restores import NativeRestores
from nvcops.core.backups import RestoreTarget
from nvcops.core.errors import (
    EvidenceError,
    NotFoundError,
    NvcopsError,
    Refused,
    StateError,
    Unreachable,
    UsageError,
)
from nvcops.core.restores import Purpose

END = RestoreTarget()


def transfers(world: RestoreWorld, data: Path) -> list[str]:
    with world.clone_of(data) as conninfo, psycopg.connect(conninfo, dbname="postgres") as session:
        return [key for (key,) in session.execute("SELECT DISTINCT transfer FROM entry ORDER BY 1")]


@pytest.fixture
def clean(told: Told) -> Iterator[RestoreWorld]:
    """The told world; whatever a test does, nothing of it is left."""
    yield told.world
    shutil.rmtree(told.world.folder / "restored", ignore_errors=True)
    assert told.world.left() == []


@pytest.mark.parametrize(
    ("backup", "target", "there"),
    [
        (FULL, "end", "abcd"),
        (FULL, "time", "ab"),
        (FULL, "lsn", "ab"),
        (FULL, "name", "abcd"),
        (INCREMENTAL, "end", "abcd"),
        ("newest", "end", "abcd"),
        ("newest", "time", "ab"),
    ],
)
def test_what_was_committed_before_the_point_is_there_and_nothing_else(
    told: Told, clean: RestoreWorld, backup: str, target: str, there: str
) -> None:
    to = {"end": END, "time": told.time, "lsn": told.lsn, "name": RestoreTarget(name="received")}[target]
    assert transfers(clean, clean.restored(clean.plan(backup, to))) == list(there)


def test_what_is_well_is_seen_to_be_well(told: Told, clean: RestoreWorld) -> None:
    plan = clean.plan(INCREMENTAL, purpose=Purpose.DRILL)
    assert plan.chain == (FULL, INCREMENTAL)
    clean.restores.unpack(plan)
    clean.restores.replay(plan)
    seen = clean.restores.verify(plan)
    clean.restores.discard(plan)
    assert seen.pages.broken == seen.constraints.broken == seen.invariants.broken == ()
    assert seen.pages.things > 100
    assert (seen.constraints.things, seen.invariants.things) == (4, 2)
    assert (seen.ledger.acknowledged, seen.ledger.missing) == (4, 0)
    books = {book.table: book.rows for book in seen.books}
    assert books == {"public.account": 1000, "public.entry": 8}
    assert told.world.left() == []


def test_a_part_that_is_done_is_not_done_again(clean: RestoreWorld) -> None:
    plan = clean.plan(purpose=Purpose.DRILL)
    assert clean.restores.unpack(plan) == clean.restores.unpack(plan)
    first = clean.restores.replay(plan)
    assert clean.restores.replay(plan) == first
    (plan.work / "replayed.json").unlink()  # killed between the promotion and the note of it
    assert clean.restores.replay(plan).lsn == first.lsn
    clean.restores.discard(plan)
    clean.restores.discard(plan)


def test_what_was_unpacked_before_the_machine_went_down_is_unpacked_again(clean: RestoreWorld) -> None:
    """Nobody had forced it to the disk: after the crash a file may be there by its name alone."""
    plan = clean.plan()
    clean.restores.unpack(plan)
    (plan.work / "boot").write_text("another start of this machine")
    (plan.work / "data" / "global" / "pg_control").write_bytes(b"")
    clean.restores.replay(plan)
    clean.restores.deliver(plan)
    clean.restores.forget(plan)
    assert transfers(clean, clean.folder / "restored") == list("abcd")


def test_what_a_killed_run_left_is_removed_by_the_next(clean: RestoreWorld) -> None:
    for run in ("killed@1", "killed@1.part2", "mine@2.part2"):
        clean.restores.unpack(clean.plan(run=run, purpose=Purpose.DRILL))
    assert len(clean.restores.tidy("mine@2")) == 2
    assert len(clean.left()) == 2
    assert len(clean.restores.tidy("other@3")) == 1


def test_a_server_whose_parent_died_is_waited_for(clean: RestoreWorld) -> None:
    plan = clean.plan(purpose=Purpose.DRILL)
    clean.restores.unpack(plan)
    clean.restores.replay(plan)
    clone = clean.restores._clone(plan)
    with clone.running(deadline_s=60):
        assert server_of(clone.data)
        clean.restores.discard(plan)
    assert not clone.data.exists()


DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("backup", "target", "error", "says"),
    [
        ("20261122T000000Z-X", END, NotFoundError, "there is no backup '20261122T000000Z-X'"),
        (FULL, RestoreTarget(lsn="FF/0"), UsageError, "the log ends before FF/0"),
        (FULL, RestoreTarget(lsn="0/1000000"), UsageError, "after 0/1000000"),
        ("newest", RestoreTarget(lsn="0/1000000"), UsageError, "no backup ended before 0/1000000"),
        (
            FULL,
            RestoreTarget(time=dt.datetime.now(dt.UTC) + DAY),
            UsageError,
            "is after the end of the log: kept is from",
        ),
        ("newest", RestoreTarget(time=dt.datetime.now(dt.UTC) - DAY), UsageError, "the oldest ended at"),
    ],
)
def test_a_point_that_is_not_kept_is_refused_with_what_is(
    clean: RestoreWorld, backup: str, target: RestoreTarget, error: type[NvcopsError], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        clean.plan(backup, target)
    assert refused.value.hint


def test_a_backup_that_ended_after_the_point_is_refused_and_the_right_one_named(
    told: Told, clean: RestoreWorld
) -> None:
    with pytest.raises(UsageError, match="after") as refused:
        clean.plan(INCREMENTAL, told.time)
    assert FULL in refused.value.hint


def test_a_restore_point_that_never_was_is_refused_and_nothing_is_left(clean: RestoreWorld) -> None:
    plan = clean.plan(to=RestoreTarget(name="never made"))
    clean.restores.unpack(plan)
    with pytest.raises(StateError, match="no restore point 'never made'"):
        clean.restores.replay(plan)
    clean.restores.discard(plan)


def test_a_folder_that_is_not_empty_or_serves_is_refused(clean: RestoreWorld, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for into, error, says in (
        (tmp_path, UsageError, "is not empty"),
        (clean.world.server.data, Refused, "a server runs in"),
        (tmp_path / "no" / "where", UsageError, "there is no folder"),
    ):
        with pytest.raises(error, match=says):
            clean.restores.plan("run@1", FULL, END, purpose=Purpose.FOLDER, into=into)


def test_a_wrong_key_is_refused(clean: RestoreWorld) -> None:
    for sealing, says in ((Sealing(bytes(32)), "is the key 66687aadf862bd77"), (Sealing(), "no key is named")):
        repository = _replaced(clean, sealing=sealing)
        with pytest.raises(StateError, match=says):
            repository.plan("run@1", FULL, END, purpose=Purpose.DRILL, into=None)


def test_an_unreachable_repository_is_refused(clean: RestoreWorld, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "not" / "mounted")
    restores = _replaced(clean, store=store, catalogue=Catalogue(store))
    with pytest.raises(Unreachable, match="cannot be reached"):
        restores.plan("run@1", FULL, END, purpose=Purpose.DRILL, into=None)


def test_too_little_room_is_refused(clean: RestoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(clean.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1 << 20))
    with pytest.raises(StateError, match="and 1 MiB are free"):
        clean.plan()


def _replaced(world: RestoreWorld, **parts: Any) -> NativeRestores:
    return replace(world.restores, repository=replace(world.restores.repository, **parts))


def stored(world: RestoreWorld, pattern: str) -> Path:
    found = sorted((world.folder / "repository").glob(pattern))
    assert found, pattern
    return found[0]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x20
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["backups/*/000001.pack", "backups/*/index"])
def test_a_flipped_bit_in_a_backup_ends_the_restore_and_nothing_is_left(own: RestoreWorld, pattern: str) -> None:
    flip(stored(own, pattern))
    plan = own.plan()
    with pytest.raises(EvidenceError, match=FULL):
        own.restores.unpack(plan)
    own.restores.discard(plan)
    assert own.left() == []


def test_a_missing_or_truncated_object_is_refused_before_anything_is_touched(own: RestoreWorld) -> None:
    pack = stored(own, "backups/*/000001.pack")
    pack.write_bytes(pack.read_bytes()[:-1])
    with pytest.raises(StateError, match="bytes and should have"):
        own.plan()
    pack.unlink()
    with pytest.raises(StateError, match="is missing"):
        own.plan()
    assert own.left() == []


def segments(world: RestoreWorld) -> list[Path]:
    return sorted((world.folder / "repository" / "wal").rglob("*.seg"))


def write_segments(world: RestoreWorld, count: int) -> None:
    for number in range(count):
        world.pay(f"s{number}")
        last = str(world.world.execute("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
    world.received()
    world.world.wait(lambda: any(segment.name.startswith(last) for segment in segments(world)))
    world.world.wait(lambda: min(spool.look(world.world.repository.spool).logs) >= last)  # and all before it


def test_a_missing_segment_is_named_and_a_point_before_it_is_still_reached(own: RestoreWorld) -> None:
    lsn = RestoreTarget(lsn=own.end())
    write_segments(own, 4)
    gone = segments(own)[-2]
    gone.unlink()
    with pytest.raises(StateError, match=f"{gone.name[:24]} is missing from the log: .* no further"):
        own.plan()
    assert transfers(own, own.restored(own.plan(to=lsn))) == ["a", "b"]


def test_a_segment_that_is_there_twice_and_differs_is_refused(own: RestoreWorld) -> None:
    write_segments(own, 2)
    one = segments(own)[-1]
    shutil.copy(one, one.with_name(f"{one.name[:24]}-{'0' * 32}.seg"))
    with pytest.raises(StateError, match="is in the repository twice"):
        own.plan()


def test_a_flipped_bit_in_the_log_ends_the_restore(own: RestoreWorld) -> None:
    write_segments(own, 2)
    flip(segments(own)[-1])
    plan = own.plan()
    own.restores.unpack(plan)
    with pytest.raises(EvidenceError, match="cannot be read back"):
        own.restores.replay(plan)


Damage = Callable[[RestoreWorld], None]


def orphan_entry(world: RestoreWorld) -> None:
    """Replicas do not check: so a wrong row gets in."""
    world.world.execute(
        "SET session_replication_role = replica; INSERT INTO entry VALUES ('x', 5000, 1), ('x', 5001, -1)"
    )


def lose_money(world: RestoreWorld) -> None:
    world.world.execute("INSERT INTO entry VALUES ('y', 1, 7)")


def promise(world: RestoreWorld) -> None:
    world.acknowledge("never-committed")


@pytest.mark.parametrize(
    ("damage", "where", "says"),
    [
        (orphan_entry, "constraints", "is not present in table"),
        (lose_money, "invariants", "the transfers of all accounts sum up to nothing: not so for 7"),
        (promise, "ledger", "never-committed"),
    ],
)
def test_what_does_not_hold_is_seen(own: RestoreWorld, damage: Damage, where: str, says: str) -> None:
    damage(own)
    own.received()
    plan = own.plan(purpose=Purpose.DRILL)
    own.restores.unpack(plan)
    own.restores.replay(plan)
    seen = own.restores.verify(plan)
    own.restores.discard(plan)
    if where == "ledger":
        assert seen.ledger.missing_keys == (says,)
        return
    assert any(says in broken.sentence for broken in getattr(seen, where).broken)


def test_a_copy_subscribes_to_nothing(own: RestoreWorld) -> None:
    """What a publisher sends to the copy, the live server would never get."""
    own.world.execute("CREATE SUBSCRIPTION live CONNECTION 'port=1' PUBLICATION other WITH (connect = false)")
    own.world.execute("ALTER SUBSCRIPTION live ENABLE")
    own.received()
    plan = own.plan(purpose=Purpose.DRILL)
    own.restores.unpack(plan)
    own.restores.replay(plan)
    asked = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%'"
    assert own.world.execute(asked)[0][0] >= 1
    clone = own.restores._clone(plan)
    with clone.running(deadline_s=60) as conninfo, psycopg.connect(conninfo, dbname="postgres") as session:
        assert session.execute("SELECT subenabled FROM pg_subscription").fetchall() == [(True,)]
        assert session.execute(asked).fetchall() == [(0,)]
    own.restores.discard(plan)


def test_an_index_that_lacks_a_row_is_seen(own: RestoreWorld) -> None:
    plan = own.plan(purpose=Purpose.DRILL)
    own.restores.unpack(plan)
    own.restores.replay(plan)
    clone = own.restores._clone(plan)
    with clone.running(deadline_s=60) as conninfo, psycopg.connect(conninfo, dbname="postgres") as session:
        session.execute("SET allow_system_table_mods = on")
        session.execute("UPDATE pg_index SET indisready = false WHERE indexrelid = 'account_pkey'::regclass")
        session.commit()
        session.execute("INSERT INTO account VALUES (2000, 'nobody in the index', 0)")
        session.execute("UPDATE pg_index SET indisready = true WHERE indexrelid = 'account_pkey'::regclass")
        session.commit()
    seen = own.restores.verify(plan)
    own.restores.discard(plan)
    assert any("account_pkey" in broken.sentence for broken in seen.pages.broken)
