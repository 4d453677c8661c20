from functools import partial

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from equipoise.errors import UserError
from equipoise.metrics import kid as module
from equipoise.metrics.kid import discrepancy, gaussian_kernel, kernel_within, kid, polynomial_kernel


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kid_of_three_and_two_points_is_the_sum_over_pairs_by_hand():
    x, y = _normal(1, 3, 2), _normal(2, 2, 2) + 1
    k = lambda a, b: (float(a @ b) / 2 + 1) ** 3  # noqa: E731
    of_x = sum(k(x[i], x[j]) for i in range(3) for j in range(3) if i != j) / 6
    of_y = sum(k(y[i], y[j]) for i in range(2) for j in range(2) if i != j) / 2
    between = sum(k(x[i], y[j]) for i in range(3) for j in range(2)) / 6
    assert kid(x, y).value == pytest.approx(of_x + of_y - 2 * between, rel=1e-12)


def test_kid_of_equal_sizes_agrees_with_torchmetrics():
    x, y = _normal(1, 300, 16), _normal(2, 300, 16) * 1.2 + 0.1
    assert kid(x, y).value == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


def test_kid_is_what_the_subsets_of_torchmetrics_average_to():
    from torchmetrics.image.kid import KernelInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1).float()

    x, y = _normal(1, 500, 3, 2, 2).float(), _normal(2, 500, 3, 2, 2).float() * 1.3 + 0.2
    reference = KernelInceptionDistance(feature=Flat(), subsets=200, subset_size=100)
    reference.update(x, real=True)
    reference.update(y, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean, std = reference.compute()
    assert abs(kid(x.flatten(1), y.flatten(1)).value - float(mean)) < 4 * float(std) / 200**0.5


def test_chunks_do_not_change_the_result(monkeypatch):
    x, y = _normal(1, 70, 8), _normal(2, 45, 8) + 0.3
    whole = kid(x, y)
    monkeypatch.setattr(module, "CHUNK", 16)
    parts = kid(x, y)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-9)


def test_float32_features_keep_six_digits():
    x, y = _normal(1, 400, 64), _normal(2, 400, 64) * 1.1 + 0.2
    assert kid(x.float(), y.float()).value == pytest.approx(kid(x, y).value, rel=1e-5)


def test_kernel_interaction_is_the_mean_square_left_after_row_and_column_means():
    x = _normal(3, 40, 5)
    kernel = polynomial_kernel(x, x)
    rows = (kernel.sum(1) - kernel.diagonal()) / 39
    left = kernel - rows[:, None] - rows[None, :] + rows.mean()
    left.fill_diagonal_(0)
    assert kernel_within(x).interaction == pytest.approx(left.square().sum().item() / (40 * 39), rel=1e-10)


@pytest.mark.parametrize(("num_real", "num_fake"), [(100, 100), (300, 60)])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_standard_error_is_the_spread_over_repeated_draws_of_both_samples(num_real, num_fake, shift):
    # 300 draws: the empirical deviation itself is known to about 4 %, heavy tails of the cubic kernel aside.
    estimates = [kid(_normal(2 * i, num_real, 8), _normal(2 * i + 1, num_fake, 8) + shift) for i in range(300)]
    spread = np.std([e.value for e in estimates])
    claimed = np.sqrt(np.mean([e.standard_error**2 for e in estimates]))
    assert claimed == pytest.approx(spread, rel=0.2)
    assert np.mean([e.value for e in estimates[:300]]) == pytest.approx(
        0.0 if shift == 0 else _kid_of_shifted_normals(8, shift), abs=4 * spread / 300**0.5
    )


