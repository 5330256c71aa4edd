"""Slots of this host, with real folders and processes: the ways of a release, and everything that may go wrong."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from slots_world import World

from nvcops.adapters.slots.asking import ask
from nvcops.adapters.slots.slots import ReleaseSlots
from nvcops.core.errors import (
    DeadlineExceeded,
    EvidenceError,
    LockHeld,
    NotFoundError,
    NvcopsError,
    Refused,
    Unreachable,
)
from nvcops.core.rollouts import Occupied


def test_a_release_comes_into_a_slot_and_another_follows(shop: World) -> None:
    slots = shop.slots()
    old, new = shop.build("1.0").digest, shop.build("1.1").digest
    assert slots.look("main-1") == Occupied(slot="main-1")
    for digest in (old, new):
        slots.lay("main-1", digest)
    assert set(slots.laid("main-1")) == {old, new}
    slots.put("main-1", old)
    assert shop.says("main-1") == old
    first = shop.pid("main-1")
    slots.put("main-1", old)
    assert shop.pid("main-1") == first, "what runs already is left alone"
    slots.put("main-1", new)
    assert (shop.says("main-1"), slots.look("main-1")) == (new, Occupied(slot="main-1", digest=new, running=True))
    assert (shop.root / "slots" / "main-1" / "current").readlink() == Path(f"../../releases/{new}")
    slots.stop("main-1")
    slots.stop("main-1")
    assert slots.look("main-1") == Occupied(slot="main-1", digest=new)
    assert not shop.left()


def test_laying_twice_changes_nothing(shop: World) -> None:
    slots, digest = shop.slots(), shop.build("1.0").digest
    slots.lay("main-1", digest)
    before = (shop.root / "releases" / digest).stat()
    slots.lay("main-2", digest)
    assert (shop.root / "releases" / digest).stat().st_ino == before.st_ino


def test_an_old_process_behind_a_new_pointer_is_seen_and_put_right(shop: World) -> None:
    slots = shop.slots()
    old, new = shop.build("1.0").digest, shop.build("1.1").digest
    for digest in (old, new):
        slots.lay("main-1", digest)
    slots.put("main-1", old)
    ask(slots.hosts["main-1"], "point", 10, root=str(shop.root), slot="main-1", digest=new, wait_s=1)
    assert slots.look("main-1") == Occupied(slot="main-1", digest=new, running=False)
    slots.put("main-1", new)
    assert shop.says("main-1") == new


def test_a_slot_that_is_frozen_is_unknown_and_not_stopped(shop: World) -> None:
    slots, digest = shop.slots(), shop.build("1.0").digest
    slots.lay("main-1", digest)
    slots.put("main-1", digest)
    os.kill(shop.pid("main-1"), signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceeded, match="did not answer within 2 s"):
            slots.look("main-1")
    finally:
        os.kill(shop.pid("main-1"), signal.SIGCONT)
    assert slots.look("main-1").running


@pytest.mark.parametrize(
    ("manner", "error", "sentence"),
    [
        ("ends", Refused, "ended as soon as it was started in spare-1"),
        ("silent", DeadlineExceeded, "did not say within 1.5 s that it runs"),
        ("lies", Refused, "spare-1 says that ffffffffffffffff runs there"),
    ],
)
def test_a_release_that_does_not_come_up(shop: World, manner: str, error: type[Exception], sentence: str) -> None:
    good, bad = shop.build("1.0").digest, shop.build("1.1", manner).digest
    slots = shop.slots(ready_within="1.5 s" if manner != "ends" else "20 s")
    for digest in (good, bad):
        slots.lay("spare-1", digest)
    with pytest.raises(error, match=sentence):
        slots.put("spare-1", bad)
    shop.slots(ready_within="20 s").put("spare-1", good)
    assert shop.says("spare-1") == good


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda folder: (folder / "app/shop/__main__.py").write_text("print('mine')"), "__main__.py was changed"),
        (lambda folder: (folder / "app/shop/__main__.py").chmod(0o755), "__main__.py was changed"),
        (lambda folder: (folder / "app/shop/__init__.py").unlink(), "__init__.py is missing"),
        (lambda folder: (folder / "app/shop/sneaked.py").write_text(""), "sneaked.py does not belong to it"),
        (lambda folder: (folder / "app/sneaked").symlink_to("/etc"), "app/sneaked does not belong to it"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "is not laid here"),
    ],
)
def test_what_lies_there_is_verified_before_each_start(shop: World, harm: object, sentence: str) -> None:
    slots = shop.slots()
    old, new = shop.build("1.0").digest, shop.build("1.1").digest
    for digest in (old, new):
        slots.lay("main-1", digest)
    slots.put("main-1", old)
    harm(shop.root / "releases" / new)  # type: ignore[operator]
    with pytest.raises(Refused, match=sentence):
        slots.put("main-1", new)
    assert shop.says("main-1") == old, "nothing was stopped for it"


def test_compiled_files_of_somebody_else_are_not_run(shop: World) -> None:
    slots, digest = shop.slots(), shop.build("1.0").digest
    slots.lay("main-1", digest)
    packed = shop.root / "releases" / digest / "app" / "shop" / "__pycache__"
    packed.mkdir()
    (packed / "__main__.cpython-311.pyc").write_bytes(b"mine")
    slots.put("main-1", digest)
    assert not packed.exists()


def test_releases_that_are_not_there_or_not_what_was_signed(shop: World) -> None:
    slots, digest = shop.slots(), shop.build("1.0").digest
    with pytest.raises(Refused, match="is not laid here"):
        slots.put("main-1", digest)
    with pytest.raises(NotFoundError, match="there is no release"):
        slots.lay("main-1", "0" * 64)
    with pytest.raises(Refused, match="there is no slot 'main-9'"):
        slots.look("main-9")
    artifact = shop.releases.artifact(digest)
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"x")
    with pytest.raises(EvidenceError):
        slots.lay("main-1", digest)
    assert slots.laid("main-1") == []
    artifact.unlink()
    with pytest.raises(EvidenceError, match="is missing"):
        slots.lay("main-1", digest)


def test_a_pointer_that_is_none_of_ours_is_refused(shop: World) -> None:
    slots, slot = shop.slots(), shop.root / "slots" / "main-1"
    slot.mkdir(parents=True)
    (slot / "current").symlink_to("/etc")
    with pytest.raises(Refused, match="points to '/etc', which is no release"):
        slots.look("main-1")
    (slot / "current").unlink()
    (slot / "current").mkdir()
    with pytest.raises(Refused, match="is no link"):
        slots.look("main-1")


def test_control_programs_that_fail_hang_or_lie(shop: World) -> None:
    digest, other = shop.build("1.0").digest, shop.build("1.1").digest
    slots = shop.slots()
    for release in (digest, other):
        slots.lay("main-1", release)
    slots.put("main-1", digest)
    with pytest.raises(Refused, match="stop main-1 ended with 1"):
        shop.slots(control_stop='["sh", "-c", "exit 1", "{name}"]').put("main-1", other)
    assert shop.says("main-1") == digest
    with pytest.raises(DeadlineExceeded, match="did not end within 300 ms"):
        shop.slots(control_stop='["sh", "-c", "exec sleep 60", "{name}"]', control_deadline="0.3 s").put(
            "main-1", other
        )
    with pytest.raises(Refused, match="main-1 runs still, though it was stopped"):
        shop.slots(control_stop='["echo", "{name}"]', control_deadline="20 s").stop("main-1")
    with pytest.raises(Refused, match=f"main-1 says that {digest[:16]} runs there"):
        shop.slots(ready_within="1 s").put("main-1", other)  # `echo` stops nothing: the old one still answers
    shop.slots(control_stop=shop.control("stop"), ready_within="20 s").put("main-1", other)
    assert shop.says("main-1") == other


def test_two_at_once_leave_one_of_the_two(shop: World) -> None:
    digests = [shop.build("1.0").digest, shop.build("1.1").digest]
    for digest in digests:
        shop.slots().lay("main-1", digest)
    errors: list[Exception] = []

    def put(digest: str) -> None:
        try:
            shop.slots().put("main-1", digest)
        except NvcopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(digest,)) for digest in digests * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(isinstance(error, LockHeld) for error in errors), errors
    seen = shop.slots().look("main-1")
    assert seen.running
    assert seen.digest == shop.says("main-1")
    assert seen.digest in digests


def test_a_release_laid_by_two_at_once_is_there_once(shop: World) -> None:
    digest = shop.build("1.0").digest
    errors: list[Exception] = []

    def lay() -> None:
        try:
            shop.slots().lay("main-1", digest)
        except NvcopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=lay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert shop.slots().laid("main-1") == [digest]
    assert not shop.left()


def test_what_is_in_a_slot_is_not_forgotten_and_the_rest_is(shop: World) -> None:
    slots = shop.slots()
    old, new = shop.build("1.0").digest, shop.build("1.1").digest
    for digest in (old, new):
        slots.lay("main-1", digest)
    slots.put("main-1", new)
    with pytest.raises(Refused, match="is in the slot main-1"):
        slots.forget("main-2", new)
    expected = sum(file.stat().st_size for file in (shop.root / "releases" / old).rglob("*") if file.is_file())
    assert slots.forget("main-1", old) == expected
    assert slots.forget("main-1", old) == 0
    assert slots.laid("main-1") == [new]
    assert (shop.root / "environments").is_dir()
    assert shop.says("main-1") == new


def with_programs(shop: World, **programs: tuple[str, ...]) -> ReleaseSlots:
    slots = shop.slots()
    return replace(slots, entry=msgspec.structs.replace(slots.entry, **programs))


def test_migrations_and_self_tests_are_the_releases_own(shop: World) -> None:
    (shop.releases.source / "shop" / "migrations" / "0001_expand_goods.sql").write_text("SELECT 1;\n")
    release = shop.build("1.0")
    told = shop.folder / "told"
    script = f"echo $0 $1 $2; pwd; echo $3 >> '{told}'"
    words = ("sh", "-c", script, "{release}", "{environment}", "{kind}{slot}{url}", "{kind}")
    slots = with_programs(shop, migrate=words, self_test=words)
    slots.lay("main-1", release.digest)
    slots.migrate(release.digest, contract=False)
    slots.migrate(release.digest, contract=True)
    assert told.read_text().split() == ["expand", "contract"]
    said = slots.self_test("spare-1", release.digest)
    folder, environment = shop.root / "releases" / release.digest, shop.root / "environments" / release.lock
    assert said.split() == [str(folder), str(environment), f"spare-1{slots.urls['spare-1']}", str(folder)]


def test_a_self_test_that_fails_hangs_or_is_not_there(shop: World) -> None:
    release = shop.build("1.0")
    slots = shop.slots(self_test='["sh", "-c", "echo no money; exit 7", "{url}"]', test_within="1 s")
    slots.lay("main-1", release.digest)
    with pytest.raises(Refused, match="ended with 7: no money"):
        slots.self_test("main-1", release.digest)
    late = shop.folder / "late"
    script = f"(sleep 3; touch {late}) & echo waiting; wait"
    hanging = shop.slots(self_test=f'["sh", "-c", "{script}", "{{url}}"]', test_within="0.5 s")
    with pytest.raises(DeadlineExceeded, match=r"did not end within 0\.5 s, and was killed; it said: waiting"):
        hanging.self_test("main-1", release.digest)
    threading.Event().wait(3.5)
    assert not late.exists(), "what it had begun was killed with it"
    with pytest.raises(Refused, match="no-such-program cannot be run: No such file"):
        shop.slots(self_test='["./no-such-program", "{url}"]').self_test("main-1", release.digest)
    with pytest.raises(Refused, match="does not say how a release tests itself"):
        shop.slots(self_test="[]").self_test("main-1", release.digest)


def test_a_release_with_migrations_and_nobody_to_apply_them(shop: World) -> None:
    plain = shop.build("1.0")
    (shop.releases.source / "shop" / "migrations" / "0001_expand_goods.sql").write_text("SELECT 1;\n")
    release, slots = shop.build("1.1"), shop.slots()
    slots.migrate(plain.digest, contract=False)
    with pytest.raises(Refused, match="does not say how they are applied"):
        slots.migrate(release.digest, contract=False)


def test_a_host_without_its_python(shop: World) -> None:
    with pytest.raises(Refused, match="/no/such/python cannot be run"):
        shop.through("/no/such/python").laid("main-1")
    broken = shop.folder / "python"
    broken.write_text("#!/bin/sh\necho Segmentation fault >&2\nexit 139\n")
    broken.chmod(0o755)
    with pytest.raises(Unreachable, match=r"broke off while it was to laid \(139\): Segmentation fault"):
        shop.through(broken).laid("main-1")
