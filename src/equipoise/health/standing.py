"""How the two players stand and where the scores go, in one plain sentence.

The stats say how the players stand; only scores say how good the generator is. What is wrong: `health/conditions.py`.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

from equipoise.storage.records import Score, StepStats

Standing = Literal["starting", "broken", "skipping", "resting", "winning", "ahead", "balanced", "fooled"]
Trend = Literal["none", "single", "falling", "level", "rising"]

WINDOW = 8  # intervals that count as "now"
NUM_LATE = 3  # scores that count as "now"
FOOLED = 0.55  # accuracy below which the discriminator hardly beats a coin
AHEAD = 0.85
WINNING = 0.98  # BigGAN (arXiv:1809.11096, §4.2) was healthy there


def standing(recent: Sequence[StepStats]) -> Standing:
    """Name how the players stand over the last intervals, the most urgent first."""
    if not recent:
        return "starting"
    last = recent[-1]
    if not all(map(math.isfinite, (last.discriminator_loss, last.generator_loss))):
        return "broken"
    if num_skipped(recent):
        return "skipping"
    if last.discriminator_gradient == 0:
        return "resting"
    accuracy = mean_accuracy(recent)
    if len(recent) < 3 or not math.isfinite(accuracy):
        return "starting"
    if accuracy >= WINNING:
        return "winning"
    if accuracy >= AHEAD:
        return "ahead"
    return "balanced" if accuracy >= FOOLED else "fooled"


def mean_accuracy(recent: Sequence[StepStats]) -> float:
    """Return the discriminator's accuracy over the last intervals, NaN if there is none."""
    values = finite(stats.accuracy for stats in recent[-WINDOW:])
    return statistics.fmean(values) if values else math.nan


def num_skipped(recent: Sequence[StepStats]) -> int:
    """Return how many steps of the last intervals were not finite and so not applied."""
    return sum(stats.skipped_steps for stats in recent[-WINDOW:])


def gradient_share(recent: Sequence[StepStats]) -> float:
    """Return the generator's gradient norm now as a share of its earlier upper quartile; 1 without a history.

    The upper quartile, because a gradient that vanished long ago makes up most of its own history.
    """
    now = finite(stats.generator_gradient for stats in recent[-WINDOW:])
    before = finite(stats.generator_gradient for stats in recent[:-WINDOW])
    if len(before) < WINDOW or not now:
        return 1.0
    reference = statistics.quantiles(before, n=4)[2]
    return statistics.median(now) / reference if reference > 0 else 1.0


def trend(scores: Sequence[Score]) -> Trend:
    """Compare the best of the last three scores with the best before them.

    A change counts beyond twice the standard error of the difference, or 2 % where no error is known.
    """
    shown = [score for score in scores if score.is_finite]
    if len(shown) < 2:
        return "single" if shown else "none"
    now, gain, margin = _late_gain(shown, NUM_LATE if len(shown) > NUM_LATE else 1)
    if abs(gain) <= margin or (gain > 0 and shown[-1].loss - now.loss > margin):  # it has fallen, and has risen since
        return "level"
    return "falling" if gain > 0 else "rising"


def improves(scores: Sequence[Score]) -> bool:
    """Return whether one of the last scores is better than all before them, also where they have risen since.

    With a single score nobody can tell, so it may; without any it is not known to.
    """
    shown = [score for score in scores if score.is_finite]
    if len(shown) < 2:
        return bool(shown)
    _, gain, margin = _late_gain(shown, min(NUM_LATE, len(shown) - 1))
    return gain > margin


def _late_gain(shown: Sequence[Score], num: int) -> tuple[Score, float, float]:
    """Return the best of the last `num` scores, what it gained on the best before them, and what could be noise."""
    before = min(shown[:-num], key=lambda score: score.loss)
    now = min(shown[-num:], key=lambda score: score.loss)
    error = math.hypot(before.error, now.error)
    margin = 2 * error if math.isfinite(error) else 0.02 * abs(before.loss)
    return now, before.loss - now.loss, margin


def describe(recent: Sequence[StepStats], scores: Sequence[Score], label: str = "KID") -> str:
    """Say in one plain sentence what the game is doing and where the scores are going."""
    game = describe_game(recent)
    return f"{game}; {describe_scores(scores, label)}." if game else ""


def describe_scores(scores: Sequence[Score], label: str = "KID") -> str:
    """Say in half a sentence where the scores are going; `label` is what decides."""
    match trend(scores):
        case "none":
            return "no score yet"
        case "single":
            return "one score so far"
        case "falling":
            return f"{label} is still falling (lower is better)"
        case "level":
            return f"{label} has no clear trend lately"
        case "rising":
            return f"{label} has been worse than its best lately"
        case _ as unreachable:
            assert_never(unreachable)


def describe_game(recent: Sequence[StepStats]) -> str:
    """Say in half a sentence how the two players stand."""
    now = standing(recent)
    accuracy = f"The discriminator is right {100 * mean_accuracy(recent):.0f} % of the time"
    match now:
        case "starting":
            return "Training has just begun, so it is too early to say who is ahead"
        case "broken":
            return "The game has broken down: the losses are no longer finite numbers"
        case "skipping":
            skipped = num_skipped(recent)
            steps = "1 recent step was" if skipped == 1 else f"{skipped} recent steps were"
            return f"{steps} not finite and skipped, so the weights are unharmed, but a lower learning rate may help"
        case "resting":
            return "The discriminator is not trained at present: the generator learns by its other loss terms"
        case "winning":
            return f"{accuracy}: it is far ahead of the generator"
        case "ahead":
            return f"{accuracy}: it is ahead of the generator"
        case "balanced":
            return f"{accuracy}: a balanced game"
        case "fooled":
            return f"{accuracy}, near chance level: matched by the generator, or undertrained"
        case _ as unreachable:
            assert_never(unreachable)


def finite(values: Iterable[float]) -> list[float]:
    """Return the values that are finite."""
    return [value for value in values if math.isfinite(value)]
