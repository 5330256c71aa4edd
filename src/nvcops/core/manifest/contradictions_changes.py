"""What the types cannot say of changes: freezes turned round, executives who cannot sign, rules in vain."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from nvcops.core.manifest.delivery import ChangesEntry
from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.tables import Manifest

Mistake = tuple[Place, str, str]
_AT = "changes"


def changed(manifest: Manifest) -> Iterator[Mistake]:
    """All of them: (place, sentence, hint)."""
    yield from _standard(manifest.changes)
    yield from _freezes(manifest.changes)
    yield from _approvers(manifest)
    if not 0 <= manifest.changes.budget_min < 1:
        hint = '"10 %" is a usual one; "0 %" switches it off'
        yield (_AT, "budget_min"), f"budget_min is {manifest.changes.budget_min} of an error budget", hint
    if manifest.changes.coverage is not None and manifest.incidents.repository is None:
        hint = "[incidents] repository: the report names files of that checkout"
        yield (_AT, "coverage"), "a report of coverage, and no repository whose files it is about", hint


def _standard(entry: ChangesEntry) -> Iterator[Mistake]:
    seen: dict[tuple[str, str], str] = {}
    for index, standard in enumerate(entry.standard):
        place: Place = (_AT, "standard", index)
        if not standard.procedures:
            yield (*place, "procedures"), f"{standard.name} names no procedure", "only a named one approves itself"
        if not 0 < standard.risk_max <= 1:
            yield (*place, "risk_max"), f"risk_max is {standard.risk_max}", 'a probability, as in "10 %"'
        for name in standard.procedures:
            other = seen.setdefault((standard.kind, name), standard.name)
            if other != standard.name:
                sentence = f"{standard.kind} by {name} is standard in {other} already"
                yield (*place, "procedures"), sentence, "of two the second would never be looked at"


def _freezes(entry: ChangesEntry) -> Iterator[Mistake]:
    for index, freeze in enumerate(entry.freezes):
        if (freeze.start.tzinfo is None) != (freeze.end.tzinfo is None):
            hint = "without an offset both are in the platform's time zone"
            yield (_AT, "freezes", index, "end"), f"{freeze.name}: one moment has an offset, the other has none", hint
        elif _plain(freeze.end) <= _plain(freeze.start):
            yield (_AT, "freezes", index, "end"), f"{freeze.name} ends before it begins", "swap the two"


def _plain(moment: dt.datetime) -> dt.datetime:
    """So that two of a kind can be compared."""
    return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _approvers(manifest: Manifest) -> Iterator[Mistake]:
    entry = manifest.changes
    approvers = [person.name for person in manifest.people if "approver" in person.roles]
    if entry.approvals > max(len(approvers), 1):
        sentence = f"{entry.approvals} approvals are asked for, and [[people]] has {len(approvers)} approvers"
        yield (_AT, "approvals"), sentence, "nothing could be approved: name more people, or ask for fewer"
    for name in entry.executives:
        if manifest.person(name) is None:
            yield (_AT, "executives"), f"{name!r} is nobody in [[people]]", "an executive signs with a key of their own"
        elif name not in approvers:
            yield (_AT, "executives"), f"{name!r} is no approver", 'roles = ["approver"]'
