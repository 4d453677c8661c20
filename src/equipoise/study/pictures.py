"""Pictures of a study as SVG: stability maps, and vector fields with the paths of the players in them."""

import html
import math
import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from equipoise.report.charts import Svg
from equipoise.study.cells import BOUNDS, OUTCOMES, USUAL_BOUNDS, Outcome, Played
from equipoise.study.studies import median_outcome, settings_of

# From blue over yellow to red, and dark: they also differ in lightness, so that they are told apart without colours.
COLOURS: dict[Outcome, str] = {"trains": "#2f7fc1", "partly": "#a9d3e8", "fails": "#f3c557", "diverges": "#8c2d19"}
MEANING: dict[Outcome, str] = {
    "trains": "trains",
    "partly": "trains in part",
    "fails": "fails",
    "diverges": "diverges",
}
LINES = ("#1b1d21", "#2f7fc1", "#b3261e", "#0f6f63", "#a8447b", "#96690a", "#6b4fb3")
INK, SOFT, RULE, PAPER = "#1b1d21", "#62666f", "#d9d9d4", "#ffffff"
FONT = 'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, DejaVu Sans, Arial, sans-serif"'
SQUARE = 26  # pixels of a cell of a map
LEFT, GAP = 200, 26  # pixels beside and between maps
LEAST_TOLD = 0.05  # score of a cell that is written into it
LETTER = 5.6  # pixels of a letter of the rates
IN_A_ROW, MAP_WIDTH = 4, 190  # of maps side by side
FEW = 7  # methods that fit beside each other, so that a map of them is a wide one
LEAST_WIDTH = 820  # for the title and what stands below
FIELD = 300  # pixels a side of a vector field
NUM_ARROWS = 17  # a side
STROKE = 0.7  # length of an arrow, as a share of the space between two

Field = Callable[[float, float], tuple[float, float]]


def stability_maps(results: Sequence[Played], title: str) -> Svg:
    """Return a map for each method and loss of one game: rate of G by rate of D, coloured by outcome.

    Methods are the rows and losses the columns; a few methods are the columns. Of one loss alone, methods stand side
    by side.
    """
    methods = list(dict.fromkeys(one.cell.method for one in results))
    losses = list(dict.fromkeys(one.cell.loss for one in results))
    rates = sorted({rate for one in results for rate in (one.cell.generator_rate, one.cell.discriminator_rate)})
    top = 92
    by_both: dict[tuple[str, str], list[Played]] = {}
    for one in results:
        by_both.setdefault((one.cell.method, one.cell.loss), []).append(one)
    outcomes: set[Outcome] = {
        median_outcome(every) for found in by_both.values() for every in settings_of(found).values()
    }
    heading = f"{title} ({losses[0]})" if len(losses) == 1 else title
    parts = [_text(8, 24, heading, size=17, weight=600), *_legend(results[0].cell.game, outcomes, 8, 46)]
    if len(losses) == 1:
        of_methods = {method: found for (method, _), found in by_both.items()}
        width, bottom = _side_by_side(parts, of_methods, rates, top)
    elif len(methods) <= FEW:
        found = {(loss, method): every for (method, loss), every in by_both.items()}
        width, bottom = _in_rows(parts, found, losses, methods, rates, top)
    else:
        width, bottom = _in_rows(parts, by_both, methods, losses, rates, top)
    told = "across: learning rate of the discriminator · up: learning rate of the generator · line: equal rates"
    parts.append(_text(8, bottom + 22, told, colour=SOFT))
    told = f"numbers: median score; a square without one: below {LEAST_TOLD:g}"
    parts.append(_text(8, bottom + 40, told, colour=SOFT))
    return _svg(max(width + 8, LEAST_WIDTH), bottom + 54, parts)


def _in_rows(
    parts: list[str],
    found: Mapping[tuple[str, str], Sequence[Played]],
    rows: Sequence[str],
    columns: Sequence[str],
    rates: Sequence[float],
    top: float,
) -> tuple[float, float]:
    """Add the maps in rows and columns with their names; return the width and the bottom."""
    side = SQUARE * len(rates)
    across = max(side + GAP, GAP + round(8.4 * max(map(len, columns))))  # wide enough for their names
    for place, name in enumerate(columns):
        parts.append(_text(LEFT + place * across + side / 2, top - 10, name, anchor="middle", weight=600))
    for place, name in enumerate(rows):
        y = top + place * (side + GAP)
        parts.append(_text(8, y + side / 2 + 4, name, weight=600))
        parts += _rate_labels(rates, LEFT - 6, y, is_vertical=True)
        for index, other in enumerate(columns):
            x = LEFT + index * across
            every = found.get((name, other))
            parts += _map(every, rates, x, y) if every else _none(x, y, side)
            if place == len(rows) - 1:
                parts += _rate_labels(rates, x, y + side + 13, is_vertical=False)
    return LEFT + len(columns) * across, top + len(rows) * (side + GAP)


