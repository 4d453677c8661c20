"""The default policy, against hand computation, simulation, and what must not change a verdict."""

import math
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.recipe import BoundaryName, Recipe, with_settings
from equipoise.stopping.evidence import (
    LEAST_NOISE,
    NUM_SINCE,
    Evidence,
    EvidenceState,
    Findings,
    evidence_step,
    evidence_verdict,
    examined,
    percent,
    permits,
    promotes,
)
from equipoise.stopping.policies import Continue, Stop

BARE, PAIRED = Evidence(metric="fid"), Evidence(metric="kid")
BOUNDARIES: tuple[BoundaryName, ...] = ("alpha-spending", "normal-mixture")
COLLAPSE = (16.0, 12.0, 9.0, 7.0, 6.0, 5.0, 50.0, 51.0, 49.0, 50.0, 52.0, 50.0, 49.0)
PLATEAU = (*COLLAPSE[:6], *(5.2, 5.1, 5.3, 5.15) * 20)


def fids(*values: float, step: int = 1000) -> list[ScoreLine]:
    """Return bare scores at step, 2·step, …"""
    return [ScoreLine(samples=step * index, seconds=0.0, fid=value) for index, value in enumerate(values, 1)]


def against(champion: int, *differences: float, se: float, first: int, kid: float = 0.1) -> list[ScoreLine]:
    """Return scores at first, first + 1, … thousand, each with a paired difference to the champion."""
    return [
        ScoreLine(
            samples=1000 * index,
            seconds=0.0,
            kid=kid,
            kid_se=0.001,
            champion=champion,
            difference=difference,
            difference_se=se,
        )
        for index, difference in enumerate(differences, first)
    ]


def states(policy: Evidence, lines: Sequence[ScoreLine]) -> list[EvidenceState]:
    """Return the state after each score, with champions by the policy's own rule."""
    state, best, num_paired, found = EvidenceState(), None, 0, []
    for line in lines:
        num_paired += math.isfinite(line.difference)
        finite = math.isfinite(line.fid if policy.metric == "fid" else line.kid)
        promoted = finite and (best is None or promotes(policy, line, best, num_paired))
        best = line if promoted else best
        state = evidence_step(policy, state, line, promoted)
        found.append(state)
    return found


def findings(policy: Evidence, lines: Sequence[ScoreLine]) -> Findings:
    found = examined(policy, states(policy, lines)[-1])
    assert found is not None
    return found


def first_stop(policy: Evidence, lines: Sequence[ScoreLine]) -> int | None:
    """Return the number of scores seen at the first stop, None if it never stops."""
    stops = (isinstance(evidence_verdict(policy, state), Stop) for state in states(policy, lines))
    return next((index for index, stop in enumerate(stops, 1) if stop), None)


def reason(policy: Evidence, lines: Sequence[ScoreLine]) -> str:
    """Return the words of the first stop."""
    verdict = next(v for v in (evidence_verdict(policy, state) for state in states(policy, lines)) if v != Continue())
    assert isinstance(verdict, Stop)
    assert verdict.policy == "evidence"
    assert "\n" not in verdict.reason
    return verdict.reason


# What the scores say, by hand


def test_nothing_is_examined_before_the_second_score():
    assert examined(BARE, EvidenceState()) is None
    assert [examined(BARE, state) is None for state in states(BARE, fids(5, 6, 4))] == [True, False, False]


def test_a_champion_that_was_found_just_now_has_not_stood_and_certifies_nothing():
    for boundary in BOUNDARIES:
        found = findings(replace(BARE, boundary=boundary), fids(8, 6, 4))
        assert (found.num_since, found.stood, found.gap, found.paired) == (0, 0.0, 0.0, False)
        assert found.bound == -math.inf
        assert found.forecast == pytest.approx(0.097 * found.speed**0.25, rel=1e-12)


