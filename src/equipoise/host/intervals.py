"""Intervals: how often to log, evaluate and save, in samples; from what is measured and recorded in the run."""

import math
from dataclasses import dataclass, replace

from equipoise.recipe import Recipe
from equipoise.storage.records import IntervalsRecord

LOG_SECONDS = 1.0
SAVE_SECONDS = 60.0
MOST_EVALUATIONS = 200
LEAST_EVALUATIONS = 3  # however much they take of a short budget: else its best generator is one of the beginning
FAR_OFF = 1.5  # times faster or slower, and the intervals no longer fit
PRICE_OFF = 2.5  # times the price of an evaluation, which the first one can only guess


@dataclass(frozen=True)
class Intervals:
    """When to act, in samples, each a multiple of a round: a function of two measurements and the recipe.

    Until they are measured nothing is due.
    """

    samples_per_second: float = math.nan
    evaluation_seconds: float = math.nan
    horizon: int | None = None  # samples that the budget pays for; under a time budget, at this speed
    log_every: int | None = None
    evaluate_every: int | None = None
    save_every: int | None = None
    keep_every: int | None = None  # checkpoints that stay for good; a multiple of save_every

    @property
    def is_known(self) -> bool:
        """Whether everything is settled, by the recipe or by a measurement."""
        return self.log_every is not None

    @property
    def measured(self) -> tuple[float, float] | None:
        """The two measurements that all follows from, None where it follows from the recipe alone, or is not known."""
        if math.isnan(self.samples_per_second):
            return None
        return self.samples_per_second, self.evaluation_seconds

    def is_log_due(self, samples: int, step: int) -> bool:
        """Return whether a log line is due after these samples, in rounds of `step`."""
        return _is_due(self.log_every, samples, step)

    def is_evaluation_due(self, samples: int, step: int) -> bool:
        """Return whether the generator is due for an evaluation after these samples."""
        return _is_due(self.evaluate_every, samples, step)

    def is_saving_due(self, samples: int, step: int) -> bool:
        """Return whether a checkpoint is due after these samples."""
        return _is_due(self.save_every, samples, step)

    def record(self) -> IntervalsRecord:
        """Return what readers of the run's folder see."""
        return IntervalsRecord(
            samples_per_second=self.samples_per_second,
            evaluation_seconds=self.evaluation_seconds,
            horizon=self.horizon or 0,
            log_every=self.log_every,
            evaluate_every=self.evaluate_every,
            save_every=self.save_every,
            keep_every=self.keep_every,
        )


def _is_due(every: int | None, samples: int, step: int) -> bool:
    """Return whether this is the first position at or beyond a multiple of the interval."""
    return every is not None and samples % every < step


def measured_intervals(speed: float, evaluation_seconds: float, recipe: Recipe, step: int) -> Intervals:
    """Turn this machine's speed into intervals in samples, so that they are the same after a resume.

    `step` is the number of real samples of one round.
    """
    horizon = _horizon(speed, recipe, step)
    log_every = min(_multiple(speed * LOG_SECONDS, step), horizon)
    affordable = max(evaluation_seconds * speed / recipe.evaluation.share, horizon / MOST_EVALUATIONS)
    return _as_asked(
        Intervals(
            samples_per_second=speed,
            evaluation_seconds=evaluation_seconds,
            horizon=horizon,
            log_every=log_every,
            evaluate_every=_multiple(min(affordable, horizon / LEAST_EVALUATIONS), log_every),
            save_every=_multiple(min(speed * SAVE_SECONDS, horizon / 4), log_every),
        ),
        recipe,
        step,
    )


def settled_intervals(recipe: Recipe, step: int) -> Intervals:
    """Return the intervals where the recipe asks for all of them, so that no machine's speed matters; else unknown."""
    horizon = None
    if recipe.budget.samples is not None:
        horizon = _horizon(math.nan, recipe, step)
    if None in (recipe.evaluation.every, recipe.saving.every, recipe.saving.log_every):
        return Intervals(horizon=horizon)
    return _as_asked(Intervals(horizon=horizon), recipe, step)


def is_far_off(before: float, now: float | None, times: float = FAR_OFF) -> bool:
    """Return whether a measurement has changed so much that the intervals no longer fit; None: there is none."""
    return now is not None and (now > times * before or before > times * now)


def _as_asked(intervals: Intervals, recipe: Recipe, step: int) -> Intervals:
    """Put what the recipe asks for, to the whole round, in place of what was measured."""
    asked = {
        "log_every": recipe.saving.log_every,
        "evaluate_every": recipe.evaluation.every,
        "save_every": recipe.saving.every,
    }
    rounded = {name: _multiple(every, step) for name, every in asked.items() if every is not None}
    intervals = replace(intervals, **rounded)
    if recipe.saving.keep is None or intervals.save_every is None:
        return intervals
    return replace(intervals, keep_every=recipe.saving.keep * intervals.save_every)


def _horizon(speed: float, recipe: Recipe, step: int) -> int:
    """Return the samples that a budget pays for at this speed, in whole rounds."""
    if recipe.budget.samples is not None:
        return _multiple(recipe.budget.samples, step)
    return _multiple((recipe.budget.seconds or 0.0) * speed * (1 - recipe.evaluation.share), step)


def _multiple(value: float, of: int) -> int:
    """Round up to a positive multiple."""
    return max(1, math.ceil(value / of)) * of
