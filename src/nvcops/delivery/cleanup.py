"""After a rollout, when its rollback window has closed: stop what was kept warm, remove old releases, contract."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from nvcops.changes.carrying import carry, done, ended_by, number_of
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, StepFailed, TargetError
from nvcops.core.procedures import procedure
from nvcops.core.releases import Release
from nvcops.core.rollouts import Phase, Rollout
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.together import side_by_side
from nvcops.core.units import Bytes
from nvcops.delivery.compatibility import Compatibility, breaks
from nvcops.delivery.preflight import fitting, kept
from nvcops.delivery.releases import removable as releases_to_remove
from nvcops.delivery.rollout import migrate, stop
from nvcops.delivery.standing import (
    applied_migrations,
    entry_of,
    history,
    looks_of,
    records_of,
    releases_of,
    service_of,
    slot_names,
    slots_of,
    standing,
    under_way,
)
from nvcops.delivery.strategies import Standing

# --- Facts ---


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The releases that are whole on the host of a slot; `trouble`: not known."""

    slot: str
    digests: tuple[str, ...] = ()
    trouble: str = ""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What rollouts left: what stands in the slots, what lies on the hosts, and until when somebody may want it back.

    `closes` is when the last rollback window closes; None: none is open. `order` are digests, the newest rollout first.
    """

    seen: Standing
    hosts: tuple[Kept, ...] = ()
    now: dt.datetime
    closes: dt.datetime | None = None
    order: tuple[str, ...] = ()
    busy: str = ""


class Contraction(msgspec.Struct, frozen=True, kw_only=True):
    """What the release that serves would remove from the schema; who could not run any more after that."""

    release: Release
    fits: Compatibility
    broken: dict[str, tuple[str, ...]] = {}


@conduct(deadline="5 min", idempotent=True)
def left_over(target: Target) -> Left:
    """Look what rollouts left in the slots and on the hosts."""
    now = target.host.now()
    with records_of(target).reading() as reading:
        rollouts, going = history(reading), under_way(reading)
    windows = [one.warm_until for one in rollouts if one.warm_until and one.warm_until > now]
    return Left(
        seen=standing(target),
        hosts=_laid(target),
        now=now,
        closes=max(windows, default=None),
        order=tuple(dict.fromkeys(_digests(rollouts))),
        busy=going[0].id if going else "",
    )


def _laid(target: Target) -> tuple[Kept, ...]:
    names = list(slot_names(target.manifest))
    found = side_by_side(slots_of(target).laid, names)
    return tuple(
        Kept(slot=name, trouble=laid.sentence)
        if isinstance(laid, TargetError)
        else Kept(slot=name, digests=tuple(laid))
        for name, laid in zip(names, found, strict=True)
    )


def _digests(rollouts: Iterable[Rollout]) -> Iterable[str]:
    for one in rollouts:
        if one.phase is Phase.HEALTHY:
            yield one.new
        yield one.old


@conduct(deadline="10 min", idempotent=True)
def contraction(target: Target) -> Contraction:
    """Look what the release that serves may remove from the schema, and who would break by that.

    Raises:
        NotFoundError: the release that serves is not kept, or several serve.
    """
    seen = standing(target)
    serving = {one.release for one in seen.main if one.release}
    release = kept(target, serving.pop()) if len(serving) == 1 else None
    if release is None:
        raise NotFoundError("the main slots do not run one release that is kept", hint="`nvcops release status`")
    fits = fitting(target, release, applied_migrations(target))
    known = {one.digest: one for one in releases_of(target).list()}
    broken = {}
    for one in seen.slots:
        if one.running and one.release != release.digest:
            runs = known.get(one.release)
            lost = breaks(runs, fits.contract) if runs else list(fits.contract)
            if lost:
                broken[one.slot] = tuple(lost)
    return Contraction(release=release, fits=fits, broken=broken)


# --- Rules ---

WARM = Check("delivery.warm", "Warm slots", "`nvcops release status`")
REMOVED = Check("delivery.removed", "Old releases", "`nvcops release list`")
CONTRACTED = Check("delivery.contracted", "Contractions of the schema", "`nvcops run contract-migrations`")


def warm_to_stop(left: Left) -> list[str]:
    """The spare slots that run and that nobody may want back any more."""
    if left.busy or (left.closes and left.closes > left.now):
        return []
    return [one.slot for one in left.seen.spare if one.running and not one.serves]


def removable(left: Left, newest: Sequence[str], keep: int) -> dict[str, list[str]]:
    """By slot the releases beyond those that are kept: what is in a slot, what rolled out last, and the newest.

    `newest` are the digests of the store, the newest first.
    """
    if left.busy:
        return {}
    there = [digest for one in left.seen.slots for digest in (one.digest, one.release) if digest]
    stays = list(dict.fromkeys([*there, *left.order, *newest]))[: max(keep, len(set(there)))]
    beyond = {host.slot: [one for one in host.digests if one not in stays] for host in left.hosts}
    return {slot: digests for slot, digests in beyond.items() if digests}


def gone_from_store(left: Left, releases: Sequence[Release], keep: int) -> list[str]:
    """The artifacts that nobody has any more: not of the newest, in no slot, on no host. None when that is unknown."""
    if left.busy or any(host.trouble for host in left.hosts):
        return []
    there = {digest for one in left.seen.slots for digest in (one.digest, one.release)}
    laid = {digest for host in left.hosts for digest in host.digests}
    return [one.digest for one in releases_to_remove(releases, keep, there | laid)]


def contraction_finding(seen: Contraction, left: Left) -> Finding:
    """Whether the schema may be contracted now."""
    if not seen.fits.contract:
        return CONTRACTED.finding(Verdict.OK, "none is pending")
    names = ", ".join(seen.fits.contract)
    if left.busy:
        return CONTRACTED.finding(Verdict.CRITICAL, f"{names}: a rollout is under way ({left.busy})")
    if left.closes and left.closes > left.now:
        return CONTRACTED.finding(
            Verdict.CRITICAL, f"{names}: the rollback window is open until {left.closes:%F %R} UTC"
        )
    if seen.fits.refused:
        return CONTRACTED.finding(Verdict.CRITICAL, f"{names}: {'; '.join(seen.fits.refused)}")
    if seen.broken:
        return CONTRACTED.finding(Verdict.CRITICAL, f"{names}: {', '.join(seen.broken)} could not run any more")
    return CONTRACTED.finding(Verdict.OK, f"{names} may be applied")


# --- Procedures ---


@conduct(deadline="15 min", idempotent=True, attempts=2)
def forget(target: Target, slot: str, digest: str) -> int:
    """Remove a release from a slot's host."""
    return slots_of(target).forget(slot, digest)