def test_bare_scores_are_examined_as_by_hand():
    found = findings(BARE, fids(8, 4, 5, 6, 4.5, 5))
    assert (found.num_looks, found.num_since, found.paired) == (6, 4, False)
    assert found.stood == 2.0  # four thousand since, two thousand until the champion
    # changes of the log score: ln 2, ln 1.25, ln 1.2, ln 4/3, ln 10/9; the median is ln 1.25
    assert found.noise == pytest.approx(math.log(1.25) / 0.6745 / math.sqrt(2), rel=1e-12)
    assert found.gap == pytest.approx(math.log(4.5 / 4), rel=1e-12)
    assert found.mean_gap == pytest.approx(math.log(5 * 6 * 4.5 * 5 / 4**4) / 4, rel=1e-12)
    assert found.speed == 0.01  # nothing gained since half of the training
    assert found.half_width == pytest.approx(0.36728740690202655, rel=1e-9)  # SciPy's quantile at look 6
    assert found.forecast == pytest.approx(0.02825306747839538, rel=1e-9)
    assert found.bound == pytest.approx(0.24238381159824185 - 0.36728740690202655, rel=1e-9)
    assert found.chance == pytest.approx(0.02825306747839538 / 0.105, rel=1e-9)


def test_the_mixture_bounds_bare_scores_as_by_hand():
    found = findings(replace(BARE, boundary="normal-mixture"), fids(8, 4, 5, 6, 4.5, 5))
    # four looks of one variance σ²: V = 4 σ², ρ = 2.5 σ²
    width = found.noise * math.sqrt(6.5 * (math.log(1 + 4 / 2.5) + 2 * math.log(20))) / 4
    assert found.half_width == pytest.approx(width, rel=1e-12)
    assert found.half_width == pytest.approx(0.3929904300401502, rel=1e-9)


DIFFERENCES = (0.01, 0.02, 0.005, 0.004)
PAIRS = [
    *(replace(line, fid=math.nan, kid=line.fid, kid_se=0.001) for line in fids(0.2, 0.1)),
    *against(2000, *DIFFERENCES, se=0.002, first=3),
]


def test_paired_differences_are_relative_to_the_champion_as_by_hand():
    found = findings(PAIRED, PAIRS)
    assert (found.best.samples, found.num_looks, found.num_since, found.paired) == (2000, 6, 4, True)
    assert found.gap == pytest.approx(math.log(1.04), rel=1e-12)
    assert found.mean_gap == pytest.approx(math.log(1.1 * 1.2 * 1.05 * 1.04) / 4, rel=1e-12)
    assert found.noise == LEAST_NOISE  # changes of the bare score: ln 2, 0, 0, 0, 0
    assert found.forecast == pytest.approx(0.097 * 0.01**0.25 / (1 + (math.log(1.04) / 0.0172) ** 2), rel=1e-12)


def test_a_paired_gap_below_zero_promises_no_more_than_none():
    below = [*PAIRS, *against(2000, -0.0001, se=0.002, first=7)]
    found = findings(replace(PAIRED, price=1.0), below)
    assert found.paired
    assert found.gap == pytest.approx(math.log(0.999), rel=1e-12)
    assert found.stood == 2.5  # longer than twice what it took: hope fades
    assert found.forecast == pytest.approx(0.097 * 0.01**0.25 * 2 / 2.5, rel=1e-12)


def test_alpha_spending_takes_the_sampling_errors_of_pairs_for_one_and_the_same():
    z = -NormalDist().inv_cdf(6 * 0.025 / (math.pi * 6) ** 2)  # half of α is for the bare scores
    errors = [0.02 / ratio for ratio in (1.1, 1.2, 1.05, 1.04)]  # of the logarithm
    width = z * math.hypot(0.01 / math.sqrt(4), sum(errors) / 4)
    assert findings(PAIRED, PAIRS).half_width == pytest.approx(width, rel=1e-12)


def test_the_mixture_takes_the_sampling_errors_of_pairs_as_independent():
    found = findings(replace(PAIRED, boundary="normal-mixture"), PAIRS)
    variances = [0.01**2 + (0.02 / ratio) ** 2 for ratio in (1.1, 1.2, 1.05, 1.04)]
    total, rho = sum(variances), 2.5 * variances[0]
    width = math.sqrt((total + rho) * (math.log(1 + total / rho) + 2 * math.log(40))) / 4
    assert found.paired
    assert found.half_width == pytest.approx(width, rel=1e-12)


