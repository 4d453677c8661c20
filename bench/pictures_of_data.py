"""The pictures of docs/data.md: drawn files of every kind, each beside what the training sees of it.

    python bench/pictures_of_data.py          # writes docs/images/data-*.png

Everything is drawn here, written as a real file, and decoded by what a training decodes it with.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from equipoise.data.decode import Target, decode, deep_values
from equipoise.data.values import scale_of
from equipoise.sizes import size_of

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BOX = 132  # pixels a side in which a picture is shown
GAP = 22
TEXT = 36  # pixels below a picture, for two lines
WHITE = (255, 255, 255)
COLOR = Target(size=size_of(48), channels=3, fit="crop", background=WHITE)
GREY = replace(COLOR, channels=1)


@dataclass(frozen=True)
class Row:
    """A file as it is, with what it is called, and what becomes of it under settings."""

    name: str
    shown: Image.Image
    seen: tuple[tuple[str, np.ndarray], ...]  # settings, and uint8 [C, H, W]


# What is drawn


def landscape(width: int, height: int) -> Image.Image:
    """Draw a hill under the sun, with a house at one side and a tree at the other."""
    large = Image.new("RGB", (4 * width, 4 * height), (150, 200, 240))
    draw = ImageDraw.Draw(large)
    w, h = large.size
    draw.ellipse((0.44 * w, 0.08 * h, 0.44 * w + 0.24 * h, 0.32 * h), fill=(250, 210, 60))
    draw.ellipse((-0.2 * w, 0.55 * h, 1.2 * w, 1.8 * h), fill=(90, 150, 80))
    draw.rectangle((0.06 * w, 0.5 * h, 0.2 * w, 0.78 * h), fill=(190, 80, 60))
    draw.polygon([(0.04 * w, 0.5 * h), (0.13 * w, 0.32 * h), (0.22 * w, 0.5 * h)], fill=(110, 60, 50))
    draw.rectangle((0.86 * w, 0.55 * h, 0.89 * w, 0.8 * h), fill=(100, 70, 50))
    draw.ellipse((0.79 * w, 0.26 * h, 0.96 * w, 0.62 * h), fill=(40, 110, 60))
    return large.resize((width, height), Image.Resampling.LANCZOS)


def ghost(arm: int = 0) -> Image.Image:
    """Draw a white figure with dark eyes on a transparent ground."""
    picture = Image.new("RGBA", (40, 30))
    draw = ImageDraw.Draw(picture)
    body = (248, 248, 248, 255)
    draw.ellipse((10, 2, 29, 21), fill=body)
    draw.rectangle((10, 12, 29, 27), fill=body)
    draw.ellipse((4, 12 - arm, 12, 17 - arm), fill=body)
    draw.ellipse((27, 12 + arm, 35, 17 + arm), fill=body)
    draw.ellipse((14, 8, 17, 12), fill=(40, 40, 60, 255))
    draw.ellipse((22, 8, 25, 12), fill=(40, 40, 60, 255))
    return picture


def ball(step: int) -> Image.Image:
    """Draw a frame of a bouncing ball."""
    picture = Image.new("RGB", (48, 48), (245, 240, 225))
    draw = ImageDraw.Draw(picture)
    draw.line((4, 42, 44, 42), fill=(90, 90, 90), width=2)
    draw.ellipse((8 + 10 * step, 26 - 9 * step, 22 + 10 * step, 40 - 9 * step), fill=(210, 70, 50))
    return picture


def bones() -> np.ndarray:
    """Draw bright ribs on a dark ground as 12-bit values, uint16 [96, 96]."""
    rows, columns = np.mgrid[0:96, 0:96] / 95 - 0.5
    body = np.exp(-((rows / 0.42) ** 4) - (columns / 0.38) ** 4)
    ribs = 0.5 + 0.5 * np.cos(40 * (rows + 0.9 * columns**2))
    spine = np.exp(-((columns / 0.06) ** 2))
    values = 250 + 3800 * body * np.clip(0.25 + 0.45 * ribs**3 + 0.5 * spine, 0, 1)
    return values.astype(np.uint16)


# What becomes of it


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def shapes() -> list[Row]:
    """Return a photograph under every fit, one that is too small and one that is too large."""
    photo = landscape(96, 64)
    raw = encoded(photo, "PNG")
    fits = tuple((f"--fit {fit}", decode(raw, replace(COLOR, fit=fit))) for fit in ("crop", "pad", "stretch"))
    small = landscape(16, 16)
    large = landscape(480, 480)
    return [
        Row("a photograph,\n96 by 64", photo, fits),
        Row("too small,\n16 by 16", small, (("enlarged,\n--size 48", decode(encoded(small, "PNG"), COLOR)),)),
        Row(
            "too large,\n480 by 480",
            large,
            tuple(
                (f"reduced,\n--size {size}", decode(encoded(large, "PNG"), replace(COLOR, size=size)))
                for size in (48, 24)
            ),
        ),
    ]


def transparency() -> list[Row]:
    """Return a transparent sprite on two backgrounds and in two sizes, and an animation."""
    raw = encoded(ghost(), "PNG")
    fitted = replace(COLOR, size=40, fit="pad")
    frames = [ball(step) for step in range(3)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200)
    strip = Image.new("RGB", (152, 48), WHITE)
    for index, frame in enumerate(frames):
        strip.paste(frame, (52 * index, 0))
    return [
        Row(
            "a white sprite,\n40 by 30",
            on_checks(ghost()),
            (
                ("as it comes:\nwhite, cut to 30", decode(raw, replace(COLOR, size=30))),
                ("--fit pad\n--size 40", decode(raw, fitted)),
                ("the same, with\ntask.background=black", decode(raw, replace(fitted, background=(0, 0, 0)))),
            ),
        ),
        Row("an animation,\nGIF with a palette", strip, (("its first frame", decode(moving, COLOR)),)),
    ]


def values() -> list[Row]:
    """Return a grey photograph, an X-ray of 12 bits in a file of 16, a CMYK file and a turned one."""
    photo = landscape(64, 64)
    grey = photo.convert("L")
    deep = Image.fromarray(bones())
    raw = encoded(deep, "PNG")
    found = deep_values(raw)
    assert found is not None
    scale = scale_of([found])
    one = Image.fromarray((bones() >> 8).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    cmyk = encoded(photo.convert("CMYK"), "JPEG", quality=92)
    return [
        Row("a grey photograph", grey, (("stays grey, if\nevery image is", decode(encoded(grey, "PNG"), GREY)),)),
        Row(
            "an X-ray: 12 bits in\na file of 16",
            one,
            ((f"0 to {scale.high:,.0f}\nbecomes 0 to 255", decode(raw, replace(GREY, scale=scale))),),
        ),
        Row("a JPEG for print,\nCMYK", photo, (("becomes RGB", decode(cmyk, COLOR)),)),
        Row(
            "as the camera held it,\nwith EXIF",
            turned,
            (("turned upright", decode(encoded(turned, "JPEG", quality=92, exif=exif), COLOR)),),
        ),
    ]


# How it is shown


def on_checks(picture: Image.Image) -> Image.Image:
    """Lay a transparent picture on the grey checks by which transparency is usually shown."""
    rows, columns = np.mgrid[0 : picture.height, 0 : picture.width] // 3
    checks = np.where((rows + columns) % 2, 235, 200).astype(np.uint8)
    ground = Image.fromarray(checks).convert("RGBA")
    ground.alpha_composite(picture)
    return ground.convert("RGB")


def as_tile(pixels: np.ndarray) -> Image.Image:
    """Return uint8 [C, H, W] as a picture."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def fitted(picture: Image.Image) -> Image.Image:
    """Scale a picture to the box without smoothing, so that its pixels can be seen."""
    times = BOX / max(picture.size)
    size = (max(1, round(picture.width * times)), max(1, round(picture.height * times)))
    how = Image.Resampling.NEAREST if times >= 1 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, how)


