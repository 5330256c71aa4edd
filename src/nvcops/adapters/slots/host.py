"""The hosts on which slots are: this one, and those that are reached by ssh."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from nvcops.adapters.backup.tools import last_words
from nvcops.adapters.slots.asking import run_there
from nvcops.core.cluster import Control
from nvcops.core.errors import Refused
from nvcops.core.manifest.delivery import SshHost

_CONNECT_S = 10  # a busy host takes seconds for the handshake, which is part of it
_NOT_ACTIVE = (3, 4)  # systemctl is-active: it does not run; there is no such unit that runs


@dataclass(frozen=True, slots=True)
class LocalHost:
    """This host; its slots' programs are controlled as the manifest's other parts are."""

    root: str
    environments: str
    control: Control
    python: str = sys.executable
    name: str = "this host"

    def words(self, program: list[str]) -> list[str]:
        """As they are."""
        return program

    def start(self, slot: str) -> None:
        """By [control] start."""
        self.control.start(slot)

    def stop(self, slot: str) -> None:
        """By [control] stop."""
        self.control.stop(slot)

    def running(self, slot: str) -> bool:
        """By [control] running."""
        return self.control.running(slot)


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A host by ssh; its slots' programs are units of systemd."""

    entry: SshHost
    deadline_s: float
    ssh: str = "ssh"

    @property
    def name(self) -> str:
        """Its address, without the account."""
        return self.entry.address.rpartition("@")[2]

    @property
    def root(self) -> str:
        """Where releases lie there."""
        return self.entry.root

    @property
    def environments(self) -> str:
        """Where environments lie there."""
        return self.entry.environments or f"{self.entry.root.rstrip('/')}/environments"

    @property
    def python(self) -> str:
        """Its interpreter."""
        return self.entry.python

    def words(self, program: list[str]) -> list[str]:
        """Through ssh, which asks nobody anything and trusts no host that it does not know; all words quoted."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(_CONNECT_S),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "StrictHostKeyChecking": "yes",
            "ClearAllForwardings": "yes",
            "LogLevel": "ERROR",
        }
        if self.entry.known_hosts:
            options["UserKnownHostsFile"] = f'"{self.entry.known_hosts}"'
        if self.entry.identity:
            options["IdentitiesOnly"] = "yes"
        words = [self.ssh, "-T", "-p", str(self.entry.port)]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += ["-i", str(self.entry.identity)] if self.entry.identity else []
        return [*words, "--", self.entry.address, shlex.join(program)]

    def start(self, slot: str) -> None:
        """By systemctl."""
        self._systemctl("start", slot)

    def stop(self, slot: str) -> None:
        """By systemctl."""
        self._systemctl("stop", slot)

    def running(self, slot: str) -> bool:
        """By systemctl."""
        return self._systemctl("is-active", slot, *_NOT_ACTIVE) == 0

    def _systemctl(self, verb: str, slot: str, *codes: int) -> int:
        unit = self.entry.unit.replace("{slot}", slot)
        code, said = run_there(self, ["systemctl", verb, "--", unit], "/", self.deadline_s)
        if code not in (0, *codes):
            raise Refused(
                f"systemctl {verb} {unit} on {self.name} ended with {code}: {last_words(said)}",
                hint="[[delivery.hosts]] unit names the slot's unit",
            )
        return code
