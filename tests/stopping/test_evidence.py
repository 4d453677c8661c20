"""The default policy, against hand computation, simulation, and what must not change a verdict."""

import math
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.recipe import BoundaryName, EvidenceSettings, Recipe, with_settings
from equipoise.stopping import evidence
from equipoise.stopping.evidence import (
    LEAST_NOISE,
    NUM_SINCE,
    Certificate,
    EvidenceState,
    as_set,
    examined,
    percent,
    permits,
    promotes,
)
from equipoise.stopping.verdicts import Continue, Stop
from equipoise.storage.records import Score

changed = msgspec.structs.replace
POLICY = EvidenceSettings()
BOUNDARIES: tuple[BoundaryName, ...] = ("alpha-spending", "normal-mixture")
COLLAPSE = (16.0, 12.0, 9.0, 7.0, 6.0, 5.0, 50.0, 51.0, 49.0, 50.0, 52.0, 50.0, 49.0)
PLATEAU = (*COLLAPSE[:6], *(5.2, 5.1, 5.3, 5.15) * 20)


def scores(*values: float, step: int = 1000, error: float = math.nan) -> list[Score]:
    """Return unpaired scores at step, 2·step, …"""
    return [Score(samples=step * index, seconds=0.0, loss=value, error=error) for index, value in enumerate(values, 1)]


def against(best: int, *differences: float, error: float, first: int, loss: float = 0.1) -> list[Score]:
    """Return scores at first, first + 1, … thousand, each with a paired difference to the best generator."""
    return [
        Score(
            samples=1000 * index,
            seconds=0.0,
            loss=loss,
            error=0.001,
            compared_with=best,
            difference=difference,
            difference_error=error,
        )
        for index, difference in enumerate(differences, first)
    ]


def with_values(found: Score, **values: float) -> Score:
    return changed(found, values=found.values | values)


def states(policy: EvidenceSettings, found: Sequence[Score], *, is_signed: bool = False) -> list[EvidenceState]:
    """Return the state after each score, with best generators by the policy's own rule."""
    state, best, num_paired, every = EvidenceState(), None, 0, []
    for one in found:
        num_paired += math.isfinite(one.difference)
        is_best = one.is_finite and (best is None or promotes(policy, one, best, num_paired))
        best = one if is_best else best
        state = evidence.score(state, one, is_best=is_best, is_signed=is_signed)
        every.append(state)
    return every


def certificate(policy: EvidenceSettings, found: Sequence[Score], *, is_signed: bool = False) -> Certificate:
    last = examined(policy, states(policy, found, is_signed=is_signed)[-1])
    assert last is not None
    return last


def verdicts(policy: EvidenceSettings, found: Sequence[Score], *, is_signed: bool = False) -> list[Stop | None]:
    """Return the stop after each score, None where there is none."""
    every = [evidence.verdict(policy, state, "KID") for state in states(policy, found, is_signed=is_signed)]
    return [verdict if isinstance(verdict, Stop) else None for verdict in every]


def first_stop(policy: EvidenceSettings, found: Sequence[Score]) -> int | None:
    """Return the number of scores seen at the first stop, None if it never stops."""
    return next((index for index, stop in enumerate(verdicts(policy, found), 1) if stop), None)


def message(policy: EvidenceSettings, found: Sequence[Score], *, is_signed: bool = False) -> str:
    """Return the words of the first stop."""
    stop = next(stop for stop in verdicts(policy, found, is_signed=is_signed) if stop)
    assert stop.reason == "evidence"
    assert "\n" not in stop.message
    return stop.message


# What the scores say, by hand


def test_nothing_is_examined_before_the_second_score():
    assert examined(POLICY, EvidenceState()) is None
    assert [examined(POLICY, state) is None for state in states(POLICY, scores(5, 6, 4))] == [True, False, False]


def test_a_best_generator_that_was_found_just_now_has_waited_for_nothing_and_rules_nothing_out():
    for boundary in BOUNDARIES:
        found = certificate(replace(POLICY, boundary=boundary), scores(8, 6, 4))
        assert (found.num_since, found.waited, found.gap, found.paired) == (0, 0.0, 0.0, False)
        assert found.bound == -math.inf
        assert found.forecast == pytest.approx(0.097 * found.speed**0.25, rel=1e-12)


