"""What is done about a condition: a function of the recipe, of what was changed and of what was tried, and of no more.

A treatment is one bounded change between two rounds, after a going back or without one. Where there is none, the reason
is returned. After a treatment the run rests for `REST` log lines, so that its effect can be seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from equipoise.game.adjustments import Adjustments
from equipoise.recipe import Recipe, task_name
from equipoise.storage.records import Condition, Diagnosis

REST = 32  # log lines after a treatment, in which no other is begun
MOST_OF_ONE = 2  # treatments of the same condition
LOWEST = 1 / 64  # factor of a rate
HIGHEST = 1_000.0
USUAL_MOMENTUM = 0.5  # with more the players swing (arXiv:1511.06434, §3; arXiv:1807.04740)
USUAL_RATE = 2e-3  # of Adam in a game; with more of it, rates are lowered rather than raised
GAMMA = 0.1  # of R1 + R2, where there was no penalty
STRONGER = 4.0  # times the γ of a penalty, once
SLOWER = 1 / 4  # times the rate of a generator beside a discriminator that is too weak
RAISED = 100.0  # times both rates where they are too low
NUM_CUTS = 2  # by the recipe's factor at once, where steps are too large
NUM_DEEP_CUTS = 3  # where gradients explode or vanish, or a game has never worked
NOISE = 0.1  # standard deviation that is added to what the discriminator sees
MOST_NOISE = 0.2
FIRST = 0.1  # probability of augmentation with which its controller begins
MOST_AUGMENTED = 0.8  # where augmentations begin to leak (arXiv:2006.06676, §2.2)
TARGET = 0.5  # of r_v (arXiv:2006.06676, §3.2)
RAMP = 500_000  # samples from probability 0 to 1 (arXiv:2006.06676, §3.1)
SHARE_OF_RAMP = 0.25  # of the samples that the budget pays for, where these are few

# Nothing is done about these while scores get better.
WAITING: tuple[Condition, ...] = ("mode-dropping", "cycling", "rate-too-high", "rate-too-low")
UNTOLD: tuple[Condition, ...] = ("non-finite", "nothing-more-to-gain")  # they have verdicts of their own
FOLLOWING: tuple[Condition, ...] = ("divergence", "mode-collapse", "mode-dropping", "cycling")
ENDING: tuple[Condition, ...] = ("divergence", "exploding-gradient", "mode-collapse")
GOING_BACK: tuple[Condition, ...] = (*ENDING, "rate-too-high", "vanishing-gradient")
CAUSES: tuple[Condition, ...] = (  # what may be behind one of FOLLOWING, and is treated first
    "rate-too-high",
    "rate-too-low",
    "exploding-gradient",
    "discriminator-too-weak",
    "discriminator-overpowering",
    "vanishing-gradient",
)


@dataclass(frozen=True)
class RemedyHistory:
    """What was tried in a run: how often for each condition, for which nothing more can be done, and the rest left."""

    tried: dict[Condition, int] = field(default_factory=dict)
    told: tuple[Condition, ...] = ()  # that nothing is done about them
    rest: int = 0  # log lines

    @property
    def num_tried(self) -> int:
        """How many remedies there were."""
        return sum(self.tried.values())

    def after(self, condition: Condition) -> "RemedyHistory":
        """Return the history after one more remedy for a condition."""
        tried = self.tried | {condition: self.tried.get(condition, 0) + 1}
        return replace(self, tried=tried, rest=REST)

    def rested(self) -> "RemedyHistory":
        """Return the history one log line later."""
        return self if self.rest == 0 else replace(self, rest=self.rest - 1)

    def telling(self, condition: Condition) -> "RemedyHistory":
        """Return the history once it was told that nothing is done about a condition."""
        return replace(self, told=(*self.told, condition))


@dataclass(frozen=True)
class Situation:
    """What a treatment is chosen from."""

    recipe: Recipe
    adjustments: Adjustments = field(default_factory=Adjustments)
    remedy_history: RemedyHistory = field(default_factory=RemedyHistory)
    start: int = 0  # samples by which a condition of the game was there from the beginning
    places: tuple[int, ...] = ()  # samples of the checkpoints that the run can go back to
    best: int | None = None  # samples of the best generator


@dataclass(frozen=True)
class Treatment:
    """What is done: what is changed afterwards, where the run goes back to first, and whether D begins anew."""

    adjustments: Adjustments
    back_to: int | None = None  # samples; 0: its beginning, None: nowhere
    fresh_discriminator: bool = False


@dataclass(frozen=True)
class NoTreatment:
    """Why nothing is done; is_end: the run has no future without it."""

    reason: str
    is_end: bool = False


def to_treat(diagnoses: Sequence[Diagnosis], start: int = 0) -> list[Diagnosis]:
    """Return what is to be treated, in this order: nothing while all is only possible, else causes before the rest.

    What is only possible is a cause where something that may follow from it is sure. `start`: samples by which a
    condition was there from the beginning. Steps that are only possibly too large are a cause if they always were.
    """
    sure = [one for one in diagnoses if one.confidence != "possible" and one.condition not in UNTOLD]
    has_followed = any(one.condition in FOLLOWING for one in sure)

    def is_cause(one: Diagnosis) -> bool:
        is_possible = has_followed and (one.condition != "rate-too-high" or one.since <= start)
        return one.condition in CAUSES and (one in sure or is_possible)

    causes = [one for one in diagnoses if is_cause(one)]
    return [*causes, *(one for one in sure if one not in causes)]


Change = Callable[[Situation], Adjustments | None]  # None: it cannot be made


def changes_for(condition: Condition, *, is_from_start: bool = False) -> tuple[Change, ...]:
    """Return the changes that may help against a condition; the first that can be made is made.

    `is_from_start`: the condition was there from the beginning.
    """
    match condition:
        case "non-finite" | "divergence":
            return (lower_rates,)
        case "exploding-gradient":
            return (held_back, much_lower_rates)
        case "rate-too-high":
            return (clearly_lower_rates,)
        case "vanishing-gradient":
            return (without_momentum, held_back, much_lower_rates)
        case "mode-collapse" if is_from_start:
            return (without_momentum, equal_rates, held_back, much_lower_rates)
        case "mode-collapse":
            return (without_momentum, equal_rates, held_back, stronger_penalty, more_noise, lower_rates)
        case "mode-dropping":
            return (without_momentum, equal_rates, held_back, clearly_lower_rates, stronger_penalty, more_noise)
        case "discriminator-overpowering":
            return (held_back, stronger_penalty, slower_discriminator, more_noise)
        case "discriminator-too-weak":
            return (without_momentum, equal_rates, slower_generator)
        case "cycling":
            return (without_momentum, equal_rates, held_back, lower_rates)
        case "rate-too-low":
            return (higher_rates,)
        case "augmentation-leak":
            return (less_augmentation,)
        case _:
            return ()


def treatment(diagnosis: Diagnosis, at: Situation) -> Treatment | NoTreatment:
    """Return what is done about a condition, or the reason why nothing is."""
    condition = diagnosis.condition
    history = at.remedy_history
    num = history.tried.get(condition, 0)
    if num >= MOST_OF_ONE or history.num_tried >= at.recipe.remedies.attempts:
        times = f"of at most {at.recipe.remedies.attempts} remedies, {history.num_tried} were tried, {num} for this"
        return NoTreatment(times, is_end=condition in ENDING and num > 0)
    match condition:
        case "divergence":
            return _back_to_best(at)
        case "exploding-gradient" | "rate-too-high" | "vanishing-gradient" | "mode-collapse":
            # Its weights are spoilt, so back to before it. A game that never worked needs other changes.
            is_from_start = diagnosis.since <= at.start
            back_to = 0 if is_from_start else _place(diagnosis, at)
            if back_to is None:
                return NoTreatment("no checkpoint from before it is kept")
            return _changed(at, changes_for(condition, is_from_start=is_from_start), back_to)
        case "discriminator-overpowering" | "discriminator-too-weak" | "cycling" | "rate-too-low":
            return _changed(at, changes_for(condition))
        case "discriminator-overfitting":
            return _augmented(at)
        case "mode-dropping":
            found = _changed(at, changes_for(condition))
            return found if isinstance(found, Treatment) else Treatment(at.adjustments, fresh_discriminator=True)
        case "augmentation-leak":
            found = _changed(at, changes_for(condition))
            return found if isinstance(found, Treatment) else NoTreatment("nothing is augmented")
        case "non-finite":
            return NoTreatment("such steps are never applied; where none is left, the run goes back by itself")
        case "saturation" | "memorization" | "averaged-generator-worse" | "nothing-more-to-gain":
            return NoTreatment("no change within a run is known to help")
        case _ as unreachable:
            assert_never(unreachable)


def _changed(at: Situation, changes: Sequence[Change], back_to: int | None = None) -> Treatment | NoTreatment:
    """Return the first change that can be made."""
    for change in changes:
        found = change(at)
        if found is not None:
            return Treatment(found, back_to)
    return NoTreatment("all that may help was changed, or is at its limit")


def _place(diagnosis: Diagnosis, at: Situation) -> int | None:
    """Return the newest place to go back to from before a condition, else that of the best generator."""
    before = max((samples for samples in at.places if samples <= diagnosis.since), default=None)
    return at.best if before is None and at.best in at.places else before


def for_non_finite(at: Situation, healthy: int | None) -> Treatment:
    """Go back to the last healthy checkpoint with lower rates; where remedies act and there is none, without momentum.

    There is no floor to the rates: a game that is not finite has nothing to lose.
    """
    acts = at.recipe.remedies.policy == "act"
    without = without_momentum(at) if acts and healthy is None else None
    before, factor = at.adjustments, at.recipe.remedies.rate_factor
    lowered = replace(
        before,
        generator_rate=before.generator_rate * factor,
        discriminator_rate=before.discriminator_rate * factor,
    )
    return Treatment(without or lowered, back_to=healthy or 0)


def _back_to_best(at: Situation) -> Treatment | NoTreatment:
    """Go back to the best generator, or to before it, with lower rates."""
    found = max((samples for samples in at.places if at.best is not None and samples <= at.best), default=None)
    if found is None:
        return NoTreatment("no checkpoint at or before the best generator is kept")
    return _changed(at, changes_for("divergence"), found)


def _augmented(at: Situation) -> Treatment | NoTreatment:
    """Begin adaptive augmentation."""
    kinds = at.recipe.augment.kinds
    if not kinds:
        return NoTreatment("this run augments nothing (augment.kinds)")
    if at.remedy_history.tried.get("discriminator-overfitting", 0):
        return NoTreatment("its augmentation is adapted already")
    more = min(FIRST, MOST_AUGMENTED - at.recipe.augment.probability - at.adjustments.augment)
    if more <= 0:
        return NoTreatment(f"more than {MOST_AUGMENTED:g} is never augmented, as it would leak into what is generated")
    return Treatment(replace(at.adjustments, augment=at.adjustments.augment + more))


# One change each; None where it cannot be made


def lower_rates(at: Situation) -> Adjustments | None:
    """Lower both rates by the recipe's factor."""
    return _with_rates(at, at.recipe.remedies.rate_factor, at.recipe.remedies.rate_factor)


