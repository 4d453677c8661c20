"""The two-sample test by a classifier: chance for one distribution, and sharp where distances are blind."""

import math

import pytest
import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.kid import kid
from equipoise.metrics.two_sample import told_apart


def normal(seed: int, num: int, dimension: int = 20) -> Tensor:
    return torch.randn(num, dimension, generator=torch.Generator().manual_seed(seed))


def test_a_shift_of_normal_samples_is_told_apart_as_often_as_theory_says():
    shift = torch.zeros(20)
    shift[0] = 1.0
    found = told_apart(normal(1, 20_000), normal(2, 20_000) + shift, normal(3, 20_000), normal(4, 20_000) + shift)
    assert found == pytest.approx(0.5 * (1 + math.erf(1.0 / 2)), abs=0.005)  # Φ(δ/√2)


@pytest.mark.parametrize(("num", "dimension"), [(2_000, 20), (100, 300), (30, 300)])
def test_two_samples_of_one_distribution_are_chance_even_of_more_dimensions_than_samples(num: int, dimension: int):
    found = [
        told_apart(*(normal(4 * seed + part, size, dimension) for part, size in enumerate((num, num, 500, 500))))
        for seed in range(5)
    ]
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.03)


def test_a_small_consistent_difference_is_seen_where_kid_is_blind():
    spread = torch.ones(20)
    spread[0] = 0.01  # hardly varies, and every generated sample is off there
    shift = torch.zeros(20)
    shift[0] = 0.05
    real, fake = normal(1, 2_000) * spread, normal(2, 2_000) * spread + shift
    distance = kid(real, fake)
    assert abs(distance.value) < 3 * distance.standard_error
    assert told_apart(real[:1000], fake[:1000], real[1000:], fake[1000:]) > 0.95


def test_what_never_varies_is_no_division_by_zero():
    flat = torch.zeros(10, 3)
    assert told_apart(flat, flat, flat, flat) == 0.5


def test_no_samples_are_refused():
    with pytest.raises(UserError):
        told_apart(normal(1, 10), normal(2, 10), normal(3, 0), normal(4, 10))
