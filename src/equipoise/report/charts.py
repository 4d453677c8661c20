"""Charts as inline SVG: lines with error bands, dashed levels, waveforms, histograms; the style sheet colours them."""

import bisect
import html
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from equipoise import formatting
from equipoise.errors import shortened

Tone = Literal["accent", "ink", "gold", "blue", "rose"]

TONES: tuple[Tone, ...] = ("accent", "ink", "gold", "blue", "rose")  # of a chart's lines, in their order
MOST_DRAWABLE = 1e100  # in a chart, above and, as its inverse, below
MOST_POINTS = 240  # a line of more points is averaged into this many
TOP, BOTTOM, LEFT = 14, 30, 46
FLATTENED = 20  # times as high as its later half is a line of which a linear axis would show the beginning only
LETTER = 7.2  # width of a letter of a label, in pixels
LONGEST_LABEL = 24  # letters


class Svg(str):
    """An SVG element that was made here, with every text in it escaped: a template takes it as it is."""

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Point:
    """One point of a line: the value, and the range of its band."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One line of a chart with the label at its end."""

    label: str
    points: tuple[Point, ...]
    tone: Tone = "accent"
    dots: bool = False
    bars: bool = False  # each point stands alone, with a bar for its range: nothing joins it to the next


@dataclass(frozen=True)
class Level:
    """A dashed line over the whole width, such as a baseline or a limit."""

    y: float
    label: str = ""


@dataclass(frozen=True)
class Axis:
    """How values become pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value; a value outside of a log axis's reach lies at its lower end."""
        low, high, place = self.low, self.high, value
        if self.log:
            low, high, place = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.start + (place - low) / (high - low) * (self.end - self.start)


def drawable(value: float) -> float:
    """Return a number, or the nearest whose ratios and differences with others can be computed."""
    size = min(max(abs(value), 1 / MOST_DRAWABLE), MOST_DRAWABLE) if value else 0.0
    return math.copysign(size, value)


def line_of(
    label: str, xs: Sequence[float], ys: Sequence[float], errors: Sequence[float] | None = None, tone: Tone = "accent"
) -> Line:
    """Make a line of finite values; the band is ± the error, or the range of what was averaged into a point."""
    if errors is None:
        errors = [0.0] * len(ys)
    given = zip(xs, ys, errors, strict=True)
    rows = [(x, drawable(y), min(error, MOST_DRAWABLE)) for x, y, error in given if math.isfinite(y)]
    if len(rows) > MOST_POINTS:
        return Line(label, tuple(_averaged(rows)), tone)
    points = [Point(x, y, y - e, y + e) if math.isfinite(e) else Point(x, y, y, y) for x, y, e in rows]
    return Line(label, tuple(points), tone, dots=len(points) <= 60)


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    width: int,
    height: int,
    log: bool = False,
    finest: float = 0.0,
    bounds: tuple[float, float] | None = None,
    levels: Sequence[Level] = (),
    mark: tuple[float, float, str] | None = None,
    rings: Sequence[tuple[float, float]] = (),
    unit: str = "samples",
) -> Svg:
    """Return a chart as an SVG element; `mark` is a point (x, y, label) to point out, `rings` are points to ring.

    With `finest` above 0 the scale is even about zero as far as that, and logarithmic beyond, on both sides.
    Levels out of `reach` are left out. Returns an empty string if no line has two points.
    """
    lines = [line for line in lines if len(line.points) >= 2]
    if not lines:
        return Svg()
    levels = [replace(level, y=drawable(level.y)) for level in levels]
    rings = [(at, drawable(level)) for at, level in rings]
    if bounds is not None:
        bounds = (drawable(bounds[0]), drawable(bounds[1]))
    if mark is not None:
        mark = (mark[0], drawable(mark[1]), mark[2])
    if finest:
        lines = [_stretched(line, finest) for line in lines]
        levels = [replace(level, y=stretched(level.y, finest)) for level in levels]
        rings = [(at, stretched(level, finest)) for at, level in rings]
        bounds = bounds and (stretched(bounds[0], finest), stretched(bounds[1], finest))
        mark = mark and (mark[0], stretched(mark[1], finest), mark[2])
    low, high = bounds or _range_with(levels, lines, log)
    if mark is not None:  # leave room for its label below it
        low = low / (high / low) ** 0.14 if log else low - 0.14 * (high - low)
    letters = min(LONGEST_LABEL, max(len(line.label) for line in lines))
    last = max(line.points[-1].x for line in lines)
    x = Axis(0.0, last or 1.0, LEFT, width - max(62, 14 + LETTER * letters))
    y = Axis(low, high, height - BOTTOM, TOP, log)
    clip = f"clip-{zlib.crc32(repr((title, width, lines)).encode()):x}"
    inside = [_bars(line, x, y) if line.bars else _band(line, x, y) for line in lines]
    inside += [_stroke(line, x, y) for line in lines]
    inside += [f'<circle class="ring" cx="{x.at(at):.1f}" cy="{y.at(level):.1f}" r="4.5"/>' for at, level in rings]
    shown = [level for level in levels if low <= level.y <= high]
    parts = [
        f'<clipPath id="{clip}"><rect x="{LEFT - 5}" y="{TOP - 6}" width="{x.end - LEFT + 10:.1f}" '
        f'height="{height - TOP - BOTTOM + 8}"/></clipPath>',
        *_grid(x, y, width, unit, finest),
        *(f'<path class="level" d="M{LEFT} {y.at(level.y):.1f}H{x.end:.1f}"/>' for level in shown),
        f'<g clip-path="url(#{clip})">{"".join(inside)}</g>',
        *_end_labels(lines, x, y),
        *_level_labels(shown, lines, x, y),
    ]
    if mark is not None:
        parts += _mark(mark, x, y)
    return element("chart", width, height, title, parts)


