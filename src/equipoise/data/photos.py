"""Photographs in their own sizes: decoded upright in colour, cut to a multiple of a scale, split by content."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from equipoise.data.decode import BrokenImage, open_image, upright
from equipoise.data.pool import most_rejected, of_bytes, rejected_remedies
from equipoise.data.sources import SourceImages, open_source, subject_of
from equipoise.data.splits import content_digests, to_hashes
from equipoise.errors import UserError
from equipoise.storage.records import Rejected

MAX_SIDE = 1_024  # pixels; larger photographs are reduced, which makes them sharper as well
MAX_BYTES = 2**31  # of all photographs in memory
WHITE = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Photos:
    """Photographs uint8 [3, H, W], each of its own size, a multiple of the scale."""

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    hashes: np.ndarray  # uint64 [N]
    digest: str  # SHA-256 of all pixels and sizes
    rejected: tuple[Rejected, ...]
    num_left_out: int  # for want of memory
    num_skipped: int = 0  # files ignored because their names are not those of images
    notes: tuple[str, ...] = ()  # what was inferred of an array's pixel values


def read_photos(
    source: str, scale: int, least_side: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Photos:
    """Read every photograph of a source; raises UserError where too many cannot be used.

    One with a side below `least_side` is rejected. `progress` is called with (done, total).
    """
    opened = open_source(source)
    images, _ = of_bytes(opened.load())
    num = len(images.names)
    names: list[str] = []
    kept: list[np.ndarray] = []
    rejected: list[Rejected] = []
    num_bytes = 0
    num_left_out = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as executor:
        for index, found in enumerate(executor.map(lambda at: _attempt(images, at, scale, least_side), range(num))):
            progress(index + 1, num)
            if isinstance(found, str):
                rejected.append(Rejected(images.names[index], found))
            elif num_bytes + found.nbytes > MAX_BYTES:
                num_left_out += 1
            else:
                num_bytes += found.nbytes
                names.append(images.names[index])
                kept.append(found)
    if not kept or len(rejected) > most_rejected(num):
        first = "; ".join(f"{item.name}: {item.reason}" for item in rejected[:3])
        problem = f"{len(kept)} of {num} photographs can be used ({first})"
        raise UserError(subject_of(source), problem, *rejected_remedies(len(rejected), num))
    hashes = to_hashes([content_digests(_with_size(image)[None])[0] for image in kept])
    digest = hashlib.sha256(hashes.tobytes())
    for image in kept:
        digest.update(_with_size(image).tobytes())
    notes = images.notes if images.array is not None else ()  # those of a folder speak of classes
    made = (tuple(names), tuple(kept), hashes, digest.hexdigest(), tuple(rejected), num_left_out)
    return Photos(*made, images.num_skipped, notes)


def read_photo(raw: bytes | np.ndarray, max_side: int | None = None) -> np.ndarray:
    """Return an image upright, in colour, on white, as uint8 [H, W, 3]; raises BrokenImage."""
    image = upright(open_image(raw), WHITE)
    if max_side is not None and max(image.size) > max_side:
        factor = max_side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.array(image.convert("RGB"))


def _attempt(images: SourceImages, index: int, scale: int, least_side: int) -> np.ndarray | str:
    """Return a photograph as uint8 [3, H, W], or why it cannot be used."""
    try:
        pixels = read_photo(images.read(index), MAX_SIDE)
    except BrokenImage as broken:
        return str(broken)
    height, width = (side - side % scale for side in pixels.shape[:2])
    if min(height, width) < least_side:
        return f"{pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than {least_side}"
    return np.ascontiguousarray(pixels[:height, :width].transpose(2, 0, 1))


def _with_size(image: np.ndarray) -> np.ndarray:
    """Return pixels led by their shape, so that no two images of other shapes are equal."""
    return np.concatenate([np.array(image.shape, np.uint16).view(np.uint8), image.ravel()])
