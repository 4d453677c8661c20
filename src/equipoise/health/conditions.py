"""What is wrong with a game: named conditions, each from a few numbers of its log lines and scores.

Every condition has a strength, 1 at its threshold. It begins there and holds down to `KEPT`, so that it does not
flicker. The thresholds were set on the even seeds of `bench/doctor.py` and are reported on the odd ones. What each
condition looks like, its causes and its remedies are in `health/pages.py`.

The losses alone prove little: a healthy game may have any of them. So the numbers are those of the discriminator's
answers, of gradients and steps, of the variety of a batch, and of the scores.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from equipoise.health.standing import (
    AHEAD,
    NUM_LATE,
    WINDOW,
    finite,
    gradient_share,
    improves,
    mean_accuracy,
    num_skipped,
)
from equipoise.health.stats import RECENT
from equipoise.storage.records import Condition, Confidence, Diagnosis, Score, StepStats

FEWEST = 6  # of them, before anything but numbers that are not finite can be told
KEPT = 0.8  # strength down to which a condition that has begun holds
CLEAR = 2.0  # strength from which a condition is likely, once it has lasted
LASTED = 2 * WINDOW  # log lines
LASTED_LONG = 6 * WINDOW  # log lines at which it was told, after which it is likely in any case

DIVERGED = 2.0  # times the best score, each of the last three
LOST = 0.1  # of what was won since the first score, at least
EXPLODED = 500.0  # norm of a player's gradient
GROWN = 100.0  # or so many times its own upper quartile before
FADED = 1e-3  # of what reaches the last part of a network, in another part
STOPPED = 0.02  # of its own upper quartile before, the generator's gradient
SURE = 0.95  # accuracy of a discriminator that may be too strong by the generator's gradient
SURE_OF_ALL = 0.97  # D(x), and 1 − D(G(z)), where nothing else is known
APART = 5.0  # between its mean answers, where these are logits of a probability
BEHIND = 0.45  # accuracy of one that is behind the generator
WILD = 0.3  # accuracy in a single log line, of one that follows no longer
MEMORISED = 0.5  # of the scale between real and generated (arXiv:2006.06676, Eq. 1)
COLLAPSED = 0.25  # of the spread of a real batch
ALIKE = 0.1  # of the distance to the nearest neighbour in a real batch
DROPPED = 0.6  # of the spread
PROGRESS = 5.0  # times less variety than that speaks of a collapse while the score still falls
RISING = 1.1  # times what it was a window ago: a generator that has just begun to make different things
RISEN = 1.5  # or so many times what it was at the start, while it was hardly ever more
LEFT = 0.4  # of the best coverage or recall
SOME = 0.3  # coverage or recall below which there is little to lose
UNEVEN = 0.5  # divergence of the shares by mode, where modes are known
ENDS = 0.4  # share of values at the ends of their range, more than in real samples
RESEMBLES = 0.05  # recall below which samples resemble no real ones, and a blur lies near to all
COPIED = -3.0  # of the test for copying, in standard deviations (arXiv:2004.05675)
LEAKED = -3.0  # of the comparison with augmented real images, likewise
LARGE = 0.04  # ‖Δw‖ / ‖w‖ of one step; 1.4 times that is clear
SMALL = 5e-5
SWING = 0.25  # of the accuracy in a cycle, up or down
NUM_TURNS = 6  # of the last 32 log lines, up to down or down to up
WORSE = 3.0  # standard errors by which the averaged generator is worse than the raw one
LAGGING = 1.5  # times the raw one's score
AVERAGING_EVERY = 4  # evaluations, from one to the next in which the raw generator is measured, too


@dataclass(frozen=True)
class Sign:
    """How strongly the numbers speak for a condition (1: at its threshold), and which they are."""

    strength: float
    evidence: str
    since: int | None = None  # samples; None: since the first of the log lines of now


@dataclass(frozen=True)
class View:
    """What the conditions are told from: the log lines of now and before, the scores, and whether these get better."""

    now: tuple[StepStats, ...]
    history: tuple[StepStats, ...]
    scores: tuple[Score, ...]
    improves: bool

    def median(self, number: Callable[[StepStats], float]) -> float:
        """Return the median of a number over the log lines of now, NaN where it is in fewer than half of them."""
        found = finite(map(number, self.now))
        return statistics.median(found) if 2 * len(found) >= len(self.now) else math.nan

    def signal(self, name: str) -> float:
        """Return the median of a signal over the log lines of now."""
        return self.median(lambda stats: stats.signals.get(name, math.nan))

    def is_rising(self, name: str) -> bool:
        """Return whether a signal rises, on the window before or on the earliest lines, or nobody can tell yet."""
        earlier = finite(stats.signals.get(name, math.nan) for stats in self.history[:-WINDOW])
        if len(earlier) < FEWEST or self.signal(name) > RISING * statistics.median(earlier[-WINDOW:]):
            return True
        is_high = self.signal(name) > statistics.quantiles(earlier, n=4)[2]
        return is_high and self.signal(name) > RISEN * statistics.median(earlier[:WINDOW])

    def below(self, name: str, limit: float) -> int:
        """Return the samples of the first log line from which on a signal was never above a limit, up to now."""
        first = self.history[-1]
        for stats in reversed(self.history):
            if stats.signals.get(name, -math.inf) > limit:
                break
            first = stats
        return first.samples

    def late(self, name: str, among: int = 4) -> list[float]:
        """Return the last two values of a metric among so many last scores, empty where there are fewer."""
        found = finite(score.value(name) for score in self.scores[-among:])
        return found[-2:] if len(found) >= 2 else []


def examine(
    history: Sequence[StepStats], scores: Sequence[Score], before: Sequence[Diagnosis] = (), settled: str = ""
) -> tuple[Diagnosis, ...]:
    """Return what is wrong with a game, the most urgent first; empty where nothing speaks against it.

    Takes its log lines and scores so far and what was wrong before, from which conditions that go on keep their
    beginning. `settled` is the evidence that more training brings nothing, where there is one.
    """
    if not history:
        return ()
    shown = tuple(score for score in scores if score.is_finite)
    view = View(tuple(history[-WINDOW:]), tuple(history), shown, improves(shown))
    began = {diagnosis.condition: diagnosis for diagnosis in before}
    found: dict[Condition, Sign] = {}
    for condition, sign in _signs(view, settled).items():
        if sign is not None and sign.strength >= (KEPT if condition in began else 1.0):
            found[condition] = sign
    return tuple(
        _diagnosis(condition, sign, view, began.get(condition))
        for condition, sign in found.items()
        if not _is_explained(condition, found)
    )


def _signs(view: View, settled: str) -> dict[Condition, Sign | None]:
    """Return the sign of every condition, in the order of their urgency."""
    if len(view.history) < FEWEST:
        return {"non-finite": non_finite(view)}
    return {
        "non-finite": non_finite(view),
        "divergence": divergence(view),
        "exploding-gradient": exploding_gradient(view),
        "mode-collapse": mode_collapse(view),
        "vanishing-gradient": vanishing_gradient(view),
        "discriminator-too-weak": discriminator_too_weak(view),
        "discriminator-overpowering": discriminator_overpowering(view),
        "mode-dropping": mode_dropping(view),
        "memorization": memorization(view),
        "augmentation-leak": augmentation_leak(view),
        "discriminator-overfitting": discriminator_overfitting(view),
        "saturation": saturation(view),
        "cycling": cycling(view),
        "rate-too-high": rate_too_high(view),
        "rate-too-low": rate_too_low(view),
        "averaged-generator-worse": averaged_generator_worse(view),
        "nothing-more-to-gain": Sign(1.0, settled) if settled else None,
    }


def _is_explained(condition: Condition, found: dict[Condition, Sign]) -> bool:
    """Return whether another condition that was found says the same better."""
    match condition:
        case "mode-dropping":
            return bool({"mode-collapse", "rate-too-low"} & found.keys())
        case "mode-collapse" | "vanishing-gradient" | "discriminator-too-weak" | "cycling":
            return "rate-too-low" in found
        case _:
            return False


def _diagnosis(condition: Condition, sign: Sign, view: View, before: Diagnosis | None) -> Diagnosis:
    since = view.now[0].samples if sign.since is None else sign.since
    num_lines = 1
    if before is not None:
        since = before.since
        num_lines = before.num_lines + 1
    confidence = _confidence(condition, sign, view, since, num_lines)
    return Diagnosis(
        condition=condition, since=since, num_lines=num_lines, confidence=confidence, evidence=sign.evidence
    )


def _confidence(condition: Condition, sign: Sign, view: View, since: int, num_lines: int) -> Confidence:
    """Return how sure a diagnosis is: certain of facts, likely where it is clear and has lasted, or was told long."""
    if condition in ("non-finite", "nothing-more-to-gain"):
        return "certain"
    is_clear = sign.strength >= CLEAR and sum(stats.samples >= since for stats in view.history) >= LASTED
    return "likely" if is_clear or num_lines >= LASTED_LONG else "possible"


# Numbers that run away


def non_finite(view: View) -> Sign | None:
    """Steps with a loss or a gradient that is not finite, which are not applied."""
    bad = [stats for stats in view.now if stats.skipped_steps or not _has_losses(stats)]
    if not bad:
        return None
    num = num_skipped(view.now)
    steps = "1 step" if num == 1 else f"{num:,} steps"
    last = bad[-1]
    losses = [name for name in ("discriminator", "generator") if not math.isfinite(getattr(last, f"{name}_loss"))]
    told = f"not finite: the loss of the {' and of the '.join(losses)}"
    if num:
        told = f"{steps} of the last {len(view.now)} log lines were not finite, and not applied"
    if num and (where := _not_finite(last)):
        told += f": {', '.join(where)}"
    return Sign(math.inf, _sentence(told), bad[0].samples)


def _has_losses(stats: StepStats) -> bool:
    return math.isfinite(stats.discriminator_loss) and math.isfinite(stats.generator_loss)


def _not_finite(stats: StepStats) -> list[str]:
    """Return the names of the loss terms that are not finite; without any, of the parts with such a gradient."""
    terms = [name.replace("_", "'s ", 1) for name, value in stats.terms.items() if not math.isfinite(value)]
    parts = [name for name, value in stats.signals.items() if name.startswith("gradient/") and not math.isfinite(value)]
    return [f"the {term} loss" for term in terms] or [f"the {name.replace('/', ' of ', 1)}" for name in parts]


def divergence(view: View) -> Sign | None:
    """Scores far above the best one, one after the other."""
    if len(view.scores) <= NUM_LATE:
        return None
    late = view.scores[-NUM_LATE:]
    best = min(view.scores[:-NUM_LATE], key=lambda score: score.loss)
    lowest = min(late, key=lambda score: score.loss)
    error = math.hypot(best.error, lowest.error)
    lost = lowest.loss - best.loss
    won = view.scores[0].loss - best.loss
    if not best.loss > 0 or lost <= 3 * (error if math.isfinite(error) else 0.0) or lost < LOST * won:
        return None
    times = lowest.loss / best.loss
    told = f"each of the last {NUM_LATE} scores is at least {times:.2g} times the best one ({best.loss:.3g})"
    return Sign((times - 1) / (DIVERGED - 1), _sentence(told), late[0].samples)


def exploding_gradient(view: View) -> Sign | None:
    """A gradient that is huge, or far above its own past."""
    signs = []
    for player in ("generator", "discriminator"):
        now = view.median(lambda stats, name=f"{player}_gradient": getattr(stats, name))
        before = finite(getattr(stats, f"{player}_gradient") for stats in view.history[:-WINDOW])
        if not now > 0:
            continue
        signs.append(Sign(now / EXPLODED, f"The {player}'s gradient has a norm of {now:.2g}."))
        if len(before) >= WINDOW and (usual := statistics.quantiles(before, n=4)[2]) > 0:
            told = f"The {player}'s gradient is {now / usual:.2g} times what it was."
            signs.append(Sign(now / usual / GROWN, told))
    return _strongest(signs)


# The two players


def vanishing_gradient(view: View) -> Sign | None:
    """A gradient that does not reach the first layers, or has gone from the generator."""
    signs = []
    share = gradient_share(view.history)
    if not view.improves and share > 0:
        told = f"The generator's gradient is down to {100 * share:.2g} % of what it was."
        signs.append(Sign(STOPPED / share, told))
    for player in ("discriminator", "generator"):
        parts = [name for name in view.now[-1].signals if name.startswith(f"gradient/{player}/")]
        norms = [view.signal(name) for name in parts]
        if len(norms) < 2 or not norms[-1] > 0 or not min(norms) >= 0:
            continue
        least = min(norms[:-1])
        told = f"The {player}'s first layers receive {100 * least / norms[-1]:.2g} % of the gradient of its last ones."
        signs.append(Sign(FADED * norms[-1] / max(least, 1e-30), told))
    return _strongest(signs)


def discriminator_overpowering(view: View) -> Sign | None:
    """A discriminator that is sure of nearly everything, while the scores no longer fall."""
    if view.improves:
        return None
    accuracy = mean_accuracy(view.now)
    if math.isnan(accuracy):
        return _too_sure(view)
    if not accuracy >= AHEAD:
        return None
    told = f"the discriminator is right {100 * accuracy:.0f} % of the time"
    unmoved = ", and the score does not fall" if view.scores else ""
    signs = []
    share = gradient_share(view.history)
    if share < 1 and accuracy >= SURE:
        told_share = f"{told}, the generator's gradient is {100 * share:.2g} % of what it was{unmoved}"
        signs.append(Sign(0.1 / max(share, 1e-9), _sentence(told_share)))
    gap = view.median(lambda stats: stats.real_logit - stats.fake_logit)
    if math.isfinite(view.median(lambda stats: stats.fake_probability)) and gap > 0:
        signs.append(Sign(gap / APART, _sentence(f"{told}, its answers lie {gap:.2g} apart{unmoved}")))
    return _strongest(signs)


def _too_sure(view: View) -> Sign | None:
    """The same where only D(x) and D(G(z)) are known, as many loops print them: both at their ends."""
    real = view.median(lambda stats: stats.real_probability)
    fake = view.median(lambda stats: stats.fake_probability)
    if not max(1 - real, fake) <= 1 - SURE_OF_ALL:
        return None
    unmoved = ", and the score does not fall" if view.scores else ""
    return Sign(1.0, f"D(x) is {real:.2f} and D(G(z)) {fake:.2f}{unmoved}.")


def discriminator_too_weak(view: View) -> Sign | None:
    """A discriminator that is wrong more often than a coin."""
    found = finite(stats.accuracy for stats in view.now)
    if len(found) < FEWEST:
        return None
    mean = statistics.fmean(found)
    num_wild = sum(value < WILD for value in found)
    signs = [
        Sign(2 * (0.5 - mean) / (0.5 - BEHIND) - 1, f"The discriminator is right {100 * mean:.0f} % of the time only.")
    ]
    if num_wild:
        told = (
            f"In {num_wild} of the last {len(found)} log lines it was right less than {100 * WILD:.0f} % of the time."
        )
        signs.append(Sign(num_wild / 2, told))
    return _strongest(signs)


def discriminator_overfitting(view: View) -> Sign | None:
    """A discriminator that knows its training samples better than others (arXiv:2006.06676, Eq. 1)."""
    found = view.late("discriminator_gap")
    if not found:
        return None
    told = f"it tells training samples from validation samples: {min(found):.2f} of its scale from real to generated"
    return Sign(min(found) / MEMORISED, _sentence(told))


def cycling(view: View) -> Sign | None:
    """Players that go round each other: the discriminator's accuracy swings up and down."""
    values = finite(stats.accuracy for stats in view.history[-RECENT:])
    if len(values) < 2 * WINDOW:
        return None
    turns = turning_points(values, SWING)
    if len(turns) < 2:
        return None
    low, high = 100 * min(turns), 100 * max(turns)
    between = f"between {low:.0f} and {high:.0f} %"
    told = f"the discriminator's accuracy turned {len(turns)} times in {len(values)} log lines, {between}"
    return Sign(len(turns) / NUM_TURNS, _sentence(told))


