"""Builds releases into a store until its disk is full, then makes room and builds on; says how that went, as JSON.

Called as `python filling.py FOLDER`: FOLDER holds a world whose folder `releases` is a small disk.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core.errors import NvcopsError
from nvcops.core.manifest.delivery import Builder
from release_world import World

BUILDS_MAX = 50


def main(folder: Path) -> None:
    store = ReleaseStore(folder / "releases", (Builder(name="lab", key=(folder / "public").read_text()),))
    lab = World(folder, store, folder / "builder", folder / "source")
    built, refused, data = [], "", folder / "source" / "shop" / "data.bin"
    for number in range(BUILDS_MAX):
        data.write_bytes(random.Random(number).randbytes(20_000))
        try:
            built.append(lab.build(f"1.{number}").digest)
        except NvcopsError as error:
            refused = error.sentence
            break
    listed, troubles = store.survey()
    said = {"built": built, "refused": refused, "listed": [one.digest for one in listed], "troubles": list(troubles)}
    said["files"] = sorted(path.name for path in store.folder.rglob("*") if path.is_file())
    store.remove(built[0])
    said["after"] = lab.build("2.0").version
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
