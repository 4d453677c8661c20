"""Pace: how often to log, judge and save, in samples; measured once at the start and recorded in the run."""

import math
import time
from dataclasses import dataclass, replace

from equipoise.recipe import Budget, Recipe

WARM_STEPS = 3  # the first steps allocate and compile; they are not measured
WARM_SECONDS = 2.0
LOG_SECONDS = 1.0
SAVE_SECONDS = 60.0
MOST_JUDGINGS = 200


@dataclass(frozen=True)
class Pace:
    """When to act, in samples, each spacing a multiple of a step: a function of the two measurements and the recipe."""

    samples_per_second: float
    judge_seconds: float
    horizon: int  # samples that the budget pays for: where schedules end
    log_every: int
    judge_every: int
    save_every: int
    keep_every: int | None = None  # checkpoints that stay for good; a multiple of save_every

    def progress(self, samples: int) -> float:
        """Return the share of the horizon that is behind, from 0 to 1."""
        return min(1.0, samples / self.horizon)

    def is_log_due(self, samples: int) -> bool:
        """Return whether a log line is due after these samples."""
        return samples % self.log_every == 0

    def is_judging_due(self, samples: int) -> bool:
        """Return whether the generator is due for a score after these samples."""
        return samples % self.judge_every == 0

    def is_saving_due(self, samples: int) -> bool:
        """Return whether a checkpoint is due after these samples."""
        return samples % self.save_every == 0


class Stopwatch:
    """The training clock: monotonic, going on from where an earlier session of the run ended."""

    def __init__(self, seconds: float, samples: int) -> None:
        self._begin = time.monotonic() - seconds
        self._lap = (self.seconds(), samples)
        self._warm: tuple[float, int] | None = None
        self._steps = 0

    def seconds(self) -> float:
        """Return the seconds of training so far."""
        return time.monotonic() - self._begin

    def lap(self, samples: int) -> float:
        """Return the samples a second since the last lap."""
        now, (then, before) = self.seconds(), self._lap
        self._lap = (now, samples)
        return (samples - before) / max(now - then, 1e-9)

    def is_warm(self, samples: int, budget: Budget) -> bool:
        """Return whether enough steps have been timed to know this machine's speed; call it once a step."""
        self._steps += 1
        if self._steps == WARM_STEPS:
            self._warm = (self.seconds(), samples)
        if budget.samples is not None and samples * 20 >= budget.samples:
            return True
        if budget.seconds is not None and self.seconds() * 20 >= budget.seconds:
            return True
        return (
            self._warm is not None and self._steps >= 2 * WARM_STEPS and self.seconds() - self._warm[0] >= WARM_SECONDS
        )

    def speed(self, samples: int) -> float:
        """Return the samples a second since the warm-up."""
        then, before = self._warm or (0.0, 0)
        if samples <= before:
            then, before = 0.0, 0
        return (samples - before) / max(self.seconds() - then, 1e-9)


def measured_pace(speed: float, judge_seconds: float, recipe: Recipe) -> Pace:
    """Turn this machine's speed into spacings in samples, so that they are the same after a resume."""
    step = recipe.game.batch * recipe.game.discriminator_steps
    horizon = horizon_of(speed, recipe)
    log_every = min(_multiple(speed * LOG_SECONDS, step), max(step, horizon // step * step))
    judge_every = _multiple(max(judge_seconds * speed / recipe.judging.share, horizon / MOST_JUDGINGS), log_every)
    save_every = _multiple(min(speed * SAVE_SECONDS, horizon / 4), log_every)
    return _as_asked(Pace(speed, judge_seconds, horizon, log_every, judge_every, save_every), recipe)


def settled_pace(recipe: Recipe) -> Pace | None:
    """Return the pace where the recipe asks for every spacing, so that no machine's speed matters; else None."""
    asked = (recipe.budget.samples, recipe.judging.every, recipe.saving.every, recipe.saving.log_every)
    if None in asked:
        return None
    return _as_asked(Pace(math.nan, math.nan, horizon_of(math.nan, recipe), 1, 1, 1), recipe)


def _as_asked(pace: Pace, recipe: Recipe) -> Pace:
    """Put what the recipe asks for, to the whole step, in place of what was measured."""
    step = recipe.game.batch * recipe.game.discriminator_steps
    asked = {
        "log_every": recipe.saving.log_every,
        "judge_every": recipe.judging.every,
        "save_every": recipe.saving.every,
    }
    pace = replace(pace, **{name: _multiple(every, step) for name, every in asked.items() if every is not None})
    return replace(pace, keep_every=recipe.saving.keep and recipe.saving.keep * pace.save_every)


def horizon_of(speed: float, recipe: Recipe) -> int:
    """Return the samples that a budget pays for at this speed, in whole steps."""
    samples = recipe.budget.samples
    if samples is None:
        samples = (recipe.budget.seconds or 0.0) * speed * (1 - recipe.judging.share)
    return _multiple(samples, recipe.game.batch * recipe.game.discriminator_steps)


def _multiple(value: float, of: int) -> int:
    """Round up to a positive multiple."""
    return max(1, math.ceil(value / of)) * of