def test_unpaired_scores_are_examined_as_by_hand():
    found = certificate(POLICY, scores(8, 4, 5, 6, 4.5, 5))
    assert (found.num_evaluations, found.num_since, found.paired, found.alpha) == (6, 4, False, 0.05)
    assert found.waited == 2.0  # four thousand since, two thousand until the best
    # changes of the log score: ln 2, ln 1.25, ln 1.2, ln 4/3, ln 10/9; the median is ln 1.25
    assert found.noise == pytest.approx(math.log(1.25) / 0.6745 / math.sqrt(2), rel=1e-12)
    assert found.gap == pytest.approx(math.log(4.5 / 4), rel=1e-12)
    assert found.mean_gap == pytest.approx(math.log(5 * 6 * 4.5 * 5 / 4**4) / 4, rel=1e-12)
    assert found.speed == 0.01  # nothing gained since half of the training
    assert found.half_width == pytest.approx(0.36728740690202655, rel=1e-9)  # SciPy's quantile at evaluation 6
    assert found.forecast == pytest.approx(0.02825306747839538, rel=1e-9)
    assert found.bound == pytest.approx(0.24238381159824185 - 0.36728740690202655, rel=1e-9)
    assert found.chance == pytest.approx(0.02825306747839538 / 0.105, rel=1e-9)


def test_the_mixture_bounds_unpaired_scores_as_by_hand():
    found = certificate(replace(POLICY, boundary="normal-mixture"), scores(8, 4, 5, 6, 4.5, 5))
    # four evaluations of one variance σ²: V = 4 σ², ρ = 2.5 σ²
    width = found.noise * math.sqrt(6.5 * (math.log(1 + 4 / 2.5) + 2 * math.log(20))) / 4
    assert found.half_width == pytest.approx(width, rel=1e-12)
    assert found.half_width == pytest.approx(0.3929904300401502, rel=1e-9)


DIFFERENCES = (0.01, 0.02, 0.005, 0.004)
PAIRS = [*scores(0.2, 0.1, error=0.001), *against(2000, *DIFFERENCES, error=0.002, first=3)]


def test_paired_differences_are_relative_to_the_best_as_by_hand():
    found = certificate(POLICY, PAIRS)
    assert (found.best.samples, found.num_evaluations, found.num_since, found.paired) == (2000, 6, 4, True)
    assert found.alpha == 0.025
    assert found.gap == pytest.approx(math.log(1.04), rel=1e-12)
    assert found.mean_gap == pytest.approx(math.log(1.1 * 1.2 * 1.05 * 1.04) / 4, rel=1e-12)
    assert found.noise == LEAST_NOISE  # changes of the score itself: ln 2, 0, 0, 0, 0
    assert found.forecast == pytest.approx(0.097 * 0.01**0.25 / (1 + (math.log(1.04) / 0.0172) ** 2), rel=1e-12)


def test_a_paired_gap_below_zero_promises_no_more_than_none():
    below = [*PAIRS, *against(2000, -0.0001, error=0.002, first=7)]
    found = certificate(replace(POLICY, min_gain=1.0), below)
    assert found.paired
    assert found.gap == pytest.approx(math.log(0.999), rel=1e-12)
    assert found.waited == 2.5  # longer than twice what it took: the forecast fades
    assert found.forecast == pytest.approx(0.097 * 0.01**0.25 * 2 / 2.5, rel=1e-12)


def test_alpha_spending_takes_the_sampling_errors_of_pairs_for_one_and_the_same():
    z = -NormalDist().inv_cdf(6 * 0.025 / (math.pi * 6) ** 2)  # half of α is for the unpaired scores
    errors = [0.02 / ratio for ratio in (1.1, 1.2, 1.05, 1.04)]  # of the logarithm
    width = z * math.hypot(0.01 / math.sqrt(4), sum(errors) / 4)
    assert certificate(POLICY, PAIRS).half_width == pytest.approx(width, rel=1e-12)


def test_the_mixture_takes_the_sampling_errors_of_pairs_as_independent():
    found = certificate(replace(POLICY, boundary="normal-mixture"), PAIRS)
    variances = [0.01**2 + (0.02 / ratio) ** 2 for ratio in (1.1, 1.2, 1.05, 1.04)]
    total, rho = sum(variances), 2.5 * variances[0]
    width = math.sqrt((total + rho) * (math.log(1 + total / rho) + 2 * math.log(40))) / 4
    assert found.paired
    assert found.half_width == pytest.approx(width, rel=1e-12)


def test_where_pairs_permit_no_stop_the_unpaired_scores_speak_with_the_other_half_of_alpha():
    loud = [*PAIRS[:2], *(changed(one, difference_error=1.0) for one in PAIRS[2:])]
    found = certificate(POLICY, loud)
    assert not found.paired
    z = -NormalDist().inv_cdf(6 * 0.025 / (math.pi * 6) ** 2)
    assert found.half_width == pytest.approx(z * 0.01 / math.sqrt(4), rel=1e-12)


def test_unpaired_scores_are_measured_against_the_lowest_and_not_against_a_best_generator_by_pairs():
    lucky = against(2000, 0.0, error=0.01, first=3, loss=0.05)[0]
    every = [*PAIRS[:2], lucky, *against(2000, *DIFFERENCES, error=1.0, first=4, loss=0.06)]
    found = certificate(POLICY, every)
    assert states(POLICY, every)[-1].best == 1
    assert (found.best.samples, found.num_since, found.paired) == (3000, 4, False)
    assert found.mean_gap == pytest.approx(math.log(0.06 / 0.05), rel=1e-12)


