"""Measured channels: arrays as files, one picture a file, and the pages of a TIFF; one scale for the whole set."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise.data.arrays import picture_in
from equipoise.data.decode import Target, decode_described, header_of
from equipoise.data.pool import prepare
from equipoise.data.sources import open_source
from equipoise.data.values import Scale
from equipoise.errors import Setting, UserError
from equipoise.recipe import Data, Images, Recipe, with_settings
from equipoise.sizes import Size

NUM = 30


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def npz(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)  # pyright: ignore[reportArgumentType]: of a name that none has
    return file.getvalue()


def measured(index: int, channels: int = 5, height: int = 10, width: int = 12) -> np.ndarray:
    """Return floats in 0 to 1, of which the first image has a 1 and the others are at most a half."""
    values = np.random.default_rng(index).random((height, width, channels)).astype(np.float32) / 2
    values[0, 0] = 0.0
    if index == 0:
        values[1:3] = 1.0
    return values


def folder_of(folder: Path, contents: list[bytes], suffix: str = ".npy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, content in enumerate(contents):
        (folder / f"{index:03d}{suffix}").write_bytes(content)
    return folder


def prepared(source: Path, cache: Path, **settings: Any) -> np.ndarray:
    return prepare(Data(source=str(source)), Images(**settings), cache=cache).images


# One picture a file


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((10, 12), (10, 12, 1)),
        ((10, 12, 5), (10, 12, 5)),
        ((5, 10, 12), (10, 12, 5)),
        ((16, 64, 64), (64, 64, 16)),
        ((5, 12, 12), (12, 12, 5)),
        ((8, 8, 8), (8, 8, 8)),
    ],
)
def test_the_channels_of_a_picture_are_its_shorter_axis(shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    for content in (npy(values), npz(arr_0=values), npz(anything=values), npz(labels=values[0], image=values)):
        read = picture_in(content)
        assert read.shape == found
        assert read.dtype == np.uint16
    assert sorted(picture_in(npy(values)).ravel()) == sorted(values.ravel())
    if shape == (5, 10, 12):
        assert (picture_in(npy(values))[..., 2] == values[2]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.zeros((64, 64, 17))), "16 channels"),
        (npy(np.zeros((3, 3, 8, 8))), "one picture"),
        (npy(np.zeros(9)), "shape"),
        (npy(np.zeros((0, 9))), "shape"),
        (npy(np.array([["a", "b"]])), "numbers"),
        (npy(np.array([[1.0, np.inf]])), "finite"),
        (npy(np.array([[1.0, np.nan]])), "finite"),
        (npz(a=np.zeros((8, 8)), b=np.zeros((8, 8))), "one picture a file"),
        (npz(), "no arrays"),
        (npy(np.zeros((8, 8)))[:-1], "promises"),
        (b"\x93NUMPY\x01", "EOF"),
        (b"PK\x03\x04damaged", "damaged"),
        (b"not an array", "damaged"),
    ],
)
def test_what_is_no_picture_is_told_in_words(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        picture_in(content)


def test_python_objects_are_never_loaded() -> None:
    file = io.BytesIO()
    np.save(file, np.array([[{}, 1]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        picture_in(file.getvalue())


# Sets


def test_a_folder_of_arrays_becomes_a_pool_on_one_scale(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", [npy(measured(index)) for index in range(NUM)])
    images = prepared(folder, tmp_path / "cache", size=(12, 10))
    assert images.shape == (NUM, 5, 10, 12)
    for index in range(NUM):
        expected = np.rint(measured(index).transpose(2, 0, 1).astype(np.float64) * 255)
        assert np.abs(images[index].astype(int) - expected).max() <= 1, "never stretched picture by picture"


@pytest.mark.parametrize("kind", ["npz files", "a zip", "one npz"])
def test_the_same_pictures_are_read_from_other_containers(tmp_path: Path, kind: str) -> None:
    values = [measured(index) for index in range(NUM)]
    match kind:
        case "npz files":
            source = folder_of(tmp_path / "m", [npz(image=one) for one in values], ".npz")
        case "a zip":
            source = tmp_path / "m.zip"
            with zipfile.ZipFile(source, "w") as archive:
                for index, one in enumerate(values):
                    archive.writestr(f"{index:03d}.npy", npy(one))
        case _:
            source = tmp_path / "m.npz"
            np.savez(source, images=np.stack(values))
    plain = folder_of(tmp_path / "plain", [npy(one) for one in values])
    both = [prepared(place, tmp_path / "cache", size=(12, 10)) for place in (source, plain)]
    assert (both[0] == both[1]).all()


def test_bytes_stay_as_they_are_and_are_fitted_channel_by_channel(tmp_path: Path) -> None:
    values = [np.random.default_rng(index).integers(0, 256, (12, 10, 7), dtype=np.uint8) for index in range(NUM)]
    folder = folder_of(tmp_path / "m", [npy(one) for one in values])
    images = prepared(folder, tmp_path / "cache", size=10)
    assert (images[3] == values[3][1:11].transpose(2, 0, 1)).all()
    padded = prepared(folder, tmp_path / "cache", size=12, fit="pad")
    assert (padded[:, :, :, 0] == 0).all(), "bars are 0, not white"


@pytest.mark.parametrize("channels", [2, 5])
def test_pages_of_a_tiff_are_channels_where_the_recipe_says_so(tmp_path: Path, channels: int) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    pages = np.random.default_rng(0).integers(0, 4000, (NUM, channels, 9, 9), dtype=np.uint16)
    pages[:, 0, 0, :3] = 4095
    for index, stack in enumerate(pages):
        first, *rest = (Image.fromarray(page) for page in stack)
        first.save(folder / f"{index:03d}.tif", save_all=True, append_images=rest)
    images = prepared(folder, tmp_path / "cache", channels=channels, size=9)
    assert images.shape == (NUM, channels, 9, 9)
    assert np.abs(images - pages / 4095 * 255).max() <= 1
    assert prepared(folder, tmp_path / "cache").shape[1] == 1, "else the first page alone"


def test_a_tiff_of_a_thousand_pages_and_files_of_other_channels_are_told_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    page.save(folder / "long.tif", save_all=True, append_images=[page] * 999)
    page.save(folder / "short.tif")
    page.save(folder / "drawing.png")
    with pytest.raises(UserError) as error:
        prepare(Data(source=str(folder)), Images(channels=5), cache=tmp_path / "cache")
    for part in ("long.tif: 1,000 pages", "short.tif: 1 page,", "drawing.png: no array and no TIFF"):
        assert part in error.value.problem
    with pytest.raises(UserError):
        with_settings(Recipe(), ["task.channels=1000"])


def test_a_few_files_with_other_channels_are_left_out_and_many_are_an_error(tmp_path: Path) -> None:
    few = folder_of(tmp_path / "few", [npy(measured(index, 7 if index == 4 else 5)) for index in range(NUM)])
    pool = prepare(Data(source=str(few)), Images(), cache=tmp_path / "cache")
    assert [(item.name, item.reason) for item in pool.rejected] == [("004.npy", "7 channels, and task.channels=5")]
    many = folder_of(tmp_path / "many", [npy(measured(index, 5 + index % 2)) for index in range(NUM)])
    with pytest.raises(UserError) as error:
        prepare(Data(source=str(many)), Images(), cache=tmp_path / "cache")
    assert "6 channels, and task.channels=5" in error.value.problem


def test_measured_channels_are_never_taken_for_colours(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", [npy(measured(index)) for index in range(NUM)])
    for channels in (1, 3, 4):
        with pytest.raises(UserError) as error:
            prepared(folder, tmp_path / "cache", channels=channels)
        assert "5 channels" in error.value.problem
        assert error.value.remedies == (Setting("task.channels", 5),)


@pytest.mark.parametrize(("channels", "found"), [(1, 1), (3, 3)])
def test_arrays_of_colours_and_greys_are_images(tmp_path: Path, channels: int, found: int) -> None:
    folder = folder_of(tmp_path / "m", [npy(measured(index, channels)) for index in range(NUM)])
    images = prepared(folder, tmp_path / "cache", size=(12, 10))
    assert images.shape == (NUM, found, 10, 12)
    assert np.abs(images[7] - measured(7, channels).transpose(2, 0, 1) * 255).max() <= 1


def test_arrays_beside_images_are_ignored_as_before_and_few_arrays_are_no_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", [npy(measured(index)) for index in range(NUM)])
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    assert list(open_source(str(folder)).load().names) == ["picture.png"]
    with pytest.raises(UserError) as error:
        open_source(str(folder_of(tmp_path / "few", [npy(measured(0))]))).load()
    assert "images were expected" in error.value.problem


def test_a_check_counts_the_channels_of_arrays(tmp_path: Path) -> None:
    header = header_of(measured(0))
    assert (header.format, header.mode, header.width, header.height) == ("array", "5 channels", 12, 10)
    stored = decode_described(measured(0), Target(Size(12, 10), 5, "crop", (255, 255, 255), Scale(0.0, 1.0)))
    assert stored.header.mode == "5 channels"
    assert stored.transparent is None
    assert stored.pixels.shape == (5, 10, 12)
