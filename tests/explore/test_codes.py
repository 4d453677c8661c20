"""What pictures tell of the codes of their latents, against linear models whose answer is known."""

import pytest
import torch

from equipoise.explore.codes import share_told, variance_told


def test_categories_that_features_part_are_told_and_others_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    categories = torch.randint(5, (4_000,), generator=generator)
    noise = torch.randn(4_000, 8, generator=generator)
    centres = 20 * torch.randn(5, 8, generator=generator)
    assert share_told(centres[categories] + noise, categories) == 1
    assert share_told(noise, categories) == pytest.approx(1 / 5, abs=0.04)
    half_told = torch.where(categories[:, None] < 3, centres[categories], centres[4]) + noise
    assert share_told(half_told, categories) == pytest.approx(4 / 5, abs=0.06), "two of five look the same"


def test_a_category_that_only_the_second_half_has_is_not_told() -> None:
    categories = torch.tensor([0, 1, 0, 1, 0, 1, 2, 2])
    features = torch.eye(3)[categories]
    assert share_told(features, categories) == 0.5


def test_variance_that_features_tell_is_that_of_the_linear_model() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = 2 * torch.rand(20_000, 3, generator=generator) - 1
    noise = torch.randn(20_000, 6, generator=generator)
    features = noise.clone()
    features[:, 0] += numbers[:, 0] * (3 * 4) ** 0.5  # variance 1/3 · 12: four times that of the noise
    features[:, 1] += numbers[:, 1].abs()
    told = variance_told(features, numbers)
    assert told.tolist() == pytest.approx([4 / 5, 0, 0], abs=0.02)


def test_variance_is_not_told_where_there_are_fewer_pictures_than_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 200, generator=generator)
    numbers = torch.rand(60, 2, generator=generator)
    assert (variance_told(features, numbers) < 0.1).all(), "fitted exactly, it would be 1 on the pictures of the fit"
