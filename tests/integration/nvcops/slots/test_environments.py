"""Environments for real: made from a release's lock and its own wheels, whole or not at all, once."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from slots_world import World

from nvcops.adapters.slots.asking import Host, ask
from nvcops.core.errors import DeadlineExceeded, NvcopsError, Refused
from nvcops.core.releases import Release


def wheel(folder: Path, text: str = "hello") -> Path:
    """The wheel of a package `greeting` that says something."""
    about = "greeting-1.0.dist-info"
    files = {
        "greeting.py": f"print({text!r})\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,", ""])
    path = folder / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def _hash(data: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data.encode()).digest()).rstrip(b"=").decode()


def build(shop: World, version: str = "1.0") -> Release:
    """A release that brings its wheel, and no environment."""
    wheels = shop.releases.source / "wheels"
    wheels.mkdir(exist_ok=True)
    locked = hashlib.sha256(wheel(wheels).read_bytes()).hexdigest()
    (shop.releases.source / "requirements.txt").write_text(f"greeting==1.0 --hash=sha256:{locked}\n")
    release = shop.build(version, wheels="wheels")
    (shop.root / "environments" / release.lock).unlink()
    return release


def say(environment: Path) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "greeting"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_an_environment_is_made_of_the_locks_packages_and_goes_with_the_last_release(shop: World) -> None:
    release, slots = build(shop), shop.slots()
    slots.lay("main-1", release.digest)
    environment = shop.root / "environments" / release.lock
    assert say(environment) == "hello"
    target, before = environment.readlink(), environment.stat().st_ino
    slots.lay("main-2", release.digest)
    other = build_again(shop, "1.1")
    slots.lay("main-1", other.digest)
    assert (environment.readlink(), environment.stat().st_ino) == (target, before), "one lock, one environment"
    slots.forget("main-1", release.digest)
    assert say(environment) == "hello", "another release needs it still"
    assert slots.forget("main-1", other.digest) > 1_000_000
    assert list((shop.root / "environments").iterdir()) == []


def build_again(shop: World, version: str) -> Release:
    environments = shop.root / "environments"
    before = set(environments.iterdir())
    release = shop.build(version, wheels="wheels")
    for link in set(environments.iterdir()) - before:
        link.unlink()
    return release


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(shop: World) -> None:
    release, slots = build(shop), shop.slots()
    host = slots.hosts["main-1"]
    lay_alone(shop, release)
    wheel(shop.root / "releases" / release.digest / "wheels", "mine")  # nobody but pip's hashes would see it now
    with pytest.raises(Refused, match="the environment cannot be made"):
        ask(host, "environment", 120, **asked(host, release, 100))
    assert list((shop.root / "environments").iterdir()) == [], "nothing half made is there"
    (shop.root / "releases" / release.digest / "requirements.txt").write_text("greeting==1.0\n")
    with pytest.raises(Refused, match=r"the lock of the release .* is not what was released"):
        ask(host, "environment", 120, **asked(host, release, 100))


def asked(host: Host, release: Release, deadline_s: float) -> dict[str, object]:
    return {
        "root": host.root,
        "digest": release.digest,
        "lock": release.lock,
        "environments": host.environments,
        "python": host.python,
        "deadline_s": deadline_s,
    }


def lay_alone(shop: World, release: Release) -> None:
    """The release without its environment: linked for a moment."""
    link = shop.root / "environments" / release.lock
    link.symlink_to(sys.prefix)
    shop.slots().lay("main-1", release.digest)
    link.unlink()


def test_one_that_takes_too_long_is_given_up(shop: World) -> None:
    release = build(shop)
    lay_alone(shop, release)
    host = shop.slots().hosts["main-1"]
    with pytest.raises(DeadlineExceeded, match="did not end in time"):
        ask(host, "environment", 60, **asked(host, release, 0.05))
    assert list((shop.root / "environments").iterdir()) == []


def test_two_at_once_make_one(shop: World) -> None:
    release, errors = build(shop), []

    def lay() -> None:
        try:
            shop.slots().lay("main-1", release.digest)
        except NvcopsError as error:
            errors.append(error)

    threads = [threading.Thread(target=lay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    environments = shop.root / "environments"
    assert say(environments / release.lock) == "hello"
    assert len(list(environments.iterdir())) == 2, "the link, and what it points to"


@pytest.mark.drill
@pytest.mark.parametrize("so_far", ["bin/python", pytest.param("lib", marks=pytest.mark.sample)])
def test_one_that_was_killed_half_made_is_made_anew(shop: World, so_far: str) -> None:
    release, slots = build(shop), shop.slots()
    lay_alone(shop, release)
    environments = shop.root / "environments"
    child = subprocess.Popen(
        [sys.executable, "-c", LAY.format(path=str(shop.folder / "platform.toml"), digest=release.digest)],
        start_new_session=True,
    )
    (shop.folder / "platform.toml").write_text(shop.text())
    end = time.monotonic() + 60
    while not list(environments.glob(f".{release.lock}.*/{so_far}")):
        assert child.poll() is None, "it was made before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    for pid in family(child.pid):
        os.kill(pid, signal.SIGKILL)
    child.wait()
    assert not (environments / release.lock).exists(), "what is half made has no name"
    slots.lay("main-1", release.digest)
    assert say(environments / release.lock) == "hello"
    assert len(list(environments.iterdir())) == 2


LAY = """
import time
from pathlib import Path
from nvcops.core.manifest import parse
from nvcops.adapters.target import connect
path = Path({path!r})
while not path.exists():
    time.sleep(0.01)
connect(parse(path.read_text(), path)).slots.lay("main-1", {digest!r})
"""


def family(pid: int) -> list[int]:
    """A process and all below it, the youngest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*(one for child in children for one in family(int(child))), pid]
