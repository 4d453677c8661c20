"""How many samples there are in batches of every kind."""

import collections
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise.integrations.batches import num_samples

IMAGES = torch.zeros(8, 3, 4, 4)
IMAGE = torch.zeros(3, 4, 4)
PICTURE = Image.new("RGB", (4, 5))
LABELS = torch.zeros(8)
Pair = collections.namedtuple("Pair", "images labels")


@dataclass
class Batch:
    """A batch as a dataclass."""

    images: Any
    labels: Any


@dataclass(slots=True)
class Slotted:
    """A batch whose fields are in no dictionary."""

    images: Any


@pytest.mark.parametrize(
    "batch",
    [
        [PICTURE] * 8,
        ([PICTURE] * 8, LABELS),
        [(PICTURE, 1)] * 8,
        [{"image": PICTURE, "label": 2}] * 8,
        {"images": [PICTURE] * 8},
        [np.zeros((4, 5), np.uint8)] * 8,
        collections.deque([IMAGE] * 8),
        collections.UserDict(pixel_values=IMAGES, labels=LABELS),
        Slotted(IMAGES),
        {"mask": torch.zeros(1, 1, 9, 9), "images": IMAGES},
        np.zeros((8, 4, 4, 3), np.uint8),
        IMAGES,
        [IMAGES],
        (IMAGES, LABELS),
        [IMAGE] * 8,
        [torch.zeros(3, 4, 4 + place) for place in range(8)],
        [(IMAGE, 1)] * 8,
        [{"image": IMAGE, "label": torch.tensor(1)}] * 8,
        [[IMAGES, LABELS], [IMAGES, LABELS]],
        {"mean": torch.zeros(3), "images": IMAGES},
        {"images": [IMAGE] * 8, "labels": LABELS},
        Batch(IMAGES, LABELS),
        [Batch(IMAGE, 1)] * 8,
        Pair(IMAGES, LABELS),
        ["a.png"] * 8,
    ],
)
def test_a_batch_is_counted_in_samples_whatever_it_is(batch: Any) -> None:
    assert num_samples(batch) == 8


def test_what_the_loader_makes_decides_between_vectors_and_columns() -> None:
    assert num_samples([torch.zeros(2)] * 8, expected=8) == 8
    assert num_samples([torch.zeros(8), torch.zeros(8)], expected=8) == 8


@pytest.mark.parametrize(("batch", "num"), [([], 0), (IMAGES[:0], 0), (None, None), ("words", None), (object(), None)])
def test_nothing_is_none_and_what_cannot_be_counted_is_said(batch: Any, num: int | None) -> None:
    assert num_samples(batch) == num
