"""What a report is made from: the files of a run, read once, and the few shapes in which its numbers are shown.

Nothing here is HTML: the template writes that and its standing text, and escapes whatever it is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from equipoise import formatting
from equipoise.report.charts import Level, Line, Svg, finest_of, line_chart, reach, wants_log
from equipoise.runs.compare import flattened
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import num_together
from equipoise.runs.status import Status, read_status
from equipoise.storage.logs import last_scores, records
from equipoise.storage.records import Event, Rivals, RunState, Score, StepStats, comparable, lenient

Pairs: TypeAlias = tuple[tuple[str, str], ...]  # names and values

SMALL = ((460, 230),)
LARGE = ((960, 320), (400, 260))  # the second is for narrow screens
FLAT = ((960, 220), (400, 260))


@dataclass(frozen=True)
class Known:
    """A run as its report knows it."""

    run: RunFolder
    now: Status
    state: RunState
    steps: list[StepStats]
    scores: list[Score]  # under the last protocol, those that have a loss
    promoted: frozenset[int]  # samples of the generators that became the best one
    rivals: Rivals  # on the validation split
    events: list[Event]


@dataclass(frozen=True)
class Chart:
    """A chart with its title and how to read it; `narrow` is for narrow screens, where there are two."""

    name: str
    title: str
    caption: str
    broad: Svg
    narrow: Svg | None = None


def read(run: RunFolder) -> Known:
    """Read everything that a report shows but exhibits; raises UserError where a file is damaged, or OSError."""
    taken = last_scores(run.scores)
    scores = [lenient(Score, record) for record in taken]
    promoted = {score.samples for score, record in zip(scores, taken, strict=True) if record.get("best") is True}
    state = run.read_state()
    return Known(
        run=run,
        now=read_status(run),
        state=state,
        steps=[lenient(StepStats, record) for record in records(run.steps)],
        scores=[score for score in comparable(scores) if score.is_finite],
        promoted=frozenset(promoted),
        rivals=run.read_rivals(),
        events=[lenient(Event, record) for record in records(run.events)],
    )


def drawn(
    name: str,
    title: str,
    lines: Sequence[Line],
    caption: str = "",
    *,
    sizes: Sequence[tuple[int, int]] = SMALL,
    log: bool = False,
    bounds: tuple[float, float] | None = None,
    levels: Sequence[Level] = (),
    **options: Any,
) -> Chart | None:
    """Return a chart, None where no line has two points; `log` allows a logarithmic scale where values ask for it.

    A level that lies too far away to be drawn is named in the caption.
    """
    lines = [line for line in lines if len(line.points) >= 2]
    if not lines:
        return None
    finest = finest_of(lines) if log and not wants_log(lines) else 0.0
    log = log and wants_log(lines)
    if log:
        caption += " Logarithmic scale."
    if finest:
        caption += f" Logarithmic scale beyond ±{formatting.value(finest)}."
    low, high = bounds or reach(lines, log, finest)
    for level in levels:
        if not low <= level.y <= high:
            caption += f" Outside the picture: {level.label}."
    options |= {"title": title, "log": log, "finest": finest, "bounds": bounds, "levels": levels}
    charts = [line_chart(lines, width=width, height=height, **options) for width, height in sizes]
    return Chart(name, title, caption.strip(), *charts)


def pairs_of(values: Mapping[str, Any]) -> Pairs:
    """Return nested values as names and what is shown of them."""
    return tuple((name.replace("_", " "), formatting.shown(value)) for name, value in flattened(dict(values)).items())


def protocol_words(protocol: Mapping[str, Any], noun: str) -> str:
    """Say in a phrase how a score was measured, as far as its protocol says so."""
    words = []
    if "features" in protocol:
        flattered = " (they flatter this generator, which learned from such features)"
        words.append(f"{formatting.shown(protocol['features'])} features")
        words[-1] += flattered if protocol.get("features_flatter") else ""
    numbers = [protocol.get(name) for name in ("num_generated", "num_real")]
    if all(isinstance(number, int) for number in numbers):
        words.append(f"{numbers[0]:,} generated against {numbers[1]:,} real {noun}")
    if words and "split" in protocol:
        split = "all that are held out" if num_together(protocol) else f"split: {formatting.shown(protocol['split'])}"
        words[-1] += f" ({split})"
    if not words:
        words = [f"{name} {value[:80]}" for name, value in pairs_of(protocol) if not name.endswith("digest")]
    return ", ".join(words)


def unbroken(text: str) -> str:
    """Return a text in which a number stays on one line with its error or unit."""
    space = "\N{NO-BREAK SPACE}"
    return text.replace(" ± ", f"{space}±{space}").replace(" %", f"{space}%").replace(" = ", f"{space}={space}")


def capitalised(text: str) -> str:
    """Return a text as a sentence begins."""
    return text[:1].upper() + text[1:]
