"""Images as arrays for a custom training loop: of every kind of source, with the documented example."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from equipoise.datasets import load_images
from equipoise.errors import Option, UserError

pytestmark = pytest.mark.usefixtures("quick")


def test_the_example_of_the_documentation() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(load_images, "load_images", globs={})
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_folder_is_loaded_at_its_own_size_or_another(shapes: Path) -> None:
    images = load_images(shapes)
    assert (images.shape, images.dtype) == ((240, 1, 8, 8), np.uint8)
    assert images.flags.writeable
    assert load_images(str(shapes), size=16).shape == (240, 1, 16, 16)


@pytest.mark.parametrize(("size", "nearest"), [(0, 8), (7, 8), (1025, 1024)])
def test_a_size_that_no_image_can_have_is_refused_with_the_nearest(shapes: Path, size: int, nearest: int) -> None:
    with pytest.raises(UserError) as error:
        load_images(shapes, size=size)
    assert error.value.subject == Option("size", size)
    assert error.value.remedies == (Option("size", nearest),)


def test_a_folder_is_loaded_as_rectangles_of_width_and_height(shapes: Path) -> None:
    assert load_images(shapes, size="16x8").shape == (240, 1, 8, 16)
    assert load_images(shapes, size=(16, 8)).shape == (240, 1, 8, 16)
