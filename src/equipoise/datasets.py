"""Images as arrays, for a training loop of your own: the embedded digits, a folder, a zip or an `.npz`."""

from pathlib import Path

import numpy as np

from equipoise.data.pool import prepare
from equipoise.errors import Option
from equipoise.recipe import Data, Images
from equipoise.sizes import parsed_size, typed_size


def load_images(source: str | Path = "mnist", size: int | tuple[int, int] | str | None = None) -> np.ndarray:
    """Return the images of a source; those that cannot be read are left out.

    Args:
        source: "mnist" (the embedded digits), a folder of images, a zip, an `.npz`, or "hub:NAME".
        size: pixels a side (64), or width and height ("40x30" or (40, 30)); without, the median of the images' smaller
            sides, at most 256.

    Returns:
        uint8 `[N, C, H, W]`, 0..255; C is 1 where all images are grey, else 3, of arrays with 5 to 16
        channels these. `images / 127.5 - 1` is in [-1, 1].

    Raises:
        UserError: where there is no such source, or too many of its images cannot be used.

    Example:
        >>> from equipoise.datasets import load_images
        >>> images = load_images("mnist")
        >>> images.shape[1:], images.dtype
        ((1, 28, 28), dtype('uint8'))
    """
    asked = None if size is None else parsed_size(typed_size(size), Option("size", size))
    pool = prepare(Data(source=str(source)), Images(size=asked))
    return np.array(pool.images)
