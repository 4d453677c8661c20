"""Images as arrays, for a training loop of your own: the embedded digits, a folder, a zip or an `.npz`."""

from pathlib import Path

import numpy as np

from equipoise.data.pool import prepare
from equipoise.errors import Option, UserError
from equipoise.recipe import Data, Images


def load_images(source: str | Path = "mnist", size: int | None = None) -> np.ndarray:
    """Return the images of a source; those that cannot be read are left out.

    Args:
        source: "mnist" (the embedded digits), a folder of images, a zip, an `.npz`, or "hub:NAME".
        size: pixels a side; without, the median of the images' smaller sides, at most 256.

    Returns:
        uint8 `[N, C, H, W]`, 0..255; C is 1 where all images are grey, else 3. `images / 127.5 - 1` is in [-1, 1].

    Raises:
        UserError: where there is no such source, or too many of its images cannot be used.

    Example:
        >>> from equipoise.datasets import load_images
        >>> images = load_images("mnist")
        >>> images.shape[1:], images.dtype
        ((1, 28, 28), dtype('uint8'))
    """
    if size is not None and not 8 <= size <= 256:
        raise UserError(Option("size", size), "give from 8 to 256 pixels", Option("size", min(max(size, 8), 256)))
    pool = prepare(Data(source=str(source)), Images(size=size))
    return np.array(pool.images)
