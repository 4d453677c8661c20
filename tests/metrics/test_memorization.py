import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics import memorization
from equipoise.metrics.memorization import mann_whitney, nearest, nearest_distances


def test_nearest_finds_what_a_full_sort_finds_across_chunks(monkeypatch):
    monkeypatch.setattr(memorization, "CHUNK", 32)
    generator = torch.Generator().manual_seed(0)
    query, bank = torch.randn(7, 5, generator=generator), torch.randn(100, 5, generator=generator)
    distances, indices = nearest(query, bank, 3)
    expected = torch.cdist(query, bank).sort(1)
    assert torch.equal(indices, expected.indices[:, :3])
    torch.testing.assert_close(distances, expected.values[:, :3])


def test_a_copy_is_found_at_distance_0_even_far_from_the_origin():
    bank = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) + 100
    distances, indices = nearest(bank[[17, 4]], bank, 2)
    assert indices[:, 0].tolist() == [17, 4]
    assert distances[:, 0].tolist() == [0, 0]


def test_more_neighbours_than_the_bank_holds_is_refused():
    for k in (0, 4):
        with pytest.raises(UserError, match=f"k={k}"):
            nearest(torch.zeros(1, 2), torch.zeros(3, 2), k)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_a", "num_b", "shift"), [(80, 50, 0.3), (40, 120, -0.5)])
def test_mann_whitney_is_scipys_statistic_half_a_pair_higher(num_a, num_b, shift):
    # Meehan et al. add ½ to U; scipy's asymptotic p-value without its own correction gives z back.
    a, b = _normal(1, num_a) + shift, _normal(2, num_b)
    found = stats.mannwhitneyu(a.numpy(), b.numpy(), method="asymptotic", use_continuity=False, alternative="less")
    deviation = (num_a * num_b * (num_a + num_b + 1) / 12) ** 0.5
    assert mann_whitney(a, b) == pytest.approx(stats.norm.ppf(found.pvalue) + 0.5 / deviation, rel=1e-6)


def test_mann_whitney_counts_ties_half():
    a, b = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 2.0])
    larger = 0 + (0.5 + 0.5) * 2 + 3
    assert larger == stats.mannwhitneyu(a.numpy(), b.numpy()).statistic
    assert mann_whitney(a, b) == pytest.approx((larger - (12 / 2 - 0.5)) / (12 * 8 / 12) ** 0.5)


def test_nearest_distances_are_the_same_in_parts(monkeypatch):
    query, bank = _normal(1, 70, 5), _normal(2, 90, 5)
    monkeypatch.setattr(memorization, "CHUNK", 16)
    torch.testing.assert_close(nearest_distances(query, bank), torch.cdist(query, bank).amin(1))


def copying(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """Return C_T: how much nearer to the training samples generated ones are than held-out ones."""
    return mann_whitney(nearest_distances(generated, train), nearest_distances(held_out, train))


def test_a_generator_that_copies_training_images_is_far_below_0_and_one_that_misses_them_far_above():
    train, held_out, fresh = _normal(1, 400, 8), _normal(2, 300, 8), _normal(3, 200, 8)
    assert copying(train, held_out, train[:200] + 0.05 * fresh) < -15
    assert copying(train, held_out, fresh * 2) > 8


def test_a_fair_generator_is_0_up_to_chance():
    found = [
        copying(_normal(3 * i, 2000, 4), _normal(3 * i + 1, 100, 4), _normal(3 * i + 2, 100, 4)) for i in range(200)
    ]
    assert abs(np.mean(found)) < 4 / 200**0.5
    assert np.std(found) == pytest.approx(1, abs=0.25)  # a little over 1: both are compared with one training set


def test_a_copier_of_half_of_its_images_is_still_found():
    train, held_out = _normal(1, 1000, 8), _normal(2, 300, 8)
    half = torch.cat([train[:150] + 0.05 * _normal(3, 150, 8), _normal(4, 150, 8)])
    assert copying(train, held_out, half) < -5


def test_nothing_to_compare_is_refused():
    some, none = _normal(1, 5), torch.empty(0)
    for given in ((none, some), (some, none)):
        with pytest.raises(UserError) as refused:
            mann_whitney(*given)
        assert refused.value.subject == "copying"
    with pytest.raises(UserError) as refused:
        nearest_distances(_normal(1, 5, 3), torch.empty(0, 3))
    assert refused.value.remedies