def waveform(peaks: Sequence[float], title: str) -> Svg:
    """Return the loudness of a sound over time, from peaks in [0, 1]."""
    bars = [f"M{2 * at + 1} {20 - 19 * peak:.1f}V{20 + 19 * peak + 0.5:.1f}" for at, peak in enumerate(peaks)]
    return element("wave", 2 * len(peaks), 40, title, [f'<path d="{"".join(bars)}"/>'])


def histogram(values: Sequence[float], title: str, num: int = 16) -> Svg:
    """Return how often which values occur, in `num` bins from the least to the largest."""
    low, high = min(values), max(values)
    counts = [0] * num
    for value in values:
        share = (value - low) / (high - low) if high > low else 0.5
        counts[min(num - 1, int(share * num))] += 1
    heights = [20 * count / max(counts) for count in counts]
    bars = [f"M{5 * at} 20h4v{-height:.1f}h-4z" for at, height in enumerate(heights) if height]
    return element("histogram", 5 * num, 20, title, [f'<path d="{"".join(bars)}"/>'])


def ticks(low: float, high: float, num: int = 4) -> list[float]:
    """Return about `num` round values (1, 2 or 5 times a power of ten) within a range."""
    rough = (high - low) / max(1, num)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * factor for factor in (1, 2, 5, 10)]
    place = next(place for place, step in enumerate(steps) if step >= rough * 0.999)
    if place and math.floor(high / steps[place]) - math.ceil(low / steps[place]) < 1:  # a single tick says no scale
        place -= 1
    step = steps[place]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten within a range, with 2 and 5 times them where it spans less than two of them."""
    factors = (1, 2, 5) if high / low < 150 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in factors]
    shown = [value for value in every if low * 0.999 <= value <= high * 1.001]
    return shown[:: max(1, math.ceil(len(shown) / 7))]


def wants_log(lines: Sequence[Line]) -> bool:
    """Return whether values are positive and so far apart that a linear axis would hide most of them."""
    values = [point.y for line in lines for point in line.points]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20


def finest_of(lines: Sequence[Line]) -> float:
    """Return to what value a scale about zero is best even, 0 where a plain linear one shows the lines well.

    A score that may be negative starts far above zero, and ends in noise about it.
    """
    values = [point.y for line in lines for point in line.points]
    late = [point for line in lines for point in line.points[len(line.points) // 2 :]]
    if not late:
        return 0.0
    height = max(point.high for point in late) - min(point.low for point in late)
    if height > 0 and max(values) - min(values) > FLATTENED * height:
        return height / 2
    return 0.0


def stretched(value: float, finest: float) -> float:
    """Return the place of a value on a scale that is even about zero as far as `finest`, and logarithmic beyond."""
    return math.asinh(value / finest)


def signed_ticks(low: float, high: float, finest: float) -> list[float]:
    """Return zero and powers of ten on both sides that are at least `finest`, within a range of places."""
    power = math.ceil(math.log10(finest) - 1e-9)
    reached = math.sinh(max(abs(low), abs(high))) * finest
    powers = range(power, max(power, math.floor(math.log10(reached))) + 1)
    step = max(1, math.ceil(len(powers) / 5))
    sizes = [10.0**power for power in powers[::step]]
    every = [*(-size for size in reversed(sizes)), 0.0, *sizes]
    return [value for value in every if low <= stretched(value, finest) <= high]


def reach(lines: Sequence[Line], log: bool, finest: float = 0.0) -> tuple[float, float]:
    """Return between what values a level is drawn: half the lines' height beyond them, or it would flatten them."""
    if finest:
        low, high = reach([_stretched(line, finest) for line in lines], log=False)
        return finest * math.sinh(low), finest * math.sinh(high)
    low, high = _range(lines, log)
    if log:
        half = math.sqrt(high / low)
        return low / half, high * half
    half = (high - low) / 2
    return low - half, high + half


