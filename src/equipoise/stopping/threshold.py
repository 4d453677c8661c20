"""The `discriminator-threshold` policy: stop once D takes generated samples for real.

Some articles propose it; it says that D is fooled, which need not mean that the samples are good.
"""

import math
import statistics
from dataclasses import dataclass

from equipoise.recipe import ThresholdSettings
from equipoise.stopping.verdicts import Continue, Stop, Verdict
from equipoise.storage.records import StepStats

WINDOW = 10  # logging intervals
MINIMUM = 20  # that must pass first, because an untrained D answers 0.5 to everything


@dataclass(frozen=True)
class ThresholdState:
    """The last D(G(z)), at most a window of them, and how many intervals were seen."""

    recent: tuple[float, ...] = ()
    num_seen: int = 0


def observe(state: ThresholdState, stats: StepStats) -> ThresholdState:
    """Take one interval in; one without a finite D(G(z)) counts for nothing."""
    if not math.isfinite(stats.fake_probability):
        return state
    recent = (*state.recent, stats.fake_probability)[-WINDOW:]
    return ThresholdState(recent, state.num_seen + 1)


def verdict(settings: ThresholdSettings, state: ThresholdState) -> Verdict:
    """Stop when the window is full, the minimum has passed and the mean has reached the level."""
    if state.num_seen < MINIMUM or len(state.recent) < WINDOW:
        return Continue()
    mean = statistics.fmean(state.recent)
    if mean < settings.level:
        return Continue()
    return Stop(
        "discriminator-threshold",
        f"The discriminator takes generated samples for real: D(G(z)) averaged {mean:.3f} over the last "
        f"{WINDOW} intervals, which reaches the threshold of {settings.level:g}.",
    )


def status(settings: ThresholdSettings, state: ThresholdState) -> str:
    """Say how close D(G(z)) is to the level."""
    if not state.recent:
        return "No D(G(z)) so far."
    seen = ""
    if state.num_seen < MINIMUM:
        seen = f" ({state.num_seen} of at least {MINIMUM})"
    mean = statistics.fmean(state.recent)
    return (
        f"D(G(z)) averages {mean:.2f} over the last {len(state.recent)} intervals{seen}; stops at {settings.level:g}."
    )
