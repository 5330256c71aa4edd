"""Killed at each point: what is half done is never taken for done, and the next call brings it to its end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import python_that_dies, run_until
from slots_world import World

from nvcops.adapters.slots.asking import ask
from nvcops.adapters.slots.slots import ReleaseSlots
from nvcops.core.errors import NvcopsError, Refused, Unreachable

_POINTS_MAX = 200


def killed_everywhere(shop: World, what: object, after: object) -> int:
    """Do something with a host that dies before its first change, before its second ...; until it comes through."""
    for moment in range(_POINTS_MAX):
        dying = shop.through(python_that_dies(shop.folder / "dying", shop.root, moment))
        try:
            what(dying)  # type: ignore[operator]
        except Unreachable as error:
            if "(-9)" not in str(error):
                raise
            after()  # type: ignore[operator]
        else:
            return moment
    raise AssertionError("it never came through")


def test_laying_is_whole_or_not_at_all(shop: World) -> None:
    release, slots = shop.build("1.0"), shop.slots()

    def after() -> None:
        slots = shop.slots()
        assert set(slots.laid("main-1")) <= {release.digest}
        if slots.laid("main-1"):
            slots._check(slots.hosts["main-1"], release.digest)
        slots.lay("main-1", release.digest)
        slots._check(slots.hosts["main-1"], release.digest)
        assert slots.laid("main-1") == [release.digest]
        assert not shop.left()
        slots.forget("main-1", release.digest)

    points = killed_everywhere(shop, lambda dying: dying.lay("main-1", release.digest), after)
    assert points > 10
    slots._check(slots.hosts["main-1"], release.digest)
    assert not shop.left()


def test_forgetting_takes_all_or_leaves_what_is_whole(shop: World) -> None:
    release, slots = shop.build("1.0"), shop.slots()
    slots.lay("main-1", release.digest)

    def after() -> None:
        if slots.laid("main-1"):
            slots._check(slots.hosts["main-1"], release.digest)
        slots.forget("main-1", release.digest)
        assert not shop.left()
        assert slots.laid("main-1") == []
        slots.lay("main-1", release.digest)

    assert killed_everywhere(shop, lambda dying: dying.forget("main-1", release.digest), after) > 3
    assert not shop.left()


def test_a_pointer_is_the_old_or_the_new_one(shop: World) -> None:
    old, new, slots = shop.build("1.0").digest, shop.build("1.1").digest, shop.slots()
    host = slots.hosts["main-1"]
    for digest in (old, new):
        slots.lay("main-1", digest)

    def point(slots: ReleaseSlots, digest: str) -> None:
        ask(slots.hosts["main-1"], "point", 20, root=host.root, slot="main-1", digest=digest, wait_s=5)

    def after() -> None:
        assert slots._pointed("main-1") in (old, new)
        point(slots, new)
        assert slots._pointed("main-1") == new
        assert not shop.left()
        point(slots, old)

    point(slots, old)
    assert killed_everywhere(shop, lambda dying: point(dying, new), after) > 3
    assert slots._pointed("main-1") == new


def controller(shop: World, digest: str) -> str:
    """A process of its own that puts a release into main-1."""
    manifest = shop.folder / "platform.toml"
    return (
        "from pathlib import Path; from nvcops.core.manifest import parse; from nvcops.adapters.target import connect; "
        f"path = Path({str(manifest)!r}); connect(parse(path.read_text(), path)).slots.put('main-1', {digest!r})"
    )


def test_a_put_that_is_killed_anywhere_is_gone_on_with(shop: World) -> None:
    old, new, slots = shop.build("1.0").digest, shop.build("1.1").digest, shop.slots()
    (shop.folder / "platform.toml").write_text(shop.text())
    for digest in (old, new):
        slots.lay("main-1", digest)
    seen = set()
    for moment in range(_POINTS_MAX):
        slots.put("main-1", old)
        ended = run_until(controller(shop, new), moment, shop.root)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        left = slots.look("main-1")
        assert left.digest in (old, new)
        seen.add((left.digest == new, left.running))
        slots.put("main-1", new)
        assert shop.says("main-1") == new
        assert slots.look("main-1").running
    else:
        raise AssertionError("it never came through")
    assert shop.says("main-1") == new
    assert seen >= {(False, True), (False, False), (True, False)}, "each half way was there"


@pytest.mark.drill
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.sample), *range(1, 20)])
def test_a_put_that_is_killed_at_any_time_is_gone_on_with(shop: World, seed: int) -> None:
    old, new, slots = shop.build("1.0").digest, shop.build("1.1").digest, shop.slots()
    (shop.folder / "platform.toml").write_text(shop.text())
    for digest in (old, new):
        slots.lay("main-1", digest)
    slots.put("main-1", old)
    child = subprocess.Popen([sys.executable, "-c", controller(shop, new)])
    time.sleep(random.Random(seed).uniform(0.2, 2.0))
    child.kill()
    child.wait()
    for digest in (new, old):
        slots.put("main-1", digest)
        assert shop.says("main-1") == digest
    assert not shop.left()


def test_a_disk_that_is_full(shop: World) -> None:
    release = shop.build("1.0")
    small = shop.folder / "small"
    small.write_text(f'#!/bin/sh\nulimit -f 1\nexec "{sys.executable}" "$@"\n')  # no file above 512 bytes
    small.chmod(0o755)
    with pytest.raises(Refused, match="File too large"):
        shop.through(small).lay("main-1", release.digest)
    assert not shop.left()
    slots = shop.slots()
    assert slots.laid("main-1") == []
    slots.lay("main-1", release.digest)
    assert slots.laid("main-1") == [release.digest]


_MOUNTED = """\
#!/bin/sh
set -- {options} "{folder}" "{python}" "$@"
exec {unshare} sh -c 'mount -t tmpfs -o "$0" small "$1" || exit 77; shift; exec "$@"' "$@"
"""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [("size=4k", "bytes free, and the release needs"), ("nr_inodes=4", "No space left on device")],
)
def test_a_disk_that_is_really_full(shop: World, options: str, sentence: str) -> None:
    (shop.releases.source / "shop" / "goods.txt").write_bytes(bytes(range(256)) * 64)
    release, folder = shop.build("1.0"), shop.root / "releases"
    folder.mkdir(parents=True)
    unshare = "unshare --mount" if os.geteuid() == 0 else "unshare --user --map-root-user --mount"
    full = Path(shop.folder / "full")
    full.write_text(_MOUNTED.format(unshare=unshare, options=options, folder=folder, python=sys.executable))
    full.chmod(0o755)
    if subprocess.run([full, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk of his own")
    with pytest.raises(NvcopsError, match=sentence):
        shop.through(full).lay("main-1", release.digest)