def _side_by_side(
    parts: list[str], found: Mapping[str, Sequence[Played]], rates: Sequence[float], top: float
) -> tuple[float, float]:
    """Add the maps of one loss by method, a few in a row, each under its name; return the width and the bottom."""
    side = SQUARE * len(rates)
    across = max(side + GAP, MAP_WIDTH)
    down = side + GAP + 34
    begin = 14 + round(LETTER * max(len(_short(rate)) for rate in rates))  # right of the rates
    for place, (method, every) in enumerate(found.items()):
        x = begin + across * (place % IN_A_ROW)
        y = top + down * (place // IN_A_ROW)
        parts.append(_text(x, y - 10, method, weight=600))
        parts += _map(every, rates, x, y)
        parts += _rate_labels(rates, x, y + side + 13, is_vertical=False)
        if place % IN_A_ROW == 0:
            parts += _rate_labels(rates, x - 6, y, is_vertical=True)
    num_rows = math.ceil(len(found) / IN_A_ROW)
    return begin + across * min(IN_A_ROW, len(found)), top + down * num_rows - 34


def _map(found: Sequence[Played], rates: Sequence[float], x: float, y: float) -> list[str]:
    """Return the cells of one map, rates of G upwards and of D to the right."""
    side = SQUARE * len(rates)
    parts = []
    numbers = []
    for (of_generator, of_discriminator), every in settings_of(found).items():
        outcome = median_outcome(every)
        left = x + SQUARE * rates.index(of_discriminator)
        top = y + side - SQUARE * (rates.index(of_generator) + 1)
        told = f"G {of_generator:g}, D {of_discriminator:g}: {MEANING[outcome]}, score "
        told += ", ".join(f"{one.score:.2f}" for one in every)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{SQUARE - 1}" height="{SQUARE - 1}" rx="2" '
            f'fill="{COLOURS[outcome]}"><title>{html.escape(told)}</title></rect>'
        )
        score = statistics.median(one.score for one in every)
        if score >= LEAST_TOLD and outcome != "diverges":
            colour = PAPER if outcome == "trains" else INK
            number = f"{score:.2f}".lstrip("0")
            middle = left + SQUARE / 2 - 0.5
            ground = f'x="{middle - 9:.1f}" y="{top + SQUARE / 2 - 6:.1f}" width="18" height="11"'
            numbers += [  # the line of equal rates stops beside a number; the square below keeps its title
                '<g pointer-events="none">',
                f'<rect {ground} fill="{COLOURS[outcome]}"/>',
                _text(middle, top + SQUARE / 2 + 3, number, anchor="middle", size=9, colour=colour),
                "</g>",
            ]
    parts.append(
        f'<line x1="{x}" y1="{y + side}" x2="{x + side}" y2="{y}" stroke="{PAPER}" stroke-width="1" '
        'stroke-dasharray="3 3" opacity="0.8"/>'
    )
    return parts + numbers


def _none(x: float, y: float, side: float) -> list[str]:
    """Return an empty map: the method and the loss do not go together."""
    frame = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="none" stroke="{RULE}"/>'
    return [frame, _text(x + side / 2, y + side / 2 + 4, "—", anchor="middle", colour=SOFT)]


def _rate_labels(rates: Sequence[float], x: float, y: float, *, is_vertical: bool) -> list[str]:
    """Return the rates beside a map or below it: all of them where they fit, else the first and the last."""
    side = SQUARE * len(rates)
    words = [_short(rate) for rate in rates]
    places = [SQUARE * index + SQUARE / 2 for index in range(len(rates))]
    if is_vertical:
        labels = zip(places, words, strict=True)
        return [_text(x, y + side - place + 3, word, anchor="end", colour=SOFT, size=9) for place, word in labels]
    if max(map(len, words)) * LETTER > SQUARE:
        if LETTER * (len(words[0]) + len(words[-1])) > side:
            return [_text(x + side / 2, y, f"{words[0]} – {words[-1]}", anchor="middle", colour=SOFT, size=9)]
        places, words = [places[0], places[-1]], [words[0], words[-1]]
    labels = zip(places, words, strict=True)
    return [_text(x + place, y, word, anchor="middle", colour=SOFT, size=9) for place, word in labels]


def _short(rate: float) -> str:
    """Write a rate in few letters: 0.01, 1e-4, 2.5e-4."""
    text = f"{rate:g}"
    if len(text) <= 4:
        return text
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _legend(game: str, outcomes: Set[Outcome], x: float, y: float) -> list[str]:
    """Return what the colours mean, of the outcomes that occur in a game."""
    parts = []
    trains, partly = BOUNDS.get(game, USUAL_BOUNDS)
    least = {"trains": f": {trains:g} or more", "partly": f": {partly:g} or more"}
    for outcome in OUTCOMES:
        if outcome not in outcomes:
            continue
        words = MEANING[outcome] + least.get(outcome, "")
        parts.append(f'<rect x="{x}" y="{y - 11}" width="13" height="13" rx="2" fill="{COLOURS[outcome]}"/>')
        parts.append(_text(x + 19, y, words))
        x += 38 + 7.2 * len(words)
    return parts


