"""Codes drawn and read: of generators that paint them, and of linear models whose answer is known."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from made_generators import ready
from PIL import Image
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.explore import codes as section
from equipoise.explore import sections
from equipoise.explore.codes import Seeing, coded, error_of, share_told, variance_told
from equipoise.explore.sections import NUM_ROWS, STEPS, Asked, Found
from equipoise.explore.space import Space
from equipoise.game.judged import codes_of
from equipoise.recipe import Networks
from equipoise.sizes import size_of
from equipoise.tasks.exhibits import GAP
from equipoise.tasks.image_model import ImageModel

NAMES = ("cat", "dog", "owl")
SIDE = 64  # pixels, so that a grid shows each as it is


class Painter(nn.Module):
    """Grey images: left the category, in the middle the first number, right the label; below, a latent beside them."""

    def __init__(self, categories: int, numbers: int):
        super().__init__()
        self.counts = (categories, numbers)
        self.any = nn.Linear(1, 1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        codes = codes_of(latents, *self.counts)
        images = torch.zeros(len(latents), 1, SIDE, SIDE)
        if codes.categories is not None:
            images[:, 0, :, :20] = (codes.categories / self.counts[0] * 2 - 1)[:, None, None]
        if self.counts[1]:
            images[:, 0, :32, 20:40] = codes.numbers[:, 0, None, None]
        if labels is not None:
            images[:, 0, :, 40:] = (labels / 4)[:, None, None]
        images[:, 0, 32:, 20:40] = (latents[:, -1] / 4)[:, None, None]
        return images


def found_of(categories: int, numbers: int, seeing: Callable[[], Seeing], *, classes: bool = False) -> Found:
    networks = Networks(categorical_codes=categories, continuous_codes=numbers, latent_size=categories + numbers + 2)
    model = ImageModel(
        networks, size_of(SIDE), 1, ("cat", "dog", "owl") if classes else (), (5, 3, 1) if classes else ()
    )
    space = Space(ready(Painter(categories, numbers)), networks.latent_size, model.labels)
    return coded(Asked(space, model, num=3), seeing, lambda share: None)


def corners(images: Tensor) -> Tensor:
    """See category, number, label and the other latent."""
    return torch.stack([images[:, 0, 0, 0], images[:, 0, 0, 30], images[:, 0, 0, 50], images[:, 0, 50, 30]], 1)


def seen() -> Seeing:
    return corners, "a ruler", 400


def blind() -> Seeing:
    raise UserError("weights", "cannot be had")


def tiles(found: Found, name: str, rows: int, columns: int) -> np.ndarray:
    """Return the category, the number and the label that are painted in the tiles of a grid, int [R, K, 3]."""
    (exhibit,) = [one for one in found.exhibits if one.name == name]
    pixels = np.asarray(Image.open(io.BytesIO(exhibit.content))).astype(int)
    across = SIDE + GAP
    tops = pixels.shape[0] - rows * across + across * np.arange(rows)[:, None, None]
    lefts = pixels.shape[1] - columns * across + across * np.arange(columns)[:, None]
    return pixels[tops + 16, lefts + np.array([10, 30, 50])]


def test_each_column_shows_its_category_of_one_class_and_pictures_tell_it() -> None:
    found = found_of(4, 1, seen, classes=True)
    shown = tiles(found, "codes", NUM_ROWS, 4)
    of_category, _, of_label = shown[..., 0], shown[..., 1], shown[..., 2]
    assert (of_category == of_category[0]).all()
    assert (np.diff(of_category[0]) > 50).all(), "category after category, from dark to bright"
    assert (of_label == of_label[0, 0]).all(), "one class for all"
    numbers = found.numbers["codes"]
    assert numbers["category"] == 1
    assert numbers["category_by_chance"] == 0.25
    caption = found.exhibits[0].caption
    assert (
        "the category of 100 % of new pictures is told correctly (standard error 0.7 points); guessing would get 25 %"
        in caption
    )
    (name,) = [name for name in NAMES if f"of the class {name}" in caption]
    assert round((of_label[0, 0] / 127.5 - 1) * 4) == NAMES.index(name)


def test_each_row_changes_its_number_alone_from_low_to_high() -> None:
    found = found_of(2, 2, seen)
    shown = tiles(found, "codes-numbers", 2 * section.NUM_SHOWN, STEPS)
    first, second = shown[: section.NUM_SHOWN], shown[section.NUM_SHOWN :]
    assert (np.diff(first[..., 1], axis=1) > 20).all()
    assert (np.diff(first[..., 0], axis=1) == 0).all(), "the category stays"
    assert (np.diff(second, axis=1) == 0).all(), "the painter does not show the second number"
    told, untold = found.numbers["codes"]["numbers"]
    assert told == pytest.approx(1, abs=1e-6)
    assert untold < 0.1
    assert found.numbers["codes"]["other_latents"] == pytest.approx(0.5, abs=0.1), "one of two is painted"
    caption = found.exhibits[1].caption
    assert "(R², on new pictures): 1.00, 0." in caption
    assert "-0." not in caption, "nothing is explained, or more"


def test_a_code_is_drawn_where_nothing_sees_pictures_and_no_number_is_told() -> None:
    found = found_of(3, 1, blind)
    assert [exhibit.name for exhibit in found.exhibits] == ["codes", "codes-numbers"]
    assert found.numbers["codes"] == {"not_read": "cannot be had"}
    for exhibit in found.exhibits:
        assert "was not measured" in exhibit.caption
        assert "%" not in exhibit.caption


def test_of_many_categories_those_shown_are_read() -> None:
    numbers = found_of(100, 0, lambda: (lambda images: corners(images)[:, :1], "a ruler", 400)).numbers["codes"]
    assert (numbers["category"], numbers["category_by_chance"]) == (1, 1 / sections.NUM_CLASSES)


def test_categories_that_features_part_are_told_and_others_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    categories = torch.randint(5, (4_000,), generator=generator)
    noise = torch.randn(4_000, 8, generator=generator)
    centres = 20 * torch.randn(5, 8, generator=generator)
    assert share_told(centres[categories] + noise, categories) == 1
    assert share_told(noise, categories) == pytest.approx(1 / 5, abs=0.04)
    half_told = torch.where(categories[:, None] < 3, centres[categories], centres[4]) + noise
    assert share_told(half_told, categories) == pytest.approx(4 / 5, abs=0.06), "two of five look the same"


def test_a_share_of_all_is_not_certain() -> None:
    assert error_of(1.0, 200) == pytest.approx(math.sqrt(202 / 204 * 2 / 204 / 204))
    assert error_of(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)
    assert error_of(0.2, 50) == pytest.approx(error_of(0.8, 50))


def test_features_of_large_scale_that_tell_nothing_drown_no_category() -> None:
    generator = torch.Generator().manual_seed(0)
    categories = torch.arange(2_000) % 10
    centres = 4 * torch.randn(10, 8, generator=generator)
    telling = centres[categories] + torch.randn(2_000, 8, generator=generator)
    large = 1_000 * torch.randn(2_000, 3, generator=generator)
    constant = torch.full((2_000, 2), 7.0)
    assert share_told(torch.cat([telling, large, constant], 1), categories) > 0.9


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
