"""Pictures of what was found: grids with words beside their rows and columns, and animations."""

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, features
from torch import Tensor

from equipoise.data.channels import in_colour
from equipoise.data.pool import to_uint8
from equipoise.tasks.exhibits import GAP, SMALL, as_picture, png

LARGEST = 128  # pixels a side of a tile; larger ones are reduced
LETTERS = 13  # pixels of the letters' height
SPACE = 8  # pixels around words
MILLISECONDS = 90  # of a frame
QUALITY = 80  # of an animation


def labelled_grid(images: Tensor, rows: list[str], columns: list[str] | None = None) -> bytes:
    """Return images [R · K, C, H, W] in [-1, 1] as a PNG of R rows, with words beside them and above its columns.

    Rows without words take no room for them. The words are `drawable` ones.
    """
    tiles = as_tiles(images)
    columns = columns or []
    num_columns = len(tiles) // len(rows)
    height, width, channels = tiles.shape[1:]
    font = ImageFont.load_default(LETTERS)
    left = max((int(font.getlength(text)) for text in rows), default=0)
    left += 2 * SPACE if left else 0
    above = LETTERS + SPACE if columns else 0
    whole = (above + len(rows) * (height + GAP) + GAP, left + num_columns * (width + GAP) + GAP, channels)
    canvas = np.full(whole, 255, np.uint8)
    for index, tile in enumerate(tiles):
        top = above + GAP + index // num_columns * (height + GAP)
        begin = left + GAP + index % num_columns * (width + GAP)
        canvas[top : top + height, begin : begin + width] = tile
    picture = as_picture(canvas)
    draw = ImageDraw.Draw(picture)
    ink = 70 if channels == 1 else (70, 70, 70)
    for place, text in enumerate(rows):
        middle = above + GAP + place * (height + GAP) + height / 2
        draw.text((left - SPACE, middle), text, ink, font, anchor="rm")
    for place, text in enumerate(columns):
        middle = left + GAP + place * (width + GAP) + width / 2
        draw.text((middle, above - SPACE / 2), _shortened(text, font, width + GAP), ink, font, anchor="ms")
    pixels = np.asarray(picture)
    return png(pixels[:, :, None] if pixels.ndim == 2 else pixels)


def animated(frames: Tensor) -> tuple[bytes, str]:
    """Return loops [T, M, C, H, W] in [-1, 1], up to four beside each other, as an animation, and its file's suffix.

    It is WebP, or GIF where Pillow was built without.
    """
    num_columns = min(4, frames.shape[1])
    pictures = []
    for frame in frames:
        tiles = as_tiles(frame)
        num_rows = -(-len(tiles) // num_columns)
        empty = np.full((num_rows * num_columns - len(tiles), *tiles.shape[1:]), 255, np.uint8)
        placed = np.pad(np.concatenate([tiles, empty]), ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
        height, width, channels = placed.shape[1:]
        placed = placed.reshape(num_rows, num_columns, height, width, channels).swapaxes(1, 2)
        pictures.append(as_picture(placed.reshape(num_rows * height, num_columns * width, channels)))
    file = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": MILLISECONDS, "loop": 0}
    if features.check("webp"):
        pictures[0].save(file, "WEBP", quality=QUALITY, **options)
        return file.getvalue(), "webp"
    pictures = [picture.convert("P", palette=Image.Palette.ADAPTIVE) for picture in pictures]
    pictures[0].save(file, "GIF", **options | {"append_images": pictures[1:]})
    return file.getvalue(), "gif"


def as_tiles(images: Tensor) -> np.ndarray:
    """Return images [N, C, H, W] in [-1, 1] as uint8 [N, h, w, 1 or 3]: small ones enlarged, large ones reduced."""
    shown = in_colour(images)
    height, width = shown.shape[2:]
    if max(height, width) > LARGEST:
        share = LARGEST / max(height, width)
        size = (max(1, round(height * share)), max(1, round(width * share)))
        shown = F.interpolate(shown, size=size, mode="area")
    scale = max(1, round(SMALL / height))
    tiles = to_uint8(shown).cpu().numpy().repeat(scale, axis=2).repeat(scale, axis=3)
    return tiles.transpose(0, 2, 3, 1)


def rows_of(*columns: Tensor) -> Tensor:
    """Return columns of images [R, C, H, W] as the images of a grid, row by row: [R · K, C, H, W]."""
    return torch.stack(columns, 1).flatten(0, 1)


def drawable(words: Sequence[str]) -> list[str]:
    """Return words as they are if all letters are Latin ones; others by their numbers, as Pillow's font lacks them."""
    return [text if _is_drawn(text) else f"#{place + 1}" for place, text in enumerate(words)]


def _is_drawn(text: str) -> bool:
    return text.isprintable() and all(ord(letter) < 256 for letter in text)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return as much of a text as fits into so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
