"""Does something over and over, each time in a child of its own that is killed one system call later than before.

Called as `python dying.py build|unpack FOLDER`: FOLDER holds a world. Each child works in FOLDER/NUMBER, and dies by
SIGKILL before its call of that number: write, fsync, rename, link, mkdir, chmod, unlink or open. It ends when a child
lived to the end; it prints how many died.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core.manifest.delivery import Builder
from release_world import World

CALLS = ("write", "fsync", "rename", "link", "mkdir", "chmod", "fchmod", "unlink", "open")
POINTS_MAX = 400
WARM = -1


class Countdown:
    """Kills this process before the call that comes after so many."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def over(self, name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return real(*arguments, **named)

        setattr(os, name, counted)


def work(what: str, folder: Path, number: int) -> None:
    builders = (Builder(name="lab", key=(folder / "public").read_text()),)
    place = folder / str(number)
    kept = ReleaseStore(place / "releases" if what == "build" else folder / "releases", builders)
    lab = World(place, kept, folder / "builder", folder / "source")
    if number != WARM:
        countdown = Countdown(number)
        for name in CALLS:
            countdown.over(name)
    if what == "build":
        lab.build()
    else:
        kept.unpack(kept.find("1.0").digest, place / "unpacked")


def main(what: str, folder: Path) -> None:
    (folder / str(WARM)).mkdir()
    work(what, folder, WARM)  # once in here, so that no child has to load the libraries
    for number in range(POINTS_MAX):
        (folder / str(number)).mkdir()
        child = os.fork()
        if child == 0:
            work(what, folder, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.stdout.write(f"{number if os.WEXITSTATUS(status) == 0 else -1}\n")
            return
    sys.stdout.write("-1\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