def clearly_lower_rates(at: Situation) -> Adjustments | None:
    """Lower both rates by the recipe's factor twice at once."""
    factor = at.recipe.remedies.rate_factor**NUM_CUTS
    return _with_rates(at, factor, factor)


def much_lower_rates(at: Situation) -> Adjustments | None:
    """Lower both rates by the recipe's factor three times at once: such steps are too large by far."""
    factor = at.recipe.remedies.rate_factor**NUM_DEEP_CUTS
    return _with_rates(at, factor, factor)


def higher_rates(at: Situation) -> Adjustments | None:
    """Raise both rates, but neither above what is usual."""
    game, now = at.recipe.game, at.adjustments
    highest = max(game.generator.rate * now.generator_rate, game.discriminator.rate * now.discriminator_rate)
    times = min(RAISED, USUAL_RATE / highest)
    return _with_rates(at, times, times) if times > 1 else None


def slower_generator(at: Situation) -> Adjustments | None:
    """Lower the generator's rate, and not the discriminator's, and bring a penalty in where there is none."""
    lowered = _with_rates(at, SLOWER, 1.0)
    return None if lowered is None else a_penalty(replace(at, adjustments=lowered)) or lowered


def slower_discriminator(at: Situation) -> Adjustments | None:
    """Lower the discriminator's rate, and not the generator's."""
    return _with_rates(at, 1.0, at.recipe.remedies.rate_factor)


