"""Pixel values of deep images: one scale for a set, found whatever a few pixels say, told, and given by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise.data.pool import Pool, prepare
from equipoise.data.values import Scale, notes_of, scale_of, some_of
from equipoise.errors import UserError
from equipoise.recipe import Data, Images, Recipe
from equipoise.tasks.images import ImageSource


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0, 1, (0, 1)),
        (0, 0.7, (0, 1)),
        (0, 200, (0, 255)),
        (3, 4_000, (0, 4_095)),
        (0, 16_000, (0, 16_383)),
        (0, 60_000, (0, 65_535)),
        (0, 2**30, (0, 2**31 - 1)),
        (0, 100_000, (0, 100_000)),
        (0, 2, (0, 2)),
        (0, 1e-5, (0, 1e-5)),
        (-1, 1, (-1, 1)),
        (-0.5, 0.5, (-1, 1)),
        (1_000, 1_400, (1_000, 1_400)),
        (-1_024, 3_071, (-1_024, 3_071)),
    ],
)
def test_the_scale_is_the_least_usual_one_that_holds_the_values_or_their_own(
    lowest: float, highest: float, expected: tuple[float, float]
) -> None:
    values = np.linspace(lowest, highest, 100_001)
    found = scale_of([values[:50_000], values[50_000:]])
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-3)


def test_a_hot_pixel_decides_nothing() -> None:
    values = np.linspace(0, 4_000, 1_000_000)
    values[:5] = 65_535
    assert scale_of([values]) == Scale(0.0, 4_095.0)


def test_what_sharpening_leaves_a_little_outside_moves_no_range() -> None:
    values = np.linspace(0, 1, 100_000)
    values[:100] = -0.02
    values[-100:] = 1.05
    assert scale_of([values]) == Scale(0.0, 1.0)


@pytest.mark.parametrize(("black", "white"), [(255.0, 0.0), (2_000.0, None)])
def test_white_that_is_not_above_black_is_a_mistake(black: float, white: float | None) -> None:
    with pytest.raises(UserError, match="above"):
        scale_of([np.linspace(0, 1, 100)], black, white)


def test_what_is_given_is_kept_and_an_empty_or_constant_set_has_a_scale() -> None:
    assert scale_of([np.linspace(0, 4_000, 100)], low=-50, high=2_000) == Scale(-50, 2_000)
    assert scale_of([]) == Scale(0.0, 255.0)
    assert scale_of([np.full(10, 2.0**30)]) == Scale(0.0, 2.0**31 - 1)
    assert scale_of([np.full(10, -5.0)]) == Scale(-5.0, -4.0)
    assert len(some_of(np.array([1.0, np.nan]))) == 0


def test_values_outside_are_clipped_and_the_middle_is_in_the_middle() -> None:
    assert Scale(-1, 1).to_uint8(np.array([-2.0, -1, 0, 1, 2])).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("values", "scale", "said"),
    [
        (np.linspace(0, 4_000, 100), Scale(0, 4_095), ["4,095"]),
        (np.linspace(0, 16, 100), Scale(0, 255), ["black", "task.white=15.9984"]),
        (np.linspace(0, 1_800, 100), Scale(0, 4_095), ["44%", "task.white=1799"]),
        (np.linspace(0, 4_000, 100), Scale(0, 2_000), ["50%"]),
        (np.linspace(-0.5, 0.5, 100), Scale(-1, 1), ["50%", "task.black=-0.49", "task.white=0.49"]),
        (np.concatenate([np.linspace(0, 1, 990), np.full(5, 5_000)]), Scale(0, 5_000), ["black", "task.white=0.99"]),
    ],
)
def test_what_becomes_of_the_values_is_said_and_what_looks_wrong(
    values: np.ndarray, scale: Scale, said: list[str]
) -> None:
    text = "; ".join(notes_of(scale, [values]))
    for part in said:
        assert part in text
    assert ("nearly" in text) == ("black" in said)


def deep_set(folder: Path, *arrays: np.ndarray) -> Path:
    folder.mkdir()
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{index}.tif")
    return folder


def prepared(folder: Path, tmp_path: Path, white: float | None = None) -> Pool:
    return prepare(Data(source=str(folder)), Images(size=16, white=white), cache=tmp_path / "cache")


def test_images_of_12_bits_in_files_of_16_keep_their_contrast(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4_095, 256).reshape(16, 16)
    folder = deep_set(tmp_path / "ct", *[(ramp * share).astype(np.uint16) for share in np.linspace(0.5, 1, 30)])
    pool = prepared(folder, tmp_path)
    assert pool.images.max() == 255
    assert pool.images[:, 0, -1, -1].min() == pytest.approx(127, abs=2), "one scale for all, not one for each"
    assert any("4,095" in note for note in pool.notes)
    assert prepared(folder, tmp_path).notes == pool.notes, "also out of the cache"
    darker = prepared(folder, tmp_path, white=8_190)
    assert darker.images.max() == 128


def test_floats_of_one_set_are_on_one_scale(tmp_path: Path) -> None:
    """A file whose values all lie below 1 is dark among others of 0 to 255, and not brightened 255 times."""
    ramp = np.linspace(0, 255, 256, dtype=np.float32).reshape(16, 16)
    pool = prepared(deep_set(tmp_path / "floats", *[ramp] * 29, ramp / 300), tmp_path)
    assert sorted(pool.images.max((1, 2, 3)).tolist())[:2] == [1, 255]


def test_the_scale_that_was_found_is_a_part_of_the_recipe_so_that_other_images_are_read_alike(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4_095, 256).reshape(16, 16)
    folder = deep_set(tmp_path / "ct", *[(ramp * share).astype(np.uint16) for share in np.linspace(0.5, 1, 30)])
    pool = prepared(folder, tmp_path)
    assert pool.scale == (0.0, 4_095.0)
    source = ImageSource(pool, torch.device("cpu"))
    task = source.fitted(Recipe()).task
    assert isinstance(task, Images)
    assert (task.black, task.white) == (0.0, 4_095.0)
    brighter = deep_set(tmp_path / "other", *[(1.5 * ramp).astype(np.uint16)] * 30)
    found = prepare(Data(source=str(brighter)), task, cache=tmp_path / "cache")
    assert found.images[0, 0, 8, 0] == pytest.approx(1.5 * 128, abs=3)


def test_settings_of_deep_images_say_where_they_have_no_effect(tmp_path: Path) -> None:
    folder = deep_set(tmp_path / "plain", *[np.full((16, 16), index, np.uint8) for index in range(30)])
    assert any("effect" in note for note in prepared(folder, tmp_path, white=9).notes)


def test_negative_floats_are_kept(tmp_path: Path) -> None:
    ramp = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    pool = prepared(deep_set(tmp_path / "signed", *[ramp] * 30), tmp_path)
    assert pool.images[0, 0, 8, 0] == pytest.approx(128, abs=1)


# Arrays


def array_pool(tmp_path: Path, images: np.ndarray, white: float | None = None) -> Pool:
    np.savez(tmp_path / "a.npz", images=images)
    return prepare(Data(source=str(tmp_path / "a.npz")), Images(size=8, white=white), cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("values", "expected", "scale"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255], (0, 1)),
        (np.array([-1.0, 0.0, 1.0], dtype=np.float32), [0, 128, 255], (-1, 1)),
        (np.array([0.0, 128, 255], dtype=np.float32), [0, 128, 255], (0, 255)),
        (np.array([-0.3, 0.4, 0.6]), [89, 178, 204], (-1, 1)),
        (np.array([0, 128, 255], dtype=np.int64), [0, 128, 255], None),
        (np.array([0, 1, 1], dtype=np.int32), [0, 255, 255], (0, 1)),
        (np.array([0, 2056, 4095], dtype=np.uint16), [0, 128, 255], (0, 4095)),
        (np.array([0, 32896, 65535], dtype=np.uint16), [0, 128, 255], (0, 65535)),
        (np.array([1000.0, 1200, 1400]), [0, 128, 255], (1000, 1400)),
        (np.array([False, True, True]), [0, 255, 255], (0, 1)),
        (np.array([0, 1, 1], dtype=np.uint8), [0, 1, 1], None),
    ],
)
def test_arrays_of_every_range_are_put_on_one_scale(
    tmp_path: Path, values: np.ndarray, expected: list[int], scale: tuple[float, float] | None
) -> None:
    pool = array_pool(tmp_path, np.tile(values[:, None, None], (10, 8, 8)))
    assert pool.images[:3, 0, 0, 0].tolist() == expected
    assert pool.scale == (None if scale is None else pytest.approx(scale, rel=1e-3))


def test_the_scale_of_an_array_is_said_can_be_given_and_what_is_nearly_black_is_warned_of(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 4_096, (40, 8, 8)).astype(np.uint16)
    assert any("4,095" in note for note in array_pool(tmp_path, images).notes)
    given = array_pool(tmp_path, images, white=8_190)
    assert given.images.max() == 128
    assert given.scale == (0, 8_190)
    for dark in ((images % 17).astype(np.uint8), images % 17, (images % 17).astype(np.float32)):
        assert any("black" in note for note in array_pool(tmp_path, dark).notes), dark.dtype
    assert array_pool(tmp_path, (images % 17).astype(np.float32), white=16).images.max() == 255
    assert any("effect" in note for note in array_pool(tmp_path, (images % 256).astype(np.uint8), white=16).notes)


def test_files_of_8_bits_that_are_nearly_black_are_warned_of(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 3, (30, 16, 16)).astype(np.uint8)
    assert any("black" in note for note in prepared(deep_set(tmp_path / "masks", *masks), tmp_path).notes)
    assert prepared(deep_set(tmp_path / "bright", *(masks * 100)), tmp_path).notes == ()


def test_frames_and_pages_that_are_not_read_are_said(tmp_path: Path) -> None:
    folder = deep_set(tmp_path / "set", *np.random.default_rng(0).integers(0, 256, (28, 16, 16)).astype(np.uint8))
    pages = [Image.new("L", (16, 16), 60 * index) for index in range(4)]
    pages[1].save(folder / "paged.tif", save_all=True, append_images=pages[2:])
    pages[1].save(folder / "animated.gif", save_all=True, append_images=pages[2:])
    (note,) = prepared(folder, tmp_path).notes
    assert note.startswith("2 of 30")
    assert "3" in note


def test_images_that_are_nearly_black_among_others_are_told() -> None:
    noise = np.random.default_rng(0)
    bright = [noise.uniform(0, 255, 64) for _ in range(60)]
    mixed = [*bright, *(noise.uniform(0, 1, 64) for _ in range(6))]
    scale = scale_of(mixed)
    assert scale == Scale(0.0, 255.0)
    assert any(note.startswith("6 of 66") for note in notes_of(scale, mixed))
    blank = [*bright, *(np.zeros(64) for _ in range(6))]
    assert len(notes_of(scale_of(blank), blank)) == len(notes_of(scale_of(bright), bright)) == 1


def test_a_number_of_hundreds_of_digits_is_not_written_out() -> None:
    values = [np.random.default_rng(0).uniform(0, 1e300, 64)]
    assert all(len(note) < 100 for note in notes_of(scale_of(values), values))
