"""One named recipe as a page: its game as a picture, its mathematics, what is the paper's, and its settings."""

from pathlib import Path
from typing import Any

from equipoise.recipes import sizes_in_words
from equipoise.recipes.drawing import Box, Drawing
from equipoise.recipes.explained import USUAL, Explained, measured_in_words
from equipoise.report.charts import Svg, element, text_element
from equipoise.report.report import rendered
from equipoise.storage.files import write_bytes

WIDE, GAP, LINE, PADDING = 224, 40, 19, 14  # pixels of a box, between boxes, of a line, and within a box


def write_recipe(path: Path, found: Explained) -> None:
    """Write a recipe as one page, in one step; raises OSError."""
    write_bytes(path, rendered(recipe_values(found), "recipe.html.j2").encode(errors="replace"))


def recipe_values(found: Explained) -> dict[str, Any]:
    """Return what the page is filled with."""
    about = found.about
    return {
        "name": found.name,
        "about": about,
        "made_for": sizes_in_words(about.sizes),
        "measured": measured_in_words(about),
        "picture": picture(found.drawing),
        "rows": [["field", "value", "default"], *map(list, found.settings)],
        "usual": USUAL,
    }


def picture(drawing: Drawing) -> Svg:
    """Return a game as an SVG: latents → G, then with real images → D → losses."""
    upper = max(_height(drawing.latents), _height(drawing.generator))
    lower = _height(drawing.real)
    whole = upper + GAP + lower
    column = [place * (WIDE + GAP) for place in range(4)]
    judge, losses = drawing.discriminator, drawing.losses
    total = max(whole, _height(judge), _height(losses))
    top = (total - whole) / 2
    middle = total / 2
    places = {
        "latents": (drawing.latents, column[0], top + (upper - _height(drawing.latents)) / 2),
        "generator": (drawing.generator, column[1], top + (upper - _height(drawing.generator)) / 2),
        "real": (drawing.real, column[1], top + upper + GAP),
        "discriminator": (judge, column[2], middle - _height(judge) / 2),
        "losses": (losses, column[3], middle - _height(losses) / 2),
    }
    right = column[1] + WIDE
    parts = [_box(name, *place) for name, place in places.items()]
    parts += [
        _arrow(WIDE, top + upper / 2, column[1], top + upper / 2),
        _arrow(right, top + upper / 2, column[2], middle - 12, "G(z)"),
        _arrow(right, top + upper + GAP + lower / 2, column[2], middle + 12, "x"),
        _arrow(column[2] + WIDE, middle, column[3], middle, "D"),
    ]
    title = "The game: latents, generator, real images, discriminator, losses"
    return element("chart", column[3] + WIDE, round(total), title, parts)


def _height(box: Box) -> float:
    return 2 * PADDING + LINE * (1 + len(box.lines))


def _box(name: str, box: Box, left: float, top: float) -> str:
    lines = [("part", box.title), *(("name", line) for line in box.lines)]
    texts = "".join(
        text_element(kind, left + PADDING, top + PADDING + LINE * (place + 0.7), text)
        for place, (kind, text) in enumerate(lines)
    )
    edge = f'x="{left}" y="{top:.1f}" width="{WIDE}" height="{_height(box):.1f}" rx="6"'
    return f'<g data-box="{name}"><rect class="box" {edge}/>{texts}</g>'


def _arrow(left: float, top: float, right: float, end: float, label: str = "") -> str:
    """Return an arrow from left to right, with a label above its middle."""
    tip = f"M{right - 7} {end - 4:.1f}L{right - 1} {end:.1f}L{right - 7} {end + 4:.1f}"
    text = ""
    if label:
        text = text_element("tick", (left + right) / 2, min(top, end) - 6, label, "middle")
    line = f'<path class="arrow" d="M{left} {top:.1f}L{right - 1} {end:.1f}{tip}"/>'
    return line + text