def test_where_pairs_permit_no_stop_the_bare_scores_speak_with_the_other_half_of_alpha():
    loud = [*PAIRS[:2], *(replace(line, difference_se=1.0) for line in PAIRS[2:])]
    found = findings(PAIRED, loud)
    assert not found.paired
    z = -NormalDist().inv_cdf(6 * 0.025 / (math.pi * 6) ** 2)
    assert found.half_width == pytest.approx(z * 0.01 / math.sqrt(4), rel=1e-12)


def test_bare_scores_are_measured_against_the_lowest_and_not_against_a_champion_by_pairs():
    lucky = against(2000, 0.0, se=0.01, first=3, kid=0.05)[0]
    lines = [*PAIRS[:2], lucky, *against(2000, *DIFFERENCES, se=1.0, first=4, kid=0.06)]
    found = findings(PAIRED, lines)
    assert states(PAIRED, lines)[-1].champion == 1
    assert (found.best.samples, found.num_since, found.paired) == (3000, 4, False)
    assert found.mean_gap == pytest.approx(math.log(0.06 / 0.05), rel=1e-12)


def test_speed_is_the_gain_per_e_fold_since_half_of_the_training():
    # now 6000: the first score from 3000 on is 6, the best until then 6, the champion 4; ln 1.5 within ln 2
    assert findings(BARE, fids(10, 8, 6, 5, 4, 4.4)).speed == pytest.approx(math.log(1.5) / math.log(2), rel=1e-12)
    # scores from 5000 to 5200 only: an interval of less than a fifth counts as a fifth
    late = [replace(line, samples=4900 + 100 * index) for index, line in enumerate(fids(6, 4, 5), 1)]
    assert findings(BARE, late).speed == pytest.approx(math.log(1.5) / math.log(1.2), rel=1e-12)
    short = [replace(line, samples=samples) for line, samples in zip(fids(6, 4, 5), (2500, 2600, 2700), strict=True)]
    assert findings(BARE, [replace(short[0], samples=1350), *short[1:]]).speed == pytest.approx(
        math.log(1.5) / math.log(2), rel=1e-12
    )


def test_noise_is_taken_from_the_last_20_changes_alone():
    wild = [10.0 * 3 ** (index % 2) for index in range(1, 30)]
    steady = [9.0 + 0.9 * (index % 2) for index in range(21)]
    expected = math.log(1.1) / 0.6745 / math.sqrt(2)
    assert findings(BARE, fids(*wild, *steady)).noise == pytest.approx(expected, rel=1e-9)


def test_scores_that_never_change_still_have_a_band():
    found = findings(BARE, fids(5, 5, 5, 5, 5, 5))
    assert found.noise == LEAST_NOISE
    assert found.half_width > 0


def test_the_gap_is_the_least_of_the_last_four_scores_and_of_a_tenth_where_that_is_more():
    assert findings(BARE, fids(4, 5, 8, 7, 6, 8)).gap == pytest.approx(math.log(6 / 4))  # the 5 lies too far back
    assert findings(BARE, fids(4, 5, 8, 7, 6)).gap == pytest.approx(math.log(5 / 4))
    many = [4, *[8] * 43, 5, 8, 8, 8, 8]  # of 49 scores a tenth is five
    assert findings(BARE, fids(*many)).gap == pytest.approx(math.log(5 / 4))
    assert findings(BARE, fids(*many, 8)).gap == pytest.approx(math.log(8 / 4))


def test_standing_is_measured_against_what_the_champion_took():
    assert findings(BARE, fids(9, 8, 7, 4, 5, 5)).stood == 0.5
    late = fids(4, 5, 5, 5)
    assert findings(BARE, [replace(late[0], samples=0), *late[1:]]).stood == 4.0  # in scores, where it took nothing


def test_a_series_that_begins_at_step_zero_is_followed_to_its_stop():
    lines = [replace(line, samples=line.samples - 1000) for line in fids(*COLLAPSE)]
    assert first_stop(BARE, lines) == 10
    assert first_stop(BARE, [replace(line, samples=line.samples - 1000) for line in fids(5, 50, 50, 50, 50)]) == 5


