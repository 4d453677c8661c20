"""The size of images: a square's side or a width and height, as people write it (`64`, `40x30`), and in words."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from equipoise.errors import Option, Part, Setting, UserError

MIN_SIDE = 8
MAX_SIDE = 1024
MAX_CHANNELS = 16
LARGE_SIDE = 256  # pixels a side; above it a training on a CPU says what a step costs

# A square's side, or width and height, as a recipe keeps it. Bounds are checked by `refuse_size`: with bounds on both
# parts of this union, msgspec 0.22 reads memory that is not its own.
GivenSize: TypeAlias = int | tuple[int, int]


class Size(NamedTuple):
    """Width and height in pixels, in this order everywhere but in tensors, which are [C, H, W]."""

    width: int
    height: int

    def __str__(self) -> str:
        """Return the size in words."""
        return f"{self.width} × {self.height}"

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.width * self.height

    @property
    def side(self) -> int:
        """The side of a square of about as many pixels."""
        return round(math.sqrt(self.pixels))

    @property
    def given(self) -> int | tuple[int, int]:
        """The size as a recipe keeps it: a whole number for a square."""
        return self.width if self.width == self.height else (self.width, self.height)

    @property
    def plain(self) -> int | list[int]:
        """The size as JSON keeps it."""
        return self.width if self.width == self.height else [self.width, self.height]

    @property
    def typed(self) -> int | str:
        """The size as one types it: `64`, or `40x30`."""
        return self.width if self.width == self.height else f"{self.width}x{self.height}"


def size_of(given: int | Sequence[int]) -> Size:
    """Return what a whole number, for a square, or a width and height stand for."""
    return Size(given, given) if isinstance(given, int) else Size(*given)


def size_of_shape(shape: tuple[int, ...]) -> Size:
    """Return the size of arrays or tensors [..., H, W]."""
    return Size(shape[-1], shape[-2])


def resolutions(size: GivenSize) -> list[Size]:
    """Return sizes from `size` down, both sides halved (rounded up) until the smaller is at most 4: 28, 14, 7, 4.

    A rectangle of 40×30 ends at 5×4. Stopping at 7 leaves a 28×28 discriminator two convolutions deep: too few to see
    a digit's whole shape.
    """
    sizes = [size_of(size)]
    while min(sizes[-1]) > 4:
        sizes.append(Size(*(math.ceil(side / 2) for side in sizes[-1])))
    return sizes


def evenly_halved(size: Size) -> Size:
    """Return the nearest size whose sides stay whole while both are halved until the smaller is at most 4 pixels."""
    unit = 1
    smaller = min(size)
    while smaller > 4:
        smaller = math.ceil(smaller / 2)
        unit *= 2
    return Size(*(max(1, math.floor(side / unit + 0.5)) * unit for side in size))


def parsed_size(text: str, subject: Setting | Option) -> int | tuple[int, int]:
    """Read `64` or `40x30` (width x height); raises UserError, about an option or a setting, with what to type."""
    problem = f"give one number for a square (64), or width x height (40x30), each side {MIN_SIDE} to {MAX_SIDE} pixels"
    match = re.fullmatch(r"(-?\d{0,30})\s*(?:[x×,]\s*(-?\d{0,30}))?", text.strip().strip("()[]").lower(), re.ASCII)
    if match is None or not (match[1] or match[2]):
        raise UserError(subject, problem, _to_type(subject, Size(64, 64)), _to_type(subject, Size(40, 30)))
    numbers = [int(part) if part.strip("-") else None for part in match.groups() if part is not None]
    sides = [number for number in numbers if number is not None]
    if len(sides) == len(numbers) and all(MIN_SIDE <= side <= MAX_SIDE for side in sides):
        return size_of((sides[0], sides[-1])).given
    lacking = _lacking(numbers)
    nearest = [min(max(side, MIN_SIDE), MAX_SIDE) for side in sides if side > 0] or [MIN_SIDE]
    remedies = [_to_type(subject, Size(nearest[0], nearest[-1]))]
    if len(nearest) < len(numbers):
        remedies.append(_to_type(subject, Size(40, 30)))
    raise UserError(subject, f"{lacking}{problem}", *remedies)


def _lacking(numbers: list[int | None]) -> str:
    """Say which side is missing, or outside of what is allowed."""
    names = ("the width", "the height") if len(numbers) == 2 else ("the side",)
    for name, number in zip(names, numbers, strict=True):
        if number is None:
            return f"{name} is missing; "
        if number < MIN_SIDE:
            return f"{name} is less than {MIN_SIDE}; "
        if number > MAX_SIDE:
            return f"{name} is more than {MAX_SIDE}; "
    return ""


def _to_type(subject: Setting | Option, size: Size) -> Part:
    return Option(subject.name, size.typed) if isinstance(subject, Option) else Setting(subject.field, size.typed)


def refuse_size(given: GivenSize) -> None:
    """Raise UserError for a recipe's size that is out of bounds."""
    parsed_size(typed_size(given), Setting("task.size", typed_size(given)))


def typed_size(given: Any) -> str:
    """Return the size that Python gives, 64, (40, 30) or "40x30", as one types it."""
    if isinstance(given, tuple | list) and len(given) == 2:
        return f"{given[0]}x{given[1]}"
    return str(given)
