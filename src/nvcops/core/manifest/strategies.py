"""The strategies that are there without being written down, and what is wrong with one that somebody wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nvcops.core.manifest.delivery import RolloutStep, Strategy
from nvcops.core.units import Seconds

COMPARED_MIN = 2  # with fewer instances on a side, a slow host and a slow release look alike
BUILT_IN = (
    Strategy(
        name="canary",
        steps=(
            RolloutStep(set_weight=10),
            RolloutStep(analysis=True),
            RolloutStep(set_weight=50),
            RolloutStep(analysis=True),
        ),
    ),
    Strategy(
        name="blue-green",
        steps=(RolloutStep(set_weight=50), RolloutStep(analysis=True), RolloutStep(set_weight=100)),
    ),
    Strategy(name="rolling", steps=(RolloutStep(replace=2), RolloutStep(analysis=True))),
)
Wrong = tuple[tuple[str | int, ...], str, str]


def in_main_slots(steps: Sequence[RolloutStep]) -> bool:
    """Whether the new release comes into the main slots at once, while the spare ones go on with the old one.

    >>> [in_main_slots(strategy.steps) for strategy in BUILT_IN]
    [False, False, True]
    """
    return any(step.replace for step in steps)


def mistakes(steps: Sequence[RolloutStep], main: int, spare: int) -> Iterator[Wrong]:
    """What is wrong with a strategy for so many slots: (place, sentence, hint).

    >>> [said for _, said, _ in mistakes(BUILT_IN[0].steps, 2, 1)][0]
    'the analysis would compare 1 with 2: it could fail and never pass'
    >>> [list(mistakes(strategy.steps, 2, 2)) for strategy in BUILT_IN]
    [[], [], []]
    """
    yield from _formed(steps)
    if in_main_slots(steps) and any(step.set_weight is not None for step in steps):
        hint = "set_weight sends to the spare slots, replace changes the main ones: a strategy does one of the two"
        yield (), "a strategy both sets weights and replaces", hint
        return
    if any(step.set_weight is not None for step in steps) and not spare:
        yield (), "a strategy sets weights, and there is no spare slot to send anything to", "delivery.spare"
    if (replaced := sum(step.replace or 0 for step in steps)) > main:
        yield (), f"a strategy replaces {replaced} main slots, and there are {main}", "the last ones come by themselves"
    yield from _compared(steps, main, spare)


def _formed(steps: Sequence[RolloutStep]) -> Iterator[Wrong]:
    """Each step by itself, and weights that only rise."""
    weight = 0
    for index, step in enumerate(steps):
        given = [name for name in step.__struct_fields__ if getattr(step, name) is not None]
        if len(given) != 1:
            said = f"a step says {' and '.join(given) or 'nothing'}"
            yield (index,), said, "one of: set_weight, pause, analysis, replace"
        if step.analysis is False:
            yield (index, "analysis"), "analysis = false is no step", "leave it out"
        if step.set_weight is not None and step.set_weight <= weight:
            yield (index, "set_weight"), f"set_weight {step.set_weight} after {weight}", "weights rise; abort goes back"
        weight = step.set_weight or weight
        if step.pause:
            try:
                Seconds.read(step.pause)
            except ValueError as error:
                yield (index, "pause"), f"pause: {error}", 'a duration, or "" until somebody promotes'


def _compared(steps: Sequence[RolloutStep], main: int, spare: int) -> Iterator[Wrong]:
    """Each analysis has two sides with enough instances."""
    weight, replaced = 0, 0
    for index, step in enumerate(steps):
        weight, replaced = step.set_weight or weight, replaced + (step.replace or 0)
        if not step.analysis:
            continue
        if not replaced and not 0 < weight < 100:
            hint = "after set_weight of 1 to 99, or replace, there are two sides"
            yield (index, "analysis"), f"at {weight} % there is nobody to compare with", hint
            continue
        new, old = (replaced, main - replaced + spare) if replaced else (spare, main)
        if min(new, old) < COMPARED_MIN:
            said = f"the analysis would compare {new} with {old}: it could fail and never pass"
            yield (index, "analysis"), said, f"{COMPARED_MIN} slots a side: more spare slots, or no analysis here"