def test_speed_is_the_gain_per_e_fold_since_half_of_the_training():
    # now 6000: the first score from 3000 on is 6, the best until then 6, the best 4; ln 1.5 within ln 2
    of_six = certificate(POLICY, scores(10, 8, 6, 5, 4, 4.4))
    assert of_six.speed == pytest.approx(math.log(1.5) / math.log(2), rel=1e-12)
    # scores from 5000 to 5200 only: an interval of less than a fifth counts as a fifth
    late = [changed(one, samples=4900 + 100 * index) for index, one in enumerate(scores(6, 4, 5), 1)]
    assert certificate(POLICY, late).speed == pytest.approx(math.log(1.5) / math.log(1.2), rel=1e-12)
    short = [changed(one, samples=samples) for one, samples in zip(scores(6, 4, 5), (1350, 2600, 2700), strict=True)]
    assert certificate(POLICY, short).speed == pytest.approx(math.log(1.5) / math.log(2), rel=1e-12)


def test_noise_is_taken_from_the_last_20_changes_alone():
    wild = [10.0 * 3 ** (index % 2) for index in range(1, 30)]
    steady = [9.0 + 0.9 * (index % 2) for index in range(21)]
    expected = math.log(1.1) / 0.6745 / math.sqrt(2)
    assert certificate(POLICY, scores(*wild, *steady)).noise == pytest.approx(expected, rel=1e-9)


def test_scores_that_never_change_still_have_a_band():
    found = certificate(POLICY, scores(5, 5, 5, 5, 5, 5))
    assert found.noise == LEAST_NOISE
    assert found.half_width > 0


def test_the_gap_is_the_least_of_the_last_four_scores_and_of_a_tenth_where_that_is_more():
    def gap(*values: float) -> float:
        return math.exp(certificate(POLICY, scores(*values)).gap)

    assert gap(4, 5, 8, 7, 6, 8) == pytest.approx(6 / 4)  # the 5 lies too far back
    assert gap(4, 5, 8, 7, 6) == pytest.approx(5 / 4)
    many = [4, *[8] * 43, 5, 8, 8, 8, 8]  # of 49 scores a tenth is five
    assert gap(*many) == pytest.approx(5 / 4)
    assert gap(*many, 8) == pytest.approx(8 / 4)


def test_waiting_is_measured_against_what_the_best_took():
    assert certificate(POLICY, scores(9, 8, 7, 4, 5, 5)).waited == 0.5
    late = scores(4, 5, 5, 5)
    assert certificate(POLICY, [changed(late[0], samples=0), *late[1:]]).waited == 4.0  # in scores, if it took nothing


def from_zero(*values: float) -> list[Score]:
    return [changed(one, samples=one.samples - 1000) for one in scores(*values)]


def test_a_series_that_begins_at_step_zero_is_followed_to_its_stop():
    assert first_stop(POLICY, from_zero(*COLLAPSE)) == 10
    assert first_stop(POLICY, from_zero(5, 50, 50, 50, 50)) == 5


def test_nothing_is_said_to_have_taken_training_that_took_none():
    every = from_zero(5, 50, 50, 50, 50)
    assert percent(certificate(POLICY, every).waited) not in message(POLICY, every)
    later = scores(5, 50, 50, 50, 50)
    assert percent(certificate(POLICY, later).waited) in message(POLICY, later)


VARIED = {"coverage": 0.8, "recall": 0.6, "copying": -2.9, "discriminator_gap": 0.5}


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ({"coverage": 0.39}, ("coverage", "0.80", "0.39")),
        ({"recall": 0.29}, ("recall", "0.60", "0.29")),
        ({"copying": -3.1}, ("C_T", "-3.1")),
        ({"discriminator_gap": 0.51}, ("discriminator", "0.51")),
    ],
)
def test_each_warning_halves_the_forecast_and_is_named(values: dict[str, float], numbers: tuple[str, ...]):
    healthy = [with_values(one, **VARIED) for one in scores(*COLLAPSE)]
    calm = certificate(POLICY, healthy)
    warned = certificate(POLICY, [*healthy[:-1], with_values(healthy[-1], **values)])
    assert calm.warnings == ()
    assert warned.forecast == calm.forecast / 2
    assert len(warned.warnings) == 1
    assert all(number in warned.warnings[0] for number in numbers)


