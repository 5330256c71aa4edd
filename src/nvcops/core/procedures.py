"""The registry that *is* the runbook: each procedure says what it is called, when it is due, and what its run proves.

A procedure is a function `(run, target, *, options)`. Its docstring's first line is the command's help, the runbook's
entry and the header of its script; its keyword-only parameters are the script's flags; it is described nowhere else.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.schedule import When
from nvcops.core.slo import Exclusion

_REGISTRY: dict[str, Procedure] = {}


@dataclass(frozen=True, slots=True)
class Option:
    """A flag of the procedure's script: a bool is a switch, everything else takes a value of its type."""

    name: str
    kind: type
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """How it is written.

        >>> Option("last_24h", bool, False, "").flag
        '--last-24h'
        """
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Procedure:
    """One line of the runbook.

    `lock` names what two runs must not touch at once on one target; None: it only reads. `evidences` are the
    identifiers of the controls that its run is evidence for. `approval_unless` is the option with which it asks for no
    approval, `approval_if` the one with which alone it does. `needs` are the manifest's tables without which the clock
    does not ask for it. `maintenance`: from its approval on, its time is left out of the objectives; no repair of
    an outage is that. `given_up(target, run)` takes back what a run that is cancelled or fails has changed and not yet
    accepted, and says in sentences what became of it. `urgent`: what has its lock, did nothing yet and only waits for a
    person's yes is cancelled for it.
    """

    name: str
    function: Callable[..., None]
    script: str | None
    when: When
    lock: str | None
    evidences: tuple[str, ...]
    approval: bool = False
    approval_unless: str = ""
    needs: tuple[str, ...] = ()
    approval_if: str = ""
    maintenance: bool = False
    given_up: Callable[[Any, str], list[str]] | None = None
    urgent: bool = False

    def asks_approval(self, options: Mapping[str, Any]) -> bool:
        """Whether a run with these options asks a second person, so that its requester must be known."""
        spared = bool(self.approval_unless and options.get(self.approval_unless))
        spared = spared or bool(self.approval_if and not options.get(self.approval_if))
        return self.approval and not spared

    @property
    def reads_only(self) -> bool:
        """Whether it changes nothing: it goes on even when no journal can be kept."""
        return self.lock is None and not self.approval

    @property
    def room(self) -> str:
        """The room it stands in."""
        return self.function.__module__.split(".")[1]

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.description.splitlines()[0]

    @property
    def description(self) -> str:
        """Its docstring without the arguments."""
        return inspect.cleandoc(self.function.__doc__ or "").split("\nArgs:")[0].strip()

    @property
    def options(self) -> tuple[Option, ...]:
        """Its flags, from its keyword-only parameters and the docstring's Args."""
        helps = _argument_helps(inspect.getdoc(self.function) or "")
        return tuple(
            Option(name, type(parameter.default), parameter.default, helps.get(name, ""))
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        )

    @property
    def content_hash(self) -> str:
        """SHA-256 of its room's source as it was loaded: a run goes on only under the code with which it began.

        A room that is a folder is all of it, its own folders and its queries included.
        """
        return _content_hash(_source(Path(inspect.getfile(self.function)), self.function.__module__))

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options, checked, over the defaults.

        Raises:
            UsageError: an option that it does not have, or a value of another type.
        """
        options = {option.name: option for option in self.options}
        for name, value in given.items():
            if name not in options:
                known = ", ".join(option.flag for option in options.values()) or "none"
                raise UsageError(f"{self.name} has no option {name!r}", hint=f"its options: {known}")
            if not isinstance(value, options[name].kind):
                raise UsageError(f"{options[name].flag} takes {options[name].kind.__name__}, not {value!r}")
        return {name: given.get(name, option.default) for name, option in options.items()}


def _source(file: Path, module: str) -> Path:
    """Where the room's source is: its folder, however deep in it the module lies, or its only file.

    >>> [_source(Path("/p", name), "nvcops." + module).as_posix() for name, module in (
    ...     ("ledger.py", "ledger"), ("vault/keys.py", "vault.keys"), ("vault/doors/east.py", "vault.doors.east"),
    ...     ("vault/doors/__init__.py", "vault.doors"), ("vault/__init__.py", "vault"))]
    ['/p/ledger.py', '/p/vault', '/p/vault', '/p/vault', '/p/vault']
    """
    above = module.count(".") - (file.name != "__init__.py")
    return file.parents[above - 1] if above > 0 else file


@functools.cache
def _content_hash(source: Path) -> str:
    files = sorted(source.rglob("*.py")) + sorted(source.rglob("*.sql")) if source.is_dir() else [source]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def procedure(  # noqa: PLR0913 - a line of the runbook has many columns
    name: str,
    *,
    script: str | None = None,
    when: str = "never",
    lock: str | None = None,
    evidences: Iterable[str] = (),
    approval: bool = False,
    approval_unless: str = "",
    approval_if: str = "",
    maintenance: bool = False,
    needs: Iterable[str] = (),
    given_up: Callable[[Any, str], list[str]] | None = None,
    urgent: bool = False,
) -> Callable[[Callable[..., None]], Procedure]:
    """Enter a function into the runbook; what stands in its place afterwards is the Procedure."""

    def enter(function: Callable[..., None]) -> Procedure:
        if not (function.__doc__ or "").strip():
            raise ValueError(f"procedure {name} has no docstring: it is its help and its runbook entry")
        entry = Procedure(
            name,
            function,
            script,
            When.read(when),
            lock,
            tuple(evidences),
            approval,
            approval_unless,
            tuple(needs),
            approval_if,
            maintenance,
            given_up,
            urgent,
        )
        if _REGISTRY.setdefault(name, entry) is not entry:
            raise ValueError(f"two procedures are called {name}")
        _ = entry.content_hash  # now: what lies on the disk later is not what this process runs
        return entry

    return enter


def runbook() -> list[Procedure]:
    """Every procedure, by name."""
    return sorted(_REGISTRY.values(), key=lambda entry: entry.name)


def planned(found: Iterable[Exclusion]) -> list[Exclusion]:
    """The time of approved runs that were maintenance: a repair that somebody approved excuses no outage."""
    maintenance = {entry.name for entry in runbook() if entry.maintenance}
    return [one for one in found if one.change.partition("@")[0] in maintenance]


def find(name: str) -> Procedure:
    """A procedure by its name or by its script's name.

    Raises:
        NotFoundError: with the nearest names.
    """
    import difflib

    for entry in runbook():
        if name in (entry.name, entry.script):
            return entry
    near = difflib.get_close_matches(name, list(_REGISTRY), 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`nvcops list` shows them all"
    raise NotFoundError(f"there is no procedure {name!r}", hint=hint)


def _argument_helps(docstring: str) -> dict[str, str]:
    r"""The Args section of a docstring.

    >>> _argument_helps("Do.\n\nArgs:\n    since: from when on,\n        as a time\n    top: how many\n")
    {'since': 'from when on, as a time', 'top': 'how many'}
    """
    _, found, section = docstring.partition("Args:\n")
    helps: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section).splitlines() if found else ():
        if line[:1].strip():
            name, _, text = line.partition(":")
            helps[name.strip()] = text.strip()
        elif line.strip() and name:
            helps[name] += " " + line.strip()
    return helps
