"""The size and fit that keep every pixel: of sprites, of mixed sizes, of photographs that are too large for any."""

import pytest

from equipoise.data.audit.sizes import (
    Keeping,
    is_enlarged,
    is_kept,
    keeping,
    num_kept,
    reduction,
    same_shape,
    share_lost,
)
from equipoise.sizes import Size, size_of


def test_every_pixel_is_kept_where_the_longer_side_fits_and_nothing_is_cut():
    assert is_kept(40, 30, size_of(40), "pad")
    assert is_kept(20, 10, size_of(40), "pad"), "enlarged"
    assert is_kept(40, 30, size_of(40), "stretch"), "in another shape"
    assert not is_kept(40, 30, size_of(40), "crop")
    assert not is_kept(30, 40, size_of(39), "pad")
    assert is_kept(40, 40, size_of(40), "crop")
    assert num_kept({(40, 30): 3, (30, 30): 2, (50, 50): 1}, size_of(40), "crop") == 2


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({(40, 30): 1200}, Keeping(Size(40, 30), "crop", 1200)),
        ({(30, 40): 600, (40, 30): 600}, Keeping(size_of(40), "pad", 1200)),
        ({(32, 32): 100}, Keeping(size_of(32), "crop", 100)),
        ({(5, 5): 100}, Keeping(size_of(8), "crop", 100)),
        ({(16, 16): 50, (32, 32): 50}, Keeping(size_of(32), "crop", 100)),
        ({(1024, 768): 100}, None),
        ({(256, 200): 100}, Keeping(Size(256, 200), "crop", 100)),
        ({(40, 30): 60, (20, 15): 40}, Keeping(Size(40, 30), "crop", 100)),
        ({(40, 30): 60, (24, 24): 40}, Keeping(Size(40, 30), "pad", 100)),
        ({(100, 5): 60}, Keeping(Size(100, 8), "pad", 60)),
        ({(257, 200): 100}, None),
        ({(16, 16): 299, (200, 200): 1}, Keeping(size_of(16), "crop", 299)),
        ({(16, 16): 299, (30, 20): 1}, Keeping(size_of(30), "pad", 300)),
        ({(40, 30): 95, (1024, 768): 5}, Keeping(Size(40, 30), "crop", 95)),
        ({(40, 30): 85, (1024, 768): 15}, None),
        ({}, None),
    ],
)
def test_all_images_decide_unless_a_few_are_far_larger(sizes: dict[tuple[int, int], int], found: Keeping | None):
    assert keeping(sizes, "crop") == found


def test_who_asks_for_another_fit_than_cutting_keeps_it():
    assert keeping({(40, 30): 10}, "stretch") == Keeping(Size(40, 30), "stretch", 10)
    assert keeping({(30, 30): 10}, "pad") == Keeping(size_of(30), "pad", 10)


def test_a_reduction_is_of_the_side_that_becomes_the_size():
    assert reduction(1024, 768, size_of(64), "crop") == 12
    assert reduction(1024, 768, size_of(64), "pad") == 16
    assert reduction(32, 32, size_of(64), "pad") == 0.5


def test_a_rectangle_keeps_images_of_its_ratio_whole_and_cuts_squares():
    size = Size(40, 30)
    assert is_kept(40, 30, size, "crop")
    assert is_kept(20, 15, size, "crop"), "enlarged"
    assert not is_kept(80, 60, size, "crop"), "reduced"
    assert not is_kept(30, 30, size, "crop"), "cut"
    assert is_kept(30, 30, size, "pad")
    assert not is_kept(30, 40, size, "pad")
    assert share_lost(30, 30, size) == pytest.approx(1 - 22 / 30)
    assert share_lost(80, 60, size) == 0
    assert reduction(80, 30, size, "crop") == 1
    assert reduction(80, 30, size, "pad") == 2


def test_an_image_is_enlarged_where_a_side_of_it_is():
    assert is_enlarged(20, 60, Size(40, 30), "crop")
    assert is_enlarged(20, 60, Size(40, 30), "stretch")
    assert not is_enlarged(20, 60, Size(40, 30), "pad")
    assert not is_enlarged(40, 30, Size(40, 30), "crop")


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({(1024, 768): 95, (800, 800): 5}, Size(64, 48)),
        ({(1024, 768): 50, (768, 1024): 50}, None),
        ({(800, 800): 100}, None),
        ({(481, 321): 100}, Size(63, 42)),
        ({(4000, 100): 100}, None),
        ({}, None),
    ],
)
def test_a_ratio_that_most_photographs_share_gives_a_size_that_shows_them_whole(
    sizes: dict[tuple[int, int], int], found: Size | None
):
    assert same_shape(sizes, 64) == found
