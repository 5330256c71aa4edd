"""What stands in the slots, what the records say of rollouts, and how each transition of one is written down."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from nvcops.core.errors import NotFoundError, NvcopsError, Refused, StateError, TargetError, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.manifest.delivery import DeliveryEntry
from nvcops.core.probes import json_object, why_not_ready
from nvcops.core.progress import tell
from nvcops.core.records import Desk, Reading, Records
from nvcops.core.releases import Releases
from nvcops.core.rollouts import Balanced, Balancer, Looks, Occupied, Phase, Rollout, Slots
from nvcops.core.runs import conduct
from nvcops.core.target import Answer, Question, Target
from nvcops.core.together import side_by_side
from nvcops.delivery.compatibility import Applied
from nvcops.delivery.strategies import SlotSeen, Standing

ROLLBACK = "rollback"  # stands where a rollout's strategy does, when a person put a version back into service
_ROLLOUTS_MAX = 1_000
_UNDER_WAY = tuple(phase for phase in Phase if not phase.ended)

# --- what a platform must have ---


def entry_of(manifest: Manifest) -> DeliveryEntry:
    """How the service is delivered; raises UsageError where the manifest does not say."""
    if manifest.delivery is None:
        raise UsageError("platform.toml has no [delivery]", hint="platforms/nvc-bank/platform.toml shows one")
    return manifest.delivery


def service_of(manifest: Manifest) -> ServiceEntry:
    """The service that is delivered."""
    name = entry_of(manifest).service
    return next(one for one in manifest.services if one.name == name)


def slots_of(target: Target) -> Slots:
    """The places; raises Refused where there are none."""
    if target.slots is None:
        raise Refused("platform.toml has no [delivery]: there are no slots")
    return target.slots


def balancer_of(target: Target) -> Balancer:
    """What splits the traffic; raises Refused where there is none."""
    if target.balancer is None:
        raise Refused("nothing splits the traffic of the service", hint="[proxy], and its backend in [delivery]")
    return target.balancer


def releases_of(target: Target) -> Releases:
    """The store; raises Refused where there is none."""
    if target.releases is None:
        raise Refused("platform.toml has no [delivery]: there are no releases")
    return target.releases


def looks_of(target: Target) -> Looks:
    """Where looks are kept; raises Refused where there is no such place."""
    if target.looks is None:
        raise Refused("platform.toml has no [delivery]: no looks are kept")
    return target.looks


def records_of(target: Target) -> Records:
    """The records; raises Refused where there are none."""
    if target.records is None:
        raise Refused("no records are kept here")
    return target.records


# --- Facts ---


def slot_names(manifest: Manifest) -> dict[str, bool]:
    """All slots, main ones first; whether each is one."""
    main = {instance.name: True for instance in service_of(manifest).instances}
    return {**main, **{slot.name: False for slot in entry_of(manifest).spare}}


@conduct(deadline="2 min", idempotent=True)
def standing(target: Target) -> Standing:
    """Read what runs in each slot by its own word and its host's, and what the balancer sends there."""
    names = slot_names(target.manifest)
    return _standing(target, names, dict(zip(names, side_by_side(slots_of(target).look, names), strict=True)))


@conduct(deadline="1 min", idempotent=True)
def answering(target: Target) -> Standing:
    """Read what each slot says of itself, and what the balancer sends there.

    No host is asked: it takes a moment only.
    """
    return _standing(target, slot_names(target.manifest), {})


def _standing(target: Target, names: dict[str, bool], occupied: dict[str, Occupied | TargetError]) -> Standing:
    said = _said(target, list(names))
    try:
        balanced = {one.slot: one for one in balancer_of(target).look()}
        trouble = ""
    except TargetError as error:
        balanced, trouble = {}, error.sentence
    slots = (_seen(name, main, occupied.get(name), said[name], balanced.get(name)) for name, main in names.items())
    return Standing(slots=tuple(slots), trouble=trouble)


Said = tuple[Answer | TargetError, Answer | TargetError]


