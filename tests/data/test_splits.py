import numpy as np
import pytest

from equipoise.data.splits import content_digests, num_copies, split, to_hashes


def random_hashes(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, num, dtype=np.uint64)


def sides(hashes: np.ndarray, validation: float = 0.1, test: float = 0.1) -> np.ndarray:
    result = np.full(len(hashes), -1)
    splits = split(hashes, validation, test)
    for side, part in enumerate((splits.train, splits.validation, splits.test)):
        assert (result[part] == -1).all()
        result[part] = side
    assert (result >= 0).all()
    return result


def test_shares_are_met_and_every_image_is_on_exactly_one_side():
    counts = np.bincount(sides(random_hashes(20_000), validation=0.2, test=0.1), minlength=3) / 20_000
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


def test_duplicates_land_on_one_side():
    hashes = np.repeat(random_hashes(500), 3)
    assert (sides(hashes).reshape(500, 3) == sides(hashes).reshape(500, 3)[:, :1]).all()


def test_adding_images_moves_no_old_one():
    hashes = random_hashes(2_000)
    assert (sides(hashes)[:700] == sides(hashes[:700])).all()


def test_a_prefix_of_a_split_is_not_sorted_by_position():
    train = split(random_hashes(1_000), 0.1, 0.1).train
    assert abs(np.corrcoef(train, np.arange(len(train)))[0, 1]) < 0.15


@pytest.mark.parametrize("num", [10, 11, 20])
def test_no_split_is_empty_from_ten_distinct_images_on(num: int):
    for seed in range(200):
        assert (np.bincount(sides(random_hashes(num, seed)), minlength=3) >= 1).all()


def test_no_split_is_empty_when_shares_take_nearly_everything():
    for seed in range(100):
        assert (np.bincount(sides(random_hashes(10, seed), 0.49, 0.5), minlength=3) >= 1).all()


def test_a_share_of_zero_gives_an_empty_split_even_in_small_sets():
    for seed in range(50):
        assert (sides(random_hashes(10, seed), validation=0.0, test=0.0) == 0).all()
        assert 2 not in sides(random_hashes(10, seed), validation=0.1, test=0.0)


def test_copies_of_few_distinct_images_are_not_torn_apart_to_fill_a_split():
    hashes = np.repeat(np.array([2**63, 2**63 + 1], dtype=np.uint64), 50)
    assert (sides(hashes) == 0).all()


def test_equal_pixels_have_equal_hashes_and_one_changed_pixel_another():
    images = np.random.default_rng(0).integers(0, 255, (3, 1, 5, 4), dtype=np.uint8)
    images[1] = images[0]
    images[2] = images[0]
    images[2, 0, 4, 3] += 1
    first, copy, changed = to_hashes(content_digests(images))
    assert first == copy != changed


def test_hashes_do_not_depend_on_memory_layout():
    images = np.random.default_rng(0).integers(0, 255, (4, 6, 6, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    assert content_digests(images) == content_digests(np.ascontiguousarray(images))


@pytest.mark.parametrize(("hashes", "num"), [([], 0), ([5], 0), ([3, 1, 2], 0), ([2, 1, 2, 2, 1], 3)])
def test_copies_are_those_that_occur_before(hashes: list[int], num: int):
    assert num_copies(np.array(hashes, np.uint64)) == num