def equal_rates(at: Situation) -> Adjustments | None:
    """Give both players one rate, where the generator's is higher: its own, unless that is more than usual.

    To raise the discriminator's was the best cure in `bench/cures.py`; to lower the generator's is the safer one.
    """
    game = at.recipe.game
    generator = game.generator.rate * at.adjustments.generator_rate
    times = generator / (game.discriminator.rate * at.adjustments.discriminator_rate)
    are_comparable = game.generator.optimizer == game.discriminator.optimizer
    if times <= 1 + 1e-6 or not are_comparable:
        return None
    return _with_rates(at, 1.0, times) if generator <= USUAL_RATE else _with_rates(at, 1 / times, 1.0)


def without_momentum(at: Situation) -> Adjustments | None:
    """Take momentum away from both players where one has more than is usual."""
    players = (at.recipe.game.generator, at.recipe.game.discriminator)
    most = max((one.beta1 for one in players if one.optimizer != "adagrad"), default=0.0)
    if at.adjustments.momentum == 0 or most <= USUAL_MOMENTUM:
        return None
    return replace(at.adjustments, momentum=0.0)


def held_back(at: Situation) -> Adjustments | None:
    """Take the discriminator's further steps away and bring a penalty in: both at once, where both can be done."""
    fewer = fewer_steps(at)
    return a_penalty(at if fewer is None else replace(at, adjustments=fewer)) or fewer


