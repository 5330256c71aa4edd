"""Before anything is changed: what is to be released in the place of what, and whether that may and can be done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, NvcopsError, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import Strategy
from nvcops.core.manifest.strategies import mistakes
from nvcops.core.releases import Release
from nvcops.core.rollouts import Rollout
from nvcops.core.runs import conduct
from nvcops.core.target import Target
from nvcops.core.units import Bytes
from nvcops.delivery.compatibility import Applied, Compatibility, compatible, known_by
from nvcops.delivery.pipeline import admitted
from nvcops.delivery.standing import (
    applied_migrations,
    entry_of,
    left_behind,
    records_of,
    releases_of,
    standing,
    under_way,
)
from nvcops.delivery.strategies import Standing, strategy_of, words

_ROOM_FACTOR = 4  # the artifact, what is unpacked of it, and the release after it

# --- Facts ---


class Room(msgspec.Struct, frozen=True):
    """How much is free where releases lie; `name` is the disk's in the manifest."""

    name: str
    free: int


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be released and in the place of what; all that decides whether it may. `old` None: nobody keeps it.

    `serving` are the digests that the main slots run; `fits` is about the new release and the schema of now. `refused`:
    why the stages of the pipeline do not let it pass.
    """

    new: Release
    serving: tuple[str, ...]
    old: Release | None = None
    seen: Standing
    fits: Compatibility
    schema_trouble: str = ""
    refused: str = ""
    busy: tuple[Rollout, ...] = ()
    rooms: tuple[Room, ...] = ()

    @property
    def old_digest(self) -> str:
        """What serves now; empty: nothing yet."""
        return self.serving[0] if self.serving else ""


@conduct(deadline="10 min", idempotent=True)
def planned(target: Target, run: str, version: str) -> Planned:
    """Verify the release, and read everything that decides whether it may be rolled out."""
    store = releases_of(target)
    new = store.verify(store.find(version).digest)
    seen = standing(target)
    serving = tuple(dict.fromkeys(one.release for one in seen.main if one.release))
    try:
        fits, trouble = fitting(target, new, applied_migrations(target)), ""
    except TargetError as error:
        fits, trouble = Compatibility(), error.sentence
    with records_of(target).reading() as reading:
        refused = admitted(reading, entry_of(target.manifest).stages, new.digest)
        behind = {one.id for one in left_behind(target, reading, run)}
        busy = tuple(one for one in under_way(reading) if one.id != run and one.id not in behind)
    return Planned(
        new=new,
        serving=serving,
        old=kept(target, serving[0]) if serving else None,
        seen=seen,
        fits=fits,
        schema_trouble=trouble,
        refused=refused,
        busy=busy,
        rooms=_rooms(target),
    )


def fitting(target: Target, release: Release, applied: Sequence[Applied]) -> Compatibility:
    """Whether a release may run on the schema of now, by what all kept releases know."""
    return compatible(release, applied, known_by(releases_of(target).list()))


def kept(target: Target, digest: str) -> Release | None:
    """A release of the store, verified; None where it keeps none of that digest."""
    try:
        return releases_of(target).verify(digest)
    except NotFoundError:
        return None


def _rooms(target: Target) -> tuple[Room, ...]:
    """The disks of the manifest on which releases lie."""
    entry = entry_of(target.manifest)
    rooms = []
    for disk in target.manifest.disks:
        if any(path.is_relative_to(disk.path) for path in (entry.store, entry.root) if path is not None):
            try:
                seen = target.host.disk(disk.name)
            except NvcopsError:
                rooms.append(Room(disk.name, -1))
            else:
                rooms.append(Room(disk.name, seen.size - seen.used))
    return tuple(rooms)


# --- Rules ---

RELEASE = Check("delivery.release", "Release", "`nvcops release list` has those that verify")
ADMITTED = Check("delivery.admitted", "Stages of the pipeline", "`nvcops pipeline run STAGE --version V`")
SCHEMA = Check("delivery.schema", "Schema", "a release that knows the schema's migrations; `nvcops release show V`")
READY = Check("delivery.ready", "Slots before the rollout", "`nvcops release status`; scripts/restore_application.sh")
STRATEGY = Check("delivery.strategy", "Strategy", "[delivery] strategies; --strategy NAME")
ROOM = Check("delivery.room", "Room for the release", "`nvcops run release-cleanup`")
ALONE = Check("delivery.alone", "Other rollouts", "`nvcops release status`, `nvcops release abort`")


def preflight_findings(plan: Planned, manifest: Manifest, strategy: str) -> list[Finding]:
    """Everything that must hold before a rollout begins."""
    entry = entry_of(manifest)
    return [
        release_finding(plan),
        admitted_finding(plan.refused, [stage.name for stage in entry.stages]),
        schema_finding(plan, can_migrate=bool(entry.migrate)),
        *ready_findings(plan),
        strategy_finding(strategy_of(entry, strategy), len(plan.seen.main), len(plan.seen.spare)),
        *(_room_finding(room, plan.new.size) for room in plan.rooms),
        alone_finding(plan.busy),
    ]


def meanwhile_findings(approved: Planned, now: Planned) -> list[Finding]:
    """What became another rollout while its approval was waited for: it would replace what nobody was asked about."""
    if now.old_digest == approved.old_digest:
        return []
    then, serves = approved.old_digest[:8] or "none", now.old_digest[:8] or "none"
    said = f"release {serves} serves, and it was release {then} when this was asked for"
    return [READY.finding(Verdict.CRITICAL, said, limit="as approved")]


def passes(findings: Sequence[Finding]) -> bool:
    """Whether it may begin: what is not known is no yes, whatever else there is."""
    return all(line.verdict in (Verdict.OK, Verdict.WARNING) for line in findings)


def release_finding(plan: Planned) -> Finding:
    """What is to be released; not what runs already, and never without a way back."""
    new, old = plan.new, plan.old_digest
    said = f"{new.name} {new.version}, {new.digest[:8]}, signed by {new.builder}"
    if new.digest == old and len(plan.serving) == 1:
        return RELEASE.finding(Verdict.CRITICAL, f"{said}: it runs already")
    if old and plan.old is None:
        hint = f"{said}; release {old[:8]}, which it replaces, is not kept: there would be no way back"
        return RELEASE.finding(Verdict.CRITICAL, hint)
    return RELEASE.finding(Verdict.OK, f"{said}, in the place of {plan.old.version}" if plan.old else said)


def admitted_finding(refused: str, stages: Sequence[str]) -> Finding:
    """It passed every stage of the pipeline.

    >>> admitted_finding("it was not admitted to staging", ["dev", "staging"]).verdict.name
    'CRITICAL'
    >>> admitted_finding("", ["dev", "staging"]).observed, admitted_finding("", []).verdict.name
    ('admitted by dev, staging', 'WARNING')
    """
    if not stages:
        return ADMITTED.finding(Verdict.WARNING, "there are none: nothing was asked of the release")
    if refused:
        return ADMITTED.finding(Verdict.CRITICAL, refused, limit="all stages, in order")
    return ADMITTED.finding(Verdict.OK, f"admitted by {', '.join(stages)}")


def schema_finding(plan: Planned, *, can_migrate: bool) -> Finding:
    """The release may run on the schema, after its own expansions."""
    fits = plan.fits
    if plan.schema_trouble:
        return SCHEMA.unknown(plan.schema_trouble)
    if fits.refused:
        return SCHEMA.finding(Verdict.CRITICAL, "; ".join(fits.refused))
    if fits.expand and not can_migrate:
        return SCHEMA.finding(Verdict.CRITICAL, f"{', '.join(fits.expand)} pending, and nothing applies them")
    later = f"; {', '.join(fits.contract)} after the rollback window" if fits.contract else ""
    return SCHEMA.finding(Verdict.OK, (f"expands by {', '.join(fits.expand)}" if fits.expand else "as it is") + later)


def ready_findings(plan: Planned) -> list[Finding]:
    """Every main slot serves one release and is ready, the balancer knows all slots, and there is one to spare."""
    seen, findings = plan.seen, []
    if seen.trouble:
        findings.append(READY.unknown(seen.trouble))
    elif unknown := [one.slot for one in seen.slots if one.weight is None]:
        findings.append(READY.finding(Verdict.CRITICAL, f"the balancer does not know {', '.join(unknown)}"))
    if not seen.spare:
        findings.append(READY.finding(Verdict.CRITICAL, "no spare slot: the rollback could not be rehearsed"))
    if len(plan.serving) > 1:
        said = f"main slots run several releases: {', '.join(one[:8] for one in plan.serving)}"
        findings.append(READY.finding(Verdict.CRITICAL, said, limit="one"))
    elif plan.serving:
        for one in seen.main:
            if not one.runs(plan.old_digest):
                said = one.trouble or "it does not say which release it is"
                findings.append(READY.finding(Verdict.CRITICAL, said, subject=one.slot, limit="ready"))
    return findings or [READY.finding(Verdict.OK, f"{len(seen.main)} main and {len(seen.spare)} spare slots")]


def strategy_finding(strategy: Strategy, main: int, spare: int) -> Finding:
    """The strategy's steps, and whether they can be gone with these slots."""
    if wrong := [said for _, said, _ in mistakes(strategy.steps, main, spare)]:
        return STRATEGY.finding(Verdict.CRITICAL, f"{strategy.name}: {'; '.join(wrong)}")
    return STRATEGY.finding(Verdict.OK, f"{strategy.name}: {', '.join(words(strategy))}")


def _room_finding(room: Room, size: int) -> Finding:
    if room.free < 0:
        return ROOM.unknown("it cannot be read", subject=room.name)
    need = _ROOM_FACTOR * size
    verdict = Verdict.CRITICAL if room.free < need else Verdict.OK
    return ROOM.finding(verdict, f"{Bytes(room.free)} free", subject=room.name, limit=f">= {Bytes(need)}")


def alone_finding(busy: Sequence[Rollout]) -> Finding:
    """No other rollout is under way."""
    if busy:
        one = busy[0]
        return ALONE.finding(
            Verdict.CRITICAL, f"{one.service} {one.version} is being rolled out: {one.phase}, {one.id}"
        )
    return ALONE.finding(Verdict.OK, "none")
