"""One difference with its standard error for a mean, a KID and an AUROC: by hand, by formula, and by simulation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from equipoise.metrics import kid as kid_module
from equipoise.metrics.auroc import auroc_measured
from equipoise.metrics.kid import Estimate, discrepancy, kid, polynomial_kernel
from equipoise.metrics.units import Measured, by_cluster, difference, mean_measured
from equipoise.stopping.sequential import half_width, z_value


def kid_measured(real: Tensor, fake: Tensor) -> Measured:
    found = discrepancy(real, fake)
    return Measured(found.estimate.value, found.estimate.standard_error, {}, found.units, len(fake))


def kid_difference(real: Tensor, before: Tensor, after: Tensor) -> Estimate:
    """Return by how much the KID of `after` is above that of `before`, of the same latents and the same reals."""
    return difference(kid_measured(real, before), kid_measured(real, after))


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _draw(seed: int, num_real: int, num: int, dimension: int) -> tuple[Tensor, Tensor]:
    return _normal(2 * seed, num_real, dimension), _normal(2 * seed + 1, num, dimension)


def _kid_of_shifted_normal(dimension: int, shift: float) -> float:
    """KID of N(0, I) and N(shift · 1, I), from E(xᵀy), E(xᵀy)² and E(xᵀy)³ of x ~ N(a, I), y ~ N(b, I)."""

    def mean_kernel(ab: float, squares: float) -> float:
        second = dimension + squares + ab**2
        third = ab**3 + 3 * ab * (dimension + squares) + 6 * ab
        return 1 + 3 * ab / dimension + 3 * second / dimension**2 + third / dimension**3

    square = dimension * shift**2
    return mean_kernel(0, 0) + mean_kernel(square, 2 * square) - 2 * mean_kernel(0, square)


def test_value_and_error_are_those_of_a_double_loop_over_pairs():
    real, champion, challenger = _normal(1, 5, 2), _normal(2, 4, 2), _normal(3, 4, 2) + 0.5

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 2 + 1) ** 3

    w, y, x = list(challenger), list(champion), list(real)
    a = [[k(w[i], w[j]) - k(y[i], y[j]) for j in range(4) if j != i] for i in range(4)]
    b = [[k(w[i], x[j]) - k(y[i], x[j]) for j in range(5)] for i in range(4)]
    h = [sum(a[i]) / 3 - sum(b[i]) / 5 for i in range(4)]
    g = [sum(b[i][j] for i in range(4)) / 4 for j in range(5)]
    found = kid_difference(real, champion, challenger)
    assert found.value == pytest.approx(np.mean(a) - 2 * np.mean(b), rel=1e-12)
    variance = 4 * np.var(h, ddof=1) / 4 + 4 * np.var(g, ddof=1) / 5
    assert found.standard_error == pytest.approx(variance**0.5, rel=1e-12)


def test_the_value_is_the_difference_of_the_two_kids():
    real, latents = _draw(1, 90, 70, 8)
    champion, challenger = latents + 0.3, latents * 1.2
    expected = kid(real, challenger).value - kid(real, champion).value
    assert kid_difference(real, champion, challenger).value == pytest.approx(expected, rel=1e-10)
    assert kid_difference(real, challenger, champion).value == pytest.approx(-expected, rel=1e-10)


def test_chunks_do_not_change_the_result(monkeypatch):
    real, latents = _draw(1, 45, 70, 8)
    whole = kid_difference(real, latents + 0.3, latents * 1.2)
    monkeypatch.setattr(kid_module, "CHUNK", 16)
    parts = kid_difference(real, latents + 0.3, latents * 1.2)
    assert parts.value == pytest.approx(whole.value, rel=1e-10)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-10)


def test_one_index_for_latents_and_reals_says_nearly_the_same():
    # H_ij of real i and latent i drawn as one pair: right as well for equal numbers, and only for these.
    real, latents = _draw(3, 400, 400, 8)
    y, w = latents + 0.1, latents * 1.1
    k = polynomial_kernel
    between = k(w, real) - k(y, real)
    pairs = k(w, w) - k(y, y) - between - between.T
    h = (pairs.sum(1) - pairs.diagonal()) / 399
    found = kid_difference(real, y, w)
    assert found.standard_error == pytest.approx((4 * h.var() / 400).sqrt().item(), rel=0.05)
    assert abs(found.value - h.mean().item()) < 0.1 * found.standard_error


def test_a_generator_differs_from_itself_by_exactly_0():
    real, latents = (sample.float() for sample in _draw(1, 50, 40, 8))
    found = kid_difference(real, latents, latents.clone())
    assert (found.value, found.standard_error) == (0, 0)


def test_float32_features_tell_generators_apart_that_nearly_agree():
    real, latents = _draw(1, 300, 300, 64)
    champion, challenger = latents, latents + 1e-3 * torch.tanh(latents.flip(1))
    exact = kid_difference(real, champion, challenger)
    found = kid_difference(real.float(), champion.float(), challenger.float())
    assert found.value == pytest.approx(exact.value, abs=0.02 * exact.standard_error)
    assert found.standard_error == pytest.approx(exact.standard_error, rel=0.01)


CASES = {
    # generators of latents, the true difference, and the range in which claimed over true variance must lie
    "clearly different": (lambda z: z + 0.5, lambda z: z + 0.1, _kid_of_shifted_normal, (0.8, 1.35)),
    "different, equally good": (lambda z: 0.8 * z + 0.3, lambda z: 0.8 * z - 0.3, None, (0.8, 1.35)),
    "nearly equal": (lambda z: z + 0.20, lambda z: z + 0.21, _kid_of_shifted_normal, (0.8, 1.5)),
    "equal in distribution": (lambda z: 1.1 * z, lambda z: 1.1 * z.flip(1), None, (1.6, 2.5)),
}


@pytest.mark.parametrize(("num_real", "num"), [(120, 120), (200, 100)])
@pytest.mark.parametrize("case", list(CASES))
def test_the_interval_covers_the_true_difference_and_its_width_is_the_spread(case, num_real, num):
    # 500 draws: a coverage of 95 % is known to 1 %. Where the two are equal in distribution the variance counts
    # its second-order part, which is all there is, twice: the interval is too wide by √2 and covers more.
    champion, challenger, kid_of, (least, most) = CASES[case]
    truth = 0.0
    if kid_of is not None:
        ones = torch.zeros(1, dtype=torch.float64)
        truth = kid_of(6, challenger(ones).item()) - kid_of(6, champion(ones).item())
    found = []
    for seed in range(500):
        real, latents = _draw(seed, num_real, num, 6)
        found.append(kid_difference(real, champion(latents), challenger(latents)))
    errors, claimed = np.array([e.value - truth for e in found]), np.array([e.standard_error for e in found])
    covered = np.mean(np.abs(errors) < 1.96 * claimed)
    assert covered >= 0.925
    assert covered <= (1 if case == "equal in distribution" else 0.99)
    assert least < np.mean(claimed**2) / np.var(errors) < most
    assert abs(errors.mean()) < 4 * errors.std() / 500**0.5


def test_sharing_latents_and_reals_takes_most_of_the_variance_away():
    # The pattern 1.3e-4 with nothing shared, 7e-5 with the reals, 2–3e-8 with both.

    def challenger(z: Tensor) -> Tensor:
        return z + 0.5 + 0.01 * torch.tanh(z.flip(1))

    nothing, reals, both = [], [], []
    for seed in range(300):
        real, latents = _draw(seed, 100, 100, 8)
        other_real, other_latents = _draw(1000 + seed, 100, 100, 8)
        champion = kid(real, latents + 0.5).value
        nothing.append(kid(other_real, challenger(other_latents)).value - champion)
        reals.append(kid(real, challenger(other_latents)).value - champion)
        both.append(kid_difference(real, latents + 0.5, challenger(latents)).value)
    assert np.var(nothing) > 1.5 * np.var(reals)
    assert np.var(reals) > 500 * np.var(both)


def test_the_formula_of_the_literature_for_one_index_is_nearly_the_same_where_numbers_are_equal():
    """Δ̂ = Σ_{i≠j} H_ij/(n(n−1)), h_i = Σ_{j≠i} H_ij/(n−1), V̂ = (4/n) Var(h), straight from the kernel."""
    real, latents = _draw(5, 40, 40, 3)
    y, w = latents + 0.3, latents * 1.2 + 0.1

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def pair(i: int, j: int) -> float:
        found = [k(f[i], f[j]) - k(real[i], f[j]) - k(real[j], f[i]) for f in (w, y)]
        return found[0] - found[1]

    h = [sum(pair(i, j) for j in range(40) if j != i) / 39 for i in range(40)]
    found = kid_difference(real, y, w)
    assert found.standard_error == pytest.approx((4 * np.var(h, ddof=1) / 40) ** 0.5, rel=0.05)
    assert abs(found.value - np.mean(h)) < 0.3 * found.standard_error


def test_measurements_of_other_numbers_or_without_units_do_not_compare():
    real, latents = _draw(1, 50, 40, 8)
    one = kid_measured(real, latents)
    for other in (kid_measured(real, latents[:39]), kid_measured(real[:49], latents), Measured(0.1, 0.01), one):
        for pair in ((one, other), (other, one)):
            found = difference(*pair)
            assert math.isfinite(found.value) == math.isfinite(found.standard_error) == (other is one)
    without = Measured(0.1, 0.01)
    assert math.isnan(difference(without, without).value)
    assert math.isnan(difference(one, mean_measured(torch.rand(40))).value), "other sides"


# A mean


def test_a_mean_is_compared_item_by_item_as_by_hand():
    before, after = [1.0, 4.0, 2.0, 7.0], [0.5, 4.5, 1.0, 6.0]  # differences −½, ½, −1, −1
    measured = mean_measured(torch.tensor(before), {"mse": 3.5})
    assert (measured.loss, measured.num, measured.values) == (3.5, 4, {"mse": 3.5})
    assert measured.error == pytest.approx(math.sqrt((2.5**2 + 0.5**2 + 1.5**2 + 3.5**2) / 3 / 4))
    found = difference(measured, mean_measured(torch.tensor(after)))
    assert found.value == pytest.approx(-0.5)
    assert found.standard_error == pytest.approx(math.sqrt((0 + 1 + 0.25 + 0.25) / 3 / 4))
    back = difference(mean_measured(torch.tensor(after)), measured)
    assert (back.value, back.standard_error) == (-found.value, found.standard_error)


def test_a_single_unit_has_no_spread_and_so_no_error_instead_of_none_at_all():
    """An error of 0 would make any difference certain."""
    one, other = mean_measured(torch.tensor([2.0])), mean_measured(torch.tensor([1.5]))
    assert math.isnan(one.error)
    assert difference(one, other).value == -0.5
    assert math.isnan(difference(one, other).standard_error)
    areas = [auroc_measured(torch.tensor([2.0]), torch.tensor([0.0, value])) for value in (1.0, 3.0)]
    assert math.isnan(difference(*areas).standard_error)


def test_what_shares_a_cluster_counts_once():
    values, clusters = torch.tensor([1.0, 3.0, 10.0, 5.0, 4.0]), torch.tensor([0, 0, 1, 3, 3])
    assert by_cluster(values, clusters).tolist() == [2.0, 10.0, 4.5]  # nothing is of the third
    assert by_cluster(values, torch.arange(5)).tolist() == values.tolist()


def test_an_error_by_cluster_is_the_spread_of_repeated_draws_where_one_by_item_is_far_too_small():
    clusters, means, by_item, of_clusters = torch.arange(30).repeat_interleave(10), [], [], []
    for seed in range(300):
        values = _normal(seed, 30)[clusters] + 0.2 * _normal(1000 + seed, 300)
        means.append(values.mean().item())
        by_item.append(mean_measured(values).error)
        of_clusters.append(mean_measured(by_cluster(values, clusters)).error)
    assert np.mean(of_clusters) == pytest.approx(np.std(means), rel=0.1)
    assert np.mean(by_item) < 0.5 * np.std(means)


# An AUROC


def delong(positives: list[list[float]], negatives: list[list[float]]) -> tuple[float, float]:
    """Return the difference of two areas, the second minus the first, and its error, by double loops (DeLong 1988)."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    of_positives = [[np.mean([psi(x, y) for y in negatives[k]]) for x in positives[k]] for k in range(2)]
    of_negatives = [[np.mean([psi(x, y) for x in positives[k]]) for y in negatives[k]] for k in range(2)]
    v, w = (np.array(after) - np.array(before) for before, after in (of_positives, of_negatives))
    return v.mean(), math.sqrt(v.var(ddof=1) / len(v) + w.var(ddof=1) / len(w))


