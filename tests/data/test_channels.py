"""What channels are, how they are shown, and how colours with opacity become files again."""

import numpy as np
import pytest
import torch

from equipoise.data.channels import in_colour, plain_colours
from equipoise.data.pool import to_float, to_uint8


def test_premultiplied_colours_become_plain_again() -> None:
    pixels = np.array([[200, 100, 0, 255], [100, 50, 0, 128], [0, 0, 0, 0], [9, 0, 3, 3]], np.uint8)
    plain = plain_colours(pixels)
    assert plain.tolist() == [[200, 100, 0, 255], [199, 100, 0, 128], [0, 0, 0, 0], [255, 0, 255, 3]]


def test_a_colour_without_opacity_is_black_however_bright_a_generator_makes_it() -> None:
    assert plain_colours(np.array([[255, 255, 255, 0]], np.uint8)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("opacity", "seen"), [(255, (200, 40, 0)), (0, (50, 60, 70)), (128, (125, 50, 35))])
def test_what_is_transparent_shows_the_background(opacity: int, seen: tuple[int, int, int]) -> None:
    share = opacity / 255
    pixel = [round(value * share) for value in (200, 40, 0)] + [opacity]
    images = to_float(torch.tensor(pixel, dtype=torch.uint8).view(1, 4, 1, 1))
    found = to_uint8(in_colour(images, (50, 60, 70)))[0, :, 0, 0].tolist()
    assert found == pytest.approx(list(seen), abs=1)


def test_grey_and_colour_are_shown_as_they_are_and_of_measured_channels_the_first_three() -> None:
    for num in (1, 3):
        images = torch.rand(2, num, 4, 5)
        assert in_colour(images) is images
    images = torch.rand(2, 7, 4, 5)
    assert torch.equal(in_colour(images), images[:, :3])
    two = in_colour(torch.rand(2, 2, 4, 5))
    assert two.shape == (2, 3, 4, 5)
    assert (two[:, 2] == -1).all(), "nothing is blue"
