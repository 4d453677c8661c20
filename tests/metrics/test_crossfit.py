"""Cross-fitting: the optimism by hand, its parts from a KID, and that it takes the winner's curse away."""

import itertools
import statistics

import pytest
import torch
from torch import Tensor

from equipoise.metrics.crossfit import NUM_FOLDS, corrected, fold_losses, fold_shares, optimism
from equipoise.metrics.kid import discrepancy, kernel_within, polynomial_kernel
from equipoise.metrics.units import Measured


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_optimism_of_three_generators_and_two_folds_by_hand() -> None:
    """Shares 1/2: the whole losses are 2, 2.5 and 3. Without fold 0 the second has 1, without fold 1 the third has 0.

    Left out they have 4 and 6, which the first has 1 and 3: (4 − 1)/2 + (6 − 3)/2.
    """
    losses = torch.tensor([[1.0, 3.0], [4.0, 1.0], [0.0, 6.0]])
    assert optimism(losses, torch.tensor([0.5, 0.5])) == pytest.approx(3.0)


def test_folds_of_unequal_size_count_by_their_share() -> None:
    """Shares 3/4 and 1/4: the whole losses are 1.5 and 1.75; without fold 0, the second has 1 and loses 2 there."""
    losses = torch.tensor([[1.0, 3.0], [2.0, 1.0]])
    assert optimism(losses, torch.tensor([0.75, 0.25])) == pytest.approx(0.75 * (2 - 1))


def test_nothing_is_added_where_every_fold_chooses_the_same_or_there_is_one_alone() -> None:
    shares = fold_shares(42, NUM_FOLDS)
    losses = normal(1, 6, NUM_FOLDS)
    losses[3] -= 100
    assert optimism(losses, shares) == 0.0
    assert optimism(losses[:1], shares) == 0.0


def test_the_optimism_is_never_negative_and_grows_with_the_number_of_equal_generators() -> None:
    shares = fold_shares(42, NUM_FOLDS)
    found = {num: [optimism(normal(seed, num, NUM_FOLDS), shares) for seed in range(200)] for num in (2, 5, 20)}
    assert min(map(min, found.values())) >= 0
    means = [statistics.fmean(values) for values in found.values()]
    assert all(one < other for one, other in itertools.pairwise(means))


def test_the_losses_of_folds_are_kids_of_those_real_examples_up_to_what_these_add_alone() -> None:
    real, fake = normal(1, 23, 4), normal(2, 30, 4) + 0.3
    found = fold_losses(discrepancy(real, fake).units, NUM_FOLDS)
    parts = real.tensor_split(NUM_FOLDS)
    assert [len(part) for part in parts] == [5, 5, 5, 4, 4]
    for loss, part in zip(found, parts, strict=True):
        alone = kernel_within(part).mean
        assert loss == pytest.approx(discrepancy(part, fake).estimate.value - alone, rel=1e-9)
        within = (polynomial_kernel(fake, fake).sum() - polynomial_kernel(fake, fake).diagonal().sum()) / (30 * 29)
        assert loss == pytest.approx((within - 2 * polynomial_kernel(part, fake).mean()).item(), rel=1e-9)


def test_the_folds_weighted_by_their_shares_are_the_whole_kid_up_to_what_the_real_ones_add() -> None:
    real, fake = normal(1, 23, 4), normal(2, 30, 4) + 0.3
    shares = fold_shares(len(real), NUM_FOLDS)
    assert shares.sum().item() == pytest.approx(1)
    whole = discrepancy(real, fake)
    folds = torch.tensor(fold_losses(whole.units, NUM_FOLDS), dtype=torch.float64)
    assert (folds @ shares).item() == pytest.approx(whole.estimate.value - kernel_within(real).mean, rel=1e-9)


def test_a_corrected_measurement_says_so_in_its_loss_and_in_the_metric_that_decides() -> None:
    units = (torch.zeros(3), torch.zeros(4))
    found = corrected(Measured(0.25, 0.1, {"kid": 0.25, "fid": 7.0}, units, 3), 0.5, "kid")
    assert (found.loss, found.error, found.values) == (0.75, 0.1, {"kid": 0.75, "fid": 7.0})
    assert found.units is units


def test_of_many_equally_good_generators_the_lowest_looks_better_than_it_is_until_it_is_corrected() -> None:
    """Real examples are normal; each generator's mean is off by the same length, each into another direction.

    What the chosen one is worth is its mean loss over all 200 draws of real examples.
    """
    dimension, num_real, num_draws, off = 8, 40, 200, 0.5
    fakes = [normal(seed, 100, dimension) for seed in range(dimension)]
    for direction, fake in enumerate(fakes):
        fake[:, direction] += off
    shares = fold_shares(num_real, NUM_FOLDS)
    draws = [normal(1000 + draw, num_real, dimension) for draw in range(num_draws)]
    found = [[discrepancy(real, fake) for fake in fakes] for real in draws]
    losses = torch.tensor([[one.estimate.value for one in row] for row in found])
    chosen = losses.argmin(1)
    naive = losses.min(1).values - losses.mean(0)[chosen]
    folds = torch.tensor([[fold_losses(one.units, NUM_FOLDS) for one in row] for row in found])
    fitted = naive + torch.tensor([optimism(row, shares) for row in folds])
    errors = [(values.std() / num_draws**0.5).item() for values in (naive, fitted)]
    assert len(chosen.unique()) == dimension
    assert naive.mean() < -10 * errors[0]
    assert abs(fitted.mean()) < 2 * errors[1] < abs(naive.mean()) / 5