def test_nothing_is_said_to_have_taken_training_that_took_none():
    words = reason(BARE, [replace(line, samples=line.samples - 1000) for line in fids(5, 50, 50, 50, 50)])
    assert "0 samples (FID 5)" in words
    assert "as the best one took" not in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coverage": 0.39}, "coverage has fallen from 0.80 to 0.39"),
        ({"recall": 0.29}, "recall has fallen from 0.60 to 0.29"),
        ({"copying": -3.1}, "(C_T -3.1)"),
        ({"discriminator_gap": 0.51}, "train–validation gap 0.51"),
    ],
)
def test_each_alarm_halves_the_forecast_and_is_named(changes, words):
    healthy = [replace(line, coverage=0.8, recall=0.6, copying=-2.9, discriminator_gap=0.5) for line in fids(*COLLAPSE)]
    calm = findings(BARE, healthy)
    alarmed = findings(BARE, [*healthy[:-1], replace(healthy[-1], **changes)])
    assert calm.alarms == ()
    assert alarmed.forecast == calm.forecast / 2
    assert len(alarmed.alarms) == 1
    assert words in alarmed.alarms[0]


def test_alarms_multiply_and_end_when_their_cause_does():
    lines = [replace(line, coverage=0.8, recall=0.6) for line in fids(*COLLAPSE)]
    both = [*lines[:-1], replace(lines[-1], coverage=0.1, recall=0.1, copying=-9.0, discriminator_gap=0.9)]
    assert findings(BARE, both).forecast == findings(BARE, lines).forecast / 8  # coverage and recall are one voice
    assert findings(BARE, [*both, *fids(*COLLAPSE, 49)[-1:]]).alarms == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_leaves_the_state_as_it_is(value):
    state = states(BARE, fids(5, 4, 4.5))[-1]
    failed = replace(fids(value)[0], samples=4000, coverage=0.9, recall=0.9, copying=-9.0)
    assert evidence_step(BARE, state, failed, promoted=False) is state
    assert first_stop(BARE, [line for good in fids(*COLLAPSE) for line in (good, failed)]) == 2 * 10 - 1


def test_a_kid_at_or_below_zero_counts_as_its_standard_error():
    lines = [
        ScoreLine(samples=1000 * i, seconds=0.0, kid=kid, kid_se=0.01) for i, kid in enumerate((0.4, -0.02, 0.04), 1)
    ]
    state = states(PAIRED, lines)[-1]
    assert [look.score for look in state.looks] == [0.4, 0.01, 0.04]
    assert state.champion == 1
    assert findings(PAIRED, lines).gap == pytest.approx(math.log(4))
    without = [replace(line, kid=-line.kid, kid_se=math.nan) for line in lines]
    assert all(look.score > 0 for look in states(PAIRED, without)[-1].looks)


def test_one_difference_that_is_missing_leaves_the_bare_scores_with_all_of_alpha():
    wide = [*PAIRS[:2], *(replace(line, difference_se=0.05) for line in PAIRS[2:])]
    unpaired = replace(PAIRS[-1], samples=7000, difference=math.nan)
    for lines in ([*PAIRS, unpaired], [*wide, unpaired]):
        found = findings(PAIRED, lines)
        assert not found.paired
        assert found.mean_gap == 0.0  # the bare scores all equal the champion's
        z = -NormalDist().inv_cdf(6 * 0.05 / (math.pi * 7) ** 2)
        assert found.half_width == pytest.approx(z * 0.01 / math.sqrt(5), rel=1e-12)


