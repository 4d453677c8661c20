"""Contact pictures of samples: a tile for each game, with its name and what was found below."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from equipoise.data.pool import to_uint8

TILE = 176  # pixels a side
FINE = 3  # times as large while it is drawn
GAP = 12
TEXT = 40  # pixels below a tile, for two lines
COLUMNS = 5
INK = (40, 40, 40)
POINTS = (15, 111, 99)
MODES = (235, 150, 120)


def tile_of_points(points: Tensor, centres: Tensor, reach: float) -> Image.Image:
    """Return points `[N, 2]` over circles around the true modes `[K, 2]`; what lies outside the reach is not shown."""
    side = FINE * TILE
    tile = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(tile)
    for x, y in placed(centres, reach, side):
        pen.ellipse((x - 21, y - 21, x + 21, y + 21), outline=MODES, width=5)
    layer = Image.new("L", tile.size, 0)
    pen = ImageDraw.Draw(layer)
    for x, y in placed(points, reach, side):
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=210)
    tile.paste(POINTS, mask=layer)
    return framed(tile.resize((TILE, TILE), Image.Resampling.LANCZOS))


def placed(points: Tensor, reach: float, side: int) -> list[tuple[float, float]]:
    """Return where points `[N, 2]` lie in a tile."""
    return [((x / reach + 1) * side / 2, (1 - y / reach) * side / 2) for x, y in points.tolist()]


def tile_of_digits(images: Tensor) -> Image.Image:
    """Return the first 25 images `[N, 1, H, W]` in [-1, 1] as a tile of five rows."""
    pixels = 255 - to_uint8(images[:25])[:, 0]
    rows = pixels.unflatten(0, (5, 5)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    tile = Image.fromarray(rows.contiguous().numpy())
    return framed(tile.resize((TILE, TILE), Image.Resampling.LANCZOS).convert("RGB"))


def framed(tile: Image.Image) -> Image.Image:
    """Draw a thin frame around a tile."""
    ImageDraw.Draw(tile).rectangle((0, 0, TILE - 1, TILE - 1), outline=(200, 200, 200))
    return tile


def contact(tiles: list[tuple[str, str, Image.Image]]) -> Image.Image:
    """Return tiles in rows of five, each with two lines of text below."""
    num_rows = -(-len(tiles) // COLUMNS)
    width = COLUMNS * (TILE + GAP) + GAP
    height = num_rows * (TILE + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (name, caption, tile) in enumerate(tiles):
        left = GAP + index % COLUMNS * (TILE + GAP)
        top = GAP + index // COLUMNS * (TILE + TEXT + GAP)
        sheet.paste(tile, (left, top))
        middle = left + TILE / 2
        pen.text((middle, top + TILE + 4), name, fill=INK, font=ImageFont.load_default(14), anchor="ma")
        pen.text((middle, top + TILE + 22), caption, fill=(110, 110, 110), font=ImageFont.load_default(12), anchor="ma")
    return sheet