def _said(target: Target, names: Sequence[str]) -> dict[str, Said]:
    """What each slot answers to the questions whether it is ready, and what it is."""
    service = service_of(target.manifest)
    paths = (service.ready, service.version or service.ready)
    questions = [Question(service.name, path, name) for name in names for path in paths]
    answers = target.services.ask(questions)
    return {name: (answers[2 * n], answers[2 * n + 1]) for n, name in enumerate(names)}


def _seen(
    name: str, main: bool, occupied: Occupied | TargetError | None, said: Said, balanced: Balanced | None
) -> SlotSeen:
    about = json_object(said[1])
    trouble = why_not_ready(said[0])
    if occupied is None:
        occupied = Occupied(slot=name, digest=_text(about, "release"), running=isinstance(said[0], Answer))
    elif isinstance(occupied, TargetError):
        trouble = occupied.sentence
        occupied = Occupied(slot=name, running=True)  # frozen, or out of reach: it may run on, so it is not stopped
    elif not occupied.running:
        trouble = "it does not run"
    return SlotSeen(
        slot=name,
        main=main,
        digest=occupied.digest,
        running=occupied.running,
        release=_text(about, "release"),
        version=_text(about, "version"),
        started=_text(about, "started"),
        ready=not trouble,
        trouble=trouble,
        weight=balanced.weight if balanced else None,
        healthy=balanced.healthy if balanced else None,
        sessions=balanced.sessions if balanced else None,
        requests=balanced.requests if balanced else None,
        failed=balanced.failed if balanced else None,
    )


def _text(about: dict[str, Any], name: str) -> str:
    value = about.get(name)
    return value if isinstance(value, str) else ""


@conduct(deadline="1 min", idempotent=True)
def applied_migrations(target: Target) -> list[Applied]:
    """Read which migrations the database has."""
    query = entry_of(target.manifest).applied
    if not query:
        return []
    if target.database is None:
        raise Refused("there is no [database] to ask for its migrations")
    rows = target.database.rows(query)
    try:
        return msgspec.convert(rows, list[Applied])
    except msgspec.ValidationError as error:
        raise Refused(f"delivery.applied does not answer name and sha256: {error}") from error


# --- what the records say ---


def under_way(reading: Reading) -> list[Rollout]:
    """The rollouts that have not ended, the oldest first."""
    return reading.find(Rollout, phase__in=list(_UNDER_WAY), order="began", limit=_ROLLOUTS_MAX)


def history(reading: Reading, limit: int = _ROLLOUTS_MAX) -> list[Rollout]:
    """All rollouts, the newest first."""
    return reading.find(Rollout, order="-began", limit=limit)


def rollout_of(reading: Reading, run: str) -> Rollout:
    """A rollout by its run.

    Raises:
        NotFoundError: there is none.
    """
    found = reading.get(Rollout, run)
    if found is None:
        raise NotFoundError(f"there is no rollout {run!r}", hint="`nvcops release history` lists them")
    return found


def wish_now(target: Target, run: str) -> str:
    """Look whether a person wished it to be aborted or promoted.

    Nobody can wish anything while the records are away; that is no reason to take a good release back.
    """
    try:
        with records_of(target).reading() as reading:
            return rollout_of(reading, run).wish
    except StateError as error:
        tell(0, 0, f"wishes cannot be heard: {error.sentence}")
        return ""


def left_behind(target: Target, reading: Reading, run: str) -> list[Rollout]:
    """Rollouts that have not ended and whose runs have: nobody goes on with them."""
    return [one for one in under_way(reading) if one.id != run and _is_over(target, one.id)]


def _is_over(target: Target, run: str) -> bool:
    if target.runs is None:
        return False
    try:
        return target.runs.run(run).state.ended
    except NotFoundError:
        return True
    except NvcopsError:
        return False


# --- Procedures: each transition, with its evidence, in one transaction ---


@conduct(deadline="1 min", idempotent=True, attempts=3)
def begin(target: Target, rollout: Rollout) -> bool:
    """Write down that it begins; those that their runs left behind end with it. True: this is no rehearsal."""
    rollout = msgspec.structs.replace(rollout, by=rollout.by or _requester(target, rollout.id))
    with records_of(target).changing() as desk:
        if rollout.phase.ended:  # refused: it is only written down
            _add(desk, target, rollout)
            return True
        for one in left_behind(target, desk, rollout.id):
            why = f"left behind by its run, taken over by {rollout.id}"
            _write(desk, target, one, phase=Phase.ROLLED_BACK, why=why, ended=target.host.now())
        others = [one for one in under_way(desk) if one.id != rollout.id]
        if others:
            raise Refused(_busy(others[0]), hint="`nvcops release abort` ends it, `nvcops release status` shows it")
        _add(desk, target, rollout)
    return True


