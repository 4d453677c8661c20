"""Sheets of many pictures are told from single pictures, whatever their gaps, and however they were saved."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.data.decode import open_image, upright
from equipoise.data.glance import WHITE
from equipoise.data.sheets import sheet_of

Draw = Callable[[np.random.Generator, int], np.ndarray]


def photo(generator: np.random.Generator, side: int) -> np.ndarray:
    """Draw smooth colours with some noise [side, side, 3]."""
    small = generator.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + generator.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)


def glyph(generator: np.random.Generator, side: int) -> np.ndarray:
    """Draw a bright blot on black, with a margin, as a digit has [side, side, 1]."""
    pixels = np.zeros((side, side, 1), np.uint8)
    edge = side // 6
    inside = side - 2 * edge
    pixels[edge:-edge, edge:-edge, 0] = 255 * (generator.random((inside, inside)) < 0.6)
    return pixels


def laid_out(draw: Draw, rows: int, columns: int, gap: int, colour: int, side: int = 32) -> np.ndarray:
    """Return a sheet as `torchvision.utils.save_image` lays it out."""
    generator = np.random.default_rng(rows * columns + gap)
    step = side + gap
    first = draw(generator, side)
    sheet = np.full((rows * step + gap, columns * step + gap, first.shape[2]), colour, np.uint8)
    for index in range(rows * columns):
        top = index // columns * step + gap
        left = index % columns * step + gap
        sheet[top : top + side, left : left + side] = draw(generator, side)
    return sheet


@pytest.mark.parametrize("draw", [photo, glyph])
@pytest.mark.parametrize(("gap", "colour"), [(2, 0), (2, 255), (10, 255), (0, 0)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (2, 8), (3, 4), (2, 2)])
def test_a_sheet_is_found_with_its_rows_and_columns(draw: Draw, gap: int, colour: int, rows: int, columns: int) -> None:
    assert sheet_of(laid_out(draw, rows, columns, gap, colour)) == (rows, columns)


def test_a_row_of_pictures_is_a_sheet() -> None:
    assert sheet_of(laid_out(photo, 1, 8, 2, 0)) == (1, 8)


def test_a_sheet_is_found_after_jpeg(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(laid_out(photo, 8, 8, 2, 0)).save(file, "JPEG", quality=80)
    assert sheet_of(np.asarray(Image.open(file))) == (8, 8)


@pytest.mark.parametrize("draw", [photo, glyph])
@pytest.mark.parametrize("side", [8, 28, 32, 64, 200])
def test_one_picture_is_no_sheet(draw: Draw, side: int) -> None:
    generator = np.random.default_rng(side)
    assert [sheet_of(draw(generator, side)) for _ in range(20)] == [None] * 20


@pytest.mark.parametrize("pixels", [np.zeros((64, 64, 3)), np.full((8, 8, 1), 9), np.mgrid[:64, :64][0][..., None]])
def test_one_colour_or_a_ramp_is_no_sheet(pixels: np.ndarray) -> None:
    assert sheet_of(pixels.astype(np.uint8)) is None


@pytest.mark.parametrize("name", ["flowers-128.zip", "emoji-64.zip", "clothing-96.zip", "magnetic-tile.zip"])
def test_hardly_any_real_picture_looks_like_a_sheet(name: str) -> None:
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        pytest.skip("EQUIPOISE_DATA names no folder of real data")
    with zipfile.ZipFile(Path(folder) / name) as archive:
        names = [member for member in archive.namelist() if member.endswith((".png", ".jpg")) and "masks" not in member]
        pictures = [upright(open_image(archive.read(member)), WHITE) for member in names[:: len(names) // 100]]
    found = [sheet_of(np.atleast_3d(np.asarray(picture))) for picture in pictures]
    assert sum(tiles is not None for tiles in found) <= 0.15 * len(found)
    assert sum(tiles not in (None, (2, 2)) for tiles in found) <= 0.02 * len(found)
