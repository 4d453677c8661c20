"""How many samples there are in a batch of any kind: tensors, lists, dicts, dataclasses, and all of these nested."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

CHANNELS = (1, 3, 4)
MOST_NESTED = 8


def num_samples(batch: Any, expected: int | None = None) -> int | None:
    """Return how many samples a batch holds, None where that cannot be told.

    `expected` is what the loader makes batches of; it decides where a list could be one of samples, or of columns.
    """
    found = _counted(batch, expected, 0)
    return None if found is None else found[0]


def _counted(batch: Any, expected: int | None, depth: int) -> tuple[int, int] | None:
    """Return the number of samples, and by how many dimensions it is known: an image says more than a label."""
    if depth > MOST_NESTED or isinstance(batch, str | bytes | int | float) or batch is None:
        return None
    sides = _sides(batch)
    if sides is not None:
        return (sides[0], len(sides)) if sides else None
    parts = _parts(batch)
    if isinstance(batch, Sequence) and not parts:
        return 0, 0
    found = [count for part in parts if (count := _counted(part, expected, depth + 1)) is not None]
    is_list = isinstance(batch, Sequence) and not hasattr(batch, "_fields")
    if is_list and _is_of_samples(batch, found, expected):
        return len(batch), max((dimensions for _, dimensions in found), default=0) + 1
    if expected is not None:
        for count in found:
            if count[0] == expected:
                return count
    return max(found, key=lambda count: (count[1], count[0] > 1), default=None)  # one of all is no column


def _is_of_samples(batch: Sequence[Any], found: list[tuple[int, int]], expected: int | None) -> bool:
    """Return whether a list holds one sample in each place, rather than one column of all samples."""
    if not found:  # words, numbers, pictures that are no tensors
        return True
    if len(found) == len(batch) and all(_is_image(part) for part in batch):
        return len(batch) > 1 or found[0][0] != expected
    return expected == len(batch) and all(num != expected for num, _ in found)


def _is_image(sample: Any) -> bool:
    """Return whether a part of a batch is one image, alone or with what belongs to it."""
    sides = _sides(sample)
    if sides is not None:
        is_grey = len(sides) == 2 and str(getattr(sample, "dtype", "")).endswith("uint8")  # bytes of two sides
        return is_grey or (len(sides) == 3 and (sides[0] in CHANNELS or sides[2] in CHANNELS))
    if isinstance(sample, str | bytes | int | float) or sample is None:
        return False
    shapes = [sides for part in _parts(sample) if (sides := _sides(part)) is not None]
    return bool(shapes) and max(map(len, shapes)) == 3 and any(map(_is_image, _parts(sample)))


def _sides(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor, of an array of any library or of a picture, None for anything else."""
    if hasattr(value, "getbands"):  # Pillow's, which has no shape
        return (len(value.getbands()), value.height, value.width)
    try:
        return tuple(int(side) for side in value.shape)
    except AttributeError:
        return None
    except Exception:  # a nested tensor, of images that differ in size
        return (int(value.size(0)),)


def _parts(batch: Any) -> list[Any]:
    """Return what a batch is made of, by whatever it is made with."""
    if isinstance(batch, Mapping):
        return list(batch.values())
    if isinstance(batch, Sequence):
        return list(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    slots = [getattr(batch, name, None) for name in getattr(type(batch), "__slots__", ())]
    return [*getattr(batch, "__dict__", {}).values(), *slots]