def drawn(rows: list[Row]) -> Image.Image:
    """Draw rows of pictures: the file, an arrow, and what the training sees."""
    font = ImageFont.load_default(13)
    columns = 1 + max(len(row.seen) for row in rows)
    width = GAP + columns * (BOX + GAP) + GAP
    canvas = Image.new("RGB", (width, GAP + len(rows) * (BOX + TEXT + GAP)), WHITE)
    draw = ImageDraw.Draw(canvas)
    for index, row in enumerate(rows):
        top = GAP + index * (BOX + TEXT + GAP)
        pictures = [(row.name, row.shown), *((name, as_tile(pixels)) for name, pixels in row.seen)]
        for place, (name, picture) in enumerate(pictures):
            left = GAP + place * (BOX + GAP) + (GAP if place else 0)
            tile = fitted(picture)
            at = (left + (BOX - tile.width) // 2, top + (BOX - tile.height) // 2)
            draw.rectangle((at[0] - 1, at[1] - 1, at[0] + tile.width, at[1] + tile.height), outline=(150, 150, 150))
            canvas.paste(tile, at)
            middle = (left + BOX // 2, top + BOX + 4)
            draw.multiline_text(middle, name, fill=(40, 40, 40), font=font, anchor="ma", align="center", spacing=3)
        arrow = GAP + BOX + 8
        level = top + BOX // 2
        draw.line((arrow, level, arrow + 22, level), fill=(90, 90, 90), width=2)
        draw.polygon([(arrow + 28, level), (arrow + 20, level - 5), (arrow + 20, level + 5)], fill=(90, 90, 90))
    return canvas


def main() -> None:
    """Write the pictures."""
    for name, rows in (("shapes", shapes()), ("transparency", transparency()), ("values", values())):
        path = IMAGES / f"data-{name}.png"
        drawn(rows).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