@dataclass(frozen=True)
class Path:
    """The way of one method through a field, from its start."""

    name: str
    points: tuple[tuple[float, float], ...]


def vector_field(field: Field, paths: Sequence[Path], title: str, reach: float = 2.0) -> Svg:
    """Return a field `(θ, ψ) → (θ', ψ')` as arrows over [-reach, reach]², and the ways of some methods through it.

    Arrows tell the direction, and by their darkness the size. The equilibrium is the small circle in the middle.
    """
    top = 40
    scale = FIELD / (2 * reach)

    def place(theta: float, psi: float) -> tuple[float, float]:
        """Return the pixel of a point."""
        return 12 + (theta + reach) * scale, top + (reach - psi) * scale

    arrows = []
    space = 2 * reach / NUM_ARROWS
    starts = [-reach + space * (index + 0.5) for index in range(NUM_ARROWS)]
    vectors = {(theta, psi): field(theta, psi) for theta in starts for psi in starts}
    largest = max(math.hypot(*vector) for vector in vectors.values()) or 1.0
    for (theta, psi), (along, up) in vectors.items():
        size = math.hypot(along, up)
        if size < 1e-9 * largest:
            continue
        half = STROKE * space / 2 / size
        begin = place(theta - half * along, psi - half * up)
        end = place(theta + half * along, psi + half * up)
        arrows.append(_arrow(begin, end, opacity=0.18 + 0.6 * math.sqrt(size / largest)))
    parts = [_text(12, 24, title, size=15, weight=600)]
    parts.append(f'<rect x="12" y="{top}" width="{FIELD}" height="{FIELD}" fill="#fafaf8" stroke="{RULE}"/>')
    parts += arrows
    for index, path in enumerate(paths):
        inside = _inside(path.points, reach)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in inside))
        colour = LINES[index % len(LINES)]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" opacity="0.9"/>')
        if len(inside) > 1:
            x, y = place(*inside[-1])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>')
        row = top + 14 + 21 * index
        key = f'<line x1="{FIELD + 26}" y1="{row - 4}" x2="{FIELD + 46}" y2="{row - 4}"'
        parts.append(f'{key} stroke="{colour}" stroke-width="2.4"/>')
        parts.append(_text(FIELD + 52, row, path.name))
    if paths:
        x, y = place(*paths[0].points[0])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{PAPER}" stroke="{INK}" stroke-width="1.6"/>')
    x, y = place(0, 0)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{INK}" stroke-width="1.4"/>')
    parts.append(_text(12 + FIELD / 2, top + FIELD + 18, "θ, the generator", anchor="middle", colour=SOFT))
    parts.append(_text(FIELD + 20, top + FIELD - 6, "↑ ψ, the discriminator", colour=SOFT))
    return _svg(FIELD + 210, top + FIELD + 30, parts)


def _inside(points: Sequence[tuple[float, float]], reach: float) -> list[tuple[float, float]]:
    """Return the beginning of a way, up to where it leaves the picture."""
    found = []
    for theta, psi in points:
        found.append((max(-reach, min(reach, theta)), max(-reach, min(reach, psi))))
        if not (abs(theta) <= reach and abs(psi) <= reach):
            break
    return found


def _arrow(begin: tuple[float, float], end: tuple[float, float], opacity: float) -> str:
    """Return an arrow with a small head."""
    angle = math.atan2(end[1] - begin[1], end[0] - begin[0])
    head = [(end[0] - 4.2 * math.cos(angle + turn), end[1] - 4.2 * math.sin(angle + turn)) for turn in (0.5, -0.5)]
    path = f"M{begin[0]:.1f} {begin[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"
    path += f"M{head[0][0]:.1f} {head[0][1]:.1f}L{end[0]:.1f} {end[1]:.1f}L{head[1][0]:.1f} {head[1][1]:.1f}"
    return f'<path d="{path}" stroke="{SOFT}" stroke-width="1.1" fill="none" opacity="{opacity:.2f}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: int = 400, colour: str = INK
) -> str:
    return (  # as a style, which the style sheet of a page does not overrule
        f'<text x="{x:.1f}" y="{y:.1f}" style="font-size:{size}px;font-weight:{weight}" fill="{colour}" '
        f'text-anchor="{anchor}" {FONT}>{html.escape(text)}</text>'
    )


def _svg(width: float, height: float, parts: Sequence[str]) -> Svg:
    """Return a picture on white, so that it can be read on any page."""
    inside = "\n".join(parts)
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img"><rect width="100%" height="100%" fill="{PAPER}"/>\n{inside}\n</svg>\n'
    )
