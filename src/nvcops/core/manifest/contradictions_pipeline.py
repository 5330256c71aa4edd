"""What the types cannot say of the pipeline: gates of no kind, without a program, or that nobody could ever test."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from nvcops.core.manifest.delivery import GATE_KINDS, Gate
from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.tables import Manifest
from nvcops.core.units import Seconds

_ASKS_A_PROGRAM = ("program", "performance")
_TAKES_A_PROGRAM = (*_ASKS_A_PROGRAM, "tests", "lint")
_DEADLINE_MAX = Seconds(3 * 3600)
_CHOICES = {"lock_timeout": ("file", "runner"), "transaction": ("yes", "no"), "service": ("pypi", "osv", "esms")}
Mistake = tuple[Place, str, str]


def pipeline(manifest: Manifest) -> Iterator[Mistake]:
    """All of them: (place, sentence, hint)."""
    for number, stage in enumerate(manifest.delivery.stages if manifest.delivery else ()):
        seen: set[str] = set()
        for index, gate in enumerate(stage.gates):
            place: Place = ("delivery", "stages", number, "gates", index)
            if gate.name in seen:
                sentence = f"the name {gate.name!r} stands twice among the gates of {stage.name}"
                yield (*place, "name"), sentence, "names are unique: what one said would be taken for the other's"
            seen.add(gate.name)
            yield from _gate(place, gate)


def _gate(place: Place, gate: Gate) -> Iterator[Mistake]:
    if gate.kind not in GATE_KINDS:
        near = difflib.get_close_matches(gate.kind, GATE_KINDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there: {', '.join(GATE_KINDS)}"
        yield (*place, "kind"), f"there is no gate of kind {gate.kind!r}", hint
        return
    if gate.kind in _ASKS_A_PROGRAM and not gate.program:
        yield (*place, "kind"), f"the gate {gate.name} names no program", 'program = ["...", "{release}"]'
    if gate.program and gate.kind not in _TAKES_A_PROGRAM:
        yield (*place, "program"), f"a gate of kind {gate.kind} takes no program", 'kind = "program" runs any'
    if gate.kind == "program" and gate.control is None:
        hint = "control = a folder with a fault that it must refuse"
        yield (*place, "kind"), f"nobody could tell whether the gate {gate.name} refuses anything", hint
    if gate.report and gate.kind != "program":
        yield (*place, "report"), f"a gate of kind {gate.kind} has its own report", "leave it out"
    if gate.report and not any("{report}" in word for word in gate.program):
        yield (*place, "report"), f"{gate.name}'s program is not told where its report goes", 'as in "{report}"'
    if gate.deadline > _DEADLINE_MAX:
        yield (*place, "deadline"), f"deadline: a gate has {_DEADLINE_MAX} at most", "take what it does apart"
    yield from _options(place, gate)


def _options(place: Place, gate: Gate) -> Iterator[Mistake]:
    known = GATE_KINDS[gate.kind]
    at = (*place, "options")
    if known is None:
        if not gate.options:
            yield at[:-1], f"the gate {gate.name} names no control", 'options = { procedure = "7 d" }'
        for name, period in gate.options.items():
            if not _is_time(period):
                yield (*at, name), f"{name}: {period!r} is no period", 'a quantity like "7 d"'
        return
    for name, value in gate.options.items():
        if name not in known:
            hint = f"there: {', '.join(known)}" if known else "it has none"
            yield (*at, name), f"a gate of kind {gate.kind} has no option {name!r}", hint
        elif value not in _CHOICES.get(name, (value,)):
            yield (*at, name), f"{name}: {value!r} is none", f"one of {', '.join(_CHOICES[name])}"


def _is_time(written: str) -> bool:
    try:
        return Seconds.read(written) > 0
    except ValueError:
        return False
