"""Line charts as inline SVG: error bands, round ticks, labels at the lines; colours come from the page's CSS."""

import bisect
import html
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from equipoise import formatting

Tone = Literal["accent", "ink"]

MOST_POINTS = 240  # a line of more points is averaged into this many
TOP, BOTTOM, LEFT = 14, 30, 46
LETTER = 7.2  # width of a letter of a label, in pixels


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
class Axis:
    """How values become pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value; a value outside of a log axis's reach lies at its lower end."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(max(value, self.low)) if self.log else value
        return self.start + (place - low) / (high - low) * (self.end - self.start)


def line_of(
    label: str, xs: Sequence[float], ys: Sequence[float], errors: Sequence[float] | None = None, tone: Tone = "accent"
) -> Line:
    """Make a line of finite values; the band is ± the error, or the range of what was averaged into a point."""
    errors = errors if errors is not None else [0.0] * len(ys)
    rows = [row for row in zip(xs, ys, errors, strict=True) if math.isfinite(row[1])]
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
    bounds: tuple[float, float] | None = None,
    reference: float | None = None,
    mark: tuple[float, float, str] | None = None,
    rings: Sequence[tuple[float, float]] = (),
    unit: str = "samples",
) -> str:
    """Return a chart as an SVG element; `reference` is a dashed level, `mark` a point (x, y, label) to point out.

    `rings` are points (x, y) to ring without a label. Returns an empty string if no line has two points.
    """
    lines = [line for line in lines if len(line.points) >= 2]
    if not lines:
        return ""
    right = max(62, 14 + LETTER * max(len(line.label) for line in lines))
    low, high = bounds or _range(lines, log, reference)
    if mark is not None:  # leave room for its label below it
        low = low / (high / low) ** 0.14 if log else low - 0.14 * (high - low)
    last = max(line.points[-1].x for line in lines)
    x = Axis(0.0, last or 1.0, LEFT, width - right)
    y = Axis(low, high, height - BOTTOM, TOP, log)
    clip = f"clip-{zlib.crc32(repr((title, width)).encode()):x}"
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        f'<clipPath id="{clip}"><rect x="{LEFT - 5}" y="{TOP - 6}" width="{x.end - LEFT + 10:.1f}" '
        f'height="{height - TOP - BOTTOM + 8}"/></clipPath>',
        *_grid(x, y, width, unit),
    ]
    if reference is not None:
        parts.append(f'<path class="level" d="M{LEFT} {y.at(reference):.1f}H{x.end:.1f}"/>')
    parts.append(f'<g clip-path="url(#{clip})">')
    parts += [_bars(line, x, y) if line.bars else _band(line, x, y) for line in lines]
    parts += [_stroke(line, x, y) for line in lines]
    parts += [f'<circle class="ring" cx="{x.at(at):.1f}" cy="{y.at(level):.1f}" r="4.5"/>' for at, level in rings]
    parts.append("</g>")
    parts += _end_labels(lines, x, y)
    if mark is not None:
        parts += _mark(mark, x, y)
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, num: int = 4) -> list[float]:
    """Return about `num` round values (1, 2 or 5 times a power of ten) within a range."""
    rough = (high - low) / max(1, num)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * factor for factor in (1, 2, 5, 10)]
    place = next(place for place, step in enumerate(steps) if step >= rough * 0.999)
    if place and math.floor(high / steps[place]) - math.ceil(low / steps[place]) < 1:  # a single tick says no scale
        place -= 1
    step = steps[place]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten within a range, with 2 and 5 times them where it spans less than two of them."""
    factors = (1, 2, 5) if high / low < 150 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    shown = [value for value in every if low * 0.999 <= value <= high * 1.001]
    return shown[:: max(1, math.ceil(len(shown) / 7))]


