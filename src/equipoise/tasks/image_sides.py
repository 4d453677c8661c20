"""The sides of an evaluation of images: what was found in a folder, how it was fitted, what a run has seen of it."""

from collections import Counter
from functools import partial
from typing import Literal, assert_never

import numpy as np

from equipoise.data.decode import Header
from equipoise.data.glance import Glance
from equipoise.data.pool import Pool
from equipoise.sizes import Size, size_of_shape
from equipoise.tasks.image_cautions import NUM_COMPARED, Seen, sheet_caution
from equipoise.tasks.sides import Side, num_distinct

Fit = Literal["crop", "pad", "stretch"]


def image_side(
    name: str,
    pool: Pool,
    fit: Fit,
    found: Glance,
    hashes: np.ndarray,
    split: str | None = None,
    num_seen: int = 0,
) -> Side:
    """Return a side of an evaluation whose compared images have these hashes uint64 [n]."""
    size = size_of_shape(pool.images.shape)
    sizes = Counter[tuple[int, int]]()
    modes = Counter[str]()
    num_cropped = 0
    num_enlarged = 0
    for header, num in found.headers.items():
        sizes[header.width, header.height] += num
        modes[header.mode] += num
        num_cropped += num * (header.width * size.height != header.height * size.width)
        num_enlarged += num * (_fitted_side(header, fit, size) < min(size))
    return Side(
        source=name,
        num_found=len(pool.images) + len(pool.rejected),
        num_used=len(pool.images),
        num_compared=len(hashes),
        num_distinct=num_distinct(hashes),
        split=split,
        num_seen=num_seen,
        rejected=pool.rejected,
        num_passed_over=pool.num_skipped,
        sizes=sizes,
        modes=modes,
        num_cropped=num_cropped,
        num_enlarged=num_enlarged,
        notes=pool.notes,
    )


def _fitted_side(header: Header, fit: Fit, size: Size) -> int:
    """Return how many pixels of an image become the smaller side of a size: of a square's, one of its own sides."""
    across = header.width * min(size) / size.width
    down = header.height * min(size) / size.height
    match fit:
        case "crop" | "stretch":
            return round(min(across, down))
        case "pad":
            return round(max(across, down))
        case _:
            assert_never(fit)


def seen(what: str, name: str, pool: Pool, hashes: np.ndarray, indices: np.ndarray, found: Glance, fit: Fit) -> Seen:
    """Return the images at these indices as one side of a comparison, the pixels of the first of them."""
    pixels = pool.images[np.sort(indices[:NUM_COMPARED])]
    size = size_of_shape(pool.images.shape)
    own, whole = (found.median(partial(_fitted_side, fit=kind, size=size)) for kind in (fit, "pad"))
    return Seen(what, name, pixels, hashes[indices], found, own, whole)


def sheet_hint(found: Glance, name: str) -> str:
    """Say where a source has few images since each is a sheet of many; else nothing."""
    caution = sheet_caution(found, "given", name)
    return "" if caution is None else caution.told(in_shell=False)
