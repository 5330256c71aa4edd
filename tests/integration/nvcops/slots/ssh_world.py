"""A host that is reached by ssh: a server of our own on a free port, with a systemctl that is the tests' own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nvclab.parts.process import free_ports
from scripts_of_ours import script

PROGRAM = Path("/usr/sbin/sshd")
WHY_NOT = "there is no /usr/sbin/sshd: apt-get install openssh-server"
_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey "{folder}/host_key"
PidFile "{folder}/sshd.pid"
AuthorizedKeysFile "{folder}/authorized_keys"
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
SetEnv "PATH={path}" "PARTS={parts}"
"""


@dataclass
class SshServer:
    folder: Path
    port: int
    child: subprocess.Popen[bytes]

    @property
    def identity(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def table(self, slots: tuple[str, ...], root: Path, **changes: object) -> str:
        """The host as a table of the manifest."""
        told = {
            "slots": list(slots),
            "address": f"{_account()}@127.0.0.1",
            "root": str(root),
            "port": self.port,
            "python": sys.executable,
            "identity": str(self.identity),
            "known_hosts": str(self.known_hosts),
        } | changes
        lines = [
            f"{name} = {value!r}" if isinstance(value, int) else f"{name} = {_quoted(value)}"
            for name, value in told.items()
        ]
        return "\n".join(["[[delivery.hosts]]", *lines])


def _quoted(value: object) -> str:

    return json.dumps(value)


def _account() -> str:

    return pwd.getpwuid(os.geteuid()).pw_name


@contextmanager
def running(folder: Path, parts: Path) -> Iterator[SshServer]:
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    (port,) = free_ports(1)
    for name in ("host_key", "key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=20)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    programs = folder / "bin"
    programs.mkdir()
    part = Path(__file__).with_name("part.py").read_text()
    script(programs / "systemctl", part.replace("from __future__ import annotations\n", ""), "-IS")
    configuration = folder / "sshd_config"
    path = f"{programs}:{os.environ['PATH']}"
    configuration.write_text(_CONFIGURATION.format(port=port, folder=folder, path=path, parts=parts))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as its package's own service makes it
    log = (folder / "log").open("wb")
    child = subprocess.Popen([PROGRAM, "-D", "-e", "-f", configuration], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 20
        while not _listens(port):
            assert child.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "the ssh server does not answer"
            time.sleep(0.05)
        yield SshServer(folder, port, child)
    finally:
        child.terminate()
        child.wait(10)
        log.close()


def _listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0