@conduct(deadline="5 min", idempotent=True, attempts=2)
def remove(target: Target, digest: str) -> int:
    """Remove an artifact from the store."""
    return releases_of(target).remove(digest)


@conduct(deadline="15 min", idempotent=True)
def forget_looks(target: Target) -> int:
    """Remove the looks of rollouts that nobody remembers."""
    with records_of(target).reading() as reading:
        known = [one.id for one in history(reading)]
    return looks_of(target).forget(known)


@procedure("release-cleanup", when="daily 22:00", lock="delivery", needs=["delivery"])
def release_cleanup(run: Run, target: Target) -> None:
    """Stop releases that were kept warm for a rollback window that has closed, and remove those beyond what is kept."""
    left = run.read(left_over, target)
    releases = run.read(kept_releases, target)
    keep, newest = entry_of(target.manifest).keep, [one.digest for one in releases]
    findings: list[Finding] = []
    for slot in warm_to_stop(left):
        try:
            run.step(f"stop {slot}, whose rollback window has closed", stop, target, slot)
        except StepFailed as error:
            findings.append(WARM.finding(Verdict.WARNING, error.sentence, subject=slot))
    freed, count = 0, 0
    for slot, digests in removable(left, newest, keep).items():
        for digest in digests:
            try:
                freed += (
                    run.step(f"remove release {digest[:8]} from the host of {slot}", forget, target, slot, digest) or 0
                )
                count += 1
            except StepFailed as error:
                findings.append(REMOVED.finding(Verdict.WARNING, error.sentence, subject=slot))
    findings += [REMOVED.unknown(host.trouble, subject=host.slot) for host in left.hosts if host.trouble]
    after = run.read(left_over, target)
    for digest in gone_from_store(after, releases, keep):
        try:
            freed += run.step(f"remove release {digest[:8]} from the store", remove, target, digest) or 0
            count += 1
        except StepFailed as error:
            findings.append(REMOVED.finding(Verdict.WARNING, error.sentence, subject="store"))
    if not left.busy:
        run.step("remove the looks of rollouts that nobody remembers", forget_looks, target)
    warm = [one.slot for one in after.seen.spare if one.running]
    said = f"{', '.join(warm)} warm" + (f" until {after.closes:%F %R} UTC" if after.closes else "") if warm else "none"
    findings.append(WARM.finding(Verdict.OK, f"a rollout is under way ({left.busy})" if left.busy else said))
    findings.append(REMOVED.finding(Verdict.OK, f"{count} removed, {Bytes(freed)} freed"))
    run.conclude(findings)


def kept_releases(target: Target) -> list[Release]:
    """Look which releases are kept, the newest first."""
    return list(releases_of(target).list())


@procedure("contract-migrations", lock="delivery", approval=True, approval_unless="change", needs=["delivery"])
def contract_migrations(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, change: str = ""
) -> None:
    """Remove from the schema what only older releases needed, once the rollback window has closed.

    After it no release can be restored that does not know these migrations.

    Args:
        change: the approved change, as in C-17; without it a second person approves this run
    """
    left, seen = run.read(left_over, target), run.read(contraction, target)
    may = contraction_finding(seen, left)
    if may.verdict is not Verdict.OK or not seen.fits.contract:
        run.conclude([may])
        return
    names = ", ".join(seen.fits.contract)
    number = carry(
        run,
        target,
        ChangeKind.DEPLOYMENT,
        f"Contract the schema: {names}",
        number=number_of(change),
        step="contract",
        digest=seen.release.digest,
        services=(service_of(target.manifest).name,),
        schema=True,
        rollback_plan="none but a restore: what is removed is gone",
    )
    try:
        if run.step(f"apply {names}", migrate, target, seen.release.digest, contract=True) is None:
            run.conclude([may], summary=f"Would contract the schema: {names}.")
            return
        there = {one.name for one in run.read(applied_migrations, target)}
        missing = [name for name in seen.fits.contract if name not in there]
        line = CONTRACTED.finding(
            Verdict.CRITICAL if missing else Verdict.OK,
            f"not applied: {', '.join(missing)}" if missing else f"{names} applied",
        )
    except StepFailed as error:
        line = CONTRACTED.finding(Verdict.CRITICAL, error.sentence)
    done(run, target, number, ended_by([line]), line.observed)
    run.conclude([line])
