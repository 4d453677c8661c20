"""The size and fit that keep every pixel: of sprites, of mixed sizes, of photographs that are too large for any."""

import pytest

from equipoise.data.audit.sizes import Keeping, is_kept, keeping, num_kept, reduction


def test_every_pixel_is_kept_where_the_longer_side_fits_and_nothing_is_cut():
    assert is_kept(40, 30, 40, "pad")
    assert is_kept(20, 10, 40, "pad"), "enlarged"
    assert is_kept(40, 30, 40, "stretch"), "in another shape"
    assert not is_kept(40, 30, 40, "crop")
    assert not is_kept(30, 40, 39, "pad")
    assert is_kept(40, 40, 40, "crop")
    assert num_kept({(40, 30): 3, (30, 30): 2, (50, 50): 1}, 40, "crop") == 2


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({(40, 30): 1200}, Keeping(40, "pad", 1200)),
        ({(30, 40): 600, (40, 30): 600}, Keeping(40, "pad", 1200)),
        ({(32, 32): 100}, Keeping(32, "crop", 100)),
        ({(5, 5): 100}, Keeping(8, "crop", 100)),
        ({(16, 16): 50, (32, 32): 50}, Keeping(32, "crop", 100)),
        ({(1024, 768): 100}, None),
        ({(256, 200): 100}, Keeping(256, "pad", 100)),
        ({(257, 200): 100}, None),
        ({(16, 16): 299, (200, 200): 1}, Keeping(16, "crop", 299)),
        ({(16, 16): 299, (30, 20): 1}, Keeping(30, "pad", 300)),
        ({(40, 30): 95, (1024, 768): 5}, Keeping(40, "pad", 95)),
        ({(40, 30): 85, (1024, 768): 15}, None),
        ({}, None),
    ],
)
def test_all_images_decide_unless_a_few_are_far_larger(sizes: dict[tuple[int, int], int], found: Keeping | None):
    assert keeping(sizes, "crop") == found


def test_who_asks_for_another_fit_than_cutting_keeps_it():
    assert keeping({(40, 30): 10}, "stretch") == Keeping(40, "stretch", 10)
    assert keeping({(30, 30): 10}, "pad") == Keeping(30, "pad", 10)


def test_a_reduction_is_of_the_side_that_becomes_the_size():
    assert reduction(1024, 768, 64, "crop") == 12
    assert reduction(1024, 768, 64, "pad") == 16
    assert reduction(32, 32, 64, "pad") == 0.5
