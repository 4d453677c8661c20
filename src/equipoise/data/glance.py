"""A look at a source before it is fitted: what its files say of themselves, and some images in their own size."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from equipoise.data.decode import BrokenImage, Header, header_of, open_image, upright
from equipoise.data.pool import of_bytes
from equipoise.data.sheets import Tiles, sheet_of
from equipoise.data.sources import SourceImages, labelled, open_source

NUM_LOOKED_AT = 96  # images, spread over the source
NUM_LARGE = 8  # and the largest of those that are much larger than the others
MUCH_LARGER = 2.0  # than the median, in pixels a side
MAX_PIXELS = 2**26  # of all that are decoded
COLOURED = 4.0  # grey levels, by which the channels of a picture differ on average
WHITE = (255, 255, 255)

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Look:
    """What one image is in its own size."""

    name: str
    side: int  # the smaller one, in pixels
    is_coloured: bool
    sheet: Tiles | None  # rows and columns, where it shows many pictures


@dataclass(frozen=True, eq=False)
class Glance:
    """The headers of all images of a source, and a look at some of them."""

    headers: Counter[Header]
    looks: tuple[Look, ...]

    @property
    def side(self) -> int:
        """The median of the smaller sides, in pixels; 0 where no image can be read."""
        return self.median(lambda header: min(header.width, header.height))

    def median(self, side: Callable[[Header], int]) -> int:
        """Return the median of a side of the images, in pixels; 0 where none can be read."""
        sides = sorted(map(side, self.headers.elements()))
        return sides[len(sides) // 2] if sides else 0

    @property
    def share_coloured(self) -> float:
        """The share of the images that were looked at that are in colour."""
        return sum(look.is_coloured for look in self.looks) / max(1, len(self.looks))


def glance(source: str, progress: Progress = lambda share: None) -> Glance:
    """Read the headers of all images of a source, and decode some; those that cannot be read are passed over."""
    images, _ = of_bytes(labelled(open_source(source).load()))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:
        headers = list(_headers(images, executor, progress))
        chosen = _chosen(headers)
        looks = list(executor.map(lambda index: _look(images, index), chosen))
    found = Counter(header for header in headers if header is not None)
    return Glance(found, tuple(look for look in looks if look is not None))


def _headers(images: SourceImages, executor: ThreadPoolExecutor, progress: Progress) -> Iterator[Header | None]:
    num = len(images.names)
    if images.array is not None and num:
        header = header_of(images.array[0])
        yield from (header for _ in range(num))
        return
    for index, header in enumerate(executor.map(lambda index: _header(images, index), range(num))):
        yield header
        progress((index + 1) / num)


def _header(images: SourceImages, index: int) -> Header | None:
    try:
        return header_of(images.read(index))
    except BrokenImage:
        return None


def _chosen(headers: Sequence[Header | None]) -> list[int]:
    """Return the places of the images to look at: some spread over all, and those that stand out by their size."""
    sides = np.array([0 if header is None else min(header.width, header.height) for header in headers])
    usable = np.flatnonzero(sides)
    if not len(usable):
        return []
    spread = usable[np.unique(np.linspace(0, len(usable) - 1, min(len(usable), NUM_LOOKED_AT)).astype(np.int64))]
    large = usable[np.argsort(-sides[usable], kind="stable")[:NUM_LARGE]]
    large = large[sides[large] >= MUCH_LARGER * np.median(sides[usable])]
    places = [int(place) for place in np.concatenate([large, np.setdiff1d(spread, large)])]
    kept = []
    left = MAX_PIXELS
    for place in places:
        header = headers[place]
        assert header is not None
        left -= header.width * header.height
        if left < 0 and kept:
            break
        kept.append(place)
    return kept


def _look(images: SourceImages, index: int) -> Look | None:
    try:
        pixels = np.asarray(upright(open_image(images.read(index)), WHITE))
    except BrokenImage:
        return None
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    differing = np.ptp(pixels.astype(np.int16), axis=2).mean()
    return Look(images.names[index], min(pixels.shape[:2]), bool(differing > COLOURED), sheet_of(pixels))
