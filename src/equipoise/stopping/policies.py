"""When to stop: settings, state and verdict of each policy as plain values and pure functions.

A policy reads signals or validation scores and never the test split. Its state is a frozen dataclass of
plain numbers, so a resumed run gives the verdicts of an uninterrupted one.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from equipoise.health.stats import ScoreLine, StepStats, metric_error, metric_value
from equipoise.recipe import Budget, MetricName, PolicyName


@dataclass(frozen=True)
class Continue:
    """Nothing to do."""


@dataclass(frozen=True)
class Stop:
    """The end of the run, and why."""

    policy: PolicyName | Literal["diverged", "interrupted"]
    reason: str


Verdict: TypeAlias = Continue | Stop

_DIVERGED = (
    "The training has diverged. Try a lower rate: --set game.generator.rate=0.0001 --set game.discriminator.rate=0.0001"
)
NUM_STUCK = 3  # logging intervals without a single applied step


def budget_verdict(budget: Budget, samples: int, seconds: float) -> Verdict:
    """Stop when the samples or the seconds of training that were paid for are spent; a missing limit is none."""
    if budget.samples is not None and samples >= budget.samples:
        return Stop("budget", f"The budget of {budget.samples:,} samples is spent.")
    if budget.seconds is not None and seconds >= budget.seconds:
        return Stop("budget", f"The budget of {spoken(budget.seconds)} of training is spent.")
    return Continue()


def divergence_verdict(recent: Sequence[StepStats]) -> Verdict:
    """Stop when one player has not taken a single step for three intervals, since no number of its was finite."""
    last = recent[-NUM_STUCK:]
    for player, losses in (
        ("discriminator", [stats.discriminator_loss for stats in last]),
        ("generator", [stats.generator_loss for stats in last]),
    ):
        if len(losses) == NUM_STUCK and not any(map(math.isfinite, losses)):
            return Stop(
                "diverged",
                f"The {player}'s loss or gradient has not been finite once for {NUM_STUCK} intervals, so none of its "
                f"steps was applied. {_DIVERGED}",
            )
    return Continue()


def poisoned_stop(name: str) -> Stop:
    """Return the stop of a training whose state holds a number that is not finite, so that it cannot be kept."""
    return Stop("diverged", f"{name} is no longer finite, so nothing trained from here on could be kept. {_DIVERGED}")


def spoken(seconds: float) -> str:
    """Write a time as in a sentence: `90 s`, `10 min`, `1 h 30 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


@dataclass(frozen=True)
class Threshold:
    """Stop once D takes generated images for real: mean D(G(z)) over the window is at or above `level`.

    Some articles propose it; it says that D is fooled, which need not mean that the images are good. `minimum`
    intervals must pass first, because an untrained D answers 0.5 to everything.
    """

    level: float = 0.5
    window: int = 10  # logging intervals
    minimum: int = 20


@dataclass(frozen=True)
class ThresholdState:
    """The last D(G(z)), at most a window of them, and how many intervals were seen."""

    recent: tuple[float, ...] = ()
    num_seen: int = 0


def threshold_step(policy: Threshold, state: ThresholdState, stats: StepStats) -> ThresholdState:
    """Take one interval in; one without a finite D(G(z)) counts for nothing."""
    if not math.isfinite(stats.fake_probability):
        return state
    recent = (*state.recent, stats.fake_probability)[-policy.window :]
    return ThresholdState(recent, state.num_seen + 1)


def threshold_verdict(policy: Threshold, state: ThresholdState) -> Verdict:
    """Stop when the window is full, the minimum is past and the mean has reached the level."""
    if state.num_seen < policy.minimum or len(state.recent) < policy.window:
        return Continue()
    mean = statistics.fmean(state.recent)
    if mean < policy.level:
        return Continue()
    return Stop(
        "discriminator-threshold",
        f"The discriminator takes generated images for real: D(G(z)) averaged {mean:.3f} over the last "
        f"{policy.window} intervals, which reaches the threshold of {policy.level:g}.",
    )


@dataclass(frozen=True)
class Patience:
    """Stop after `patience` validation scores in a row without a better one; every gain counts."""

    patience: int = 10
    metric: MetricName = "kid"


@dataclass(frozen=True)
class PatienceState:
    """The best score so far and the number of scores since."""

    best: float | None = None
    best_error: float | None = None
    best_samples: int = 0
    num_since: int = 0


def is_better(metric: MetricName, line: ScoreLine, best: float | None) -> bool:
    """Return whether a score is strictly lower than the best; one that is not finite never is."""
    value = metric_value(line, metric)
    return math.isfinite(value) and (best is None or value < best)


def patience_step(policy: Patience, state: PatienceState, line: ScoreLine) -> PatienceState:
    """Take one score in; one that failed or is not finite counts as no improvement."""
    if not is_better(policy.metric, line, state.best):
        return PatienceState(state.best, state.best_error, state.best_samples, state.num_since + 1)
    error = metric_error(line, policy.metric)
    return PatienceState(metric_value(line, policy.metric), error if math.isfinite(error) else None, line.samples, 0)


def patience_verdict(policy: Patience, state: PatienceState) -> Verdict:
    """Stop when the patience is used up."""
    if state.num_since < policy.patience:
        return Continue()
    name = policy.metric.upper()
    if state.best is None:
        return Stop("patience", f"None of {state.num_since} attempts to score gave a finite {name}.")
    error = f" ± {state.best_error:.2g}" if state.best_error is not None else ""
    return Stop(
        "patience",
        f"{name} has not improved for {state.num_since} scores in a row: "
        f"its best was {state.best:.3g}{error} at {state.best_samples:,} samples.",
    )
