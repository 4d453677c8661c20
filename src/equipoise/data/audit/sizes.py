"""Which size and fit keep every pixel of a source's images, and what is lost where none does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Sizes: TypeAlias = Mapping[tuple[int, int], int]  # images by width and height

LEAST = 8  # pixels a side that a training takes
MOST = 256
MOSTLY = 0.9  # share of the images that a size shall keep, where a few larger ones would make it much larger
FEW_TIMES = 2  # as large as most images need: up to here all of them decide


@dataclass(frozen=True)
class Keeping:
    """A size and a fit that keep every pixel of so many images; smaller ones are enlarged."""

    size: int
    fit: Fit
    num_kept: int


def is_kept(width: int, height: int, size: int, fit: Fit) -> bool:
    """Return whether every pixel of an image is in what a training sees of it."""
    match fit:
        case "crop":
            return width == height <= size
        case "pad" | "stretch":
            return max(width, height) <= size
        case _ as unreachable:
            assert_never(unreachable)


def num_kept(sizes: Sizes, size: int, fit: Fit) -> int:
    """Return of how many images every pixel is kept."""
    return sum(count for (width, height), count in sizes.items() if is_kept(width, height, size, fit))


def reduction(width: int, height: int, size: int, fit: Fit) -> float:
    """Return how many pixels of a side become one; at most 1 where nothing is reduced."""
    match fit:
        case "crop":
            return min(width, height) / size
        case "pad" | "stretch":
            return max(width, height) / size
        case _ as unreachable:
            assert_never(unreachable)


def keeping(sizes: Sizes, fit: Fit) -> Keeping | None:
    """Return what keeps every pixel of most images, None where no size does.

    It keeps all of them unless a few are far larger than the others. A fit that cuts gives way to one that pads where
    images are not square.
    """
    num = sum(sizes.values())
    if not num:
        return None
    largest = max(max(shape) for shape in sizes)
    enough = _side_of_most(sizes, num)
    if enough > MOST:
        return None
    side = enough
    if largest <= min(MOST, FEW_TIMES * enough):
        side = largest
    if fit == "crop" and any(width != height for width, height in sizes if max(width, height) <= side):
        fit = "pad"
    size = max(LEAST, side)
    return Keeping(size, fit, num_kept(sizes, size, fit))


def _side_of_most(sizes: Sizes, num: int) -> int:
    """Return the least side that is no shorter than the longer side of most images."""
    held = 0
    for (width, height), count in sorted(sizes.items(), key=lambda item: max(item[0])):
        held += count
        if held >= MOSTLY * num:
            return max(width, height)
    return MOST + 1