def test_warnings_multiply_and_end_when_their_cause_does():
    every = [with_values(one, coverage=0.8, recall=0.6) for one in scores(*COLLAPSE)]
    ill = {"coverage": 0.1, "recall": 0.1, "copying": -9.0, "discriminator_gap": 0.9}
    both = [*every[:-1], with_values(every[-1], **ill)]
    assert certificate(POLICY, both).forecast == certificate(POLICY, every).forecast / 8  # two of them are one voice
    assert certificate(POLICY, [*both, *scores(*COLLAPSE, 49)[-1:]]).warnings == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_leaves_the_state_as_it_is(value: float):
    state = states(POLICY, scores(5, 4, 4.5))[-1]
    failed = with_values(changed(scores(value)[0], samples=4000), coverage=0.9, recall=0.9, copying=-9.0)
    assert evidence.score(state, failed, is_best=False) is state
    assert first_stop(POLICY, [one for good in scores(*COLLAPSE) for one in (good, failed)]) == 2 * 10 - 1


def test_an_unbiased_estimate_at_or_below_zero_counts_as_its_standard_error():
    every = scores(0.4, -0.02, 0.04, error=0.01)
    state = states(POLICY, every, is_signed=True)[-1]
    assert [one.score for one in state.evaluations] == [0.4, 0.01, 0.04]
    assert [one.measured for one in state.evaluations] == [0.4, -0.02, 0.04]
    assert state.best == 1
    assert certificate(POLICY, every, is_signed=True).gap == pytest.approx(math.log(4))
    without = [changed(one, loss=-one.loss, error=math.nan) for one in every]
    assert all(one.score > 0 for one in states(POLICY, without, is_signed=True)[-1].evaluations)


def test_an_unbiased_estimate_without_an_error_counts_as_its_own_scatter():
    every = scores(0.4, -0.02, 0.04, -0.01)
    changes = sorted([0.42, 0.06])
    scatter = sum(changes) / 2 / 0.6745 / math.sqrt(2)
    state = states(POLICY, every, is_signed=True)[-1]
    assert state.evaluations[-1].score == pytest.approx(scatter, rel=1e-12)


def test_a_loss_that_cannot_fall_below_zero_is_taken_as_it_is_however_large_its_error():
    state = states(POLICY, scores(0.4, 0.002, error=0.01))[-1]
    assert [one.score for one in state.evaluations] == [0.4, 0.002]


def test_one_difference_that_is_missing_leaves_the_unpaired_scores_with_all_of_alpha():
    wide = [*PAIRS[:2], *(changed(one, difference_error=0.05) for one in PAIRS[2:])]
    unpaired = changed(PAIRS[-1], samples=7000, difference=math.nan)
    for every in ([*PAIRS, unpaired], [*wide, unpaired]):
        found = certificate(POLICY, every)
        assert not found.paired
        assert found.mean_gap == 0.0  # the scores themselves all equal the best one's
        z = -NormalDist().inv_cdf(6 * 0.05 / (math.pi * 7) ** 2)
        assert found.half_width == pytest.approx(z * 0.01 / math.sqrt(5), rel=1e-12)


@given(
    st.lists(st.tuples(st.floats(-12, 15), st.floats(-12, 15), st.sampled_from([-1, 0, 1])), min_size=1, max_size=15),
    st.sampled_from(BOUNDARIES),
    st.booleans(),
)
def test_scores_of_any_magnitude_raise_nothing(
    magnitudes: list[tuple[float, float, int]], boundary: BoundaryName, is_signed: bool
):
    policy, every, best = EvidenceSettings(boundary=boundary), [], 0
    for index, (power, of_error, sign) in enumerate(magnitudes):
        value, error = sign * 10**power, 10**of_error
        every.append(
            Score(
                samples=index,
                seconds=0.0,
                loss=value if is_signed else abs(value),
                error=error,
                compared_with=best,
                difference=value,
                difference_error=error,
            )
        )
        state = states(policy, every, is_signed=is_signed)[-1]
        best = state.evaluations[state.best].samples
        assert isinstance(evidence.verdict(policy, state, "KID"), Stop | Continue)
        assert evidence.status(policy, state)
        found = examined(policy, state)
        assert found is None or (math.isfinite(found.forecast) and found.forecast >= 0 and found.noise >= LEAST_NOISE)


# When to stop


def test_a_run_that_improves_is_never_stopped():
    for seed in range(20):
        draw = random.Random(seed)
        every = scores(*(100 * index**-0.7 * math.exp(0.02 * draw.gauss()) for index in range(1, 101)))
        assert first_stop(POLICY, every) is None


def test_a_collapse_that_stays_is_stopped_after_four_scores_and_half_as_long_again():
    assert first_stop(POLICY, scores(*COLLAPSE)) == 6 + 4
    later = (*(16.0 * 0.94**index for index in range(20)), *[80.0, 81.0, 79.0, 80.0] * 5)
    assert first_stop(POLICY, scores(*later)) == 20 + 10


