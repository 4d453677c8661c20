"""What a monitor tells the loop to do: continue, apply a remedy, or stop; and the stops that no policy decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from equipoise.health.remedies import Treatment
from equipoise.recipe import Budget, Game, Remedies
from equipoise.storage.records import Condition, StepStats, StopReason

NUM_STUCK = 3  # logging intervals without a single applied step
NUM_FAILED = 5  # evaluations that failed before any succeeded


@dataclass(frozen=True)
class Continue:
    """Nothing to do."""


@dataclass(frozen=True)
class Remedy:
    """Change the game between two rounds: why, in a sentence, for which condition, and what is done."""

    message: str
    condition: Condition = "non-finite"
    treatment: Treatment | None = None  # None: back to the last healthy checkpoint with both learning rates lowered


@dataclass(frozen=True)
class Stop:
    """The end of the run: by what rule, and why in words."""

    reason: StopReason
    message: str


Verdict: TypeAlias = Continue | Remedy | Stop


def budget_verdict(budget: Budget, spent: int, seconds: float) -> Verdict:
    """Stop when the samples or the seconds of training that were paid for are spent; a missing limit is none."""
    if budget.samples is not None and spent >= budget.samples:
        return Stop("budget", f"The budget of {budget.samples:,} samples is spent.")
    if budget.seconds is not None and seconds >= budget.seconds:
        return Stop("budget", f"The budget of {spoken(budget.seconds)} of training is spent.")
    return Continue()


def stuck_player(recent: Sequence[StepStats]) -> str | None:
    """Return the player that has not taken a single step for three intervals, since none of its numbers was finite."""
    last = recent[-NUM_STUCK:]
    if len(last) < NUM_STUCK:
        return None
    for player in ("discriminator", "generator"):
        if not any(math.isfinite(getattr(stats, f"{player}_loss")) for stats in last):
            return player
    return None


def diverged(cause: str, attempt: int, remedies: Remedies, game: Game | None = None) -> Remedy | Stop:
    """Return what to do about a diverged game: a remedy while some are left, else the end with an honest reason.

    `attempt` is how many remedies there were.
    """
    allowed = remedies.attempts if remedies.policy != "off" else 0
    if attempt < allowed:
        return Remedy(cause)
    tried = ""
    if allowed:
        times = "once" if allowed == 1 else f"{allowed} times"
        tried = f" A remedy was tried {times} without success; equipoise status lists what was changed."
    return Stop("diverged", f"The training has diverged: {cause}{tried} {_advice(remedies, game)}")


def _advice(remedies: Remedies, game: Game | None) -> str:
    """Say what to try from the start: rates that were lowered as often as remedies may lower them, at least once."""
    if game is None:
        return "Try lower learning rates."
    factor = remedies.rate_factor ** max(1, remedies.attempts)
    rates = {
        "game.generator.rate": game.generator.rate,
        "game.generator.rate_end": game.generator.rate_end,
        "game.discriminator.rate": game.discriminator.rate,
        "game.discriminator.rate_end": game.discriminator.rate_end,
    }
    lower = [f"{name}={rate * factor:g}" for name, rate in rates.items() if rate is not None]
    return f"Try lower learning rates: {', '.join(lower)}"


def stuck_cause(player: str) -> str:
    """Say why a player takes no steps."""
    return f"the {player}'s loss or gradient was not finite in any step of {NUM_STUCK} intervals, so none was applied."


def nonfinite_cause(name: str) -> str:
    """Say that the state holds a number that is not finite, so that it cannot be kept."""
    return f"{name} is no longer finite, so nothing trained from here on could be saved."


def failing_stop(num: int, why: str) -> Stop:
    """Return the end of a run whose evaluations all failed."""
    return Stop(
        "evaluation-failed",
        f"The first {num} evaluations all failed, so no generator could be selected. The last error: {why}",
    )


def spoken(seconds: float) -> str:
    """Write a time as in a sentence: `90 s`, `10 min`, `1 h 30 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
