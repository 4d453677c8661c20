"""What was wrong with a game and when, as a picture: a bar for each time of a condition, a mark for each remedy.

Where a run went back to an earlier checkpoint, the picture has a part for what each return abandoned, and one for what
was kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise import formatting
from equipoise.errors import shortened
from equipoise.health.telling import title
from equipoise.health.timeline import spans
from equipoise.report.charts import LETTER, Axis, Svg, element, text_element, ticks
from equipoise.report.values import Chart
from equipoise.storage.records import Condition, Event, Span, StepStats

ROW = 26  # pixels
HEAD, FOOT = 18, 30
GAP = 14  # between two parts
SIZES = ((960, 270), (400, 150))  # widths, and those of the names
LEAST = 3.0  # pixels of a bar


@dataclass(frozen=True)
class Part:
    """The samples that a run kept, or those that it abandoned as it went back from `end` to `begin`."""

    bars: tuple[Span, ...]
    marks: tuple[int, ...]  # samples of the remedies
    begin: int = 0
    end: int = 0
    is_abandoned: bool = False

    @property
    def rows(self) -> list[Condition]:
        """The conditions in the order in which they came first."""
        return list(dict.fromkeys(span.condition for span in self.bars))

    @property
    def height(self) -> int:
        """Pixels."""
        return HEAD + ROW * len(self.rows)


def timeline(steps: Sequence[StepStats], events: Sequence[Event]) -> Chart | None:
    """Return the chart of conditions, one row each, and of remedies; None where nothing was found or abandoned."""
    parts = parts_of(steps, events)
    marks = [mark for part in parts for mark in part.marks]
    if len(parts) == 1 and not parts[0].bars:
        return None
    last = max([*(stats.samples for stats in steps[-1:]), *marks, 1])
    name = "What was wrong, and when"
    caption = (
        "One row for each condition, from its beginning to its end: solid where it was likely, pale where it was only "
        "possible."
    )
    if marks:
        caption += " Triangles: remedies."
    if len(parts) > 1:
        caption += (
            " Hatched: what the run abandoned when it went back to an earlier checkpoint; an arrow shows how far back."
        )
    return Chart("timeline", name, caption, *(_drawn(name, parts, last, *size) for size in SIZES))


def parts_of(steps: Sequence[StepStats], events: Sequence[Event]) -> list[Part]:
    """Return what was abandoned, in the order in which it was, and at last what was kept.

    A remedy stands with the samples in which it was done: a later going back may have abandoned these.
    """
    rest = [event for event in events if event.kind == "remedy"]
    parts = []
    for event in list(rest):
        if event.remedy is None or event.remedy.back_to is None:
            continue
        begin = event.remedy.back_to
        before = rest[: rest.index(event) + 1]
        lost = [one for one in before if one.samples > begin]
        rest = [one for one in rest if one not in lost]
        marks = tuple(one.samples for one in lost)
        parts.append(Part(event.remedy.abandoned, marks, begin, event.samples, is_abandoned=True))
    return [*parts, Part(tuple(spans(steps)), tuple(event.samples for event in rest))]


def _drawn(name: str, parts: Sequence[Part], last: int, width: int, left: int) -> Svg:
    x = Axis(0.0, float(last), left, width - 62)
    hatch = f"hatch-{width}"
    drawn = [
        f'<pattern id="{hatch}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M1.5 0V6"/></pattern>'
    ]
    top = 0
    for part in parts:
        if len(parts) > 1:
            drawn += _head(part, x, top)
        drawn += _rows(part, x, top + HEAD, f"url(#{hatch})")
        drawn += _marks(part, x, top)
        top += part.height + GAP
    bottom = top - GAP
    drawn += _axis(x, bottom, num=5 if width > 500 else 3)
    return element("chart", width, bottom + FOOT, name, drawn)


def _head(part: Part, x: Axis, top: int) -> list[str]:
    """Return the heading of a part, and of one that was abandoned an arrow from its end back to its beginning."""
    middle = top + HEAD / 2
    if not part.is_abandoned:
        found = [text_element("part", x.start - 10, middle + 4, "Kept", "end")]
        return found if part.rows else [*found, text_element("tick", x.start + 8, middle + 4, "no condition was found")]
    text = f"Abandoned: {formatting.count(part.begin)} to {formatting.count(part.end)}"
    begin, end = x.at(part.begin), x.at(part.end)
    return [
        text_element("part", x.start - 10, middle + 4, text, "end"),
        f'<path class="back" d="M{end:.1f} {middle:.1f}H{begin + 1:.1f}m6 -4l-6 4l6 4"/>',
    ]


def _rows(part: Part, x: Axis, top: int, hatch: str) -> list[str]:
    drawn = []
    for index, condition in enumerate(part.rows):
        middle = top + ROW * (index + 0.5)
        label = shortened(title(condition), int(x.start / LETTER))
        drawn.append(f'<path class="grid" d="M{x.start} {middle:.1f}H{x.end:.1f}"/>')
        drawn.append(text_element("name", x.start - 10, middle + 4, label, "end"))
        bars = [span for span in part.bars if span.condition == condition]
        drawn += [_bar(span, x, middle, f' style="fill: {hatch}"' if part.is_abandoned else "") for span in bars]
    return drawn


def _bar(span: Span, x: Axis, middle: float, fill: str) -> str:
    begin = x.at(span.begin)
    length = max(LEAST, x.at(span.end) - begin)
    kind = "span sure" if span.is_sure else "span"
    return f'<rect class="{kind}"{fill} x="{begin:.1f}" y="{middle - 6:.1f}" width="{length:.1f}" height="12" rx="2"/>'


def _marks(part: Part, x: Axis, top: int) -> list[str]:
    drawn = []
    for at in map(x.at, part.marks):
        drawn.append(f'<path class="level" d="M{at:.1f} {top + HEAD}V{top + part.height}"/>')
        drawn.append(f'<path class="remedy" d="M{at - 6:.1f} {top + 4}h12l-6 10z"/>')
    return drawn


def _axis(x: Axis, bottom: int, num: int) -> list[str]:
    values = ticks(x.low, x.high, num)
    parts = [f'<path class="axis" d="M{x.start} {bottom}H{x.end:.1f}"/>']
    for value in values:
        parts.append(f'<path class="axis" d="M{x.at(value):.1f} {bottom}v4"/>')
        parts.append(text_element("tick", x.at(value), bottom + 18, formatting.count(value), "middle"))
    if x.end - x.at(values[-1]) > -1:
        parts.append(text_element("tick", x.end + 14, bottom + 18, "samples"))
    return parts
