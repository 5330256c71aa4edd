"""Under which account a part runs. PostgreSQL refuses root, so root runs it as `nobody`.

That account must still reach binaries and data inside folders that only root may enter (a clone in /root, say). Two
things make it so: the capability to read past permissions is handed on to it (and nothing else of root's powers), and
`no_setuid_fixup` lets access(2), which PostgreSQL asks about its own executable, see that capability.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from nvclab.errors import MissingPart

NOBODY = 65534
_CAP_SETPCAP = 8
# In order of preference: reading past permissions is enough; writing past them is what some containers leave to root.
_REACHING = {"dac_read_search": 2, "dac_override": 1}


def is_root() -> bool:
    """Say whether this process may change its account at all."""
    return os.geteuid() == 0


def database_owner() -> int:
    """Uid that owns and runs PostgreSQL."""
    return NOBODY if is_root() else os.geteuid()


def give(path: Path) -> Path:
    """Make `path` the database owner's; for an ordinary user it is that already."""
    if is_root():
        os.chown(path, NOBODY, NOBODY)
    return path


def dying_with_parent(number: signal.Signals = signal.SIGKILL, *, as_database_owner: bool = False) -> list[str]:
    """Command prefix: the program gets a signal when its parent dies, and the database owner's account if asked.

    The signal is asked for after the account is changed, because that change would forget it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise MissingPart("The program setpriv is not installed.", hint="apt-get install util-linux")
    prefix = [setpriv, "--pdeathsig", number.name.removeprefix("SIG")]
    if as_database_owner and is_root():
        prefix += ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *_reach()]
    return [*prefix, "--"]


def _reach() -> list[str]:
    """Flags that hand on the one capability that lets another account into root's folders, where root has it."""
    held = _bounding_set()
    if not held >> _CAP_SETPCAP & 1:
        return []
    for name, bit in _REACHING.items():
        if held >> bit & 1:
            return [f"--inh-caps=-all,+{name}", f"--ambient-caps=+{name}", "--securebits=+no_setuid_fixup"]
    return []


def _bounding_set() -> int:
    """Bit mask of the capabilities that this process and its children can ever have."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
