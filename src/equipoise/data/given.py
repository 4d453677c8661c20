"""What Python gives as a source in place of a path: tensors, arrays, data sets, loaders; and how one becomes a source.

A training reads files, so that a resume can read the very same examples again.
"""

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.arrays import LEAST_SIDE, free_name, reshapes
from equipoise.errors import Option, Part, UserError, shortened

LOOP = "Or keep a training loop of your own, with equipoise.Watch(real=…)"
NUM_SEEN = 8  # items of a data set, to see whether they are of one shape
FOLDER = "Put the image files into one folder, and give that"


def refuse_no_place(given: Any, option: str = "source") -> None:
    """Raise UserError where a source is neither text nor a path, with what makes a source of it."""
    if given is None or isinstance(given, str | os.PathLike):
        return
    path = getattr(given, "path", None)
    if isinstance(path, Path) and type(given).__module__.startswith("equipoise."):  # a run
        raise UserError(Option(option), f"received a {_type(given)}; a path is needed", f'Give its folder: "{path}"')
    raise UserError(Option(option), f"received {_described(given)}; a path is needed", *_remedies(given))


def _remedies(given: Any) -> list[Part]:
    """Return how to make a source of what was given; nothing that is there already is written over."""
    if (shape := _shape(given)) is not None:
        return _of_array(given, shape)
    if _is_loader(given):
        return _of_dataset(given.dataset, "loader.dataset")
    if isinstance(given, Mapping):
        return [FOLDER, LOOP]
    if isinstance(given, bytes | int | float | bool) or _is_picture(given):
        return [FOLDER]
    if isinstance(given, Sequence) and given and isinstance(given[0], str | os.PathLike):
        return [FOLDER]
    name = "images" if isinstance(given, list | tuple) else "dataset"
    return _of_dataset(given, name)


def _of_array(given: Any, shape: tuple[int, ...]) -> list[Part]:
    """Return what to type for a tensor or an array, by its shape."""
    if type(given).__module__.startswith(("pandas", "polars")):
        return [FOLDER, 'For points, write their x and y into a CSV file, and give it with task="points"']
    if len(shape) == 2 and shape[1] == 2:
        path = free_name(Path("points.csv"))
        write = f'np.savetxt("{path}", {_as_array(given, "points")}, delimiter=",")'
        return [f'Write them into a file, and train on that: {write}, then equipoise.train("{path}", task="points")']
    is_flat = len(shape) == 2 and shape[1] >= LEAST_SIDE**2
    if len(shape) not in (3, 4) and not is_flat:
        return ["Images are [N, H, W], [N, H, W, C] or [N, C, H, W]"]
    if is_flat and len(orders := reshapes(shape[1])) == 2:
        where = f"That is for rows with all red values first, as CIFAR has them; else write {orders[1][1:]} there"
        return [*_written(_as_array(given, "images") + orders[0]), where, LOOP]
    return [*_written(_as_array(given, "images")), LOOP]


def _as_array(given: Any, name: str) -> str:
    """Return the expression that makes an array of what has this name."""
    if not hasattr(given, "detach"):
        return name if hasattr(given, "__array_interface__") else f"np.asarray({name})"
    floats = ".float()" if "bfloat16" in str(given.dtype) else ""
    return f"{name}.detach().cpu(){floats}.numpy()"


def _written(images: str, labels: str = "") -> list[Part]:
    path = free_name(Path("images.npz"))
    write = f'np.savez("{path}", images={images}{labels})'
    return [f'Write them into a file, and train on that: {write}, then equipoise.train("{path}")']


def _of_dataset(given: Any, name: str) -> list[Part]:
    """Return what to type for a list or a data set, by its first item."""
    if (
        isinstance(root := getattr(given, "root", None), str | Path)
        and hasattr(given, "samples")
        and Path(root).is_dir()
    ):
        return [f'Give its folder: "{root}"', LOOP]
    item = _first(given)
    if isinstance(item, Mapping):
        key = next((key for key, value in item.items() if _is_image(value)), None)
        taken = f"np.asarray(item[{key!r}]) for item in {name}"
        are_alike = key is not None and _are_alike(given, lambda item: item[key])
    elif isinstance(item, tuple | list):
        taken = f"np.asarray(image) for image, *_ in {name}"
        are_alike = _are_alike(given, lambda item: item[0])
    else:
        taken = f"np.asarray(image) for image in {name}"
        are_alike = _are_alike(given, lambda item: item)
    if not are_alike:
        return [FOLDER, LOOP]
    labels = ""
    if isinstance(item, tuple | list) and len(item) == 2 and _is_whole(item[1]):
        labels = f", labels=[int(label) for _, label in {name}]"
    return [*_written(f"np.stack([{taken}])", labels), LOOP]


def _are_alike(given: Any, image_of: Callable[[Any], Any]) -> bool:
    """Return whether some items are images of one shape, as far as can be seen."""
    num = _length(given) or 1
    try:
        images = [image_of(given[place]) for place in range(0, num, max(1, num // NUM_SEEN))]
        return all(map(_is_image, images)) and len({np.asarray(image).shape for image in images}) == 1
    except Exception:  # a data set may fail in any way
        return False


# What it is, in words


def _described(given: Any) -> str:
    """Return the type of what was given, with its shape or its length and its first item."""
    told = f"a {_type(given)}"
    if (shape := _shape(given)) is not None:
        kind = getattr(given, "dtype", None)
        return f"{told} of shape {list(shape)}{'' if kind is None else f', {kind}'}"
    inner = given.dataset if _is_loader(given) else given
    if inner is not given:
        told += f" of a {_type(inner)}"
    if (num := _length(inner)) is not None and not isinstance(inner, bytes):
        told += f" of {num:,} items"
    if (item := _first(inner)) is None:
        return told
    parts = item if isinstance(item, tuple | list) else [item]
    if isinstance(item, Mapping):
        parts = list(item.values())
    return f"{told}, the first of {shortened(', '.join(map(_part, parts)))}"


def _part(part: Any) -> str:
    shape = _shape(part)
    return _type(part) if shape is None else f"{_type(part)} {list(shape)}"


def _type(value: Any) -> str:
    return type(value).__name__


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor or an array, None of anything else."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
        return None
    return tuple(shape)


def _is_image(value: Any) -> bool:
    return _is_picture(value) or len(_shape(value) or ()) in (2, 3)


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_picture(value: Any) -> bool:
    """Return whether it is one of Pillow's images."""
    return hasattr(value, "getbands") and hasattr(value, "size")


def _is_loader(given: Any) -> bool:
    return hasattr(given, "dataset") and hasattr(given, "batch_size")


def _length(given: Any) -> int | None:
    try:
        return len(given)
    except Exception:  # a data set may fail in any way, or have no length
        return None


def _first(given: Any) -> Any:
    """Return the first item of a list or a data set, None where it gives none by number."""
    if isinstance(given, bytes | str | Mapping):
        return None
    try:
        return given[0]
    except Exception:  # a data set may fail in any way
        return None