def turning_points(values: Sequence[float], swing: float) -> list[float]:
    """Return the values at which a series turned, each time after and before a way of at least `swing`."""
    turns: list[float] = []
    low = high = values[0]
    direction = 0
    for value in values:
        low, high = min(low, value), max(high, value)
        if direction >= 0 and high - value >= swing:
            if direction:
                turns.append(high)
            direction, low = -1, value
        elif direction <= 0 and value - low >= swing:
            if direction:
                turns.append(low)
            direction, high = 1, value
    return turns


# What the generator makes


def mode_collapse(view: View) -> Sign | None:
    """Generated batches with hardly any variety."""
    signs = []
    for name, what, limit in (("spread", "spread", COLLAPSED), ("nearest", "distance to the nearest neighbour", ALIKE)):
        share = view.signal(name)
        if share >= 0 and not view.is_rising(name):
            told = f"a generated batch has {100 * share:.2g} % of the {what} of a real one"
            strength = limit / max(share, 1e-6)
            if view.improves:
                strength /= PROGRESS
            signs.append(Sign(strength, _sentence(told), view.below(name, limit)))
    if fall := _fall(view, "coverage"):
        best, now = fall
        if now < COLLAPSED * best:
            signs.append(Sign(COLLAPSED * best / max(now, 1e-6), f"Coverage fell from {best:.2f} to {now:.2f}."))
    return _strongest(signs)