def test_a_single_spike_stops_nothing():
    values = [16.0 * 0.9**index for index in range(20)]
    for place in range(2, 19):
        spiked = [10 * value if index == place else value for index, value in enumerate(values)]
        assert first_stop(POLICY, scores(*spiked)) is None
    noisy = [5.2, 5.1, 50.0, 5.15, 5.1]
    calm = [5.2, 5.1, 5.3, 5.15, 5.1]
    assert first_stop(POLICY, scores(*COLLAPSE[:6], *noisy)) == first_stop(POLICY, scores(*COLLAPSE[:6], *calm)) is None


SERIES = st.one_of(
    st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=30),
    st.builds(
        lambda falling, level, jitter: [
            *(level * 1.3 ** (falling - i) for i in range(falling)), *(level * (1 + x) for x in jitter)
        ],
        st.integers(1, 10), st.floats(0.1, 100), st.lists(st.floats(0, 3), min_size=4, max_size=20),
    ),
)  # fmt: skip


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4))
def test_fewer_than_five_scores_never_stop(values: list[float]):
    eager = EvidenceSettings(delta=1e9, min_gain=1e9, min_wait=0.0)
    assert first_stop(eager, scores(*values)) is None
    assert first_stop(eager, scores(1, 2, 2, 2, 2)) == 1 + NUM_SINCE


def at_once(first: int | None) -> float:
    return math.inf if first is None else first


@given(SERIES, st.floats(1e-4, 0.2), st.floats(1, 20), st.sampled_from(BOUNDARIES))
@example(list(COLLAPSE), 0.001, 20.0, "alpha-spending")
@settings(deadline=None)
def test_a_larger_gain_that_must_be_promised_stops_no_later(
    values: list[float], gain: float, factor: float, boundary: BoundaryName
):
    lower = EvidenceSettings(min_gain=gain, boundary=boundary)
    policies = (lower, replace(lower, min_gain=gain * factor))
    stops = [at_once(first_stop(policy, scores(*values))) for policy in policies]
    assert stops[1] <= stops[0]


@given(SERIES, st.floats(0, 2), st.floats(0, 2), st.sampled_from(BOUNDARIES))
@example(list(COLLAPSE), 0.0, 1.0, "alpha-spending")
@settings(deadline=None)
def test_a_longer_wait_stops_no_earlier(values: list[float], wait: float, more: float, boundary: BoundaryName):
    shorter = EvidenceSettings(min_wait=wait, boundary=boundary)
    policies = (shorter, replace(shorter, min_wait=wait + more))
    stops = [at_once(first_stop(policy, scores(*values))) for policy in policies]
    assert stops[1] >= stops[0]


@given(SERIES, st.floats(1e-4, 0.5), st.floats(1, 20), st.sampled_from(BOUNDARIES))
@settings(deadline=None)
def test_a_larger_delta_stops_no_later_and_a_smaller_alpha_no_earlier(
    values: list[float], delta: float, factor: float, boundary: BoundaryName
):
    one = EvidenceSettings(delta=delta, boundary=boundary)
    stop = at_once(first_stop(one, scores(*values)))
    assert at_once(first_stop(replace(one, delta=delta * factor), scores(*values))) <= stop
    assert at_once(first_stop(replace(one, alpha=one.alpha / factor), scores(*values))) >= stop


def test_gain_wait_and_delta_each_decide_somewhere():
    plateau = scores(*PLATEAU)
    assert first_stop(replace(POLICY, min_gain=0.01), plateau) == 37  # only once the forecast has faded
    assert at_once(first_stop(replace(POLICY, min_gain=0.04), plateau)) < math.inf
    collapse = scores(*COLLAPSE)
    assert first_stop(replace(POLICY, min_wait=1.0), collapse) == 12
    cheap = replace(POLICY, min_gain=1.0)
    assert at_once(first_stop(replace(cheap, delta=1e-6), plateau)) > at_once(first_stop(cheap, plateau))


def numbers(policy: EvidenceSettings, found: Sequence[Score], *, is_signed: bool = False) -> dict[str, object]:
    """Return the certificate without the best score, which has units."""
    every = vars(certificate(policy, found, is_signed=is_signed))
    return {name: value for name, value in every.items() if name != "best"}


def scaled(found: Score, factor: float) -> Score:
    names = ("loss", "error", "difference", "difference_error")
    return changed(found, **{name: factor * getattr(found, name) for name in names})


@given(SERIES, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**30]), st.booleans())
@example(list(COLLAPSE), 0.5, False)
@settings(deadline=None)
def test_the_unit_of_the_score_changes_no_verdict(values: list[float], factor: float, is_signed: bool):
    every = [changed(one, loss=1024 * one.loss, error=128 * one.loss) for one in scores(*values)]  # above the floor
    others = [scaled(one, factor) for one in every]
    stops = [[bool(stop) for stop in verdicts(POLICY, one, is_signed=is_signed)] for one in (every, others)]
    assert stops[0] == stops[1]
    assert numbers(POLICY, every, is_signed=is_signed) == numbers(POLICY, others, is_signed=is_signed)


