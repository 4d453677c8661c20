from typing import Any

import numpy as np
import pytest
from corpus import encoded
from PIL import Image, ImageEnhance

from equipoise.data.audit.duplicates import groups, joined, near_duplicates, sketched
from equipoise.data.decode import Target, decode
from equipoise.data.sources import open_source
from equipoise.sizes import size_of

TARGET = Target(size_of(48), 3, "crop", (255, 255, 255))
NUM = 60


def photo(index: int) -> Image.Image:
    """Return 120 × 100 pixels: soft shapes with a grain, another picture for each index."""
    rng = np.random.default_rng(index)
    soft = Image.fromarray(rng.integers(0, 256, (7, 8, 3), dtype=np.uint8)).resize((120, 100), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(soft) + rng.normal(0, 5, (100, 120, 3))).clip(0, 255).astype(np.uint8))


def pixels(image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    return decode(encoded(image, kind, **options), TARGET)


def trimmed(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom)))
    )


COPIES = {
    "jpeg 60": lambda image: pixels(image, "JPEG", quality=60),
    "jpeg 95": lambda image: pixels(image, "JPEG", quality=95),
    "half": lambda image: pixels(image.resize((60, 50), Image.Resampling.LANCZOS)),
    "double": lambda image: pixels(image.resize((240, 200), Image.Resampling.BICUBIC)),
    "cut all around": lambda image: pixels(trimmed(image, 0.01, 0.01, 0.01, 0.01)),
    "cut at the left": lambda image: pixels(trimmed(image, 0.02, 0, 0, 0)),
    "brighter": lambda image: pixels(ImageEnhance.Brightness(image).enhance(1.05)),
    "darker": lambda image: pixels(ImageEnhance.Brightness(image).enhance(0.95)),
}


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    return np.stack([pixels(photo(index)) for index in range(NUM)])


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_beside_its_original_and_beside_nothing_else(name: str, originals: np.ndarray):
    copies = np.stack([COPIES[name](photo(index)) for index in range(NUM)])
    pairs = near_duplicates(joined([sketched(originals), sketched(copies)]))
    right = pairs[:, 1] == pairs[:, 0] + NUM
    assert right.sum() >= 0.95 * NUM
    assert right.all()


def test_different_pictures_are_no_copies(originals: np.ndarray):
    assert len(near_duplicates(sketched(originals))) == 0


def test_a_picture_in_other_colours_of_the_same_grey_is_no_copy(originals: np.ndarray):
    other = originals.copy()
    other[:, 0], other[:, 2] = (other[:, 0] * 0.6).astype(np.uint8), (other[:, 2] * 0.6 + 80).astype(np.uint8)
    assert len(near_duplicates(joined([sketched(originals), sketched(other)]))) == 0


def test_pictures_moved_by_a_tenth_or_mirrored_are_no_copies(originals: np.ndarray):
    moved = np.roll(originals, 5, axis=3)
    mirrored = np.ascontiguousarray(originals[..., ::-1])
    assert len(near_duplicates(joined([sketched(originals), sketched(moved), sketched(mirrored)]))) == 0


def test_images_without_contrast_are_never_called_alike():
    flat = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(16, 2).repeat(16, 3)
    assert near_duplicates(sketched(flat)).shape == (0, 2)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_images_are_no_special_case(num: int, originals: np.ndarray):
    same = originals[:1].repeat(num, 0)
    assert len(near_duplicates(joined([sketched(same)] if num else []))) == max(0, num - 1)


def test_many_copies_of_one_picture_are_one_group(originals: np.ndarray):
    rng = np.random.default_rng(0)
    noisy = originals[:1].repeat(300, 0) + rng.normal(0, 3, (300, *originals.shape[1:]))
    both = joined([sketched(originals), sketched(noisy.clip(0, 255).astype(np.uint8))])
    assert groups(NUM + 300, near_duplicates(both)) == [[0, *range(NUM, NUM + 300)]]


@pytest.mark.parametrize("size", [8, 13, 28, 200])
def test_thumbnails_are_the_means_of_equal_parts_whatever_the_size(size: int):
    ramp = np.linspace(0, 255, size)[None, None, None].repeat(size, 2).round().astype(np.uint8)
    thumbnail = sketched(ramp).thumbnails[0].astype(float)
    assert (thumbnail == thumbnail[:1]).all()
    assert abs(thumbnail.mean() - ramp.mean()) <= 1
    assert (np.diff(thumbnail[0]) >= 0).all()


def test_groups_join_what_is_joined_by_way_of_others():
    pairs = np.array([[4, 5], [0, 3], [3, 7], [6, 4]])
    assert groups(8, pairs) == [[0, 3, 7], [4, 5, 6]]
    assert groups(8, np.empty((0, 2), np.int64)) == []


@pytest.mark.slow
def test_hardly_any_two_of_70_000_digits_are_called_copies():
    array = open_source("mnist").load().array
    assert array is not None
    images = array.transpose(0, 3, 1, 2)
    found = groups(len(images), near_duplicates(sketched(images)))
    assert len(found) <= 10  # strokes of ones that nobody could tell apart either
    assert sum(map(len, found)) <= 30
