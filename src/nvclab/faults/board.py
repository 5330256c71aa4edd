"""Which faults are active in a lab."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvclab.errors import LabError
from nvclab.faults import catalogue
from nvclab.faults.schema import execute, memory_of
from nvclab.faults.surroundings import FullDisk

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre
    from nvclab.faults.kind import Fault, Options


@dataclass(frozen=True)
class _Active:
    fault: Fault
    said: str
    since: dt.datetime
    options: Options


@dataclass
class FaultBoard:
    """The active faults of one lab by name; each at most once."""

    centre: DataCentre
    _active: dict[str, _Active] = field(default_factory=dict)

    def inject(self, name: str, options: Options) -> str:
        """Make a fault; LabError when it is active already. What was half made is undone."""
        if name in self._active:
            raise LabError(f"{name} is active already: {self._active[name].said}.", hint=f"nvclab heal {name}")
        kind = catalogue.find(name)
        fault = kind.make(self.centre, {**kind.options, **options})
        try:
            said = fault.inject()
        except Exception:
            fault.heal()
            raise
        self._active[name] = _Active(fault, said, dt.datetime.now(dt.UTC), options)
        return f"{name}: {said}"

    def heal(self, name: str) -> str:
        """Undo a fault; LabError when it is not active."""
        if name not in self._active:
            active = ", ".join(self._active) or "none"
            raise LabError(f"{name} is not active.", hint=f"active faults: {active}")
        said = self._active[name].fault.heal()
        del self._active[name]  # only now: what could not be undone can be tried again
        return f"{name}: {said}"

    def heal_all(self) -> list[str]:
        """Undo all faults, the newest first; LabError at the end if one of them resisted."""
        said, resisting = [], []
        for name in reversed(list(self._active)):
            try:
                said.append(self.heal(name))
            except Exception as error:  # noqa: BLE001 - one that resists must not keep the others from being healed
                resisting.append(f"{name} ({error})")
        if resisting:
            raise LabError(f"Not healed: {', '.join(resisting)}.", hint="nvclab status, nvclab logs supervisor")
        return said or ["no fault is active"]

    def heal_remembered(self) -> None:
        """Undo what a killed lab left: faults in the database, and the filler in the archive."""
        memory = memory_of(self.centre)
        for name, undo in memory.read().items():
            execute(self.centre, undo)
            memory.forget(name)
        FullDisk(self.centre, 0).heal()

    def forget_at_end(self) -> None:
        """The lab ends: undo what would outlive it. What resists is remembered, and undone at the next start."""
        for name in list(self._active):
            if name in memory_of(self.centre).read():
                self.heal(name)
        FullDisk(self.centre, 0).heal()

    def active(self) -> list[dict[str, Any]]:
        """For the status."""
        return [
            {
                "name": name,
                "said": item.said,
                "since": item.since.isoformat(timespec="seconds"),
                "options": item.options,
            }
            for name, item in list(self._active.items())
        ]