@given(SERIES, st.sampled_from([2, 64, 2**20]))
@example(list(COLLAPSE), 64)
@settings(deadline=None)
def test_the_unit_of_training_changes_no_verdict(values: list[float], factor: int):
    every, others = scores(*values), scores(*values, step=1000 * factor)
    assert first_stop(POLICY, every) == first_stop(POLICY, others)
    assert numbers(POLICY, every) == numbers(POLICY, others)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_paired_differences_scaled_with_the_score_change_nothing(boundary: BoundaryName):
    policy = EvidenceSettings(boundary=boundary)
    assert numbers(policy, [scaled(one, 4.0) for one in PAIRS]) == numbers(policy, PAIRS)
    assert certificate(policy, PAIRS).paired


def test_pairs_permit_a_stop_that_unpaired_scores_cannot_and_the_certificate_says_which_it_was():
    falling = scores(*COLLAPSE[:6], error=0.01)
    worse = against(6000, *[20.0] * 8, error=0.1, first=7, loss=25.0)
    loud = [changed(one, difference_error=200.0) for one in worse]
    losses = (5.1, 9, 4, 8, 5, 12, 4, 9)
    hidden = [changed(one, loss=loss) for one, loss in zip(worse, losses, strict=True)]
    for every, is_paired in ((worse, True), (loud, False), (hidden, True)):
        assert first_stop(POLICY, [*falling, *every]) == 10
        assert certificate(POLICY, [*falling, *every[:4]]).paired == is_paired
    alone = [changed(one, difference=math.nan) for one in hidden]
    assert first_stop(POLICY, [*falling, *alone]) is None


def test_a_flat_run_ends_once_it_has_waited_for_long():
    assert first_stop(POLICY, scores(*[5.0] * 200)) == 5
    falling = [20.0 * 0.8**index for index in range(10)]
    assert first_stop(POLICY, scores(*falling, *[2.69] * 100)) == 41  # the best took ten; three times that is waited


def test_scores_before_any_training_are_no_division_by_zero():
    every = [changed(one, samples=0) for one in scores(3, 2, 4, 4, 4, 4)]
    assert certificate(POLICY, every).waited == 0
    assert first_stop(POLICY, every) is None


# The words


def test_the_message_states_what_is_certified_what_is_forecast_and_what_was_waited():
    policy = replace(POLICY, alpha=0.01, delta=0.05, min_gain=0.03)
    words = message(policy, scores(*COLLAPSE))
    found = certificate(policy, scores(*COLLAPSE[:10]))
    certified, forecast = words.split("Forecast")
    assert "6,000" in certified
    assert "KID 5" in certified
    for share in (math.expm1(found.mean_gap), found.noise, found.waited):
        assert percent(share) in certified
    for setting in (policy.alpha, policy.delta):
        assert as_set(setting) in certified
    assert str(found.num_evaluations) in certified
    for number in (percent(found.forecast), as_set(policy.min_gain), percent(found.chance)):
        assert number in forecast


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("alpha", 0.0005, "0.05 %"),
        ("alpha", 0.0125, "1.25 %"),
        ("delta", 0.0005, "0.05 %"),
        ("delta", 0.125, "12.5 %"),
    ],
)
def test_the_message_states_settings_as_they_were_set(setting: str, value: float, text: str):
    long = scores(*COLLAPSE[:6], *[50.0, 50.0] * 12)
    changes: dict[str, Any] = {"min_gain": 1.0, setting: value}
    assert as_set(value) == text
    assert f"= {text}" in message(replace(POLICY, **changes), long)


def test_half_of_alpha_is_named_where_pairs_decide():
    assert f"= {as_set(0.025)}" in message(POLICY, [*PAIRS, *against(2000, 0.05, 0.05, error=0.002, first=7)])


def test_a_forecast_below_its_minimum_also_reads_so():
    found = certificate(POLICY, scores(*PLATEAU))
    least = found.forecast * 1.001
    words = message(replace(POLICY, min_gain=least), scores(*PLATEAU)).split("Forecast")[1]
    shown = percent(found.forecast)
    assert shown in words
    assert "just under" in words or float(shown.split()[0]) < 100 * least