@pytest.mark.parametrize("with_ties", [False, True])
def test_a_paired_difference_of_two_areas_is_that_of_delong(with_ties: bool):
    positives = [(_normal(seed, 20) + 0.8).tolist() for seed in (1, 2)]
    negatives = [_normal(seed, 33).tolist() for seed in (3, 4)]
    if with_ties:
        positives, negatives = ([[round(value) for value in one] for one in side] for side in (positives, negatives))
    measured = [
        auroc_measured(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
        for x, y in zip(positives, negatives, strict=True)
    ]
    value, error = delong(positives, negatives)
    found = difference(*measured)
    assert found.value == pytest.approx(-value, abs=1e-12), "the loss is 1 − AUROC"
    assert found.standard_error == pytest.approx(error, rel=1e-9)


def test_paired_areas_cover_their_true_difference():
    """Two scorers of the same items, one with more noise: 300 draws against a very large one."""

    def drawn(seed: int, num: int) -> list[Measured]:
        positives, negatives = _normal(4 * seed, num) + 1.5, _normal(4 * seed + 1, num)
        noise = [_normal(4 * seed + 2, num), _normal(4 * seed + 3, num)]
        return [auroc_measured(positives + s * noise[0], negatives + s * noise[1]) for s in (0.3, 1.0)]

    one, other = drawn(999, 200_000)
    truth = other.loss - one.loss
    found = [difference(*drawn(seed, 60)) for seed in range(300)]
    covered = np.mean([abs(one.value - truth) < 1.96 * one.standard_error for one in found])
    assert 0.91 <= covered <= 0.985
    assert np.mean([one.standard_error for one in found]) == pytest.approx(
        np.std([one.value for one in found]), rel=0.1
    )
    alone = np.mean([math.hypot(*(one.error for one in drawn(seed, 60))) for seed in range(50)])
    assert np.std([one.value for one in found]) < 0.8 * alone, "what both share cancels"


# Looking again and again


def _false_promotions(seed: int, alpha: float) -> tuple[bool, bool]:
    """Judge 200 challengers that are as good as the champion, on the same 60 reals and fresh latents each.

    The generators permute and mirror their latents, so that all have one distribution. Returns whether a plain z-test,
    and whether alpha-spending, ever promoted one.
    """
    draw = torch.Generator().manual_seed(seed)
    real = torch.randn(60, 6, generator=draw)
    naive = valid = False
    for look in range(1, 201):
        latents = torch.randn(60, 6, generator=draw)
        signs = torch.randint(0, 2, (6,), generator=draw) * 2 - 1
        champion, challenger = latents, (latents * signs)[:, torch.randperm(6, generator=draw)]
        found = kid_difference(real, 0.8 * champion + 0.2, 0.8 * challenger + 0.2)
        naive |= found.value + z_value(alpha) * found.standard_error < 0
        valid |= found.value + half_width(alpha, look, found.standard_error) < 0
    return naive, valid


@pytest.mark.slow
def test_over_200_looks_no_worse_generator_is_promoted_more_often_than_alpha():
    promoted = np.array([_false_promotions(seed, 0.05) for seed in range(100)])
    naive, valid = promoted.mean(0)
    assert naive > 0.5
    assert valid <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5
