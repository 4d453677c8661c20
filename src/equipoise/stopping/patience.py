"""The `patience` policy: stop after a number of evaluations in a row without a better score; every gain counts."""

import math
from dataclasses import dataclass

from equipoise.recipe import PatienceSettings
from equipoise.stopping.verdicts import Continue, Stop, Verdict
from equipoise.storage.records import Score


@dataclass(frozen=True)
class PatienceState:
    """The best score so far and the number of evaluations since."""

    best: float | None = None
    best_error: float | None = None
    best_samples: int = 0
    num_since: int = 0


def score(state: PatienceState, found: Score) -> PatienceState:
    """Take one score in; one that failed or is not finite counts as no improvement."""
    if not found.is_finite or (state.best is not None and found.loss >= state.best):
        return PatienceState(state.best, state.best_error, state.best_samples, state.num_since + 1)
    error = None
    if math.isfinite(found.error):
        error = found.error
    return PatienceState(found.loss, error, found.samples, 0)


def verdict(settings: PatienceSettings, state: PatienceState, label: str, lowest_broken: float = math.inf) -> Verdict:
    """Stop when the patience is used up; `lowest_broken` is the lowest loss of a generator that broke a guard."""
    if state.num_since < settings.evaluations:
        return Continue()
    if state.best is None:
        return Stop(
            "patience",
            f"None of {state.num_since} evaluations gave a candidate: a finite {label} without a broken guard.",
        )
    error = ""
    if state.best_error is not None:
        error = f" ± {state.best_error:.2g}"
    what = label
    if lowest_broken < state.best:
        what = f"{label} of generators that keep their limits"
    return Stop(
        "patience",
        f"{what} has not improved for {state.num_since} evaluations in a row: "
        f"its best was {state.best:.3g}{error} at {state.best_samples:,} samples.",
    )


def status(settings: PatienceSettings, state: PatienceState) -> str:
    """Say how much of the patience is used up."""
    return f"No improvement in {state.num_since} of {settings.evaluations} evaluations."
