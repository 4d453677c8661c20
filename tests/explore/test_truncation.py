import math

import pytest
import torch

from equipoise.errors import UserError
from equipoise.explore.truncation import pulled, truncated_normal, variety
from equipoise.randomness import Randomness


def test_pulled_codes_lie_between_themselves_and_the_centre() -> None:
    codes = torch.tensor([[3.0, 1.0]])
    centre = torch.tensor([1.0, 0.0])
    assert pulled(codes, centre, 1.0).tolist() == [[3.0, 1.0]]
    assert pulled(codes, centre, 0.5).tolist() == [[2.0, 0.5]]
    assert pulled(codes, centre, 0.0).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("threshold", [2.0, 0.5])
def test_truncated_normal_keeps_what_is_inside_and_has_the_known_deviation(threshold: float) -> None:
    latents = Randomness(0).normal("latents", 2_000, 10)
    found = truncated_normal(latents, threshold, Randomness(1))
    inside = latents.abs() <= threshold
    assert torch.equal(found[inside], latents[inside])
    assert found.abs().max() <= threshold
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * threshold * density / math.erf(threshold / math.sqrt(2))
    assert float(found.std()) == pytest.approx(math.sqrt(variance), rel=0.03)
    anew = found[~inside]
    for share in (0.25, 0.5):  # of the truncated distribution's quarters, each gets its part of what is drawn anew
        below = (1 + math.erf(share * threshold / math.sqrt(2)) / math.erf(threshold / math.sqrt(2))) / 2
        assert float((anew <= share * threshold).float().mean()) == pytest.approx(below, abs=0.05)
    assert torch.equal(found, truncated_normal(latents, threshold, Randomness(1)))


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_that_nothing_can_keep_is_refused(threshold: float) -> None:
    with pytest.raises(UserError, match=r"threshold=1\.0"):
        truncated_normal(torch.randn(2, 3), threshold, Randomness(0))


def test_the_smallest_thresholds_end_and_an_infinite_one_keeps_all() -> None:
    latents = Randomness(0).normal("latents", 50, 4)
    assert truncated_normal(latents, 1e-9, Randomness(0)).abs().max() <= 1e-9
    assert torch.equal(truncated_normal(latents, math.inf, Randomness(0)), latents)


def test_variety_is_the_distance_of_two_pictures_and_of_two_of_a_class() -> None:
    images = torch.tensor([0.0, 1.0, 10.0, 11.0]).view(4, 1, 1, 1)
    pairs = [(a - b) ** 2 for a in images.flatten() for b in images.flatten() if a != b]
    assert variety(images) == pytest.approx(math.sqrt(sum(pairs) / len(pairs)))
    assert variety(images, torch.tensor([0, 0, 5, 5])) == pytest.approx(1.0)
    assert variety(images, torch.arange(4)) == 0.0
