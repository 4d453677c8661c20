"""Making exhibits for a report: pictures, sounds, animations, series, rows and lines as the bytes of files."""

import io
import math
import wave
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from PIL import Image
from torch import Tensor

from equipoise.data.pool import to_uint8
from equipoise.tasks.base import Exhibit

SUFFIXES = {"picture": "png", "sound": "wav", "animation": "gif", "series": "json", "rows": "json", "lines": "json"}
GAP = 2  # pixels between tiles
SMALL = 64  # pixels a side below which tiles are enlarged, so that they can be seen


def file_of(exhibit: Exhibit) -> str:
    """Return the name of the file that an exhibit becomes."""
    return f"{exhibit.name}.{SUFFIXES[exhibit.kind]}"


def picture(name: str, title: str, png: bytes, caption: str = "", intro: str = "") -> Exhibit:
    """Return a picture, from the bytes of a PNG file."""
    return Exhibit("picture", name, title, png, caption, intro)


def sound(name: str, title: str, samples: Tensor, rate: int, caption: str = "", intro: str = "") -> Exhibit:
    """Return a sound, from samples `[N]` in [-1, 1] and their rate in Hz, as a 16-bit WAV file."""
    pcm = (samples.detach().float().cpu().clamp(-1, 1) * 32767).round().numpy().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm.tobytes())
    return Exhibit("sound", name, title, file.getvalue(), caption, intro)


def animation(name: str, title: str, frames: Tensor, milliseconds: int = 100, caption: str = "") -> Exhibit:
    """Return an animated GIF, from frames `[T, C, H, W]` in [-1, 1]."""
    pictures = [
        as_picture(frame.transpose(1, 2, 0)).convert("P", palette=Image.Palette.ADAPTIVE)  # colours of its own
        for frame in to_uint8(frames).cpu().numpy()
    ]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return Exhibit("animation", name, title, file.getvalue(), caption)


def series(name: str, title: str, lines: Mapping[str, Sequence[float]], caption: str = "", intro: str = "") -> Exhibit:
    """Return one or two lines of numbers by their labels, drawn as a chart."""
    plain = {label: [float(value) for value in values] for label, values in lines.items()}
    return Exhibit("series", name, title, msgspec.json.encode(plain), caption, intro)


def rows(
    name: str, title: str, head: Sequence[str], cells: Sequence[Sequence[object]], caption: str = "", intro: str = ""
) -> Exhibit:
    """Return a table, from the heads of its columns and rows of cells, which are shown as text."""
    plain = {"head": list(map(str, head)), "rows": [list(map(str, row)) for row in cells]}
    return Exhibit("rows", name, title, msgspec.json.encode(plain), caption, intro)


def lines(name: str, title: str, texts: Sequence[str], caption: str = "", intro: str = "") -> Exhibit:
    """Return lines of text."""
    return Exhibit("lines", name, title, msgspec.json.encode(list(texts)), caption, intro)


def grid(images: Tensor, columns: int | None = None, scale: int | None = None) -> bytes:
    """Return images `[N, C, H, W]` in [-1, 1] as one PNG; small ones are enlarged so that they can be seen."""
    num, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(num))
    scale = scale or max(1, round(SMALL / height))
    tiles = to_uint8(images).cpu().numpy().repeat(scale, axis=2).repeat(scale, axis=3)
    num_rows = math.ceil(num / columns)
    tall = height * scale + GAP
    wide = width * scale + GAP
    canvas = np.full((num_rows * tall + GAP, columns * wide + GAP, channels), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top = index // columns * tall + GAP
        left = index % columns * wide + GAP
        canvas[top : top + height * scale, left : left + width * scale] = tile.transpose(1, 2, 0)
    return png(canvas)


def png(pixels: np.ndarray) -> bytes:
    """Return uint8 pixels `[H, W, C]` as the bytes of a PNG file."""
    encoded = io.BytesIO()
    as_picture(pixels).save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Return uint8 pixels `[H, W, C]` as a Pillow image, grey or RGB."""
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(pixels)