def mode_dropping(view: View) -> Sign | None:
    """Parts of the data that are not generated, or no longer."""
    signs = []
    share = view.signal("spread")
    if share >= 0 and not view.is_rising("spread") and not view.improves:
        told = f"a generated batch has {100 * share:.2g} % of the spread of a real one"
        signs.append(Sign(DROPPED / max(share, 1e-6), _sentence(told), view.below("spread", DROPPED)))
    for name in ("coverage", "recall"):
        if fall := _fall(view, name):
            told = f"{name} fell from {fall[0]:.2f} to {fall[1]:.2f}"
            signs.append(Sign(LEFT * fall[0] / max(fall[1], 1e-6), _sentence(told)))
    uneven = view.late("kl")
    if uneven:
        told = f"the shares of the modes are far from the real ones (a divergence of {min(uneven):.2f})"
        signs.append(Sign(min(uneven) / UNEVEN, _sentence(told)))
    return _strongest(signs)


def _fall(view: View, name: str) -> tuple[float, float] | None:
    """Return the best value so far and the better of the last two, where there was something to lose."""
    found = finite(score.value(name) for score in view.scores)
    if len(found) < NUM_LATE or max(found[:-2]) < SOME:
        return None
    return max(found[:-2]), max(found[-2:])


def memorization(view: View) -> Sign | None:
    """Generated samples nearer to training samples than held-out ones are (arXiv:2004.05675)."""
    found = view.late("copying")
    recall = view.late("recall")
    if not found or (recall and max(recall) < RESEMBLES):
        return None
    told = f"generated samples are nearer to training samples than held-out ones are (C_T {max(found):.1f})"
    return Sign(max(found) / COPIED, _sentence(told))


