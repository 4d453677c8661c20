"""The `evidence` policy, the default: stop when improvement is ruled out and the predicted gain is too small.

Three questions, all answered from what a run has shown so far, in relative units (a score of 5.1 after 5.0 is a
gap of 2 %): is anything since the best generator better (a sequential test, with its error α)? What would 25 % more
training bring (a forecast from the run's own curve)? How long has there been no improvement?
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from equipoise.health.conditions import COPIED, MEMORISED
from equipoise.recipe import EvidenceSettings
from equipoise.stopping.sequential import Mixture, half_width, mixture_half_width, mixture_step
from equipoise.stopping.verdicts import Continue, Stop, Verdict
from equipoise.storage.records import Score

NUM_SINCE = 4  # evaluations without improvement that are required, whatever else is known
NOISE_WINDOW = 20  # score-to-score changes from which the run's own noise is taken
LEAST_NOISE = 0.01  # relative; scores are rarely steadier, and without any the test would always pass
STANDING = 0.1  # share of all scores over which the standing gap must have held
# The forecast for 25 % more training, fitted to 98 published trainings, each family left out in turn.
LEVEL = 0.097
SPEED_POWER = 0.25
REACH = 1.72  # noise widths from which a run hardly comes back
FADING = 2.0  # share waited from which the forecast fades in proportion: a flat run must end, too
TYPICAL_GAIN = 0.105  # what such trainings gained where they gained more than 2 %
FALLEN = 0.5  # of the best coverage or recall, once that was at least
SOME = 0.05


@dataclass(frozen=True)
class Evaluation:
    """One score as the policy remembers it; a paired difference to the best of its time, if there was one."""

    samples: int
    measured: float
    score: float  # the same, but at least its error or scatter, since an unbiased KID may fall below zero
    gap: float | None  # to the best, relative, on the same inputs and the same real examples
    gap_error: float | None


@dataclass(frozen=True)
class EvidenceState:
    """Every finite score so far, the places of the best and of the lowest, and the last warnings."""

    evaluations: tuple[Evaluation, ...] = ()
    best: int = 0  # index; the same as the lowest where nothing is paired
    lowest: int = 0
    warnings: tuple[str, ...] = ()
    best_coverage: float = 0.0
    best_recall: float = 0.0


@dataclass(frozen=True)
class Certificate:
    """What the scores say now; relative numbers. Without a score since the best the bound is -∞."""

    alpha: float  # the error of this test, over all evaluations
    best: Evaluation  # the lowest score, or the best generator's where the gaps are paired
    num_evaluations: int
    num_since: int  # scores since the best
    waited: float  # training since the best, as a share of what the best took
    noise: float  # standard deviation of one score around the run's own curve
    gap: float  # the least by which the recent scores stand above the best
    mean_gap: float  # of all scores since
    half_width: float  # of the confidence bound on the mean gap, valid at all evaluations together
    speed: float  # gain per e-fold of training, over the last half of it
    forecast: float  # expected gain of 25 % more training
    paired: bool  # the gaps are paired differences
    warnings: tuple[str, ...] = ()

    @property
    def bound(self) -> float:
        """Return the lower confidence bound on the mean gap."""
        return self.mean_gap - self.half_width

    @property
    def chance(self) -> float:
        """Return the forecast chance of any gain that matters, if a gain is of the typical size."""
        return min(1.0, self.forecast / TYPICAL_GAIN)


def score(state: EvidenceState, found: Score, *, is_best: bool, is_signed: bool = False) -> EvidenceState:
    """Take one score in; one that failed or is not finite is no evidence and leaves the state as it is.

    `is_signed` says that the loss is an unbiased estimate, which noise can carry below zero.
    """
    if not found.is_finite:
        return state
    floor = 1e-9
    if math.isfinite(found.error):
        floor = max(floor, found.error if is_signed else 0.0)
    elif is_signed:
        floor = max(floor, _scatter(state.evaluations))
    gap, gap_error = _relative_gap(state, found)
    evaluation = Evaluation(found.samples, found.loss, max(found.loss, floor), gap, gap_error)
    num = len(state.evaluations)
    is_lowest = not num or evaluation.score < state.evaluations[state.lowest].score
    return EvidenceState(
        (*state.evaluations, evaluation),
        num if is_best else state.best,
        num if is_lowest else state.lowest,
        _warnings(state, found),
        max(state.best_coverage, _or_zero(found.value("coverage"))),
        max(state.best_recall, _or_zero(found.value("recall"))),
    )


def _relative_gap(state: EvidenceState, found: Score) -> tuple[float | None, float | None]:
    """Return the paired difference to the best as a log ratio, with its error; None where there is none."""
    if not state.evaluations:
        return None, None
    best = state.evaluations[state.best]
    if not is_paired(found, best.samples):
        return None, None
    ratio = max(found.difference / best.score, -0.9)
    return math.log1p(ratio), found.difference_error / best.score / (1 + ratio)


def examined(settings: EvidenceSettings, state: EvidenceState) -> Certificate | None:
    """Return what the scores so far say, None before there are two of them.

    A series of scores is measured against the lowest of them. Where there are paired differences, they are measured
    against the best besides. Each way then has half of α, and one that permits a stop is enough, unless the pairs
    show that the candidates are on average better than the best by more than δ.
    """
    if len(state.evaluations) < 2:
        return None
    since = state.evaluations[state.best + 1 :]
    if not since or any(one.gap is None for one in since):
        return _by_scores(settings, settings.alpha, state)
    scores = _by_scores(settings, settings.alpha / 2, state)
    paired = _by_pairs(settings, settings.alpha / 2, state, since)
    candidates_are_better = paired.mean_gap + paired.half_width < -math.log1p(settings.delta)
    return paired if permits(settings, paired) or candidates_are_better else scores


def permits(settings: EvidenceSettings, found: Certificate) -> bool:
    """Return whether all three hold: long enough no gain, no gain shown by the test, too little predicted."""
    has_waited = found.num_since >= NUM_SINCE and found.waited >= settings.min_wait
    return has_waited and found.bound > -math.log1p(settings.delta) and found.forecast < settings.min_gain


def _by_scores(settings: EvidenceSettings, alpha: float, state: EvidenceState) -> Certificate:
    best = state.evaluations[state.lowest]
    gaps = [math.log(one.score / best.score) for one in state.evaluations[state.lowest + 1 :]]
    return _certificate(settings, alpha, state, best, gaps, [0.0] * len(gaps), paired=False)


def _by_pairs(
    settings: EvidenceSettings, alpha: float, state: EvidenceState, since: Sequence[Evaluation]
) -> Certificate:
    gaps = [one.gap or 0.0 for one in since]
    errors = [one.gap_error or 0.0 for one in since]
    return _certificate(settings, alpha, state, state.evaluations[state.best], gaps, errors, paired=True)


def _certificate(
    settings: EvidenceSettings,
    alpha: float,
    state: EvidenceState,
    best: Evaluation,
    gaps: list[float],
    errors: list[float],
    *,
    paired: bool,
) -> Certificate:
    evaluations = state.evaluations
    last = evaluations[-1]
    spacing = last.samples / len(evaluations)
    window = max(NUM_SINCE, math.ceil(STANDING * len(evaluations)))
    noise = _noise(evaluations)
    speed = _speed(evaluations)
    gap = min(gaps[-window:], default=0.0)
    waited = (last.samples - best.samples) / max(best.samples, spacing, 1)
    return Certificate(
        alpha=alpha,
        best=best,
        num_evaluations=len(evaluations),
        num_since=len(gaps),
        waited=waited,
        noise=noise,
        gap=gap,
        mean_gap=statistics.fmean(gaps) if gaps else 0.0,
        half_width=_half_width(settings, alpha, gaps, noise, errors, len(evaluations)),
        speed=speed,
        # Fitted to gaps above the lowest score; the best is at least as high, so a paired gap promises no less.
        forecast=forecast(speed, gap, noise, waited) / 2 ** len(state.warnings),
        paired=paired,
        warnings=state.warnings,
    )


def forecast(speed: float, gap: float, noise: float, waited: float) -> float:
    """Return the expected relative gain of 25 % more training: less where a run was slow, or has fallen behind.

    0.097 · speed^¼ / (1 + (gap / 1.72 noise)²), fitted by quasi-Poisson regression to published trainings, and
    fading once there was no better generator for more than twice the training that the best one took.
    """
    fading = min(1.0, FADING / waited) if waited > 0 else 1.0
    return fading * LEVEL * speed**SPEED_POWER / (1 + (max(gap, 0.0) / (REACH * noise)) ** 2)


def settled(settings: EvidenceSettings, state: EvidenceState) -> str:
    """Return in a sentence that more training brings nothing, as this evidence has it; empty where it has not."""
    found = examined(settings, state)
    if found is None or not permits(settings, found):
        return ""
    since = f"No better generator was found since {found.best.samples:,} samples"
    return f"{since}, and 25 % more training is predicted to bring {percent(max(0.0, found.forecast))}."


def verdict(settings: EvidenceSettings, state: EvidenceState, label: str, lowest_broken: float = math.inf) -> Verdict:
    """Stop when all three conditions hold.

    `label` is what the loss is called, `lowest_broken` the lowest one of a generator that broke a guard.
    """
    found = examined(settings, state)
    if found is None or not permits(settings, found):
        return Continue()
    return Stop("evidence", _message(settings, state, found, label, lowest_broken))


def promotes(settings: EvidenceSettings, found: Score, best: Score, num_paired: int) -> bool:
    """Return whether a candidate replaces the best: lower by a paired difference that is statistically significant.

    `num_paired` counts the paired evaluations of the run, this one included: over all of them together anything worse
    takes the place of the best with probability α at most, as far as the differences are normal. Without a paired
    difference the lower score wins.
    """
    if is_paired(found, best.samples):
        return found.difference + half_width(settings.alpha, num_paired, found.difference_error) < 0
    return found.is_finite and found.loss < best.loss


def is_paired(found: Score, best: int) -> bool:
    """Return whether a score comes with a difference to the best generator, that of these samples, and its error."""
    return math.isfinite(found.difference + found.difference_error) and found.compared_with == best


def _half_width(
    settings: EvidenceSettings,
    alpha: float,
    gaps: Sequence[float],
    noise: float,
    errors: Sequence[float],
    num_evaluations: int,
) -> float:
    """Bound the mean gap's error: the run's own noise, and the sampling errors of paired differences.

    The noise of training counts as independent between scores; sampling errors may share their real examples, so
    alpha-spending takes them as one and the same error. The mixture takes all as independent. Both take the noise,
    which is estimated, as known.
    """
    if not gaps:
        return math.inf
    match settings.boundary:
        case "alpha-spending":
            sampling = statistics.fmean(errors)
            return half_width(alpha, num_evaluations, math.hypot(noise / math.sqrt(len(gaps)), sampling))
        case "normal-mixture":
            state: Mixture | None = None
            for gap, error in zip(gaps, errors, strict=True):
                state = mixture_step(state, gap, math.hypot(noise, error))
            assert state is not None
            return mixture_half_width(state, alpha) / len(gaps)
        case _ as unreachable:
            assert_never(unreachable)


def _noise(evaluations: Sequence[Evaluation]) -> float:
    """Return the standard deviation of one log score around its curve: of successive changes, robustly, over √2."""
    recent = itertools.pairwise(evaluations[-NOISE_WINDOW - 1 :])
    return max(LEAST_NOISE, _robust_deviation([abs(math.log(b.score / a.score)) for a, b in recent]))


def _scatter(evaluations: Sequence[Evaluation]) -> float:
    """Return the standard deviation of one score as measured, in place of an error that nobody gave."""
    recent = itertools.pairwise(evaluations[-NOISE_WINDOW - 1 :])
    return _robust_deviation([abs(b.measured - a.measured) for a, b in recent])


def _robust_deviation(changes: list[float]) -> float:
    """Return the standard deviation of one of two whose absolute differences are given, from their median."""
    if not changes:
        return 0.0
    return statistics.median(changes) / 0.6745 / math.sqrt(2)


def _speed(evaluations: Sequence[Evaluation]) -> float:
    """Return the gain in log score per e-fold of samples since half of the present ones; at least 1 %."""
    now = evaluations[-1].samples
    half = next((index for index, one in enumerate(evaluations) if one.samples >= now / 2), 0)
    before = min(one.score for one in evaluations[: half + 1])
    best = min(one.score for one in evaluations)
    efolds = math.log(max(now / max(evaluations[half].samples, 1), 1.2))
    return max(0.01, math.log(before / best) / efolds)


def _warnings(state: EvidenceState, found: Score) -> tuple[str, ...]:
    """Return what speaks against more training besides the score, as half-sentences."""
    warnings: list[str] = []
    fallen: list[str] = []
    for name, best in (("coverage", state.best_coverage), ("recall", state.best_recall)):
        value = found.value(name)
        if math.isfinite(value) and best >= SOME and value < FALLEN * best:
            fallen.append(f"{name} fell from {best:.2f} to {value:.2f}")
    if fallen:  # one voice: both speak of variety
        warnings.append(" and ".join(fallen))
    if found.value("copying") < COPIED:
        warnings.append(
            "generated samples lie nearer to the training samples than held-out ones do "
            f"(C_T {found.value('copying'):.1f})"
        )
    if found.value("discriminator_gap") > MEMORISED:
        warnings.append(
            "the discriminator overfits its training samples (train–validation gap "
            f"{found.value('discriminator_gap'):.2f})"
        )
    return tuple(warnings)


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _message(
    settings: EvidenceSettings, state: EvidenceState, found: Certificate, label: str, lowest_broken: float
) -> str:
    best = found.best
    certified = state.evaluations[state.best]
    what = "No significantly better generator" if found.paired else "No lower score"
    if lowest_broken < best.measured:
        what += " that keeps its limits"
    since = f"{what} since {best.samples:,} samples ({label} {best.measured:.3g})"
    if best.samples:
        since += f", for {percent(found.waited)} of the training that it took"
    another = ""
    if certified != best and any(one.gap is not None for one in state.evaluations):
        another = f" The best generator by the paired test is that of {certified.samples:,} samples."
    mean = math.expm1(found.mean_gap)  # the geometric mean, as gaps are logarithms
    side = "above" if mean >= 0 else "below"
    near = "just under " if percent(found.forecast) == percent(settings.min_gain) else ""
    halved = f"; halved for each of these: {'; '.join(found.warnings)}" if found.warnings else ""
    return (
        f"{since}.{another} Statistical test (α = {as_set(found.alpha)} over {_test_basis(settings, found)}): the "
        f"{found.num_since} evaluations since then are on average {percent(abs(mean))} {side} it, and an average "
        f"improvement of δ = {as_set(settings.delta)} is ruled out. Forecast: 25 % more training is predicted to bring "
        f"{near}{percent(found.forecast)}, less than the minimum gain of {as_set(settings.min_gain)} (a probability of "
        f"{percent(found.chance)} for a gain of about {percent(TYPICAL_GAIN)}{halved})."
    )


def _test_basis(settings: EvidenceSettings, found: Certificate) -> str:
    """Say of which evaluations the error speaks, and on what it rests."""
    is_mixture = settings.boundary == "normal-mixture"
    which = "the evaluations since then" if is_mixture else f"all {found.num_evaluations} evaluations"
    if not found.paired:
        return f"{which}, if scores scatter independently around the run's own curve, by {percent(found.noise)} here"
    # The mixture takes evaluations for independent, and they share their real examples.
    examples = "for these real examples" if is_mixture else "with the same real examples"
    return f"{which}, paired differences on the same inputs {examples}"


def status(settings: EvidenceSettings, state: EvidenceState, lowest_broken: float = math.inf) -> str:
    """Say how close the three conditions are: the wait, the predicted gain, the test."""
    found = examined(settings, state)
    if found is None:
        return "Too few evaluations so far."
    gain = f"Predicted gain from 25 % more training: {percent(found.forecast)} (minimum {percent(settings.min_gain)})."
    if found.num_since == 0:
        if lowest_broken < math.inf:
            return f"The last score that keeps its limits is the lowest of these so far. {gain}"
        return f"The last score is the lowest so far. {gain}"
    last = state.evaluations[-1].samples
    spacing = last / found.num_evaluations
    missing = settings.min_wait * max(found.best.samples, spacing) - (last - found.best.samples)
    needed = max(NUM_SINCE, found.num_since + math.ceil(max(0.0, missing) / max(spacing, 1.0)))
    waited = f"{found.num_since} of the {needed} evaluations required"
    if needed <= found.num_since:
        waited = f"{found.num_since} evaluations"
    is_ruled_out = found.bound > -math.log1p(settings.delta)
    tested = "Improvement since then is ruled out." if is_ruled_out else "Improvement since then is not ruled out yet."
    return f"No improvement in {waited}. {gain} {tested}"


def as_set(share: float) -> str:
    """Write a setting as it was set: 0.05 %, 2 %, 12.5 %."""
    return f"{100 * share:.12g} %"


def percent(share: float) -> str:
    """Write a share as a percentage with two digits that count: 0.4 %, 12 %, below 0.1 %."""
    value = 100 * share
    if 0 < value < 0.1:
        return "below 0.1 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"
