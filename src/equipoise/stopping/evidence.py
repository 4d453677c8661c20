"""The default policy: stop when no gain is certified, and the gain still to come is not worth its price.

Three questions, all answered from what a run has shown so far, in relative units (a score of 5.1 after 5.0 is a
gap of 2 %): is anything since the champion better (a certificate, with its error α)? What would a quarter more
training bring (a forecast from the run's own curve)? How long has the champion stood (what was spent)?
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from equipoise.health.stats import ScoreLine, metric_error, metric_value
from equipoise.recipe import BoundaryName, MetricName
from equipoise.stopping.policies import Continue, Stop, Verdict
from equipoise.stopping.sequential import Mixture, half_width, mixture_half_width, mixture_step

NUM_SINCE = 4  # scores that a champion must have stood, whatever else is known
NOISE_WINDOW = 20  # score-to-score changes from which the run's own noise is taken
LEAST_NOISE = 0.01  # relative; scores are rarely steadier, and a band of none would certify anything
STANDING = 0.1  # share of all scores over which the standing gap must have held
# The forecast, fitted to 98 published trainings with each family left out in turn (bench/forecast.py).
AHEAD = 1.25  # it speaks of training on until 1.25 times the samples so far
LEVEL = 0.097
SPEED_POWER = 0.25
REACH = 1.72  # noise widths from which a run hardly comes back
FADING = 2.0  # share that a best has stood from which hope fades in proportion: a flat run must end, too
TYPICAL_GAIN = 0.105  # what such trainings gained where they gained more than 2 %
COPYING = -3.0  # C_T (arXiv:2004.05675): standard deviations nearer to the training images than held-out ones are
GAP_OF_OVERFITTING = 0.5  # (D(train) − D(validation)) / (D(train) − D(generated)), after arXiv:2006.06676
FALLEN = 0.5  # of the best coverage or recall, once that was at least
SOME = 0.05


@dataclass(frozen=True)
class Evidence:
    """What must hold to stop; see `recipe.Stopping` for the meaning of the four numbers."""

    alpha: float = 0.05
    delta: float = 0.02
    price: float = 0.02
    share: float = 0.5
    boundary: BoundaryName = "alpha-spending"
    metric: MetricName = "kid"


@dataclass(frozen=True)
class Look:
    """One score as the policy remembers it; a paired difference to the champion of its time, if there was one."""

    samples: int
    measured: float
    score: float  # the same, but at least its error or scatter, since an unbiased KID may fall below zero
    gap: float | None  # to the champion, relative, from the same latents and reals
    gap_error: float | None


@dataclass(frozen=True)
class EvidenceState:
    """Every finite score so far, the places of the champion and of the lowest score, and what voters last said."""

    looks: tuple[Look, ...] = ()
    champion: int = 0  # index; the same as the lowest where nothing is paired
    lowest: int = 0
    alarms: tuple[str, ...] = ()
    best_coverage: float = 0.0
    best_recall: float = 0.0


@dataclass(frozen=True)
class Findings:
    """What the scores say now; relative numbers. Without a score since the champion the bound is -∞."""

    alpha: float  # the error of this certificate, over all looks
    best: Look  # the lowest score, or the champion where the gaps are paired
    num_looks: int
    num_since: int  # scores since the best
    stood: float  # training since the best, as a share of what the best took
    noise: float  # standard deviation of one score around the run's own curve
    gap: float  # the least by which the recent scores stand above the best
    mean_gap: float  # of all scores since
    half_width: float  # of the confidence bound on the mean gap, valid at all looks together
    speed: float  # gain per e-fold of training, over the last half of it
    forecast: float  # expected gain of a quarter more training
    paired: bool  # the gaps are paired differences
    alarms: tuple[str, ...] = ()

    @property
    def bound(self) -> float:
        """Return the lower confidence bound on the mean gap."""
        return self.mean_gap - self.half_width

    @property
    def chance(self) -> float:
        """Return the forecast chance of any gain that matters, if a gain is of the typical size."""
        return min(1.0, self.forecast / TYPICAL_GAIN)


def evidence_step(policy: Evidence, state: EvidenceState, line: ScoreLine, promoted: bool) -> EvidenceState:
    """Take one score in; one that failed or is not finite is no evidence and leaves the state as it is."""
    score = metric_value(line, policy.metric)
    if not math.isfinite(score):
        return state
    error = metric_error(line, policy.metric)
    floor = max(1e-9, error if math.isfinite(error) else _scatter(state.looks) if policy.metric == "kid" else 0.0)
    gap = gap_error = None
    champion = state.looks[state.champion] if state.looks else None
    if champion is not None and _is_paired(policy, line, champion.samples):
        ratio = max(line.difference / champion.score, -0.9)
        gap, gap_error = math.log1p(ratio), line.difference_se / champion.score / (1 + ratio)
    looks = (*state.looks, Look(line.samples, score, max(score, floor), gap, gap_error))
    is_lowest = not state.looks or looks[-1].score < looks[state.lowest].score
    return EvidenceState(
        looks,
        len(looks) - 1 if promoted else state.champion,
        len(looks) - 1 if is_lowest else state.lowest,
        _alarms(state, line),
        max(state.best_coverage, _or_zero(line.coverage)),
        max(state.best_recall, _or_zero(line.recall)),
    )


def examined(policy: Evidence, state: EvidenceState) -> Findings | None:
    """Return what the scores so far say, None before there are two of them.

    A series of scores is measured against the lowest of them. Where there are paired differences, they are measured
    against the champion besides. Each way then has half of α, and one that permits a stop is enough, unless the
    pairs certify that the challengers are on average better than the champion by more than δ.
    """
    if len(state.looks) < 2:
        return None
    since = state.looks[state.champion + 1 :]
    if not since or any(look.gap is None for look in since):
        return _by_scores(policy, state)
    halved = replace(policy, alpha=policy.alpha / 2)
    scores = _by_scores(halved, state)
    paired = _by_pairs(halved, state, since)
    challengers_are_better = paired.mean_gap + paired.half_width < -math.log1p(policy.delta)
    return paired if permits(policy, paired) or challengers_are_better else scores


def permits(policy: Evidence, found: Findings) -> bool:
    """Return whether all three hold: it stood long enough, no gain is certified, the forecast is below its price."""
    stood = found.num_since >= NUM_SINCE and found.stood >= policy.share
    return stood and found.bound > -math.log1p(policy.delta) and found.forecast < policy.price


def _by_scores(policy: Evidence, state: EvidenceState) -> Findings:
    best, since = state.looks[state.lowest], state.looks[state.lowest + 1 :]
    gaps = [math.log(look.score / best.score) for look in since]
    return _found(policy, state, best, gaps, [0.0] * len(gaps), paired=False)


def _by_pairs(policy: Evidence, state: EvidenceState, since: Sequence[Look]) -> Findings:
    gaps, errors = [look.gap or 0.0 for look in since], [look.gap_error or 0.0 for look in since]
    return _found(policy, state, state.looks[state.champion], gaps, errors, paired=True)


def _found(
    policy: Evidence, state: EvidenceState, best: Look, gaps: list[float], errors: list[float], paired: bool
) -> Findings:
    looks, last = state.looks, state.looks[-1]
    noise, speed, spacing = _noise(looks), _speed(looks), last.samples / len(looks)
    window = max(NUM_SINCE, math.ceil(STANDING * len(looks)))
    gap, stood = min(gaps[-window:], default=0.0), (last.samples - best.samples) / max(best.samples, spacing, 1)
    return Findings(
        alpha=policy.alpha,
        best=best,
        num_looks=len(looks),
        num_since=len(gaps),
        stood=stood,
        noise=noise,
        gap=gap,
        mean_gap=statistics.fmean(gaps) if gaps else 0.0,
        half_width=_half_width(policy, gaps, noise, errors, len(looks)),
        speed=speed,
        # Fitted to gaps above the lowest score; the champion is at least as high, so a paired gap promises no less.
        forecast=forecast(speed, gap, noise, stood) / 2 ** len(state.alarms),
        paired=paired,
        alarms=state.alarms,
    )


def forecast(speed: float, gap: float, noise: float, stood: float) -> float:
    """Return the expected relative gain of a quarter more training: less where a run was slow, or has fallen behind.

    0.097 · speed^¼ / (1 + (gap / 1.72 noise)²), fitted by quasi-Poisson regression to published trainings, and
    fading once the best has stood for more than twice what it took.
    """
    fading = min(1.0, FADING / stood) if stood > 0 else 1.0
    return fading * LEVEL * speed**SPEED_POWER / (1 + (max(gap, 0.0) / (REACH * noise)) ** 2)


def evidence_verdict(policy: Evidence, state: EvidenceState) -> Verdict:
    """Stop when the champion has stood long enough, no gain is certified, and the forecast is below its price."""
    found = examined(policy, state)
    if found is None or not permits(policy, found):
        return Continue()
    return Stop("evidence", _reason(policy, state, found))


def promotes(policy: Evidence, line: ScoreLine, champion: ScoreLine, num_looks: int) -> bool:
    """Return whether a challenger replaces the champion: below it by a paired difference that no chance explains.

    `num_looks` counts the paired looks of the run, this one included: over all of them together anything worse takes
    a champion's place with probability α at most, as far as the differences are normal. Without a paired difference
    the lower score wins.
    """
    if _is_paired(policy, line, champion.samples):
        return line.difference + half_width(policy.alpha, num_looks, line.difference_se) < 0
    score = metric_value(line, policy.metric)
    return math.isfinite(score) and score < metric_value(champion, policy.metric)


def _is_paired(policy: Evidence, line: ScoreLine, champion: int) -> bool:
    """Return whether a score comes with a difference to this champion, and with its error."""
    known = math.isfinite(line.difference) and math.isfinite(line.difference_se)
    return policy.metric == "kid" and known and line.champion == champion


def _half_width(
    policy: Evidence, gaps: Sequence[float], noise: float, errors: Sequence[float], num_looks: int
) -> float:
    """Bound the mean gap's error: the run's own noise, and the sampling errors of paired differences.

    The noise of training counts as independent between scores; sampling errors may share their real images, so
    alpha-spending takes them as one and the same error. The mixture takes all as independent. Both take the noise,
    which is estimated, as known.
    """
    if not gaps:
        return math.inf
    match policy.boundary:
        case "alpha-spending":
            sampling = statistics.fmean(errors)
            return half_width(policy.alpha, num_looks, math.hypot(noise / math.sqrt(len(gaps)), sampling))
        case "normal-mixture":
            state: Mixture | None = None
            for gap, error in zip(gaps, errors, strict=True):
                state = mixture_step(state, gap, math.hypot(noise, error))
            assert state is not None
            return mixture_half_width(state, policy.alpha) / len(gaps)


def _noise(looks: Sequence[Look]) -> float:
    """Return the standard deviation of one log score around its curve: of successive changes, robustly, over √2."""
    changes = [abs(math.log(b.score / a.score)) for a, b in itertools.pairwise(looks[-NOISE_WINDOW - 1 :])]
    return max(LEAST_NOISE, statistics.median(changes) / 0.6745 / math.sqrt(2)) if changes else LEAST_NOISE


def _scatter(looks: Sequence[Look]) -> float:
    """Return the standard deviation of one score as measured, in place of an error that nobody gave."""
    changes = [abs(b.measured - a.measured) for a, b in itertools.pairwise(looks[-NOISE_WINDOW - 1 :])]
    return statistics.median(changes) / 0.6745 / math.sqrt(2) if changes else 0.0


def _speed(looks: Sequence[Look]) -> float:
    """Return the gain in log score per e-fold of samples since half of the present ones; at least 1 %."""
    now = looks[-1].samples
    half = next((index for index, look in enumerate(looks) if look.samples >= now / 2), 0)
    before, best = min(look.score for look in looks[: half + 1]), min(look.score for look in looks)
    return max(0.01, math.log(before / best) / math.log(max(now / max(looks[half].samples, 1), 1.2)))


def _alarms(state: EvidenceState, line: ScoreLine) -> tuple[str, ...]:
    """Return what speaks against more training besides the score, as half-sentences."""
    alarms, fallen = [], []
    for name, value, best in (
        ("coverage", line.coverage, state.best_coverage),
        ("recall", line.recall, state.best_recall),
    ):
        if math.isfinite(value) and best >= SOME and value < FALLEN * best:
            fallen.append(f"{name} has fallen from {best:.2f} to {value:.2f}")
    if fallen:  # one voice: both speak of variety
        alarms.append(" and ".join(fallen))
    if line.copying < COPYING:
        alarms.append(
            f"generated images lie nearer to the training images than held-out ones do (C_T {line.copying:.1f})"
        )
    if line.discriminator_gap > GAP_OF_OVERFITTING:
        alarms.append(
            f"the discriminator knows its training images by heart (train–validation gap {line.discriminator_gap:.2f})"
        )
    return tuple(alarms)


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _reason(policy: Evidence, state: EvidenceState, found: Findings) -> str:
    name, best, champion = policy.metric.upper(), found.best, state.looks[state.champion]
    what, it = ("generator better beyond chance", "it") if found.paired else ("lower score", "that recorded score")
    is_another = champion != best and any(look.gap is not None for look in state.looks)
    in_hand = f" The best beyond chance is that of {champion.samples:,} samples." if is_another else ""
    mean = math.expm1(found.mean_gap)  # the geometric mean, as gaps are logarithms
    above = f"{percent(abs(mean))} {'above' if mean >= 0 else 'below'} {it}"
    hope, price = percent(found.forecast), as_set(policy.price)
    near = "just under " if hope == percent(policy.price) else ""
    halved = f", halved for each of these: {'; '.join(found.alarms)}" if found.alarms else ""
    spent = f"{percent(found.stood)} of the training that the best one took" if best.samples else "all of it"
    return (
        f"No {what} since {best.samples:,} samples ({name} {best.measured:.3g}), and more training is not expected to "
        f"pay.{in_hand} Certified: the {found.num_since} scores since then are on average {above}, and not better than "
        f"it by δ = {as_set(policy.delta)}, with an error of at most α = {as_set(found.alpha)} over "
        f"{_certified_by(policy, found)}. Forecast, not certified: a quarter more training would bring {near}{hope} "
        f"(a chance of {percent(found.chance)} for some {percent(TYPICAL_GAIN)}{halved}), less than the price of "
        f"{price}. Spent since then: {spent}."
    )


def _certified_by(policy: Evidence, found: Findings) -> str:
    """Say of which looks the error speaks, and on what it rests."""
    is_mixture = policy.boundary == "normal-mixture"
    looks = "the looks since then" if is_mixture else f"all {found.num_looks} looks"
    if not found.paired:
        return f"{looks} (if scores scatter independently around the run's own curve; here by {percent(found.noise)})"
    # The mixture takes looks for independent, and they share their real images.
    images = "these real images" if is_mixture else "same real images"
    return f"{looks} (paired differences, same latents and {images})"


def as_set(share: float) -> str:
    """Write a setting as it was set: 0.05 %, 2 %, 12.5 %."""
    return f"{100 * share:.12g} %"


def percent(share: float) -> str:
    """Write a share as a percentage with two digits that count: 0.4 %, 12 %, below 0.1 %."""
    value = 100 * share
    if 0 < value < 0.1:
        return "below 0.1 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"