@given(
    st.lists(st.tuples(st.floats(-12, 15), st.floats(-12, 15), st.sampled_from([-1, 0, 1])), min_size=1, max_size=15),
    st.sampled_from(BOUNDARIES),
    st.sampled_from(["kid", "fid"]),
)
def test_scores_of_any_magnitude_raise_nothing(magnitudes, boundary, metric):
    lines, best = [], 0
    for index, (score, error, sign) in enumerate(magnitudes):
        values = {"kid": sign * 10**score, "kid_se": 10**error, "fid": 10**score}
        lines.append(ScoreLine(
            samples=index, seconds=0.0, champion=best, difference=sign * 10**score, difference_se=10**error, **values
        ))  # fmt: skip
        state = states(Evidence(boundary=boundary, metric=metric), lines)[-1]
        best = state.looks[state.champion].samples
        assert isinstance(evidence_verdict(Evidence(boundary=boundary, metric=metric), state), Stop | Continue)
        found = examined(Evidence(boundary=boundary, metric=metric), state)
        assert found is None or (math.isfinite(found.forecast) and found.forecast >= 0 and found.noise >= LEAST_NOISE)


# When to stop


def test_a_run_that_improves_is_never_stopped():
    for seed in range(20):
        draw = random.Random(seed)
        lines = fids(*(100 * index**-0.7 * math.exp(0.02 * draw.gauss()) for index in range(1, 101)))
        assert first_stop(BARE, lines) is None


def test_a_collapse_that_stays_is_stopped_after_four_scores_and_half_as_long_again():
    assert first_stop(BARE, fids(*COLLAPSE)) == 6 + 4
    later = (*(16.0 * 0.94**index for index in range(20)), *[80.0, 81.0, 79.0, 80.0] * 5)
    assert first_stop(BARE, fids(*later)) == 20 + 10


def test_a_single_spike_stops_nothing():
    values = [16.0 * 0.9**index for index in range(20)]
    for place in range(2, 19):
        spiked = [10 * value if index == place else value for index, value in enumerate(values)]
        assert first_stop(BARE, fids(*spiked)) is None
    noisy = [5.2, 5.1, 50.0, 5.15, 5.1]
    calm = [5.2, 5.1, 5.3, 5.15, 5.1]
    assert first_stop(BARE, fids(*COLLAPSE[:6], *noisy)) == first_stop(BARE, fids(*COLLAPSE[:6], *calm)) is None


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
def test_fewer_than_five_scores_never_stop(values):
    eager = Evidence(metric="fid", delta=1e9, price=1e9, share=0.0)
    assert first_stop(eager, fids(*values)) is None
    assert first_stop(eager, fids(1, 2, 2, 2, 2)) == 1 + NUM_SINCE


def at_once(first: int | None) -> float:
    return math.inf if first is None else first


@given(SERIES, st.floats(1e-4, 0.2), st.floats(1, 20), st.sampled_from(BOUNDARIES))
@example(list(COLLAPSE), 0.001, 20.0, "alpha-spending")
@settings(deadline=None)
def test_a_larger_price_stops_no_later(values, price, factor, boundary):
    lower = Evidence(metric="fid", price=price, boundary=boundary)
    stops = [at_once(first_stop(policy, fids(*values))) for policy in (lower, replace(lower, price=price * factor))]
    assert stops[1] <= stops[0]


@given(SERIES, st.floats(0, 2), st.floats(0, 2), st.sampled_from(BOUNDARIES))
@example(list(COLLAPSE), 0.0, 1.0, "alpha-spending")
@settings(deadline=None)
def test_a_larger_share_stops_no_earlier(values, share, more, boundary):
    shorter = Evidence(metric="fid", share=share, boundary=boundary)
    stops = [at_once(first_stop(policy, fids(*values))) for policy in (shorter, replace(shorter, share=share + more))]
    assert stops[1] >= stops[0]


@given(SERIES, st.floats(1e-4, 0.5), st.floats(1, 20), st.sampled_from(BOUNDARIES))
@settings(deadline=None)
def test_a_larger_delta_stops_no_later_and_a_smaller_alpha_no_earlier(values, delta, factor, boundary):
    one = Evidence(metric="fid", delta=delta, boundary=boundary)
    stop = at_once(first_stop(one, fids(*values)))
    assert at_once(first_stop(replace(one, delta=delta * factor), fids(*values))) <= stop
    assert at_once(first_stop(replace(one, alpha=one.alpha / factor), fids(*values))) >= stop