def test_the_message_tells_pairs_from_unpaired_scores_and_names_warnings():
    good = [with_values(one, coverage=0.9) for one in scores(*(value / 100 for value in COLLAPSE[:6]), error=0.001)]
    worse = against(6000, *[0.05] * 6, error=0.001, first=7)
    worse = [with_values(one, coverage=0.1, copying=-8.0) for one in worse]
    words = {boundary: message(replace(POLICY, boundary=boundary), [*good, *worse]) for boundary in BOUNDARIES}
    alone = {boundary: message(replace(POLICY, boundary=boundary), scores(*COLLAPSE)) for boundary in BOUNDARIES}
    assert all("paired" in text for text in words.values())
    assert not any("paired" in text for text in alone.values())
    assert all("independently" in text for text in alone.values())
    assert certificate(POLICY, [*good, *worse[:4]]).warnings
    for warning in certificate(POLICY, [*good, *worse[:4]]).warnings:
        assert all(warning in text for text in words.values())
    # The mixture takes evaluations for independent, which they are for given real examples alone.
    assert words["alpha-spending"] != words["normal-mixture"]
    assert "for these" in words["normal-mixture"]
    assert not any("for these" in text for text in (words["alpha-spending"], *alone.values()))


def test_the_message_gives_a_score_below_zero_as_it_was_measured():
    every = scores(0.4, -0.02, 0.4, 0.5, 0.4, 0.5, error=0.01)
    assert "KID -0.02" in message(replace(POLICY, min_gain=1.0, min_wait=0.0), every, is_signed=True)


def test_the_message_on_unpaired_scores_speaks_of_a_score_and_not_of_a_generator():
    """The lowest of many noisy scores is too low by luck: of the generator behind it unpaired scores say nothing."""
    assert "generator" not in message(POLICY, scores(*COLLAPSE)).split("Forecast")[0]
    every = [*PAIRS, *against(2000, 0.05, 0.05, error=0.002, first=7)]
    assert "generator" in message(POLICY, every).split("Forecast")[0]


def test_the_mixture_claims_its_error_only_for_the_evaluations_since_the_best():
    """A new best begins a new mixture with all of α: nothing is promised of all of them together."""
    spending, mixture = (message(replace(POLICY, boundary=boundary), scores(*COLLAPSE)) for boundary in BOUNDARIES)
    assert "all 10" in spending
    assert "10" not in mixture.split("Forecast")[0].replace(percent(certificate(POLICY, scores(*COLLAPSE)).noise), "")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (0.0005, "below 0.1 %"), (0.001, "0.1 %"), (0.0123, "1.2 %"), (0.0994, "9.9 %"),
        (0.0996, "10 %"), (0.1, "10 %"), (0.126, "13 %"), (2.5, "250 %"),
    ],
)  # fmt: skip
def test_shares_are_written_with_two_digits_that_count(share: float, text: str):
    assert percent(share) == text


# How close it is


def told(policy: EvidenceSettings, *values: float) -> list[str]:
    """Return the status after each score."""
    return [evidence.status(policy, state) for state in states(policy, scores(*values))]


def test_the_status_counts_the_evaluations_down_to_the_stop():
    assert not re.search(r"\d", evidence.status(POLICY, EvidenceState()))
    late = (*(16.0 * 0.94**index for index in range(20)), *[80.0, 81.0, 79.0, 80.0] * 3)
    for values, best, needed in ((COLLAPSE[:10], 6, 4), (late, 20, 10)):
        counts = [re.search(r"(\d+) of the (\d+)", text) for text in told(POLICY, *values)]
        found = [tuple(map(int, match.groups())) if match else None for match in counts]
        assert found[best - 1] is None, "the last score is the lowest"
        assert found[best : best + needed - 1] == [(num, needed) for num in range(1, needed)]
        assert found[best + needed - 1] is None, "the wait is over"
        assert first_stop(POLICY, scores(*values)) == best + needed


def test_the_status_says_that_improvement_is_ruled_out_only_where_it_is():
    cautious = replace(POLICY, delta=1e-9)
    for policy, values in ((POLICY, COLLAPSE), (cautious, (9, 1, 3, 1.01, 3, 1.01))):
        for state, text in zip(states(policy, scores(*values)), told(policy, *values), strict=True):
            found = examined(policy, state)
            is_ruled_out = found is not None and found.bound > -math.log1p(policy.delta)
            assert ("is ruled out" in text) == is_ruled_out
    assert any("is ruled out" in text for text in told(POLICY, *COLLAPSE))


def test_the_status_gives_the_forecast_and_what_it_must_fall_below():
    for state, text in list(zip(states(POLICY, scores(*COLLAPSE)), told(POLICY, *COLLAPSE), strict=True))[1:]:
        found = examined(POLICY, state)
        assert found is not None
        assert percent(found.forecast) in text
        assert percent(POLICY.min_gain) in text


# Scores of generators that broke a guard


