"""Golden values of the judge's measures, from the papers that define them."""

import math

import pytest
import torch

from equipoise.metrics.fid import fid, moments
from equipoise.metrics.prdc import prdc
from equipoise.metrics.vendi import vendi


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.slow
def test_prdc_of_two_samples_of_one_gaussian_has_the_published_values():
    # arXiv:2002.09797: N = M = 10,000, k = 5, N(0, I_1000); a repeated draw varies in the third digit
    found = prdc(_normal(1, 10_000, 1000), _normal(2, 10_000, 1000))
    assert found.precision == pytest.approx(0.4772, abs=0.03)
    assert found.recall == pytest.approx(0.4705, abs=0.03)
    assert found.density == pytest.approx(1.0555, abs=0.06)
    assert found.coverage == pytest.approx(0.9735, abs=0.01)


@pytest.mark.parametrize(("num_real", "num_fake", "k"), [(400, 400, 5), (500, 250, 3)])
def test_coverage_of_equal_distributions_has_its_expected_value(num_real, num_fake, k):
    # E[coverage] = 1 − Π_{j<k} (N−1−j)/(N−1+M−j), whatever the distribution (arXiv:2002.09797, Eq. 11)
    expected = 1 - math.prod((num_real - 1 - j) / (num_real - 1 + num_fake - j) for j in range(k))
    values = [prdc(_normal(2 * i, num_real, 16), _normal(2 * i + 1, num_fake, 16), k).coverage for i in range(20)]
    assert sum(values) / 20 == pytest.approx(expected, abs=0.012)


def test_bias_of_fid_is_the_one_of_gaussian_features():
    # E[FID] ≈ (1/n + 1/m) [Σ λ_i + ½ Σ_ij λ_i λ_j (1 + δ_ij) / (λ_i + λ_j)] for equal distributions
    eigenvalues = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.1], dtype=torch.float64)
    pairs = eigenvalues[:, None] * eigenvalues / (eigenvalues[:, None] + eigenvalues)
    bracket = eigenvalues.sum() + 0.5 * (pairs.sum() + pairs.diagonal().sum())
    num, other = 500, 250
    found = [
        fid(
            moments(_normal(2 * i, num, 6, dtype=torch.float64) * eigenvalues.sqrt()),
            moments(_normal(2 * i + 1, other, 6, dtype=torch.float64) * eigenvalues.sqrt()),
        )
        for i in range(400)
    ]
    assert sum(found) / len(found) == pytest.approx((1 / num + 1 / other) * bracket.item(), rel=0.06)


def test_fid_of_a_set_with_itself_is_0():
    features = moments(_normal(1, 300, 64))
    assert fid(features, features) == pytest.approx(0, abs=1e-9)


def test_vendi_score_of_six_numbers_in_three_pairs_is_the_published_one():
    # the example of the score's authors (arXiv:2210.02410): similarity e^−|a − b|; 2.9999 is cut off, not rounded
    values = torch.tensor([0.0, 0, 10, 10, 20, 20])
    assert 2.9999 <= vendi(torch.exp(-(values[:, None] - values).abs())) < 3