def test_price_share_and_delta_each_decide_somewhere():
    plateau = fids(*PLATEAU)
    assert first_stop(replace(BARE, price=0.01), plateau) == 37  # only once hope has faded
    assert at_once(first_stop(replace(BARE, price=0.04), plateau)) < math.inf
    collapse = fids(*COLLAPSE)
    assert first_stop(replace(BARE, share=1.0), collapse) == 12
    cheap = replace(BARE, price=1.0)
    assert at_once(first_stop(replace(cheap, delta=1e-6), plateau)) > at_once(first_stop(cheap, plateau))


def numbers(policy: Evidence, lines: Sequence[ScoreLine]) -> dict[str, object]:
    """Return the findings without the best score, which has units."""
    return {name: value for name, value in vars(findings(policy, lines)).items() if name != "best"}


@given(SERIES, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**30]))
@example(list(COLLAPSE), 0.5)
@settings(deadline=None)
def test_the_unit_of_the_score_changes_no_verdict(values, factor):
    values = [value * 1024 for value in values]  # above the floor of the policy
    lines = [replace(line, kid=line.fid, kid_se=line.fid / 8) for line in fids(*values)]
    scaled = [
        replace(line, fid=line.fid * factor, kid=line.kid * factor, kid_se=line.kid_se * factor) for line in lines
    ]
    for policy in (BARE, PAIRED):
        assert first_stop(policy, lines) == first_stop(policy, scaled)
        assert numbers(policy, lines) == numbers(policy, scaled)


@given(SERIES, st.sampled_from([2, 64, 2**20]))
@example(list(COLLAPSE), 64)
@settings(deadline=None)
def test_the_unit_of_training_changes_no_verdict(values, factor):
    lines, scaled = fids(*values), fids(*values, step=1000 * factor)
    assert first_stop(BARE, lines) == first_stop(BARE, scaled)
    assert numbers(BARE, lines) == numbers(BARE, scaled)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_paired_differences_scaled_with_the_score_change_nothing(boundary):
    policy = Evidence(boundary=boundary)
    names = ("kid", "kid_se", "difference", "difference_se")
    scaled = [replace(line, **{name: 4 * getattr(line, name) for name in names}) for line in PAIRS]
    assert numbers(policy, scaled) == numbers(policy, PAIRS)
    assert findings(policy, PAIRS).paired


def test_pairs_permit_a_stop_that_bare_scores_cannot_and_the_reason_says_which_it_was():
    falling = [replace(line, fid=math.nan, kid=line.fid, kid_se=0.01) for line in fids(*COLLAPSE[:6])]
    worse = against(6000, *[20.0] * 8, se=0.1, first=7, kid=25.0)
    loud = [replace(line, difference_se=200.0) for line in worse]
    hidden = [replace(line, kid=kid) for line, kid in zip(worse, (5.1, 9, 4, 8, 5, 12, 4, 9), strict=True)]
    for lines, kind in ((worse, "paired differences"), (loud, "recorded score"), (hidden, "paired differences")):
        assert first_stop(PAIRED, [*falling, *lines]) == 10
        assert kind in reason(PAIRED, [*falling, *lines])
    alone = [replace(line, difference=math.nan) for line in hidden]
    assert first_stop(PAIRED, [*falling, *alone]) is None


# The words


def test_the_reason_states_what_is_certified_what_is_forecast_and_what_was_spent():
    policy = replace(BARE, alpha=0.01, delta=0.05, price=0.03)
    words = reason(policy, fids(*COLLAPSE))
    found = findings(policy, fids(*COLLAPSE[:10]))
    assert "6,000 samples (FID 5)" in words
    assert re.search(
        rf"the 4 scores since then are on average {re.escape(percent(math.expm1(found.mean_gap)))} above", words
    )
    assert re.search(r"δ = 5(\.0)? %", words)
    assert re.search(r"α = 1(\.0)? %", words)
    assert "all 10 looks" in words
    assert "recorded score" in words
    assert f"around the run's own curve; here by {percent(found.noise)})" in words
    assert "Forecast, not certified: " in words
    assert f"would bring {percent(found.forecast)}" in words
    assert re.search(r"less than the price of 3(\.0)? %", words)
    assert "Spent since then: 67 % of the training" in words
    assert "halved" not in words


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"alpha": 0.0005}, "α = 0.05 %"),
        ({"alpha": 0.0125}, "α = 1.25 %"),
        ({"delta": 0.0005}, "δ = 0.05 %"),
        ({"delta": 0.125}, "δ = 12.5 %"),
    ],
)
def test_the_reason_states_settings_as_they_were_set(settings_, words):
    assert words in reason(replace(BARE, price=1.0, **settings_), fids(*COLLAPSE[:6], *[50.0, 50.0] * 12))


