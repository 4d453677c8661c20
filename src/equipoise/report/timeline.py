"""What was wrong with a game and when, as a picture: a bar for each time of a condition, a mark for each remedy."""

from collections.abc import Sequence

from equipoise import formatting
from equipoise.errors import shortened
from equipoise.health.telling import title
from equipoise.health.timeline import Span, spans
from equipoise.report.charts import LETTER, Axis, Svg, element, text_element, ticks
from equipoise.report.values import Chart
from equipoise.storage.records import Condition, Event, StepStats

ROW = 26  # pixels
HEAD, FOOT = 18, 30
SIZES = ((960, 270), (400, 150))  # widths, and those of the names
LEAST = 3.0  # pixels of a bar


def timeline(steps: Sequence[StepStats], events: Sequence[Event]) -> Chart | None:
    """Return the chart of conditions, one row each, and of remedies; None where nothing was found."""
    bars = spans(steps)
    marks = [event.samples for event in events if event.kind == "remedy"]
    if not bars:
        return None
    last = max([steps[-1].samples, *marks])
    name = "What was wrong, and when"
    caption = (
        "One row for each condition, from its beginning to its end: solid where it was likely, pale where it was only "
        "possible."
    )
    if marks:
        caption += " Triangles: remedies. What went before a return to an earlier checkpoint is not drawn."
    return Chart("timeline", name, caption, *(_drawn(name, bars, marks, last, *size) for size in SIZES))


def _drawn(name: str, bars: Sequence[Span], marks: Sequence[int], last: int, width: int, left: int) -> Svg:
    rows: list[Condition] = list(dict.fromkeys(span.condition for span in bars))
    bottom = HEAD + ROW * len(rows)
    x = Axis(0.0, float(last), left, width - 62)
    parts = []
    for index, condition in enumerate(rows):
        middle = HEAD + ROW * (index + 0.5)
        parts.append(f'<path class="grid" d="M{left} {middle:.1f}H{x.end:.1f}"/>')
        parts.append(
            text_element("name", left - 10, middle + 4, shortened(title(condition), int(left / LETTER)), "end")
        )
        parts += [_bar(span, x, middle) for span in bars if span.condition == condition]
    for at in map(x.at, marks):
        parts.append(f'<path class="level" d="M{at:.1f} {HEAD}V{bottom}"/>')
        parts.append(f'<path class="remedy" d="M{at - 6:.1f} 4h12l-6 10z"/>')
    parts += _axis(x, bottom, num=5 if width > 500 else 3)
    return element("chart", width, bottom + FOOT, name, parts)


def _bar(span: Span, x: Axis, middle: float) -> str:
    begin = x.at(span.begin)
    length = max(LEAST, x.at(span.end) - begin)
    kind = "span sure" if span.is_sure else "span"
    return f'<rect class="{kind}" x="{begin:.1f}" y="{middle - 6:.1f}" width="{length:.1f}" height="12" rx="2"/>'


def _axis(x: Axis, bottom: int, num: int) -> list[str]:
    values = ticks(x.low, x.high, num)
    parts = [f'<path class="axis" d="M{x.start} {bottom}H{x.end:.1f}"/>']
    for value in values:
        parts.append(f'<path class="axis" d="M{x.at(value):.1f} {bottom}v4"/>')
        parts.append(text_element("tick", x.at(value), bottom + 18, formatting.count(value), "middle"))
    if x.end - x.at(values[-1]) > -1:
        parts.append(text_element("tick", x.end + 14, bottom + 18, "samples"))
    return parts