def _kid_of_shifted_normals(dimension: int, shift: float) -> float:
    """MMD² of N(0, I) and N(m, I), m = shift · 1: with k = 1 + 3s + 3s² + s³, s = xᵀy/d, moments by hand."""
    m2 = dimension * shift**2
    d = dimension

    def mean_kernel(ab: float, aa: float, bb: float) -> float:
        # x ~ N(a, I), y ~ N(b, I): E xᵀy = ab, E (xᵀy)² = d + aa + bb + ab², E (xᵀy)³ below
        third = ab**3 + 3 * ab * (d + aa + bb) + 6 * ab
        return 1 + 3 * ab / d + 3 * (d + aa + bb + ab**2) / d**2 + third / d**3

    return mean_kernel(0, 0, 0) + mean_kernel(m2, m2, m2) - 2 * mean_kernel(0, 0, m2)


def test_standard_error_is_never_negative_nor_nan_for_identical_samples():
    x = _normal(1, 50, 4)
    assert kid(x, x).standard_error >= 0
    assert kid(torch.ones(9, 4), torch.ones(9, 4)).standard_error == 0


def test_a_cached_real_side_changes_nothing():
    x, y = _normal(1, 50, 4), _normal(2, 40, 4)
    assert kid(x, y, kernel_within(x)) == kid(x, y)


def test_features_that_do_not_fit_are_refused():
    x = _normal(1, 50, 4)
    for real, fake in ((x, x[:1]), (x[:1], x), (x, _normal(1, 50, 5)), (x, x[0])):
        with pytest.raises(UserError) as refused:
            kid(real, fake)
        assert refused.value.subject == "KID"


# Other kernels


def test_another_kernel_gives_its_own_discrepancy_by_hand():
    x, y = _normal(1, 3, 2), _normal(2, 4, 2) + 1
    kernel = partial(gaussian_kernel, widths=(0.5, 2.0))
    k = lambda a, b: np.mean([np.exp(-float((a - b).square().sum()) / (2 * w**2)) for w in (0.5, 2.0)])  # noqa: E731
    of_x = sum(k(x[i], x[j]) for i in range(3) for j in range(3) if i != j) / 6
    of_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(x[i], y[j]) for i in range(3) for j in range(4)) / 12
    found = discrepancy(x, y, kernel=kernel)
    assert found.estimate.value == pytest.approx(of_x + of_y - 2 * between, rel=1e-9)
    assert discrepancy(x, y, kernel_within(x, kernel), kernel).estimate == found.estimate


def test_gaussian_kernel_tells_distributions_apart_that_agree_in_three_moments():
    """±1 with ½ each and a mixture of 0 and ±√3 agree in mean, variance and skewness, not in the fourth moment."""
    draw = torch.Generator().manual_seed(0)
    two = torch.randint(0, 2, (2000, 1), generator=draw).double() * 2 - 1
    three = torch.tensor([-(3**0.5), 0, 0, 0, 0, 3**0.5]).double()[torch.randint(0, 6, (2000, 1), generator=draw)]
    cubic, gaussian = kid(two, three), discrepancy(two, three, kernel=partial(gaussian_kernel, widths=(0.5,))).estimate
    assert abs(cubic.value) < 3 * cubic.standard_error
    assert gaussian.value > 30 * gaussian.standard_error


# Influence values


def test_influence_values_are_how_the_discrepancy_moves_when_a_sample_counts_a_little_more():
    """The directional derivative of MMD² in the weight of one sample, by hand; what the real ones add is left out."""
    x, y = _normal(1, 30, 3), _normal(2, 25, 3) * 1.3 + 0.2
    of_fake, of_real = discrepancy(x, y).units
    k_yy, k_xy = polynomial_kernel(y, y), polynomial_kernel(x, y)
    for i in (0, 7, 24):
        others = [j for j in range(25) if j != i]
        assert of_fake[i].item() == pytest.approx(2 * (k_yy[i, others].mean() - k_xy[:, i].mean()).item(), rel=1e-9)
    for j in (0, 29):
        assert of_real[j].item() == pytest.approx(-2 * k_xy[j].mean().item(), rel=1e-9)