def test_a_forecast_below_its_price_also_reads_so():
    found = findings(BARE, fids(*PLATEAU))
    words = reason(replace(BARE, price=found.forecast * 1.001), fids(*PLATEAU))
    told = re.search(r"would bring (just under )?([\d.]+) %.* price of ([\d.]+) %", words)
    assert told
    assert told[1] or float(told[2]) < float(told[3])


def test_the_reason_tells_pairs_from_bare_scores_and_names_alarms():
    good = [replace(line, fid=math.nan, kid=line.fid / 100, kid_se=0.001) for line in fids(*COLLAPSE[:6])]
    worse = against(6000, *[0.05] * 6, se=0.001, first=7)
    worse = [replace(line, coverage=0.1, copying=-8.0) for line in worse]
    good = [replace(line, coverage=0.9) for line in good]
    words = reason(PAIRED, [*good, *worse])
    assert "paired differences, same latents and same real images" in words
    assert "recorded score" not in words
    assert "at these real images" not in words
    assert "halved for each of these: coverage has fallen from 0.90 to 0.10; generated images lie nearer" in words
    mixture = reason(replace(PAIRED, boundary="normal-mixture"), [*good, *worse])
    assert "same latents and these real images" in mixture
    bare = reason(replace(BARE, boundary="normal-mixture"), fids(*COLLAPSE))
    assert "at these real images" not in bare


def test_the_reason_gives_a_kid_below_zero_as_it_was_measured():
    kids = [replace(line, kid=line.fid, kid_se=0.01, fid=math.nan) for line in fids(0.4, -0.02, 0.4, 0.5, 0.4, 0.5)]
    words = reason(replace(PAIRED, price=1.0, share=0.0), kids)
    assert "KID -0.02" in words


def test_the_reason_on_bare_scores_speaks_of_a_recorded_score_and_not_of_a_generator():
    """The lowest of many noisy scores is too low by luck: of the generator behind it bare scores certify nothing."""
    certified = reason(BARE, fids(*COLLAPSE)).partition("Certified")[2].partition("Forecast")[0]
    assert "recorded score" in certified
    assert "independent" in certified


def test_the_mixture_claims_its_error_only_for_the_looks_since_this_champion():
    """A new champion begins a new mixture with all of α: nothing is promised of all champions together."""
    words = reason(replace(BARE, boundary="normal-mixture"), fids(*COLLAPSE))
    assert "all 10 looks" not in words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (0.0005, "below 0.1 %"), (0.001, "0.1 %"), (0.0123, "1.2 %"), (0.0994, "9.9 %"),
        (0.0996, "10 %"), (0.1, "10 %"), (0.126, "13 %"), (2.5, "250 %"),
    ],
)  # fmt: skip
def test_shares_are_written_with_two_digits_that_count(share, text):
    assert percent(share) == text


# Who becomes champion


CHAMPION = ScoreLine(samples=2000, seconds=0.0, kid=0.1, kid_se=0.01, fid=10.0)


def challenger(difference: float, se: float = 0.01, **changes: float) -> ScoreLine:
    line = against(2000, difference, se=se, first=3)[0]
    return replace(line, fid=9.0, **changes)


def test_a_paired_challenger_is_promoted_beyond_chance_only_whatever_its_bare_score():
    z = -NormalDist().inv_cdf(6 * 0.05 / math.pi**2)  # all that the first look may spend
    assert promotes(PAIRED, challenger(-1.001 * z * 0.01, kid=0.5), CHAMPION, 1)
    assert not promotes(PAIRED, challenger(-0.999 * z * 0.01, kid=0.001), CHAMPION, 1)
    assert not promotes(PAIRED, challenger(0.0, se=0.0), CHAMPION, 1)


