"""Parts stopped, started and made anew on command, as operations would do it on real hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre

_READY_S = 30.0


@dataclass(frozen=True)
class PartControl:
    """The verbs of `nvclab part`. A part goes by its name in platform.toml or in the lab; each verb may be repeated."""

    centre: DataCentre

    def start(self, name: str) -> str:
        """Start a part, and wait until it is ready; PartFailed with what it said when it is not in time."""
        part = self._part(name)
        if part in self.centre.databases.servers:
            self.centre.databases.start(part)
        else:
            self.centre.keeper.start(part, _READY_S)
        return f"{name} runs"

    def stop(self, name: str) -> str:
        """Stop a part so that it stays stopped."""
        self.centre.keeper.stop(self._part(name))
        return f"{name} is stopped"

    def running(self, name: str) -> bool:
        """Whether its process lives."""
        return self.centre.keeper[self._part(name)].running

    def rebuild(self, name: str) -> str:
        """Make a database server anew from the primary; anything else is stopped and started."""
        part = self._part(name)
        if part in self.centre.databases.servers:
            self.centre.databases.rebuild(part)
            return f"{name} was made anew, and runs"
        self.stop(name)
        return self.start(name)

    def _part(self, name: str) -> str:
        """The keeper's name of a part; LabError when there is none."""
        part = self.centre.databases.names.get(name, name)
        self.centre.keeper[part]
        return part
