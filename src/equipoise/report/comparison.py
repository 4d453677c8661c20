"""Runs side by side as one page: which is better, their samples, their curves, and in what they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise import formatting
from equipoise.report.charts import TONES, Line, line_of
from equipoise.report.exhibits import Shown, exhibit_groups
from equipoise.report.report import rendered
from equipoise.report.scores import BEST_IS_LOWER
from equipoise.report.values import LARGE, Chart, Known, drawn, read
from equipoise.runs.better import verdicts
from equipoise.runs.compare import Comparison, clearly_lowest, compare, headings, known_metrics, score_cells
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import place_of, title_of
from equipoise.runs.quality import quality_of
from equipoise.storage.files import write_bytes


@dataclass(frozen=True)
class Row:
    """What each run shows under one title: (run, exhibit); `is_same` where one stands for all of them."""

    shown: tuple[tuple[str, Shown], ...]
    is_same: bool


@dataclass(frozen=True)
class Part:
    """Exhibits of one title, row by row."""

    title: str
    rows: tuple[Row, ...]


def write_comparison(path: Path, runs: Sequence[RunFolder]) -> None:
    """Write runs side by side as one page, in one step; raises UserError where a file is damaged, or OSError."""
    write_bytes(path, rendered(comparison_values(runs), "comparison.html.j2").encode(errors="replace"))


def comparison_values(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return what the page is filled with; raises UserError where a file is damaged."""
    found = compare(runs)
    known = [read(run) for run in runs]
    return {
        "names": found.names,
        "verdicts": [verdict.sentence for verdict in verdicts(found)],
        "tables": _tables(found),
        "facts": _facts(found, known),
        "parts": _parts(found.names, runs),
        "same_inputs": _same_inputs(known),
        "charts": _curves(found.names, known),
        "differences": _differences(found),
    }


def _tables(found: Comparison) -> list[tuple[str, list[list[str]], str]]:
    """Return (title, rows with their head, name of the lowest) for each protocol."""
    tables = []
    for group in found.groups:
        metrics = known_metrics(group)
        rows = [["", *headings(metrics)], *([entry.run, *score_cells(entry.score, metrics)] for entry in group)]
        lowest = clearly_lowest(group)
        tables.append((title_of(group[0].split, [group[0].protocol]), rows, "" if lowest is None else lowest.run))
    return tables


def _facts(found: Comparison, known: Sequence[Known]) -> list[list[str]]:
    """Return a table of how each run stands."""
    rows = [["", "recipe", "state", "samples", "time", "ended by", "is it good enough?"]]
    for name, one in zip(found.names, known, strict=True):
        now = one.now
        quality = quality_of(now)
        cells = [now.recipe.name, now.state, formatting.count(now.spent), formatting.duration(now.seconds)]
        rows.append([name, *cells, now.stop_reason or "–", "–" if quality is None else quality.grade])
    return rows


def _parts(names: Sequence[str], runs: Sequence[RunFolder]) -> list[Part]:
    """Return the exhibits of all runs by title, those of one file side by side."""
    titles: dict[str, dict[int, list[tuple[str, Shown]]]] = {}
    for name, run in zip(names, runs, strict=True):
        for group in exhibit_groups(run, len(runs)):
            rows = titles.setdefault(group.title, {})
            for place, shown in enumerate(group.shown):
                rows.setdefault(place, []).append((name, shown))
    return [Part(title, tuple(_row(shown, len(names)) for shown in rows.values())) for title, rows in titles.items()]


def _row(shown: list[tuple[str, Shown]], num: int) -> Row:
    first = shown[0][1]
    if len(shown) == num and all(other == first for _, other in shown):
        return Row((shown[0],), True)
    return Row(tuple(shown), False)


def _same_inputs(known: Sequence[Known]) -> str:
    """Say whether a place in the pictures is the same input in every run; empty where that is not known."""
    first = known[0].now
    for one in known:
        now = one.now
        if now.is_custom_loop or type(now.recipe.task) is not type(first.recipe.task):
            return ""
        if now.recipe.networks.latent_size != first.recipe.networks.latent_size:
            return ""
        if now.data is None or first.data is None or now.data.digest != first.data.digest:
            return ""
    return "Drawn from the same inputs in every run, and not picked by hand."


def _curves(names: Sequence[str], known: Sequence[Known]) -> list[Chart]:
    """Return a chart of the deciding loss for every protocol, with up to five runs each."""
    protocols: list[tuple[Any, list[tuple[str, Known]]]] = []
    for name, one in zip(names, known, strict=True):
        if not one.scores:
            continue
        digest = one.now.data.digest if one.now.data is not None else None
        key = (one.now.metric, one.scores[-1].protocol, digest)
        same = next((runs for other, runs in protocols if other == key), None)
        if same is None:
            protocols.append((key, [(name, one)]))
        else:
            same.append((name, one))
    charts = []
    for (metric, _, _), runs in protocols:
        for begin in range(0, len(runs), len(TONES)):
            lines = _lines(runs[begin : begin + len(TONES)])
            title = f"{metric.shown}, {place_of(runs[0][1].scores[-1].protocol, 'validation')}"
            charts.append(drawn(metric.name, title, lines, BEST_IS_LOWER, sizes=LARGE, log=True))
    return [chart for chart in charts if chart is not None]


def _lines(runs: Sequence[tuple[str, Known]]) -> list[Line]:
    lines = []
    for (name, one), tone in zip(runs, TONES, strict=False):
        xs = [score.samples for score in one.scores]
        errors = [score.error for score in one.scores]
        lines.append(line_of(name, xs, [score.loss for score in one.scores], errors, tone=tone))
    return lines


def _differences(found: Comparison) -> list[list[str]]:
    """Return a table of the settings in which the runs differ; empty where they do not."""
    if not found.differences:
        return []
    rows = [["", *found.names]]
    for field, values in found.differences.items():
        cells = [formatting.shown(value) for value in values]
        rows.append([field, *(cells[at] if field in known else "–" for at, known in enumerate(found.settings))])
    return rows
