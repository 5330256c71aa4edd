"""Deploying: rehearse the way back, go the strategy's steps, promote; whatever fails on the way is taken back."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.changes.carrying import Ended, carry, done, number_of
from nvcops.core.changes import ChangeKind
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import StepFailed, TargetError, UsageError
from nvcops.core.manifest.delivery import RolloutStep, Strategy
from nvcops.core.manifest.strategies import in_main_slots
from nvcops.core.procedures import procedure
from nvcops.core.rollouts import Phase, Rollout
from nvcops.core.runs import Run
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.delivery.analysis_live import ABORT, Analysed, Paused, PauseEnd, analysed, paused
from nvcops.delivery.canary import Outcome
from nvcops.delivery.preflight import SCHEMA, Planned, meanwhile_findings, passes, planned, preflight_findings
from nvcops.delivery.rollout import SLOT, Rehearsed, at_goal, cut_off, lay, migrate, reach, rehearse, replace, split
from nvcops.delivery.standing import (
    answering,
    applied_migrations,
    begin,
    entry_of,
    finished,
    noted,
    service_of,
    standing,
    wish_now,
    written,
)
from nvcops.delivery.strategies import Goal, Split, strategy_of, word, words
from nvcops.delivery.taking_back import given_up, taken_back

# --- Rules ---

ROLLOUT = Check("delivery.rollout", "Rollout", "the lines below say why; `nvcops show RUN` has all steps")
REHEARSED = Check("delivery.rehearsed", "Rehearsed rollback", "")
ANALYSIS = Check("delivery.analysis", "Analysis", "`nvcops release analysis RUN` has its looks")


def rollout_of_plan(run: Run, plan: Planned, service: str, strategy: Strategy) -> Rollout:
    """The record with which a rollout begins."""
    return Rollout(
        id=run.id,
        service=service,
        new=plan.new.digest,
        version=plan.new.version,
        old=plan.old_digest,
        old_version=plan.old.version if plan.old else "",
        strategy=strategy.name,
        began=run.started,
    )


def analysis_finding(at: str, got: Analysed) -> Finding:
    """What a trial said, and how long proving safety took or would take."""
    said = got.judgement
    waits = said.proof_s and said.outcome is Outcome.INCONCLUSIVE
    proof = f"; proving safety takes about {Seconds(said.proof_s or 0)} more at this traffic" if waits else ""
    good = said.outcome is Outcome.PASS and not got.wished
    return ANALYSIS.finding(Verdict.OK if good else Verdict.CRITICAL, said.sentence + proof, subject=at)


def rehearsed_finding(seen: Rehearsed) -> Finding:
    """How long the way back took when nobody needed it."""
    return REHEARSED.finding(Verdict.OK, f"{Seconds(seen.seconds)} on {seen.slot}: {seen.old_said}"[:300])


# --- Procedures ---


@procedure("deploy", lock="delivery", approval=True, approval_unless="change", needs=["delivery"], given_up=given_up)
def deploy(  # noqa: D417 - its Args are the script's flags
    run: Run, target: Target, *, version: str = "", strategy: str = "", change: str = ""
) -> None:
    """Roll a release out: rehearse its rollback, go the strategy's steps, promote it; what fails is taken back at once.

    The release before stays warm in the spare slots for the rollback window. A run that was killed goes on, or takes
    back, when it is resumed.

    Args:
        version: which release: its version, or the beginning of its digest
        strategy: canary, blue-green, rolling, or one of the manifest's; without it the manifest's default
        change: the approved change, as in C-17; without it a second person approves this run
    """
    if not version:
        raise UsageError("which release?", hint="--version V; `nvcops release list` has them")
    entry, service = entry_of(target.manifest), service_of(target.manifest).name
    chosen = strategy_of(entry, strategy)
    plan = run.read(planned, target, run.id, version)
    findings = preflight_findings(plan, target.manifest, strategy)
    if not passes(findings):
        run.step("write down that it is refused", begin, target, _refused(run, plan, service, chosen, findings))
        run.conclude([ROLLOUT.finding(Verdict.CRITICAL, "refused: nothing was changed"), *findings])
        return
    number = carry(
        run,
        target,
        ChangeKind.DEPLOYMENT,
        f"Deploy {service} {plan.new.version} ({plan.new.digest[:8]}): {', '.join(words(chosen))}",
        number=number_of(change),
        step="deploy",
        digest=plan.new.digest,
        services=(service,),
        schema=bool(plan.fits.expand),
        rollback_plan=f"back to {plan.old.version}, rehearsed before" if plan.old else "stop it: nothing ran before",
    )
    again = run.read(planned, target, run.id, plan.new.digest)  # an approval may take hours
    findings = [*preflight_findings(again, target.manifest, strategy), *meanwhile_findings(plan, again)]
    if not passes(findings):
        done(run, target, number, Ended.FAILED, "it could not begin any more")
        run.step("write down that it is refused", begin, target, _refused(run, again, service, chosen, findings))
        run.conclude([ROLLOUT.finding(Verdict.CRITICAL, "refused: nothing was changed"), *findings])
        return
    _Rollout(run, target, again, chosen, number).conclude(findings)


def _refused(run: Run, plan: Planned, service: str, strategy: Strategy, findings: list[Finding]) -> Rollout:
    why = "; ".join(
        f"{one.title}: {one.observed}" for one in findings if one.verdict not in (Verdict.OK, Verdict.WARNING)
    )
    begun = rollout_of_plan(run, plan, service, strategy)
    return msgspec.structs.replace(begun, phase=Phase.REFUSED, ended=run.started, why=why)


class _Rollout:
    """One rollout on its way: the acts in their order, and what was found."""

    def __init__(self, run: Run, target: Target, plan: Planned, strategy: Strategy, number: int) -> None:
        self.run, self.target, self.plan, self.strategy, self.number = run, target, plan, strategy, number
        self.new, self.old = plan.new.digest, plan.old_digest
        self.findings: list[Finding] = []

    def conclude(self, before: list[Finding]) -> None:
        """Carry it out, or take it back; then say what stands."""
        run, target, service = self.run, self.target, service_of(self.target.manifest).name
        begun = rollout_of_plan(run, self.plan, service, self.strategy)
        begun = msgspec.structs.replace(begun, change=self.number or None)
        if run.step(f"write down that {self.plan.new.version} is rolled out", begin, target, begun) is None:
            summary = f"Would roll out {self.plan.new.version}: {', '.join(words(self.strategy))}."
            run.conclude([*before, *self.findings], summary=summary)
            return
        try:
            after = self._carried_out()
        except (StepFailed, TargetError) as error:
            self._back(error.sentence, before)
            return
        except Exception as error:
            self._back(f"{type(error).__name__}: {error}", before)
            raise
        took = self._took()
        said = f"{self.plan.new.version} serves{f', after {took}' if took else ''}"
        done(run, target, self.number, Ended.DONE, said)
        run.conclude([ROLLOUT.finding(Verdict.OK, said), *self.findings, *after])

    def _took(self) -> str:
        ended = self.run.read(moment, self.target)
        return str(Seconds((ended - self.run.started).total_seconds()))

    def _back(self, why: str, before: list[Finding]) -> None:
        after = taken_back(self.run, self.target, self.new, self.old, why)
        done(self.run, self.target, self.number, Ended.ROLLED_BACK, why)
        line = ROLLOUT.finding(Verdict.CRITICAL, f"rolled back: {why}")
        self.run.conclude([line, *self.findings, *after, *before])

    def _carried_out(self) -> list[Finding]:
        """All acts. Raises StepFailed where something of it failed."""
        run, target = self.run, self.target
        for one in self.plan.seen.slots:
            for digest in filter(None, (self.new, self.old)):
                self._heed()
                run.step(f"lay release {digest[:8]} for {one.slot}", lay, target, one.slot, digest)
        self._heed()
        if self.plan.fits.expand:
            self._migrate()
            self._heed()
        began: dict[str, str] = {}
        if self.old:
            self._rehearse()
            began = {one.slot: one.started for one in run.read(answering, target).running(self.new) if one.started}
            for number, step in enumerate(self.strategy.steps, 1):
                self._heed()
                self._step(number, step)
        self._heed()
        self._write(f"{self.plan.new.version} is promoted", phase=Phase.PROMOTING)
        goal = Goal(serve=self.new, warm=self.old, leave=self.old)
        self._say(reach(run, target, goal, self._heed, began).troubles)
        self._watch()
        after = at_goal(run.read(standing, target), goal)
        if bad := [line for line in after if line.verdict in (Verdict.CRITICAL, Verdict.UNKNOWN)]:
            raise StepFailed(f"{bad[0].title} {bad[0].subject}: {bad[0].observed}".replace(" :", ":"))
        window = entry_of(target.manifest).rollback_window
        run.step("write down that it is done", finished, target, run.id, Phase.HEALTHY, "", float(window))
        return after

    def _watch(self) -> None:
        """For as long as a warm-up takes: a release that ends after half a minute was in no main slot before."""
        seconds = entry_of(self.target.manifest).analysis.warm_up
        step = len(self.strategy.steps) + 1
        title = f"watch it everywhere for {seconds}"
        self._paused(self.run.step(title, paused, self.target, self.run.id, step, self.new, float(seconds)))

    def _migrate(self) -> None:
        """Expand the schema, and read back that it is."""
        self._write("the schema is expanded", phase=Phase.MIGRATING)
        names = ", ".join(self.plan.fits.expand)
        self.run.step(f"expand the schema: {names}", migrate, self.target, self.new, contract=False)
        there = {one.name for one in self.run.read(applied_migrations, self.target)}
        if missing := [name for name in self.plan.fits.expand if name not in there]:
            raise StepFailed(f"{', '.join(missing)} is not applied, though the program ended well")
        self.findings.append(SCHEMA.finding(Verdict.OK, f"expanded by {names}"))

    def _rehearse(self) -> None:
        """The way back first; then the spare slots are filled for the strategy."""
        run, target, spare = self.run, self.target, [one.slot for one in self.plan.seen.spare]
        self._write("the rollback is rehearsed", phase=Phase.REHEARSING)
        rehearsed = run.step(f"rehearse the rollback on {spare[0]}", rehearse, target, spare[0], self.new, self.old)
        self.findings.append(rehearsed_finding(rehearsed))
        self._write("the rollback was rehearsed", rollback_s=rehearsed.seconds, phase=Phase.PROGRESSING)
        digest = self.old if in_main_slots(self.strategy.steps) else self.new
        for slot in spare:
            self._heed()
            run.step(f"give {slot} release {digest[:8]}", replace, target, slot, digest)
        if digest == self.old:
            run.step("let the spare slots serve too", split, target, Split.BOTH, self.new, self.old, 0)

    def _step(self, number: int, step: RolloutStep) -> None:
        """One step of the strategy."""
        run, target, title = self.run, self.target, word(step)
        if step.set_weight is not None:
            how = Split.PERCENT
            run.step(title, split, target, how, self.new, self.old, step.set_weight)
            self._write(f"{step.set_weight} % to the new release", step=number, weight=step.set_weight)
            return
        self._write(f"step {number}: {title}", step=number)
        if step.replace is not None:
            for _ in range(step.replace):
                self._heed()
                self._replace_one()
        elif step.pause is not None:
            seconds = float(Seconds.read(step.pause)) if step.pause else None
            self._paused(run.step(title, paused, target, run.id, number, self.new, seconds))
        else:
            self._analysed(number, run.step(title, analysed, target, run.id, number, self.new, self.old))

    def _replace_one(self) -> None:
        """The next main slot gets the new release, and its part of the traffic."""
        run, target = self.run, self.target
        seen = run.read(answering, target)
        slot = next((one.slot for one in seen.main if not one.runs(self.new)), "")
        if slot:
            self._say(cut_off(run.step(f"give {slot} release {self.new[:8]}", replace, target, slot, self.new)))
            run.step(f"let {slot} serve", split, target, Split.BOTH, self.new, self.old, 0)
            share = 100 * (1 + sum(one.runs(self.new) for one in seen.slots)) // len(seen.slots)  # with this one
            self._write(f"{slot} runs the new release", weight=share)

    def _analysed(self, number: int, got: Analysed) -> None:
        self.findings.append(analysis_finding(f"step {number}", got))
        self.run.step("write down what the analysis said", noted, self.target, self.run.id, number, _as_data(got))
        if got.wished:
            raise StepFailed("a person wished it to be aborted")
        if got.judgement.outcome is Outcome.PASS:
            return
        if got.cut or got.trouble or (got.judgement.abort and got.judgement.outcome is Outcome.FAIL):
            raise StepFailed(f"analysis: {got.judgement.sentence}")
        title = "the analysis is inconclusive: wait for a person"
        self._paused(self.run.step(title, paused, self.target, self.run.id, -number, self.new, None))

    def _paused(self, got: Paused) -> None:
        if got.end in (PauseEnd.ABORTED, PauseEnd.SICK):
            raise StepFailed(f"in a pause: {got.end}, {got.why}")
        if got.end is PauseEnd.PROMOTED:
            self._write("a person promoted it", wish="")

    def _heed(self) -> None:
        """A person's wish to abort."""
        if self.run.read(wish_now, self.target, self.run.id) == ABORT:
            raise StepFailed("a person wished it to be aborted")

    def _say(self, troubles: list[str]) -> None:
        self.findings += [SLOT.finding(Verdict.WARNING, said) for said in troubles]

    def _write(self, title: str, **fields: object) -> None:
        self.run.step(f"write down: {title}", written, self.target, self.run.id, fields)


def _as_data(got: Analysed) -> dict[str, object]:
    data: dict[str, object] = msgspec.to_builtins(got)
    return data


def moment(target: Target) -> dt.datetime:
    """Note the time."""
    return target.host.now()
