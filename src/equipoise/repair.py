"""Remedies in a run: when one is due, how it is done, and what is told of it. Which one: `health/remedies.py`.

All that decides is in the checkpoint or follows from it, so a run that is killed around a remedy meets it again.
"""

import math
from collections.abc import Callable

import torch

from equipoise.health.remedies import (
    MOST_AUGMENTED,
    WAITING,
    NoTreatment,
    Situation,
    Treatment,
    adapted_augmentation,
    in_words,
    to_treat,
    treatment,
)
from equipoise.health.standing import improves
from equipoise.health.telling import lowered, title, told
from equipoise.nets.frozen import frozen_names
from equipoise.randomness import stream_seed
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.state import TrainingState, adjust, roll_back
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Continue, Remedy, Stop, Verdict
from equipoise.storage.records import Condition, Diagnosis, RemedyRecord, Score
from equipoise.tasks.base import Task

ALWAYS: tuple[Condition, ...] = ("divergence",)  # done also where remedies are only suggested
TOLD_BY = 10  # steps of the probability of augmentation from 0 to 1 that are told


def repair_due(
    state: TrainingState, recipe: Recipe, monitor: Monitor, run: RunFolder, message: Callable[[str], None]
) -> Verdict:
    """Return the remedy for the first condition to treat that has one: for any where remedies act, else for some.

    Where a condition has none, the reason is told once. Without one the run ends where it has no future.
    """
    if recipe.remedies.policy == "off" or not recipe.remedies.attempts or state.remedy_history.rest:
        return Continue()
    for diagnosis in to_treat(monitor.diagnoses, monitor.start):
        if recipe.remedies.policy == "suggest" and diagnosis.condition not in ALWAYS:
            continue
        if diagnosis.condition in WAITING and improves(monitor.scores):
            continue
        found = treatment(diagnosis, _situation(state, recipe, monitor))
        if not isinstance(found, NoTreatment):
            return Remedy(told(diagnosis), diagnosis.condition, found)
        if found.is_end and recipe.remedies.policy == "act":
            text = f"{told(diagnosis)} It could not be repaired: {found.reason}."
            return Stop("not-repaired", text)
        _tell_none(diagnosis, found, state, run, message)
    return Continue()


def _situation(state: TrainingState, recipe: Recipe, monitor: Monitor) -> Situation:
    """Return what a treatment is chosen from; only checkpoints that an uninterrupted run would have, too, are named."""
    best = monitor.best.samples if monitor.best is not None else None
    places = sorted({samples for samples in (state.healthy, best, *state.kept) if samples})
    return Situation(recipe, state.adjustments, state.remedy_history, monitor.start, tuple(places), best)


def _tell_none(
    diagnosis: Diagnosis, found: NoTreatment, state: TrainingState, run: RunFolder, message: Callable[[str], None]
) -> None:
    condition = diagnosis.condition
    if condition in state.remedy_history.told:
        return
    state.remedy_history = state.remedy_history.telling(condition)
    text = f"Nothing is done about {lowered(title(condition))}: {found.reason}."
    run.log_event(state.samples, state.seconds, "no remedy", text, state.attempt)
    message(text)


def repaired(
    remedy: Remedy,
    state: TrainingState,
    task: Task,
    recipe: Recipe,
    monitor: Monitor,
    run: RunFolder,
    message: Callable[[str], None],
) -> TrainingState:
    """Return the state with which the run goes on after a remedy, which is an event."""
    done = remedy.treatment
    if done is None or done.back_to is not None:
        back = roll_back(remedy, state, task, recipe, monitor, run)
        changed = in_words(state.adjustments, recipe, Treatment(back.adjustments))
        message(f"{remedy.message} Going back to {back.samples:,} samples; changed: {changed}.")
        return back
    changed = in_words(state.adjustments, recipe, done)
    adjust(state, done.adjustments)
    state.remedy_history = state.remedy_history.after(remedy.condition)
    if done.fresh_discriminator:
        renew_discriminator(state, task, recipe)
    state.is_unsaved = True  # a resume must find it
    counted = f"{state.remedy_history.num_tried} of {recipe.remedies.attempts} remedies"
    text = f"{remedy.message} Changed: {changed} ({counted})."
    record = RemedyRecord(condition=remedy.condition, changed=changed)
    run.log_event(state.samples, state.seconds, "remedy", text, state.attempt, record)
    message(text)
    return state


def renew_discriminator(state: TrainingState, task: Task, recipe: Recipe) -> None:
    """Give the discriminator other random weights, drawn for this position, and a new optimizer.

    Stages that the recipe freezes keep theirs, which random ones could not learn again.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(recipe.seed, "fresh discriminator", state.samples, state.attempt))
        fresh = task.players().discriminator
    discriminator = state.players.discriminator
    kept = frozen_names(discriminator, recipe.networks.frozen)
    weights = {name: tensor for name, tensor in fresh.state_dict().items() if name not in kept}
    discriminator.load_state_dict(weights, strict=not kept)
    state.update.renew("discriminator")
    adjust(state, state.adjustments)  # its momentum
    state.sketch = None  # of a joint update by other weights


def adapt_augmentation(state: TrainingState, recipe: Recipe, score: Score, samples: int, run: RunFolder) -> None:
    """Let the probability of augmentation follow an evaluation, where a remedy has begun that.

    `samples` were seen since the last one. What is told are tenths; the checkpoint has all of it.
    """
    before = state.adjustments
    at = Situation(recipe, before, state.remedy_history)
    state.adjustments = adapted_augmentation(
        at, score.value("discriminator_gap"), samples, state.intervals.horizon or samples
    )
    begun = recipe.augment.probability
    old, new = begun + before.augment, begun + state.adjustments.augment
    if math.floor(TOLD_BY * old) != math.floor(TOLD_BY * new):
        text = f"Adaptive augmentation: probability {old:.2g} → {new:.2g} (at most {MOST_AUGMENTED:g})."
        run.log_event(state.samples, state.seconds, "remedy", text, state.attempt)
