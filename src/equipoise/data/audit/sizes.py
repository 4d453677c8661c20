"""Which size and fit keep every pixel of a source's images, and what is lost where none does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from equipoise.data.decode import fitted_into
from equipoise.sizes import LARGE_SIDE, MIN_SIDE, Size

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Sizes: TypeAlias = Mapping[tuple[int, int], int]  # images by width and height

MOST = LARGE_SIDE  # pixels a side of what is advised: up to MAX_SIDE can be asked for, by those who know the price
MOSTLY = 0.9  # share of the images that a size shall keep, where a few larger ones would make it much larger
SLIGHTLY = 0.02  # share of an image, whose loss is no loss
FEW_TIMES = 2  # as large as most images need: up to here all of them decide


@dataclass(frozen=True)
class Keeping:
    """A size and a fit that keep every pixel of so many images; smaller ones are enlarged."""

    size: Size
    fit: Fit
    num_kept: int


def is_kept(width: int, height: int, size: Size, fit: Fit) -> bool:
    """Return whether every pixel of an image is in what a training sees of it."""
    is_within = width <= size.width and height <= size.height
    match fit:
        case "crop":
            return is_within and fitted_into(Size(width, height), size) == (width, height)
        case "pad" | "stretch":
            return is_within
        case _ as unreachable:
            assert_never(unreachable)


def num_kept(sizes: Sizes, size: Size, fit: Fit) -> int:
    """Return of how many images every pixel is kept."""
    return sum(count for (width, height), count in sizes.items() if is_kept(width, height, size, fit))


def reduction(width: int, height: int, size: Size, fit: Fit) -> float:
    """Return how many pixels of a side become one; at most 1 where nothing is reduced."""
    across = width / size.width
    down = height / size.height
    match fit:
        case "crop":
            return min(across, down)
        case "pad" | "stretch":
            return max(across, down)
        case _ as unreachable:
            assert_never(unreachable)


def is_enlarged(width: int, height: int, size: Size, fit: Fit) -> bool:
    """Return whether an image has fewer pixels than it is given, on a side at least."""
    if fit == "pad":
        return reduction(width, height, size, fit) < 1
    return width < size.width or height < size.height


def share_lost(width: int, height: int, size: Size) -> float:
    """Return the share of an image that a cut to a size's ratio takes away, or that bars around it add to it."""
    part = fitted_into(Size(width, height), size)
    return 1 - part.pixels / (width * height)


def keeping(sizes: Sizes, fit: Fit) -> Keeping | None:
    """Return what keeps every pixel of most images, None where no size up to 256 does.

    It keeps all of them unless a few are far larger than the others. A fit that cuts gives way to one that pads where
    the images are of several ratios.
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
    size = _around({shape: count for shape, count in sizes.items() if max(shape) <= side})
    found = Keeping(size, fit, num_kept(sizes, size, fit))
    if fit != "crop":
        return found
    padded = num_kept(sizes, size, "pad")
    return found if found.num_kept == padded else Keeping(size, "pad", padded)


def same_shape(sizes: Sizes, side: int) -> Size | None:
    """Return the size with the ratio that most images share, and a longer side of `side`; None where none is shared.

    At most 2 % of an image of that ratio is cut off, where whole pixels leave no better choice.
    """
    num = sum(sizes.values())
    for shape in sorted(sizes, key=lambda shape: -sizes[shape])[:1]:
        size = _reduced(Size(*shape), side)
        if size.width == size.height or min(size) < MIN_SIDE:
            continue
        if sum(count for one, count in sizes.items() if share_lost(*one, size) <= SLIGHTLY) >= MOSTLY * num:
            return size
    return None


def _reduced(shape: Size, side: int) -> Size:
    """Return a size of about this ratio whose longer side is about `side`: the one nearest to it within a fifth."""
    longest = max(shape)
    found = []
    for long in range(max(MIN_SIDE, round(0.8 * side)), side + 1):
        size = Size(*(max(1, round(part * long / longest)) for part in shape))
        found.append((round(share_lost(*shape, size), 3), -long, size))
    return min(found)[2]


def _around(sizes: Sizes) -> Size:
    """Return the least size that has room for each of these: a square where most of them are squares."""
    width, height = (max(MIN_SIDE, *sides) for sides in zip(*sizes, (0, 0), strict=True))
    num_square = sum(count for (wide, high), count in sizes.items() if wide == high)
    if num_square >= MOSTLY * sum(sizes.values()):
        width = height = max(width, height)
    return Size(width, height)


def _side_of_most(sizes: Sizes, num: int) -> int:
    """Return the least side that is no shorter than the longer side of most images."""
    held = 0
    for (width, height), count in sorted(sizes.items(), key=lambda item: max(item[0])):
        held += count
        if held >= MOSTLY * num:
            return max(width, height)
    return MOST + 1