def _requester(target: Target, run: str) -> str:
    """Who asked for a run; empty: that is not known."""
    if target.runs is None:
        return ""
    try:
        return target.runs.requester(run)[0]
    except NvcopsError:
        return ""


def _add(desk: Desk, target: Target, rollout: Rollout) -> None:
    if desk.add(rollout):
        desk.note(_entry(target, rollout))


def _busy(other: Rollout) -> str:
    return f"{other.service} {other.version} is being rolled out already ({other.id}, {other.phase})"


@conduct(deadline="1 min", idempotent=True, attempts=3)
def written(target: Target, run: str, fields: dict[str, Any]) -> bool:
    """Write a transition, once."""
    with records_of(target).changing() as desk:
        _write(desk, target, rollout_of(desk, run), **fields)
    return True


@conduct(deadline="1 min", idempotent=True, attempts=3)
def finished(target: Target, run: str, phase: Phase, why: str, warm_s: float) -> bool:
    """Write down how it ended, once; the release before stays warm for so many seconds."""
    with records_of(target).changing() as desk:
        rollout, at = rollout_of(desk, run), target.host.now()
        if rollout.phase.ended:
            return True
        warm = at + dt.timedelta(seconds=warm_s) if warm_s else None
        weight = 100 if phase is Phase.HEALTHY else 0
        _write(desk, target, rollout, phase=phase, why=why, ended=at, warm_until=warm, weight=weight)
    return True


@conduct(deadline="1 min", idempotent=True, attempts=3)
def noted(target: Target, run: str, step: int, said: dict[str, Any]) -> bool:
    """Write what an analysis said into the evidence."""
    with records_of(target).changing() as desk:
        rollout, at = rollout_of(desk, run), target.host.now()
        entry = _note(target.manifest.platform.name, rollout, at, rollout.by)
        body = {"step": step, "analysis": said}
        desk.note(msgspec.structs.replace(entry, id=f"{entry.id}/analysis", kind="rollout.analysis", body=body))
    return True


def _write(desk: Desk, target: Target, before: Rollout, **fields: Any) -> None:
    known = msgspec.convert({**msgspec.structs.asdict(before), **fields}, Rollout)
    if known == before:
        return
    desk.put(known)
    desk.note(_entry(target, known))


def wish(desk: Desk, manifest: Manifest, wanted: str, person: str, at: dt.datetime) -> Rollout:
    """Write a person's wish into the rollout that is under way.

    Raises:
        NotFoundError: none is, or it goes back already.
    """
    going = under_way(desk)
    if not going:
        raise NotFoundError("no rollout is under way", hint="`nvcops release history` lists those that ended")
    if going[-1].phase is Phase.ROLLING_BACK or going[-1].strategy == ROLLBACK:
        raise NotFoundError(f"{going[-1].service} goes back already: {going[-1].id}", hint="`nvcops release status`")
    rollout = msgspec.structs.replace(going[-1], wish=wanted)
    desk.put(rollout)
    desk.note(_note(manifest.platform.name, rollout, at, person))
    return rollout


def _entry(target: Target, rollout: Rollout) -> Entry:
    return _note(target.manifest.platform.name, rollout, target.host.now(), rollout.by)


def _note(platform: str, rollout: Rollout, at: dt.datetime, actor: str) -> Entry:
    """Where a rollout stands, as evidence. Its id is of what it says: written twice it is one entry."""
    body = msgspec.to_builtins(rollout)
    said = hashlib.sha256(msgspec.json.encode([body, utc(at)])).hexdigest()[:16]
    return Entry(
        id=f"rollout/{rollout.id}/{said}",
        time=utc(at),
        kind="rollout." + rollout.phase.value.replace(" ", "-"),
        platform=platform,
        run=rollout.id,
        actor=actor,
        subject=f"release/{rollout.new}",
        body=body,
    )
