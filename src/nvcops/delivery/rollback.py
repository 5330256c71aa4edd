"""Back to a version that is kept, by a person's word: the schema first, then the traffic, then the main slots."""

from __future__ import annotations

import msgspec

from nvcops.changes.carrying import Ended, carry, done, number_of
from nvcops.core.changes import ChangeCategory, ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, StateError, StepFailed, TargetError
from nvcops.core.procedures import procedure
from nvcops.core.releases import Release
from nvcops.core.rollouts import Phase, Rollout
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.delivery.compatibility import Compatibility
from nvcops.delivery.preflight import fitting
from nvcops.delivery.rollout import Reached, at_goal, lay, reach, split, traffic_finding
from nvcops.delivery.standing import (
    ROLLBACK,
    applied_migrations,
    begin,
    finished,
    history,
    records_of,
    releases_of,
    service_of,
    standing,
)
from nvcops.delivery.strategies import Goal, Split, Standing
from nvcops.delivery.taking_back import given_up, tried

# --- Facts ---


class Back(msgspec.Struct, frozen=True, kw_only=True):
    """What is to serve again, in the place of what, and whether the schema lets it."""

    release: Release
    now: str
    now_version: str
    seen: Standing
    fits: Compatibility
    schema_trouble: str = ""


@conduct(deadline="1 min", idempotent=True)
def back_to(target: Target, version: str) -> Back:
    """Look which version is meant, what serves now, and whether the schema fits."""
    release = releases_of(target).find(version or _before(target))
    seen = standing(target)
    serving = [one for one in seen.serving if one.release] or [one for one in seen.main if one.release]
    now = next((one for one in serving if one.release != release.digest), serving[0] if serving else None)
    try:
        fits, trouble = fitting(target, release, applied_migrations(target)), ""
    except TargetError as error:
        fits, trouble = Compatibility(), error.sentence
    return Back(
        release=release,
        now=now.release if now else "",
        now_version=now.version if now else "",
        seen=seen,
        fits=fits,
        schema_trouble=trouble,
    )


def _before(target: Target) -> str:
    """The release that the newest successful deployment replaced; said twice, it is the same one.

    Not what a rollback replaced: that was bad, and would come back when somebody calls for a rollback once more.

    Raises:
        NotFoundError: there is none.
    """
    try:
        with records_of(target).reading() as reading:
            rollouts = history(reading)
    except StateError as error:
        raise StateError(f"{error.sentence}: nobody knows what was replaced last", hint="--version V") from error
    for one in rollouts:
        if one.phase is Phase.HEALTHY and one.old and one.strategy != ROLLBACK:
            return one.old
    raise NotFoundError("no rollout is known that could be undone", hint="--version V; `nvcops release list` has them")


# --- Rules ---

RESTORED = Check("delivery.restored", "Restored version", "`nvcops release status`; `nvcops show RUN` has all steps")
FITS = Check("delivery.schema", "Schema", "a version that knows the schema's migrations: `nvcops release list`")


def fits_finding(back: Back) -> Finding:
    """The version runs on the schema of now: asked before anything else.

    A version that would have to change the schema first is deployed, not restored.
    """
    if back.schema_trouble:
        return FITS.unknown(back.schema_trouble)
    if back.fits.refused:
        return FITS.finding(Verdict.CRITICAL, "; ".join(back.fits.refused))
    if back.fits.expand:
        return FITS.finding(Verdict.CRITICAL, f"{', '.join(back.fits.expand)} is not applied: deploy that version")
    return FITS.finding(Verdict.OK, f"{back.release.version} runs on it")


# --- Procedures ---


@procedure(
    "restore-application",
    script="restore_application.sh",
    lock="delivery",
    needs=["delivery"],
    given_up=given_up,
    urgent=True,
)
def restore_application(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, version: str = "", change: str = ""
) -> None:
    """Put a version that is kept back into service: all traffic to it first, then every main slot.

    Whether it runs on the schema of now is asked before anything is done. One that is warm in the spare slots serves
    within seconds; another is started there first. It is an emergency change of whoever signs for it (--as NAME), and
    is reviewed afterwards.

    Args:
        version: which version, or the beginning of its digest; without it the one that the last rollout replaced
        change: the change that this belongs to, as in C-17
    """
    back = run.read(back_to, target, version)
    fits = fits_finding(back)
    if fits.verdict is not Verdict.OK:
        run.conclude([RESTORED.finding(Verdict.CRITICAL, "refused: nothing was changed"), fits])
        return
    service = service_of(target.manifest).name
    title = f"Back to {service} {back.release.version} ({back.release.digest[:8]}) from {back.now_version or 'nothing'}"
    number = carry(
        run,
        target,
        ChangeKind.DEPLOYMENT,
        title,
        number=number_of(change),
        digest=back.release.digest,
        services=(service,),
        schema=False,
        rollback_plan=f"restore_application.sh --version {back.now_version}" if back.now else "stop it",
        category=ChangeCategory.EMERGENCY,
    )
    troubles: list[str] = []
    try:
        begun = run.step(f"write down: {title}", begin, target, _rollout(run, back, service, number))
    except StepFailed as error:  # nobody is left with a bad release because our own records are away
        begun, troubles = True, [error.sentence]
    if begun is None:
        run.conclude([fits], summary=f"Would go: {title}.")
        return
    _restored(run, target, back, number, troubles)


def _rollout(run: Run, back: Back, service: str, number: int) -> Rollout:
    return Rollout(
        id=run.id,
        service=service,
        new=back.release.digest,
        version=back.release.version,
        old=back.now,
        old_version=back.now_version,
        strategy=ROLLBACK,
        phase=Phase.PROMOTING,
        began=run.started,
        change=number or None,
    )


def _restored(run: Run, target: Target, back: Back, number: int, before: list[str]) -> None:
    """The traffic, then the slots; then what stands is read, and said. `before` is what went wrong already."""
    digest, troubles = back.release.digest, list(before)
    goal = Goal(serve=digest, leave=back.now if back.now != digest else "", urgent=True)
    try:
        if back.seen.running(digest):
            run.step(f"all traffic to {back.release.version} at once", split, target, Split.ALL, digest, "", 0)
    except StepFailed as error:
        troubles.append(error.sentence)
    for one in back.seen.slots:
        try:
            run.step(f"lay release {digest[:8]} for {one.slot}", lay, target, one.slot, digest)
        except StepFailed as error:
            troubles.append(error.sentence)
    reached: Reached = reach(run, target, goal)
    after = at_goal(reached.seen, goal)
    serves = traffic_finding(reached.seen, digest).verdict is Verdict.OK
    bad = "; ".join(line.observed for line in after if line.verdict is not Verdict.OK)
    phase = Phase.HEALTHY if serves else Phase.ROLLED_BACK
    troubles += tried(run, "write down who serves", finished, target, run.id, phase, bad, 0.0)
    done(run, target, number, Ended.DONE if serves else Ended.FAILED, bad or f"{back.release.version} serves again")
    said = f"{back.release.version} serves again" if serves else f"{back.release.version} does not serve: {bad}"
    lines = [RESTORED.finding(Verdict.WARNING, one) for one in dict.fromkeys([*troubles, *reached.troubles])]
    run.conclude([RESTORED.finding(Verdict.OK if serves else Verdict.CRITICAL, said), *after, *lines])
