import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from equipoise.stopping.sequential import (
    RHO,
    Mixture,
    half_width,
    mixture_half_width,
    mixture_step,
    spent,
    z_value,
)

LOOKS = 200
ALPHA = 0.05
WIDTHS = [half_width(ALPHA, look, 1.0) for look in range(1, LOOKS + 1)]


def _promoted(differences: list[float]) -> tuple[bool, bool]:
    """Return whether a plain z-test and whether alpha-spending promoted at any look; standard errors are 1."""
    naive = any(difference + z_value(ALPHA) < 0 for difference in differences)
    spending = any(difference + width < 0 for difference, width in zip(differences, WIDTHS, strict=True))
    return naive, spending


def _share(run: Callable[[random.Random], tuple[bool, ...]], repeats: int) -> list[float]:
    results = [run(random.Random(seed)) for seed in range(repeats)]
    return [sum(result[i] for result in results) / repeats for i in range(len(results[0]))]


def test_the_errors_spent_over_all_looks_add_up_to_alpha():
    total = math.fsum(spent(0.05, look) for look in range(1, 100_001))
    assert 0.05 * (1 - 1e-5) < total < 0.05
    assert spent(0.05, 2) == pytest.approx(6 * 0.05 / (math.pi**2 * 4))


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, 1.6448536), (0.025, 1.9599640), (1e-9, 5.9978070)])
def test_z_value_is_the_upper_quantile_even_far_out(alpha, expected):
    assert z_value(alpha) == pytest.approx(expected, rel=1e-7)


def test_half_width_is_the_quantile_of_the_spent_error_times_the_standard_error():
    assert half_width(0.05, 3, 0.2) == pytest.approx(0.2 * z_value(6 * 0.05 / (9 * math.pi**2)))
    assert all(a < b for a, b in pairwise(WIDTHS))


def test_mixture_sums_differences_and_variances_and_keeps_the_first_rho():
    state = mixture_step(mixture_step(None, -0.5, 2.0), 0.25, 3.0)
    assert state == Mixture(sum=-0.25, variance=13.0, rho=RHO * 4.0)
    width = math.sqrt((13 + 10) * (math.log(1 + 13 / 10) + 2 * math.log(20)))
    assert mixture_half_width(state, 0.05) == pytest.approx(width, rel=1e-12)


def test_looks_without_error_leave_rho_to_the_first_that_has_one():
    state = mixture_step(None, 0.0, 0.0)
    assert mixture_half_width(state, 0.05) == 0
    assert mixture_step(state, 0.1, 2.0) == Mixture(0.1, 4.0, RHO * 4.0)


def test_rho_makes_the_mixture_tightest_after_about_20_looks():
    width = mixture_half_width(Mixture(0.0, 20.0, RHO), 0.05)
    assert width < mixture_half_width(Mixture(0.0, 20.0, RHO * 1.25), 0.05)
    assert width < mixture_half_width(Mixture(0.0, 20.0, RHO / 1.25), 0.05)


def test_of_challengers_no_better_a_z_test_promotes_nearly_always_and_alpha_spending_hardly_ever():
    naive, spending = _share(lambda draw: _promoted([draw.gauss() for _ in range(LOOKS)]), 1500)
    assert naive > 0.99
    assert spending < ALPHA + 2 * (ALPHA * (1 - ALPHA) / 1500) ** 0.5


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_alpha_spending_holds_where_all_looks_share_an_error(correlation):
    def run(draw: random.Random) -> tuple[bool, bool]:
        common = draw.gauss() * math.sqrt(correlation)
        return _promoted([common + draw.gauss() * math.sqrt(1 - correlation) for _ in range(LOOKS)])

    naive, spending = _share(run, 1500)
    assert naive > 4 * ALPHA
    assert spending < ALPHA + 2 * (ALPHA * (1 - ALPHA) / 1500) ** 0.5


def _cumulative(draw: random.Random) -> tuple[bool, bool, bool]:
    """Look 200 times at the growing mean of one stream without a difference: which of the two-sided tests rejects?"""
    state, naive, spending, mixture = None, False, False, False
    for look in range(1, LOOKS + 1):
        state = mixture_step(state, draw.gauss(), 1.0)
        z = abs(state.sum) / math.sqrt(state.variance)
        naive |= z > z_value(ALPHA / 2)
        spending |= z > TWO_SIDED[look - 1]
        mixture |= abs(state.sum) > mixture_half_width(state, ALPHA)
    return naive, spending, mixture


TWO_SIDED = [z_value(spent(ALPHA, look) / 2) for look in range(1, LOOKS + 1)]


def test_the_growing_mean_of_one_stream_is_rejected_as_often_as_is_published():
    # Of 200 looks at α = 0.05: a plain z-test 41 %, spending 6α/(π²t²) 3.8 %, the normal mixture 2.2 %.
    naive, spending, mixture = _share(_cumulative, 3000)
    assert naive == pytest.approx(0.41, abs=0.035)
    assert spending == pytest.approx(0.038, abs=0.01)
    assert mixture == pytest.approx(0.022, abs=0.009)


def test_the_mixture_finds_a_difference_of_one_standard_error_in_few_looks():
    def looks_needed(draw: random.Random) -> int:
        state = None
        for look in range(1, LOOKS + 1):
            state = mixture_step(state, draw.gauss(-1.0, 1.0), 1.0)
            if state.sum + mixture_half_width(state, ALPHA) < 0:
                return look
        return LOOKS

    needed = sorted(looks_needed(random.Random(seed)) for seed in range(300))
    assert needed[150] <= 15
    assert needed[-1] <= 50