def augmentation_leak(view: View) -> Sign | None:
    """Generated samples that resemble augmented real ones more than real ones."""
    found = view.late("augmentation_leak", among=2 * AVERAGING_EVERY)
    if not found:
        return None
    by = f"by {-max(found):.1f} standard errors"
    told = f"generated samples are nearer to augmented real images than to real ones ({by})"
    return Sign(max(found) / LEAKED, _sentence(told))


def saturation(view: View) -> Sign | None:
    """Values at the ends of their range, where the last layer passes on no gradient."""
    generated, real = view.signal("saturated/generated"), view.signal("saturated/real")
    if not math.isfinite(generated - real):
        return None
    told = (
        f"{100 * generated:.0f} % of generated values lie at the ends of their range, of real ones {100 * real:.0f} %"
    )
    return Sign((generated - real) / ENDS, _sentence(told))


def averaged_generator_worse(view: View) -> Sign | None:
    """An averaged generator that scores worse than the raw one."""
    both = [score for score in view.scores[-2 * AVERAGING_EVERY :] if math.isfinite(score.value("averaging"))][-2:]
    if len(both) < 2 or view.improves:  # it lags behind a generator that gets on
        return None
    if not all(score.loss >= LAGGING * score.value("raw") for score in both):
        return None
    sure = min(score.value("averaging") for score in both)  # in standard errors; above 0: the average is worse
    last = both[-1]
    told = f"the averaged generator scores {last.loss:.3g}, the raw one {last.value('raw'):.3g}"
    return Sign(sure / WORSE, _sentence(f"{told} (by {sure:.1f} standard errors and more, twice)"), both[0].samples)