@pytest.mark.parametrize("is_paired", [False, True])
def test_where_a_lower_score_broke_a_guard_no_lower_one_is_said_to_keep_its_limits(is_paired: bool):
    found = scores(*COLLAPSE)
    if is_paired:
        best = changed(found[5], loss=5.0, error=0.001)
        found = [*found[:5], best, *against(6000, *[45.0] * 10, error=0.1, first=7, loss=50.0)]
    state = states(POLICY, found)[-1]
    messages = []
    for lowest_broken in (math.inf, 5.0, 4.0):
        stop = evidence.verdict(POLICY, state, "KID", lowest_broken)
        assert isinstance(stop, Stop)
        assert ("paired" in stop.message) == is_paired
        messages.append(stop.message)
    assert ["limits" in message for message in messages] == [False, False, True]


def test_the_status_calls_a_score_the_last_one_only_where_none_after_it_broke_a_guard():
    state = states(POLICY, scores(5, 4))[-1]
    told = [evidence.status(POLICY, state, lowest_broken) for lowest_broken in (math.inf, 3.0)]
    assert ["limits" in text for text in told] == [False, True]


# Which generator becomes the best


BEST = Score(samples=2000, seconds=0.0, loss=0.1, error=0.01)


def candidate(difference: float, error: float = 0.01, **changes: Any) -> Score:
    return changed(against(2000, difference, error=error, first=3)[0], **changes)


def test_a_paired_candidate_becomes_the_best_only_where_it_is_significantly_better_whatever_its_own_score():
    z = -NormalDist().inv_cdf(6 * 0.05 / math.pi**2)  # all that the first evaluation may spend
    assert promotes(POLICY, candidate(-1.001 * z * 0.01, loss=0.5), BEST, 1)
    assert not promotes(POLICY, candidate(-0.999 * z * 0.01, loss=0.001), BEST, 1)
    assert not promotes(POLICY, candidate(0.0, error=0.0), BEST, 1)


def test_alpha_is_spent_over_the_evaluations():
    found = candidate(-0.03)  # three standard errors
    assert promotes(POLICY, found, BEST, 1)
    assert not promotes(POLICY, found, BEST, 100)
    assert promotes(replace(POLICY, alpha=0.4), found, BEST, 4)
    assert not promotes(replace(POLICY, alpha=0.001), found, BEST, 4)


@pytest.mark.parametrize(
    "missing",
    [{"difference": math.nan}, {"difference_error": math.nan}, {"difference": -math.inf}, {"compared_with": 0}],
    ids=str,
)
def test_without_a_difference_and_its_error_the_lower_score_wins(missing: dict[str, Any]):
    assert promotes(POLICY, changed(candidate(1.0, loss=0.0999), **missing), BEST, 1)
    assert not promotes(POLICY, changed(candidate(-1.0, loss=0.1), **missing), BEST, 1)
    assert not promotes(POLICY, changed(candidate(-1.0, loss=math.nan), **missing), BEST, 1)


def test_a_difference_to_another_best_generator_is_ignored():
    other = changed(candidate(-1.0, error=0.001), compared_with=1000)
    assert not promotes(POLICY, changed(other, loss=0.11), BEST, 1)
    assert promotes(POLICY, changed(other, loss=0.09), BEST, 1)
    assert states(POLICY, [BEST, changed(other, loss=0.11)])[-1].evaluations[-1].gap is None


@pytest.mark.parametrize("alpha", ["1e-6", "1e-9", "1e-300", "5e-324"])
def test_every_alpha_is_refused_with_the_recipe_or_works_to_the_end(alpha: str):
    try:
        policy = with_settings(Recipe(), [f"stopping.evidence.alpha={alpha}"]).stopping.evidence
    except UserError:
        assert float(alpha) < 1e-6
        return
    assert isinstance(promotes(policy, candidate(-0.03), BEST, 100_000), bool)
    assert certificate(policy, PAIRS).half_width > 0


# What it promises, by simulation


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_pairs_hardly_ever_rule_out_a_gain_of_candidates_that_are_better_by_more_than_delta(boundary: BoundaryName):
    """By 3 %, where δ = 2 %: half of α over all evaluations together is that of the paired test."""
    policy, wrong, runs = EvidenceSettings(boundary=boundary, min_wait=0.0, min_gain=1e9), 0, 300
    better = 0.1 * (1 / 1.03 - 1)
    for seed in range(runs):
        draw = random.Random(seed)
        state = evidence.score(EvidenceState(), PAIRS[1], is_best=True)
        for index in range(3, 43):
            one = against(2000, better + 0.002 * draw.gauss(), error=0.002, first=index)[0]
            state = evidence.score(state, one, is_best=False)
            found = examined(policy, state)
            if found and found.paired and permits(policy, found):
                wrong += 1
                break
    assert wrong / runs <= policy.alpha / 2 + 2 * math.sqrt(policy.alpha / 2 / runs)


# What it needs


def test_following_a_game_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from equipoise.health import conditions, stats; from equipoise.stopping import monitor; "
        "print(sorted({'torch', 'numpy', 'scipy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