def _with_rates(at: Situation, generator: float, discriminator: float) -> Adjustments | None:
    """Multiply rates; their factors stay between a floor and a ceiling, and None is returned where nothing moves."""
    before = at.adjustments
    after = replace(
        before,
        generator_rate=min(max(before.generator_rate * generator, LOWEST), HIGHEST),
        discriminator_rate=min(max(before.discriminator_rate * discriminator, LOWEST), HIGHEST),
    )
    return after if after != before else None


def a_penalty(at: Situation) -> Adjustments | None:
    """Bring R1 + R2 in where the recipe has no penalty (arXiv:1801.04406); batch norm does not go with one.

    It takes the place of weight clipping, which limits the discriminator far more coarsely (arXiv:1704.00028, §3).
    """
    game = at.recipe.game
    has_one = game.penalty.kind != "none" or at.adjustments.penalty > 0
    if has_one or _is_custom(at) or at.recipe.networks.discriminator_norm == "batch":
        return None
    return replace(at.adjustments, penalty=GAMMA)


def stronger_penalty(at: Situation) -> Adjustments | None:
    """Raise the γ of a zero-centred penalty."""
    if at.recipe.game.penalty.kind not in ("r1", "r2", "r1+r2") or _is_custom(at) or at.adjustments.gamma > 1:
        return None
    return replace(at.adjustments, gamma=at.adjustments.gamma * STRONGER)


