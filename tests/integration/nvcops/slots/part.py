"""What starts and stops the shop in a slot: the tests' own small service manager, as an operator would have one.

`part.py FOLDER start|stop|running SLOT`, or `systemctl start|stop|is-active -- SLOT.service` with FOLDER in PARTS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path, verb: str, slot: str) -> int:
    told = json.loads((folder / "parts.json").read_text())
    pid_file = folder / f"{slot}.pid"
    if verb == "start":
        if not alive(pid_file):
            start(
                Path(told["root"]) / "slots" / slot / "current", told["ports"][slot], pid_file, folder / f"{slot}.log"
            )
        return 0
    if verb == "stop":
        return stop(pid_file)
    return 0 if alive(pid_file) else 3


def start(link: Path, port: int, pid_file: Path, log: Path) -> None:
    release = link.resolve(strict=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(release / "app"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHOP_RELEASE": release.name,
    }
    with log.open("ab") as said:
        child = subprocess.Popen(
            [sys.executable, "-S", "-m", "shop", str(port)],
            cwd=release,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    pid_file.write_text(str(child.pid))


def stop(pid_file: Path) -> int:
    if alive(pid_file):
        pid, end = int(pid_file.read_text()), time.monotonic() + 10
        os.kill(pid, signal.SIGTERM)
        while alive(pid_file):
            if time.monotonic() > end:
                return 1
            time.sleep(0.02)
    pid_file.unlink(missing_ok=True)
    return 0


def alive(pid_file: Path) -> bool:
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
    except (OSError, ValueError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


if __name__ == "__main__":
    if Path(sys.argv[0]).stem == "systemctl":
        verb, dashes, unit = sys.argv[1:]
        assert dashes == "--"
        sys.exit(main(Path(os.environ["PARTS"]), verb, unit.removesuffix(".service")))
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
