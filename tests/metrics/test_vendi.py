import math

import pytest
import torch

from equipoise.errors import UserError
from equipoise.metrics.vendi import vendi, vendi_by_angle


@pytest.mark.parametrize("num", [1, 2, 7, 50])
def test_samples_that_share_nothing_count_each_and_equal_ones_count_once(num):
    assert vendi(torch.eye(num)) == pytest.approx(num)
    assert vendi(torch.ones(num, num)) == pytest.approx(1)
    assert vendi_by_angle(torch.eye(num)) == pytest.approx(num)
    assert vendi_by_angle(torch.ones(num, 3)) == pytest.approx(1)


def test_groups_of_equal_samples_count_by_the_entropy_of_their_shares():
    # shares 1/2, 1/3, 1/6 of twelve samples: exp(½ ln 2 + ⅓ ln 3 + ⅙ ln 6)
    groups = torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    similarities = (groups[:, None] == groups).float()
    expected = math.exp(math.log(2) / 2 + math.log(3) / 3 + math.log(6) / 6)
    assert vendi(similarities) == pytest.approx(expected)
    assert vendi_by_angle(torch.eye(3)[groups]) == pytest.approx(expected)


def test_two_samples_by_hand():
    # K/2 has the eigenvalues (1 ± s)/2
    for similarity in (0.0, 0.3, 0.9, -0.5):
        shares = ((1 + similarity) / 2, (1 - similarity) / 2)
        expected = math.exp(-sum(share * math.log(share) for share in shares))
        assert vendi(torch.tensor([[1, similarity], [similarity, 1.0]])) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_features_score_as_the_whole_matrix_of_their_cosines_does(shape):
    features = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.nn.functional.normalize(features)
    assert vendi_by_angle(features) == pytest.approx(vendi(rows @ rows.T))
    assert vendi_by_angle(5 * features) == pytest.approx(vendi_by_angle(features))


def test_repeating_every_sample_adds_no_diversity():
    features = torch.randn(25, 8, generator=torch.Generator().manual_seed(1))
    assert vendi_by_angle(features.repeat(3, 1)) == pytest.approx(vendi_by_angle(features))


@pytest.mark.parametrize(
    ("similarities", "said"),
    [
        (torch.ones(2, 3), "(2, 3)"),
        (torch.ones(0, 0), "(0, 0)"),
        (torch.full((2, 2), math.nan), "not finite"),
        (torch.tensor([[1, 0.5], [0.2, 1]]), "symmetric"),
        (torch.tensor([[2.0, 0], [0, 2]]), "itself"),
        (torch.tensor([[1.0, 1.1], [1.1, 1]]), "beyond"),
        (torch.tensor([[1.0, -3], [-3, 1]]), "beyond"),
        # 1 − 0.9 √2 = −0.27: two samples unlike each other cannot both be nearly the same as a third one
        (torch.tensor([[1.0, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]]), "-0.273"),
    ],
)
def test_what_is_no_matrix_of_similarities_is_refused(similarities, said):
    with pytest.raises(UserError) as caught:
        vendi(similarities)
    assert said in str(caught.value)


def test_rounding_of_equal_samples_is_not_refused():
    features = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)))
    similarities = features @ features.T  # 37 eigenvalues are 0 but for float32
    assert vendi(similarities) == pytest.approx(vendi_by_angle(features), rel=1e-3)


@pytest.mark.parametrize(
    "features", [torch.ones(4), torch.empty(0, 3), torch.zeros(2, 3), torch.full((2, 3), math.inf)]
)
def test_features_without_an_angle_are_refused(features):
    with pytest.raises(UserError):
        vendi_by_angle(features)