def more_noise(at: Situation) -> Adjustments | None:
    """Add instance noise (arXiv:1610.04490; arXiv:1701.04862)."""
    if _is_custom(at) or at.adjustments.noise + NOISE > MOST_NOISE:
        return None
    return replace(at.adjustments, noise=at.adjustments.noise + NOISE)


def fewer_steps(at: Situation) -> Adjustments | None:
    """Let the discriminator take one step a round where it takes several, but not where it is to be a good critic."""
    game = at.recipe.game
    more = game.discriminator_steps + at.adjustments.discriminator_steps - 1
    if game.update != "alternating" or game.loss == "wasserstein" or more <= 0:
        return None
    return replace(at.adjustments, discriminator_steps=1 - game.discriminator_steps)


def less_augmentation(at: Situation) -> Adjustments | None:
    """Halve the probability of augmentation."""
    probability = at.recipe.augment.probability + at.adjustments.augment
    if not at.recipe.augment.kinds or probability <= 0:
        return None
    return replace(at.adjustments, augment=at.adjustments.augment - probability / 2)


def _is_custom(at: Situation) -> bool:
    """Return whether the loss terms are a task's from Python, which need not look at what remedies change."""
    return task_name(at.recipe.task) == "custom"


def adapted_augmentation(at: Situation, gap: float, samples: int, horizon: int) -> Adjustments:
    """Move the probability of augmentation by ADA's rule: p += sign(r_v - target) · step (arXiv:2006.06676, §3.1).

    `gap` is r_v; `samples` were seen since the last one. From 0 to 1 it takes `RAMP` samples, fewer in a short run.
    """
    is_begun = at.remedy_history.tried.get("discriminator-overfitting", 0) > 0
    if not is_begun or not math.isfinite(gap):
        return at.adjustments
    step = samples / max(1.0, min(RAMP, SHARE_OF_RAMP * horizon))
    begun = at.recipe.augment.probability
    probability = begun + at.adjustments.augment + math.copysign(step, gap - TARGET)
    return replace(at.adjustments, augment=min(max(probability, 0.0), max(begun, MOST_AUGMENTED)) - begun)


def in_words(before: Adjustments, recipe: Recipe, done: Treatment) -> str:
    """Say what a treatment changes, before → after; the going back is told by whoever goes."""
    after = done.adjustments
    told = []
    rates = [(before.generator_rate, after.generator_rate), (before.discriminator_rate, after.discriminator_rate)]
    if rates[0] == rates[1] and rates[0][0] != rates[0][1]:
        told.append(f"learning rates × {rates[0][0]:.3g} → × {rates[0][1]:.3g}")
    else:
        for player, (old, new) in zip(("generator", "discriminator"), rates, strict=True):
            if old != new:
                told.append(f"the {player}'s learning rate × {old:.3g} → × {new:.3g}")
    if before.momentum != after.momentum:
        momentum = max(recipe.game.generator.beta1, recipe.game.discriminator.beta1)
        told.append(f"momentum (β1) {momentum * before.momentum:g} → {momentum * after.momentum:g}")
    if before.penalty != after.penalty:
        instead = " in place of weight clipping" if recipe.game.weight_clip is not None else ""
        told.append(f"R1 + R2 penalty none → γ = {after.penalty:g}{instead}")
    if before.gamma != after.gamma:
        told.append(f"penalty γ × {before.gamma:g} → × {after.gamma:g}")
    if before.noise != after.noise:
        told.append(f"added instance noise {before.noise:g} → {after.noise:g}")
    if before.augment != after.augment:
        begun = recipe.augment.probability
        told.append(f"probability of augmentation {begun + before.augment:.2g} → {begun + after.augment:.2g}")
    if before.discriminator_steps != after.discriminator_steps:
        steps = recipe.game.discriminator_steps
        old, new = steps + before.discriminator_steps, steps + after.discriminator_steps
        told.append(f"discriminator steps a round {old} → {new}")
    if done.fresh_discriminator:
        told.append("the discriminator begins anew, with other random weights")
    return ", ".join(told)
