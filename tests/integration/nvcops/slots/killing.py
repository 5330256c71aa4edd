"""Programs that kill themselves on the way, and the question how far they came."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# What changes something on a disk, or begins a program, as Python's audit events name it.
_EVENTS = ("open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.rmtree", "subprocess.Popen")
_HOOK = """\
import os, signal, sys
left = [int({moment})]
def hook(event, arguments):
    if event in {events} and not (event == "open" and not interesting(arguments)):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
def interesting(arguments):
    path, mode, flags = arguments
    return isinstance(path, (str, bytes)) and {root!r} in os.fsdecode(path)
sys.addaudithook(hook)
"""


def python_that_dies(path: Path, root: Path, moment: int) -> Path:
    """A Python that kills itself before its n-th change below `root`, for what is sent to a host."""
    hook = _HOOK.format(moment=moment, events=_EVENTS, root=str(root))
    code = path.with_suffix(".py")
    code.write_text(f"{hook}\ncode, sys.argv = sys.argv[4], sys.argv[3:4] + sys.argv[5:]\nexec(code)\n")
    # -I -S -c CODE ARGUMENTS: the code is executed behind the hook; anything else is run as it is.
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2 $3" = "-I -S -c" ] && exec "{sys.executable}" -I -S "{code}" "$@"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    path.chmod(0o755)
    return path


def run_until(words: str, moment: int, root: Path, deadline_s: float = 60) -> int:
    """Run Python code that is killed before its n-th beginning of a program; how it ended."""
    hook = _HOOK.format(moment=moment, events=("subprocess.Popen",), root=str(root))
    return subprocess.run(
        [sys.executable, "-c", f"{hook}\n{words}"], check=False, timeout=deadline_s, stdout=subprocess.DEVNULL
    ).returncode
