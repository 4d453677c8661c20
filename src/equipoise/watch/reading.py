"""Images that a loop gives: an array, a list or a data set, as uint8 [N, C, H, W] on one scale."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.data.arrays import refuse_not_finite, reshapes
from equipoise.data.values import NUM_LOOKED_AT, Scale, array_to_uint8, scale_of_array
from equipoise.errors import Part, UserError

NUM_READ_TWICE = 16  # items of a data set, to see whether it changes them at random
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALLOWED = "give all images [N, C, H, W], a data set or a list of images, or a folder, a zip or an .npz"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Read:
    """Images uint8 `[N, C, H, W]`, the values that became black and white, and what is to be said of them."""

    images: np.ndarray
    scale: Scale | None
    notes: tuple[str, ...]


def read(
    given: Any,
    subject: Part,
    low: float | None = None,
    high: float | None = None,
    progress: Progress | None = None,
    *,
    may_vary: bool = False,
) -> Read:
    """Return images on one scale, between the given values for black and white; raises UserError for what is none.

    They are a tensor or an array `[N, C, H, W]`, or a list or data set of images `[C, H, W]`, Pillow's too; of items
    with labels the image is taken, and of a loader its data set. Items that are read otherwise each time are refused,
    unless they may vary.
    """
    array = _array_of(given)
    if array is None:
        return _read_items(_items_of(given, subject), subject, low, high, progress, may_vary=may_vary)
    _refuse_shape(array, subject)
    _refuse_kind(array, subject)
    refuse_not_finite(array, subject)
    scale, notes = scale_of_array(array, low, high)
    return Read(np.ascontiguousarray(array_to_uint8(array, scale)), scale, tuple(notes))


def _array_of(given: Any) -> np.ndarray | None:
    """Return a tensor or an array as an array; None for everything else, also for a single picture."""
    if isinstance(given, Tensor):
        tensor = given.detach().cpu()
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_floating_point():
            tensor = tensor.float()  # NumPy has no bfloat16
        return tensor.numpy()
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "__array__") and not isinstance(given, Image.Image):
        return np.asarray(given)
    return None


def _refuse_shape(array: np.ndarray, subject: Part) -> None:
    shape = array.shape
    if array.ndim == 4 and shape[1] in (1, 3) and min(shape) >= 1:
        return
    orders = reshapes(shape[1]) if array.ndim == 2 else ()
    remedy = "C is 1 for grey and 3 for colour"
    if array.dtype.kind == "O":
        raise UserError(subject, f"an array of {array.size:,} Python objects; give [N, C, H, W]", "Give list(images)")
    if not array.size:
        raise UserError(subject, f"its shape is {list(shape)}: it holds no images; {ALLOWED}")
    if array.ndim == 4 and shape[-1] in (1, 3):
        remedy = "Move the channels: np.moveaxis(images, -1, 1)"
    elif len(orders) == 2:
        last = f"np.moveaxis(images{orders[1]}, -1, 1)"
        remedy = f"Give images{orders[0]} where a row holds all red values first, else {last}"
    elif orders:
        remedy = f"Grey images have one channel: images{orders[0]}[:, None]"
    elif array.ndim == 3 and (shape[0] in (1, 3) or shape[-1] in (1, 3)):
        remedy = "That is one image: give many"
    elif array.ndim == 3:
        remedy = "Grey images have one channel: images[:, None]"
    elif array.ndim == 4 and shape[1] in (2, 4):
        remedy = f"Leave the transparency out: images[:, :{shape[1] - 1}]"
    raise UserError(subject, f"its shape is {list(shape)}; give [N, C, H, W]", remedy)


def _refuse_kind(array: np.ndarray, subject: Part) -> None:
    if array.dtype.kind not in "biuf":
        raise UserError(subject, f"its type is {array.dtype}; give whole numbers, floats or booleans")


# Lists and data sets


def _items_of(given: Any, subject: Part) -> Sequence[Any]:
    """Return what has a length and items by number: a list, a data set, or the data set of a loader."""
    if hasattr(given, "dataset") and hasattr(given, "batch_size"):
        given = given.dataset
    kind = type(given).__name__
    if isinstance(given, Image.Image):
        raise UserError(subject, "it is a single image; many are needed", "Give a list of them, or their folder")
    if isinstance(given, str | bytes | Path | Mapping | set) or given is None:
        raise UserError(subject, f"it is of type {kind}; {ALLOWED}")
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        problem = f"{kind} has no length and no items by number, so its images have no places"
        raise UserError(subject, problem, "Collect its images first: torch.stack([image for image, *_ in data])")
    try:
        num = len(given)
    except (TypeError, NotImplementedError):
        num = 0
    if not num:
        raise UserError(subject, f"{kind} holds no images; {ALLOWED}")
    if isinstance(given, Sequence) and isinstance(given[0], str | Path):
        remedy = "Give the folder that they lie in, or images: [PIL.Image.open(path).convert('RGB') for path in real]"
        raise UserError(subject, f"{kind} of {num:,} paths; images are needed", remedy)
    return given


def _read_items(
    items: Sequence[Any],
    subject: Part,
    low: float | None,
    high: float | None,
    progress: Progress | None,
    *,
    may_vary: bool,
) -> Read:
    num = len(items)
    places = np.unique(np.linspace(0, num - 1, min(num, NUM_LOOKED_AT)).astype(np.int64)).tolist()
    some = [_item(items, place, subject) for place in places]
    channels = max(image.shape[0] for image in some)
    first = _in_channels(some[0], channels)
    for place, image in zip(places, some, strict=True):
        _refuse_other(_in_channels(image, channels), first, place, subject)
    if not may_vary:
        _refuse_random(items, places[:NUM_READ_TWICE], some, subject)
    scale, notes = scale_of_array(np.stack([_in_channels(image, channels) for image in some]), low, high)
    images = np.empty((num, *first.shape), np.uint8)
    for place in range(num):
        image = _in_channels(_item(items, place, subject), channels)
        _refuse_other(image, first, place, subject)
        images[place] = array_to_uint8(image[None], scale)[0]
        if progress:
            progress(place + 1, num)
    return Read(images, scale, tuple(notes))


def _item(items: Sequence[Any], place: int, subject: Part) -> np.ndarray:
    """Return one image [C, H, W] of a data set; raises UserError where there is none."""
    try:
        item = items[place]
    except Exception as error:  # a data set may fail in any way
        raise UserError(subject, f"item {place} cannot be read ({type(error).__name__}: {error})") from None
    parts = [item]
    if isinstance(item, Mapping):
        parts = list(item.values())
    elif is_dataclass(item):
        parts = [getattr(item, one.name) for one in fields(item)]
    elif isinstance(item, tuple | list):
        parts = list(item)
    for part in parts:
        image = _image_of(part)
        if image is not None:
            _refuse_kind(image, subject)
            refuse_not_finite(image[None], f"{subject if isinstance(subject, str) else 'real'}, item {place}")
            return image
    problem = f"item {place} is of type {type(item).__name__}, in which no image [C, H, W] was found"
    raise UserError(subject, problem, "Give items that are images, or begin with one, as (image, label)")


def _image_of(part: Any) -> np.ndarray | None:
    """Return an image as [C, H, W], None for what is none."""
    if isinstance(part, Image.Image):
        array = np.asarray(part if part.mode in ("RGB", *GREY_MODES) else part.convert("RGB"))
    else:
        found = _array_of(part)
        if found is None:
            return None
        array = found
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or min(array.shape) < 1:
        return None
    if array.shape[0] not in (1, 3) and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, 0)
    return array if array.shape[0] in (1, 3) else None


def _in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return a grey image in colour, where others are."""
    if image.shape[0] == channels:
        return image
    return np.repeat(image, channels, 0) if image.shape[0] == 1 else image


def _refuse_other(image: np.ndarray, first: np.ndarray, place: int, subject: Part) -> None:
    """Raise UserError where an image has another shape or kind of number than the first."""
    if image.shape != first.shape:
        problem = f"item {place} is {list(image.shape)} and item 0 {list(first.shape)}; images of one size are needed"
        remedy = "Add a transform that crops or resizes, or give the folder: its images are made one size"
        raise UserError(subject, problem, remedy)
    if image.dtype.kind != first.dtype.kind or (image.dtype == np.uint8) != (first.dtype == np.uint8):
        problem = f"item {place} is {image.dtype} and item 0 {first.dtype}, so no one scale of values fits both"
        raise UserError(subject, problem, "Give all in one type")


def _refuse_random(items: Sequence[Any], places: Sequence[int], some: Sequence[np.ndarray], subject: Part) -> None:
    """Raise UserError where a data set gives an item otherwise at a second reading: what is held out would vary."""
    for place, image in zip(places, some, strict=False):
        if not np.array_equal(_item(items, place, subject), image):
            problem = f"item {place} is another image at each reading, so none can be held out for good"
            remedy = "Give the data set without random transforms; train on one with them"
            raise UserError(subject, problem, remedy)
