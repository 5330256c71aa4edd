"""A child that dies at its n-th change of the file system: `python killed.py FOLDER N WHAT`; N = 0: it does not.

It prints how many changes it made.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = frozenset({"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.link", "os.chmod", "os.utime"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(folder: Path, die_at: int, what: str) -> None:
    from files_world import World, draft

    from nvcops.adapters.backup.files import keep
    from nvcops.adapters.backup.files_compare import differences
    from nvcops.adapters.backup.files_gather import configuration
    from nvcops.adapters.backup.files_index import read_index
    from nvcops.adapters.backup.files_restore import deliver, put_back
    from nvcops.adapters.backup.removal import remove
    from nvcops.core.backups import Kind
    from nvcops.core.manifest import parse

    text = (folder / "platform.toml").read_text()
    ship = World(folder, parse(text, folder / "platform.toml"))
    repository = ship.repository
    if what == "put-back":
        live = differences(repository, read_index(repository, "one-C"), "one-C").live
    counted = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal counted
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            counted += 1
            if counted == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    if what == "put-back":
        put_back(repository, "one-C", live, "the run")
    elif what == "deliver":
        deliver(repository, "one-C", folder / "there", "the run")
    elif what == "keep":
        paths = ship.manifest.backups.configuration if ship.manifest.backups else ()
        keep(repository, draft("two-C", Kind.CONFIGURATION), configuration(paths, (), encrypted=True).sources)
    else:
        remove(repository, ["one-C"], [], draft=draft("gone-X", Kind.REMOVAL))
    sys.stdout.write(str(counted))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
