"""What a loop may give as real images: arrays of any range, lists, data sets and loaders; the rest with a remedy."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from equipoise.errors import Option, UserError
from equipoise.watch.reading import read

COLOURS = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8)).astype(np.uint8)
GREY = COLOURS[:, :1]


class Items(Dataset):
    """A data set of anything."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


@dataclass(slots=True)
class Example:
    """An item with names."""

    label: int
    image: Any


class Flipped(Items):
    """A data set that mirrors its images at random."""

    def __getitem__(self, index: int) -> Any:
        return torch.as_tensor(self.items[index]).flip(-1) if torch.rand(()) < 0.5 else self.items[index]


class Stream(IterableDataset):
    """A data set without a length."""

    def __iter__(self) -> Any:
        return iter(COLOURS)


def floats(low: float, high: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.as_tensor(GREY) / 255 * (high - low) + low).to(dtype)


@pytest.mark.parametrize(
    ("given", "expected", "scale"),
    [
        (GREY, GREY, None),
        (torch.as_tensor(GREY), GREY, None),
        (GREY.astype(np.int64), GREY, None),
        (floats(0, 1), GREY, (0, 1)),
        (floats(-1, 1), GREY, (-1, 1)),
        (floats(0, 255), GREY, (0, 255)),
        (floats(0, 1, torch.float64), GREY, (0, 1)),
        (GREY.astype(np.uint16) * 257, GREY, (0, 65_535)),
        (GREY > 100, (GREY > 100) * np.uint8(255), (0, 1)),
        (torch.as_tensor(GREY).to_sparse(), GREY, None),
        (list(COLOURS), COLOURS, None),
        ([Image.fromarray(image.transpose(1, 2, 0)) for image in COLOURS], COLOURS, None),
        ([Image.fromarray(image[0]) for image in GREY], GREY, None),
        (TensorDataset(floats(-1, 1), torch.arange(30)), GREY, (-1, 1)),
        (DataLoader(TensorDataset(floats(0, 1)), batch_size=7, shuffle=True), GREY, (0, 1)),
        (Items([{"label": 3, "image": image} for image in COLOURS]), COLOURS, None),
        (Items([Example(3, image) for image in COLOURS]), COLOURS, None),
        (Items([(image.transpose(1, 2, 0), 3) for image in COLOURS]), COLOURS, None),
    ],
)
def test_real_images_of_every_kind_become_the_same_bytes_in_their_order(given: Any, expected: Any, scale: Any) -> None:
    found = read(given, "real")
    assert np.array_equal(found.images, expected)
    assert (None if found.scale is None else (found.scale.low, found.scale.high)) == scale


def test_the_scale_is_said_and_can_be_given() -> None:
    given = read(floats(0, 1_000), "real", 0.0, 2_000.0)
    assert given.images.max() == 128
    assert any("2,000" in note for note in given.notes)
    assert any("black" in note for note in read(GREY // 20, "real").notes)


def test_grey_pictures_among_colours_are_shown_in_colour() -> None:
    images = [Image.fromarray(image.transpose(1, 2, 0)) for image in COLOURS]
    images[4] = images[4].convert("L")
    assert read(images, "real").images.shape == (30, 3, 8, 8)


REFUSED: list[tuple[Any, str]] = [
    (np.zeros((30, 8, 8, 3)), "moveaxis"),
    (np.zeros((30, 8, 8)), "[:, None]"),
    (np.zeros((30, 4, 8, 8)), "[:, :3]"),
    (np.zeros((30, 1, 8, 8), complex), "complex"),
    (np.full((30, 1, 8, 8), np.nan), "nan_to_num"),
    (np.where(np.arange(30)[:, None, None, None] < 3, np.nan, np.zeros((30, 1, 8, 8))), "isfinite"),
    (Stream(), "torch.stack"),
    (DataLoader(Stream()), "torch.stack"),
    ((image for image in COLOURS), "torch.stack"),
    (Flipped(torch.as_tensor(COLOURS)), "transforms"),
    ([COLOURS[0], COLOURS[1, :, :4]], "transform"),
    ([COLOURS[0], COLOURS[1].astype(np.float32)], "type"),
    ([COLOURS[0], COLOURS[1].astype(np.uint16) * 257], "type"),
    ([Image.fromarray(COLOURS[0, 0]), Image.fromarray(COLOURS[0, 0].astype(np.uint16))], "type"),
    (np.array([None, COLOURS[0]], dtype=object), "list(images)"),
    (COLOURS[0], "one image"),
    (COLOURS[:0], "holds"),
    (["a.png", Path("b.png")], "PIL"),
    (Items(["words"]), "(image, label)"),
    (Items([]), "holds"),
    (Image.new("L", (8, 8)), "list"),
    ({"images": COLOURS}, "dict"),
    (3, "torch.stack"),
    ([], "holds"),
]


@pytest.mark.parametrize(("given", "word"), REFUSED)
def test_what_holds_no_images_is_refused_with_what_to_do(given: Any, word: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(UserError) as error:
        read(given, "real")
    assert word in str(error.value)


def test_a_data_set_that_cannot_be_read_is_told_with_its_own_words() -> None:
    class Broken(Items):
        def __getitem__(self, index: int) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(UserError, match="gone"):
        read(Broken(COLOURS), "real")


@pytest.mark.parametrize("length", [784, 3072])
def test_rows_of_pixels_are_answered_with_the_shape_to_give_them(length: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (30, length), np.uint8)
    with pytest.raises(UserError) as refused:
        read(rows, Option("real"))
    line = re.search(r"images\.reshape\([-\d, ]*\)(\[:, None\])?", str(refused.value.remedies))
    assert line is not None
    images = eval(line[0], {"images": rows})  # noqa: S307
    assert read(images, Option("real")).images.reshape(30, length).tolist() == rows.tolist()
