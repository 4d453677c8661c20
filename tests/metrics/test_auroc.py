"""The area under the ROC curve and its standard error, against golden values, double loops and SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.auroc import auroc, auroc_measured, placements


def _normal(seed: int, num: int) -> Tensor:
    return torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_three_against_three_is_the_golden_value():
    found = auroc_measured(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([1.0, 2.0, 3.5]))
    assert found.values["auroc"] == pytest.approx(8 / 9)
    assert found.loss == pytest.approx(1 / 9)
    assert round(found.error, 4) == 0.1571
    assert (found.num, [len(side) for side in found.units]) == (6, [3, 3])


@pytest.mark.parametrize("scale", [0.5, 2.0], ids=["many ties", "few ties"])
def test_area_and_placements_are_those_of_all_pairs(scale):
    positives, negatives = (scale * _normal(1, 40) + 1).round(decimals=1), (scale * _normal(2, 25)).round(decimals=1)
    psi = (positives[:, None] > negatives).double() + 0.5 * (positives[:, None] == negatives).double()
    of_positives, of_negatives = placements(positives, negatives)
    torch.testing.assert_close(of_positives, psi.mean(1))
    torch.testing.assert_close(of_negatives, psi.mean(0))
    assert auroc(positives, negatives) == pytest.approx(psi.mean().item(), rel=1e-12)
    found = stats.mannwhitneyu(positives.numpy(), negatives.numpy()).statistic / (40 * 25)
    assert auroc(positives, negatives) == pytest.approx(found, rel=1e-12)


def test_sides_exchanged_give_the_rest_to_one():
    positives, negatives = _normal(1, 40) + 1, _normal(2, 25)
    assert auroc(negatives, positives) == pytest.approx(1 - auroc(positives, negatives), rel=1e-12)


def test_standard_error_is_the_spread_over_repeated_draws():
    found = [auroc_measured(_normal(2 * seed, 40) + 1, _normal(2 * seed + 1, 90)) for seed in range(400)]
    spread = np.std([one.loss for one in found])
    assert np.sqrt(np.mean([one.error**2 for one in found])) == pytest.approx(spread, rel=0.1)


def test_perfect_scores_have_an_error_of_zero_and_a_single_one_has_none():
    assert auroc_measured(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])).error == 0.0
    one = auroc_measured(torch.tensor([2.0]), torch.tensor([0.0, 3.0]))
    assert one.loss == 0.5
    assert math.isnan(one.error)


def test_whole_numbers_and_half_precision_are_scores_too():
    assert auroc(torch.tensor([3, 4, 5]), torch.tensor([1, 2, 3])) == pytest.approx(8.5 / 9)
    assert auroc(torch.tensor([3.0, 4.0]).bfloat16(), torch.tensor([1.0]).bfloat16()) == 1.0


def test_an_empty_side_is_refused():
    some, none = torch.tensor([1.0]), torch.empty(0)
    for given in ((some, none), (none, some)):
        with pytest.raises(UserError) as refused:
            auroc_measured(*given)
        assert refused.value.subject == "AUROC"