# How far they move


def rate_too_high(view: View) -> Sign | None:
    """Steps that are large beside the weights; one round a log line is looked at, so their upper quartile counts."""
    signs = []
    for player in ("generator", "discriminator"):
        moved = finite(stats.signals.get(f"step/{player}", math.nan) for stats in view.history[-2 * WINDOW :])
        if len(moved) < FEWEST or not max(moved) > 0:
            continue
        large = statistics.quantiles(moved, n=4)[2]
        told = f"one step in four changes the {player}'s weights by {100 * large:.2g} % or more"
        signs.append(Sign((large / LARGE) ** 2, _sentence(told)))
    return _strongest(signs)


def rate_too_low(view: View) -> Sign | None:
    """Steps of both players that are tiny beside the weights, and were from the beginning."""
    usual = []
    for player in ("generator", "discriminator"):
        moved = finite(stats.signals.get(f"step/{player}", math.nan) for stats in view.history)
        if len(moved) < FEWEST or not max(moved) > 0:
            return None
        usual.append(statistics.quantiles(moved, n=4)[2])
    told = f"each step changes the weights by {100 * max(usual):.1g} % at most"
    return Sign(SMALL / max(usual), _sentence(told))


def _strongest(signs: Iterable[Sign]) -> Sign | None:
    """Return the strongest of some signs, None where there is none."""
    return max(signs, key=lambda sign: sign.strength, default=None)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
