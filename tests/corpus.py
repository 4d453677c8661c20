"""Odd image files, built byte by byte: what cameras, browsers, broken disks and hostile people leave in a folder.

A file is either used, and then its pixels are known, or left out for a reason; some may be either.
"""

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SIDE = 24  # pixels a side of most, and of what they become


class Odd(NamedTuple):
    """A file; `pixels` uint8 [H, W, 3] are what it shows if it is used, `reason` a pattern if it may be left out."""

    name: str
    content: bytes
    pixels: np.ndarray | None = None
    reason: str | None = None
    tolerance: int = 1  # grey levels that any pixel may be off


def write_photographs(folder: Path, num: int) -> Path:
    """Write smooth colour photographs of 64×48 pixels, with grain, and return their folder."""
    draw = np.random.default_rng(0)
    for index in range(num):
        coarse = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)).astype(float)
        pixels = smooth + draw.normal(0, 6, smooth.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index:02d}.png")
    return folder


def picture() -> np.ndarray:
    """Return a smooth picture uint8 [SIDE, SIDE, 3] that no turn or mirror leaves as it is."""
    down, right = np.indices((SIDE, SIDE)) * 255 // SIDE
    return np.stack([down, right, 255 - (down + right) // 3], -1).astype(np.uint8)


def grey() -> np.ndarray:
    """Return the picture in grey, still as three channels."""
    return np.repeat(picture()[:, :, :1], 3, 2)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def png(
    width: int, height: int, rows: bytes, depth: int = 8, color: int = 2, interlaced: bool = False, *others: bytes
) -> bytes:
    """Return a PNG of unfiltered rows, each with its leading zero byte, whether or not the header fits them."""
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    parts = [chunk(b"IHDR", header), *others, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def unfiltered(pixels: np.ndarray) -> bytes:
    """Return rows of pixels [H, W] or [H, W, C] as a PNG holds them; 16 bits are big-endian."""
    values = pixels.astype(">u2") if pixels.dtype == np.uint16 else pixels
    return b"".join(b"\0" + row.tobytes() for row in values)


def interlaced_png() -> bytes:
    """Return the picture in the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [unfiltered(picture()[top::down, left::right]) for left, top, right, down in passes]
    return png(SIDE, SIDE, b"".join(parts), 8, 2, True)


def small_bomb() -> bytes:
    """Return 8 kB that become 65 megapixels of two colours: 330 MB once they are RGB."""
    side = 8064
    palette = chunk(b"PLTE", bytes((255, 0, 0, 0, 0, 255)))
    return png(side, side, (b"\0" + b"\0" * (side // 8)) * side, 1, 3, False, palette)


def large_bomb() -> bytes:
    """Return a PNG of 324 megapixels: 320 MB of grey."""
    side = 18_000
    return png(side, side, (b"\0" * (side + 1)) * side, 8, 0)


def text_bomb() -> bytes:
    """Return the picture with a comment that unpacks to 100 MB."""
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    return png(SIDE, SIDE, unfiltered(picture()), 8, 2, False, comment)


def turned(orientation: int) -> np.ndarray:
    """Return the picture as a camera that was held otherwise has stored it."""
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}
    stored = np.rot90(picture(), turns[orientation])
    mirrored = {2: np.fliplr, 4: np.fliplr, 5: np.flipud, 7: np.flipud}.get(orientation, lambda same: same)(stored)
    return np.ascontiguousarray(mirrored)


def truncated() -> Iterator[Odd]:
    """Yield files of every format cut off at several places."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    options = {"TIFF": {"compression": "tiff_deflate"}, "WebP": {"lossless": True}}
    for kind in ("PNG", "JPEG", "GIF", "WebP", "TIFF", "BMP", "PPM"):
        raw = encoded(noise, kind, **options.get(kind, {}))
        for share in (5, 20, 50, 80, 95):
            cut = raw[: len(raw) * share // 100]
            yield Odd(f"cut at {share} %.{kind.lower()}", cut, None, "truncated|damaged|not an image|not supported")


def animations() -> Iterator[Odd]:
    """Yield animations and pages, of which the first is the picture."""
    frames = [Image.new("RGB", (SIDE, SIDE), color) for color in ("blue", "red", "lime")]
    blue = np.asarray(frames[0])
    for kind, name, options in (
        ("GIF", "moving.gif", {"duration": 100}),
        ("WebP", "moving.webp", {"lossless": True}),
        ("PNG", "moving.apng.png", {}),
        ("TIFF", "pages.tiff", {}),
    ):
        yield Odd(name, encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options), blue)


def orientations() -> Iterator[Odd]:
    """Yield the picture in every way that EXIF can say it lies."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = turned(orientation)
        yield Odd(f"turned {orientation}.png", encoded(stored, exif=exif), picture())
        jpeg = encoded(stored, "JPEG", exif=exif, quality=95, subsampling=0)
        yield Odd(f"turned {orientation}.jpg", jpeg, picture(), tolerance=16)


def modes() -> Iterator[Odd]:
    """Yield every mode of colour, depth and transparency."""
    deep = picture().astype(np.uint16) * 257
    opaque = np.full((SIDE, SIDE, 1), 65535, np.uint16)
    cmyk = Image.fromarray(picture()).convert("CMYK")
    yield Odd("cmyk.jpg", encoded(cmyk, "JPEG", quality=95), picture(), tolerance=24)
    yield Odd("deep grey.png", encoded(deep[:, :, 0]), grey())
    yield Odd("deep grey.tif", encoded(deep[:, :, 0], "TIFF"), grey())
    yield Odd("deep colour.png", png(SIDE, SIDE, unfiltered(deep), 16, 2), picture())
    clear = np.concatenate([deep, opaque], -1)
    yield Odd("deep colour and alpha.png", png(SIDE, SIDE, unfiltered(clear), 16, 6), picture())
    pair = np.concatenate([deep[:, :, :1], opaque], -1)
    yield Odd("deep grey and alpha.png", png(SIDE, SIDE, unfiltered(pair), 16, 4), grey())
    half = Image.new("LA", (SIDE, SIDE), (0, 0))
    half.paste((90, 255), (0, 0, SIDE, SIDE // 2))
    shown = np.full((SIDE, SIDE, 3), 255, np.uint8)
    shown[: SIDE // 2] = 90
    yield Odd("grey and alpha.png", encoded(half), shown)
    paletted = Image.new("P", (SIDE, SIDE), 1)
    paletted.putpalette([255, 0, 0, 0, 0, 255])
    paletted.paste(0, (0, 0, SIDE, SIDE // 2))
    blue = np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8)
    blue[: SIDE // 2] = 255
    yield Odd("palette and alpha.png", encoded(paletted, transparency=bytes((0, 255))), blue)
    yield Odd("not a number.tif", encoded(np.full((SIDE, SIDE), np.nan, np.float32), "TIFF"), None, "not finite")
    yield Odd("lab.tif", encoded(Image.new("LAB", (SIDE, SIDE)), "TIFF"), None, "colour mode LAB is not supported")


def shapes() -> Iterator[Odd]:
    """Yield sizes that nobody expects, and headers that lie about them."""
    red = np.full((SIDE, SIDE, 3), (255, 0, 0), np.uint8)
    for width, height in ((1, 1), (1, 5000), (5000, 1)):
        yield Odd(f"{width} by {height}.png", encoded(Image.new("RGB", (width, height), "red")), red)
    rows = unfiltered(picture())
    yield Odd("says more.png", png(4000, 4000, rows), None, "truncated|damaged")
    yield Odd("says nothing.png", png(0, 0, rows), None, "truncated|damaged")
    yield Odd("small bomb.png", small_bomb(), None, "too large: 8064x8064 pixels in a file of")
    yield Odd("large bomb.png", large_bomb(), None, "too large: 18000x18000 pixels")


def damages() -> Iterator[Odd]:
    """Yield files with something wrong around the pixels."""
    whole = encoded(picture())
    for name in (b"IHDR", b"IDAT"):
        at = whole.index(name) + 4 + struct.unpack(">L", whole[whole.index(name) - 4 : whole.index(name)])[0]
        damaged = whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 4]) + whole[at + 4 :]
        yield Odd(f"wrong sum of {name.decode()}.png", damaged, picture(), "damaged PNG")
    jpeg = encoded(picture(), "JPEG", quality=95, subsampling=0)
    yield Odd("garbage behind.jpg", jpeg + b"\0garbage\xff\xd8\xff" * 99, picture(), tolerance=16)
    yield Odd("interlaced.png", interlaced_png(), picture())
    yield Odd("text bomb.png", text_bomb(), picture(), "damaged PNG")
    yield Odd("empty.png", b"", None, "^0 bytes$")


def wrong_names() -> Iterator[Odd]:
    """Yield images under the names of other formats, and what is no image under the names of images."""
    yield Odd("a tiff.png", encoded(picture(), "TIFF"), picture())
    yield Odd("a png.jpg", encoded(picture()), picture())
    yield Odd("text.png", b"Nothing to see here.\n", None, r"^not an image \(text\?\)$")
    yield Odd("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>", None, r"^not an image \(web page\?\)$")
    yield Odd("paper.png", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", None, r"^not an image \(PDF\?\)$")


def odd_files() -> list[Odd]:
    """Return all odd files."""
    makers = (truncated, animations, orientations, modes, shapes, damages, wrong_names)
    return [odd for maker in makers for odd in maker()]


def odd_names() -> list[str]:
    """Return names that a file may have on this system, odd as they are."""
    names = [" spaces .png", "🐈 ünïcödé.png", "quote'\"$(x).png", "-dash.png", "a" * 251 + ".png"]
    return names if sys.platform == "win32" else [*names, "line\nbreak.png", os.fsdecode(b"caf\xe9.png")]


def add_special_files(folder: Path) -> dict[str, str]:
    """Make what is no plain file but is called like an image; return the reason of each that is to be left out."""
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "to pipe.png").symlink_to("pipe.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("again.png")
    (folder / "again.png").symlink_to("loop.png")
    (folder / "device.png").symlink_to("/dev/zero")
    left_out: dict[str, str] = dict.fromkeys(
        ("pipe.png", "to pipe.png", "device.png"), "not a file but a pipe, a socket or a device"
    )
    left_out |= dict.fromkeys(("loop.png", "again.png"), "a link that leads back to itself")
    left_out["dangling.png"] = "a link that points nowhere, or a file that is gone"
    if os.geteuid():  # root may read all
        (folder / "secret.png").write_bytes(encoded(picture()))
        (folder / "secret.png").chmod(0)
        left_out["secret.png"] = "no permission to read it"
    return left_out


def odd_arrays() -> dict[str, dict[str, Any]]:
    """Return the arrays of `.npz` files that cannot be used, by what is wrong with them."""
    good = np.zeros((40, 8, 8), np.uint8)
    broken = np.linspace(0, 1, 40 * 64).reshape(40, 8, 8)
    broken[3, 3, 3] = np.nan
    endless = np.nan_to_num(broken, nan=np.inf)
    endless[3, 3, 3] = np.inf
    return {
        "nan": {"images": broken},
        "infinite": {"images": endless},
        "flat": {"images": good.reshape(80, 32)},
        "twenty channels": {"images": np.zeros((40, 24, 24, 20), np.uint8)},
        "objects": {"images": np.array([None] * 40)},
        "no images": {"images": good[:0]},
        "no array": {},
        "other labels": {"images": good, "labels": np.arange(39)},
    }