def wants_log(values: Sequence[float]) -> bool:
    """Return whether values are positive and so far apart that a linear axis would hide most of them."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 20


def _range(lines: Sequence[Line], log: bool, reference: float | None) -> tuple[float, float]:
    """Return the range to show: all of it, but for rare extremes that would flatten everything else."""
    values = sorted(point.y for line in lines for point in line.points)
    ends = [end for line in lines for point in line.points for end in (point.low, point.high)]
    low, high = values[0], values[-1]
    near, far = values[len(values) // 50], values[-1 - len(values) // 50]
    if not log and len(values) > 100 and high - low > 3 * (far - near) > 0:
        low, high = near - 0.2 * (far - near), far + 0.2 * (far - near)
    else:
        spread = high - low
        low = max(min(ends), low - 0.5 * spread) if spread else low
        high = min(max(ends), high + 0.5 * spread) if spread else high
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
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


def _grid(x: Axis, y: Axis, width: int, unit: str) -> list[str]:
    parts = []
    for value in log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high):
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{x.start} {at:.1f}H{x.end:.1f}"/>')
        parts.append(f'<text class="tick" x="{x.start - 8}" y="{at + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    parts.append(f'<path class="axis" d="M{x.start} {y.start}H{x.end:.1f}"/>')
    values = ticks(x.low, x.high, 5 if width > 500 else 3)
    for value in values:
        text = "0" if value == 0 else formatting.count(value)
        at = x.at(value)
        parts.append(f'<path class="axis" d="M{at:.1f} {y.start}v4"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{y.start + 18}" text-anchor="middle">{text}</text>')
    if values and x.end - x.at(values[-1]) > -1:
        parts.append(f'<text class="tick" x="{x.end + 14:.1f}" y="{y.start + 18}">{unit}</text>')
    return parts


def _tick(value: float) -> str:
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if abs(value) < 1e-3 else formatting.count(value)
    return f"{value:g}"


def _band(line: Line, x: Axis, y: Axis) -> str:
    if all(point.high <= point.low for point in line.points):
        return ""
    upper = " ".join(f"{x.at(point.x):.1f},{y.at(point.high):.1f}" for point in line.points)
    lower = " ".join(f"{x.at(point.x):.1f},{y.at(point.low):.1f}" for point in reversed(line.points))
    return f'<polygon class="band {line.tone}" points="{upper} {lower}"/>'


def _bars(line: Line, x: Axis, y: Axis) -> str:
    """Return a bar over the range of each point."""
    path = "".join(
        f"M{x.at(point.x):.1f} {y.at(point.low):.1f}V{y.at(point.high):.1f}"
        for point in line.points
        if point.high > point.low
    )
    return f'<path class="bars {line.tone}" d="{path}"/>' if path else ""


def _stroke(line: Line, x: Axis, y: Axis) -> str:
    places = [(x.at(point.x), y.at(point.y)) for point in line.points]
    if line.bars:
        dots = "".join(f'<circle cx="{at:.1f}" cy="{level:.1f}" r="2.5"/>' for at, level in places)
        return f'<g class="dots {line.tone}">{dots}</g>'
    path = " ".join(f"{at:.1f},{level:.1f}" for at, level in places)
    dots = "".join(f'<circle cx="{at:.1f}" cy="{level:.1f}" r="2"/>' for at, level in places) if line.dots else ""
    return f'<polyline class="line {line.tone}" points="{path}"/><g class="dots {line.tone}">{dots}</g>'


def _end_labels(lines: Sequence[Line], x: Axis, y: Axis) -> list[str]:
    """Put each label beside the end of its line, moved apart where two would touch."""
    low, high = y.end + 4, y.start - 4
    ends = [(min(max(y.at(line.points[-1].y), low), high), line) for line in lines if line.label]
    ends.sort(key=lambda end: end[0])
    places: list[float] = []
    for level, _ in ends:
        bisect.insort(places, max(level, places[-1] + 15) if places else level)
    overflow = max(0.0, places[-1] - high) if places else 0.0
    return [
        f'<text class="label {line.tone}" x="{x.at(line.points[-1].x) + 8:.1f}" y="{place - overflow + 4:.1f}">'
        f"{html.escape(line.label)}</text>"
        for place, (_, line) in zip(places, ends, strict=True)
    ]


def _mark(mark: tuple[float, float, str], x: Axis, y: Axis) -> list[str]:
    at, level = x.at(mark[0]), y.at(mark[1])
    anchor = "end" if at > (x.start + x.end) * 0.66 else "start" if at < (x.start + x.end) * 0.33 else "middle"
    text = level + 22 if y.start - level > 26 else level - 14
    return [
        f'<circle class="best" cx="{at:.1f}" cy="{level:.1f}" r="5"/>',
        f'<text class="label accent halo" x="{at:.1f}" y="{text:.1f}" text-anchor="{anchor}">'
        f"{html.escape(mark[2])}</text>",
    ]