def _stretched(line: Line, finest: float) -> Line:
    return replace(line, points=tuple(_stretched_point(point, finest) for point in line.points))


def _stretched_point(point: Point, finest: float) -> Point:
    return Point(point.x, *(stretched(value, finest) for value in (point.y, point.low, point.high)))


def _range_with(levels: Sequence[Level], lines: Sequence[Line], log: bool) -> tuple[float, float]:
    """Return the range to show: that of the lines, and the levels within reach with a little room beyond."""
    low, high = _range(lines, log)
    least, most = reach(lines, log)
    near = [level.y for level in levels if least <= level.y <= most]
    if not near:
        return low, high
    if log:
        return min(low, 0.9 * min(near)), max(high, 1.1 * max(near))
    room = 0.05 * (high - low)
    return min(low, min(near) - room), max(high, max(near) + room)


def _range(lines: Sequence[Line], log: bool) -> tuple[float, float]:
    """Return the range of lines: all of it, but for rare extremes that would flatten everything else."""
    values = sorted(point.y for line in lines for point in line.points)
    ends = [end for line in lines for point in line.points for end in (point.low, point.high)]
    low, high = values[0], values[-1]
    near, far = values[len(values) // 50], values[-1 - len(values) // 50]
    if not log and len(values) > 100 and high - low > 3 * (far - near) > 0:
        low, high = near - 0.2 * (far - near), far + 0.2 * (far - near)
    elif high > low:
        spread = high - low
        low = max(min(ends), low - 0.5 * spread)
        high = min(max(ends), high + 0.5 * spread)
    if log:
        positive = [value for value in values if value > 0] or [1.0]
        low = max(low, positive[0] * 0.7)
        return (low * 0.95, high * 1.05) if high > low else (low * 0.5, low * 2)
    if 0 < low < 0.45 * high:
        low = 0.0
    pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if low == 0 else low - pad), high + pad


def _averaged(rows: Sequence[tuple[float, float, float]]) -> list[Point]:
    size = math.ceil(len(rows) / MOST_POINTS)
    points = []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        ys = [y for _, y, _ in part]
        points.append(Point(part[-1][0], sum(ys) / len(ys), min(ys), max(ys)))
    return points


def element(kind: str, width: float, height: float, title: str, parts: Sequence[str]) -> Svg:
    """Return a picture of parts that are SVG already."""
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">'
    return Svg("".join([head, *parts, "</svg>"]))


