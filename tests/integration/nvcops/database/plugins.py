"""check_postgres and check_pgactivity, where they are: Debian's packages of those names have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from database_world import World

from nvcops.core.checks import Verdict

_DEADLINE_S = 60
_PLUGINS = {
    "check_postgres": ("CHECK_POSTGRES", "/usr/bin/check_postgres"),
    "check_pgactivity": ("CHECK_PGACTIVITY", "/usr/lib/nagios/plugins/check_pgactivity"),
}


def plugin(name: str) -> str:
    """Its path, from the environment, PATH, or where Debian has it; a test that needs it is skipped without."""
    variable, usual = _PLUGINS[name]
    found = os.environ.get(variable) or shutil.which(name) or shutil.which(usual)
    if not found or not shutil.which("perl"):
        pytest.skip(f"{name} is not there: Debian's package of that name has it, or name it in {variable}")
    return found


def said_by_check_postgres(world: World, action: str, *more: str) -> tuple[Verdict, str]:
    """What it says of the world's database, asked as superuser; Nagios' numbers are our verdicts."""
    where = ["--host=127.0.0.1", f"--port={world.server.port}", "--dbuser=postgres", f"--db={world.database}"]
    return _run(world, [plugin("check_postgres"), *where, f"--action={action}", *more])


def said_by_check_pgactivity(world: World, service: str, *more: str, state: Path) -> tuple[Verdict, str]:
    """The same of check_pgactivity; it keeps what it saw the last time in `state`."""
    where = ["-h", "127.0.0.1", "-p", str(world.server.port), "-U", "postgres", "-d", world.database]
    return _run(world, [plugin("check_pgactivity"), *where, "--status-file", str(state), "-s", service, *more])


def _run(world: World, argv: list[str]) -> tuple[Verdict, str]:
    binaries = world.server.binaries
    path = f"{binaries.folder}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, **binaries.environment(), "PATH": path, "PGPASSWORD": world.server.password}
    done = subprocess.run(
        ["perl", *argv], capture_output=True, text=True, timeout=_DEADLINE_S, check=False, env=environment
    )  # fmt: skip
    assert done.returncode in tuple(Verdict), done.stdout + done.stderr
    return Verdict(done.returncode), done.stdout + done.stderr
