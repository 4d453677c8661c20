"""Pictures for people: grids of images as PNG files."""

import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from equipoise.data.pool import to_uint8
from equipoise.storage.files import write_bytes

GAP = 2  # pixels between tiles


def save_grid(images: Tensor, path: Path, columns: int | None = None, scale: int | None = None) -> Path:
    """Write images `[N, C, H, W]` in [-1, 1] as one PNG grid; small ones are enlarged so that they can be seen.

    The file appears whole or not at all; raises OSError.
    """
    num, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(num))
    scale = scale or max(1, round(64 / height))
    tiles = to_uint8(images).numpy().repeat(scale, axis=2).repeat(scale, axis=3)
    rows = math.ceil(num / columns)
    tall, wide = height * scale + GAP, width * scale + GAP
    canvas = np.full((rows * tall + GAP, columns * wide + GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * tall + GAP, index % columns * wide + GAP
        canvas[top : top + height * scale, left : left + width * scale] = tile.transpose(1, 2, 0)
    encoded = io.BytesIO()
    picture(canvas).save(encoded, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encoded.getvalue())
    return path


def save_each(batches: Iterable[Tensor], folder: Path) -> int:
    """Write batches of images `[N, C, H, W]` in [-1, 1] as `folder/000000.png`, …; return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    num = 0
    for images in batches:
        for image in to_uint8(images).numpy():
            picture(image.transpose(1, 2, 0)).save(folder / f"{num:06d}.png")
            num += 1
    return num


def picture(pixels: np.ndarray) -> Image.Image:
    """Return uint8 pixels `[H, W, C]` as a Pillow image, grey or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