def test_alpha_is_spent_over_the_looks():
    line = challenger(-0.03)  # three standard errors
    assert promotes(PAIRED, line, CHAMPION, 1)
    assert not promotes(PAIRED, line, CHAMPION, 100)
    assert promotes(replace(PAIRED, alpha=0.4), line, CHAMPION, 4)
    assert not promotes(replace(PAIRED, alpha=0.001), line, CHAMPION, 4)


@pytest.mark.parametrize(
    "missing", [{"difference": math.nan}, {"difference_se": math.nan}, {"difference": -math.inf}], ids=str
)
def test_without_a_difference_and_its_error_the_lower_score_wins(missing):
    assert promotes(PAIRED, replace(challenger(1.0, kid=0.0999), **missing), CHAMPION, 1)
    assert not promotes(PAIRED, replace(challenger(-1.0, kid=0.1), **missing), CHAMPION, 1)
    assert not promotes(PAIRED, replace(challenger(-1.0, kid=math.nan), **missing), CHAMPION, 1)


def test_a_difference_in_kid_says_nothing_about_fid():
    assert promotes(BARE, challenger(1.0, se=0.001), CHAMPION, 1)
    assert not promotes(BARE, replace(challenger(-1.0, se=0.001), fid=11.0), CHAMPION, 1)
    state = states(BARE, [CHAMPION, replace(challenger(1.0), fid=11.0)])[-1]
    assert state.looks[-1].gap is None


def test_a_difference_to_another_champion_is_ignored():
    other = replace(challenger(-1.0, se=0.001), champion=1000)
    assert not promotes(PAIRED, replace(other, kid=0.11), CHAMPION, 1)
    assert promotes(PAIRED, replace(other, kid=0.09), CHAMPION, 1)
    assert states(PAIRED, [CHAMPION, replace(other, kid=0.11)])[-1].looks[-1].gap is None


@pytest.mark.parametrize("alpha", ["1e-9", "1e-300", "5e-324"])
def test_every_alpha_is_refused_with_the_recipe_or_works_to_the_end(alpha):
    try:
        policy = Evidence(alpha=with_settings(Recipe(), [f"stopping.alpha={alpha}"]).stopping.alpha)
    except UserError:
        return
    assert isinstance(promotes(policy, challenger(-0.03), CHAMPION, 100_000), bool)
    assert findings(policy, PAIRS).half_width > 0


# What it promises, by simulation


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_pairs_hardly_ever_certify_no_gain_of_challengers_that_are_better_by_more_than_delta(boundary):
    """By 3 %, where δ = 2 %: half of α over all looks together is the paired certificate's."""
    policy, wrong, runs = Evidence(boundary=boundary, share=0.0, price=1e9), 0, 300
    better = 0.1 * (1 / 1.03 - 1)
    for seed in range(runs):
        draw = random.Random(seed)
        state = evidence_step(policy, EvidenceState(), PAIRS[1], promoted=True)
        for index in range(3, 43):
            line = against(2000, better + 0.002 * draw.gauss(), se=0.002, first=index)[0]
            state = evidence_step(policy, state, line, promoted=False)
            found = examined(policy, state)
            if found and found.paired and permits(policy, found):
                wrong += 1
                break
    assert wrong / runs <= policy.alpha / 2 + 2 * math.sqrt(policy.alpha / 2 / runs)


# What it needs


def test_the_watch_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from equipoise.health import diagnoses, stats; from equipoise.stopping import monitor; "
        "print(sorted({'torch', 'numpy', 'scipy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_flat_run_ends_once_its_best_has_stood_for_long():
    assert first_stop(BARE, fids(*[5.0] * 200)) == 5
    falling = [20.0 * 0.8**index for index in range(10)]
    assert first_stop(BARE, fids(*falling, *[2.69] * 100)) == 41  # the best took ten, and stood for three times that


def test_scores_before_any_training_are_no_division_by_zero():
    lines = [replace(line, samples=0) for line in fids(3, 2, 4, 4, 4, 4)]
    assert findings(BARE, lines).stood == 0
    assert first_stop(BARE, lines) is None