def text_element(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    """Return a text as an SVG element, escaped."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _grid(x: Axis, y: Axis, width: int, unit: str, finest: float) -> list[str]:
    parts = []
    for value, place in _ticks_of(y, finest):
        at = y.at(place)
        parts.append(f'<path class="grid" d="M{x.start} {at:.1f}H{x.end:.1f}"/>')
        parts.append(text_element("tick", x.start - 8, at + 4, _tick(value), "end"))
    parts.append(f'<path class="axis" d="M{x.start} {y.start}H{x.end:.1f}"/>')
    values = ticks(x.low, x.high, 5 if width > 500 else 3)
    for value in values:
        at = x.at(value)
        parts.append(f'<path class="axis" d="M{at:.1f} {y.start}v4"/>')
        parts.append(text_element("tick", at, y.start + 18, formatting.count(value), "middle"))
    if values and x.end - x.at(values[-1]) > -1:
        parts.append(text_element("tick", x.end + 14, y.start + 18, unit))
    return parts


def _ticks_of(y: Axis, finest: float) -> list[tuple[float, float]]:
    """Return the values to name at an axis, each with its place on it, which a stretched axis moves."""
    if finest:
        return [(value, stretched(value, finest)) for value in signed_ticks(y.low, y.high, finest)]
    values = log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high)
    return [(value, value) for value in values]


def _tick(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return formatting.count(value)


def _band(line: Line, x: Axis, y: Axis) -> str:
    if all(point.high <= point.low for point in line.points):
        return ""
    upper = " ".join(f"{x.at(point.x):.1f},{y.at(point.high):.1f}" for point in line.points)
    lower = " ".join(f"{x.at(point.x):.1f},{y.at(point.low):.1f}" for point in reversed(line.points))
    return f'<polygon class="band {line.tone}" points="{upper} {lower}"/>'


def _bars(line: Line, x: Axis, y: Axis) -> str:
    """Return a bar over the range of each point."""
    spread = [point for point in line.points if point.high > point.low]
    path = "".join(f"M{x.at(p.x):.1f} {y.at(p.low):.1f}V{y.at(p.high):.1f}" for p in spread)
    return f'<path class="bars {line.tone}" d="{path}"/>' if path else ""


def _stroke(line: Line, x: Axis, y: Axis) -> str:
    places = [(x.at(point.x), y.at(point.y)) for point in line.points]
    radius = 2.5 if line.bars else 2
    dots = "".join(f'<circle cx="{at:.1f}" cy="{level:.1f}" r="{radius}"/>' for at, level in places)
    if line.bars:
        return f'<g class="dots {line.tone}">{dots}</g>'
    path = " ".join(f"{at:.1f},{level:.1f}" for at, level in places)
    stroke = f'<polyline class="line {line.tone}" points="{path}"/>'
    return f'{stroke}<g class="dots {line.tone}">{dots}</g>' if line.dots else stroke


def _end_labels(lines: Sequence[Line], x: Axis, y: Axis) -> list[str]:
    """Put each label beside the end of its line, moved apart where two would touch."""
    low, high = y.end + 4, y.start - 4
    ends = [(min(max(y.at(line.points[-1].y), low), high), line) for line in lines if line.label]
    ends.sort(key=lambda end: end[0])
    places: list[float] = []
    for level, _ in ends:
        bisect.insort(places, max(level, places[-1] + 15) if places else level)
    overflow = max(0.0, places[-1] - high) if places else 0.0
    labels = []
    for place, (_, line) in zip(places, ends, strict=True):
        text = shortened(line.label, LONGEST_LABEL)
        labels.append(text_element(f"label {line.tone}", x.at(line.points[-1].x) + 8, place - overflow + 4, text))
    return labels


def _level_labels(levels: Sequence[Level], lines: Sequence[Line], x: Axis, y: Axis) -> list[str]:
    """Put each label above its level, at that end where the lines are farther from it; below where one is there."""
    taken: list[tuple[str, float]] = []
    labels = []
    for level in levels:
        place = y.at(level.y) - 6
        places = [(x.at(point.x), y.at(point.y)) for line in lines for point in line.points]
        third = (x.end - x.start) / 3
        left = min((abs(at_y - place) for at_x, at_y in places if at_x < x.start + third), default=math.inf)
        right = min((abs(at_y - place) for at_x, at_y in places if at_x > x.end - third), default=math.inf)
        anchor, edge = ("end", x.end) if right >= left else ("start", x.start + 6)
        if any(side == anchor and abs(other - place) < 15 for side, other in taken):
            place += 21
        taken.append((anchor, place))
        text = shortened(level.label, int(0.62 * (x.end - x.start) / LETTER))
        labels.append(text_element("label ink halo", edge, place, text, anchor))
    return labels


def _mark(mark: tuple[float, float, str], x: Axis, y: Axis) -> list[str]:
    at, level = x.at(mark[0]), y.at(mark[1])
    share = (at - x.start) / (x.end - x.start)
    anchor = "end" if share > 0.66 else "start" if share < 0.33 else "middle"
    place = level + 22 if y.start - level > 26 else level - 14
    return [
        f'<circle class="best" cx="{at:.1f}" cy="{level:.1f}" r="5"/>',
        text_element("label accent halo", at, place, mark[2], anchor),
    ]
