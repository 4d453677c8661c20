"""The scores of a run as charts: what decides in large, with the baselines as levels; every other metric in small."""

import math
from collections.abc import Sequence

from equipoise import formatting
from equipoise.errors import shortened
from equipoise.report.charts import TONES, Level, Line, Point, line_of
from equipoise.report.values import FLAT, LARGE, Chart, Known, capitalised, drawn
from equipoise.runs.held_out import TIMES, num_together
from equipoise.runs.selection import reselected
from equipoise.storage.records import Compared, Metric, RivalScore, Score

TOGETHER = (("precision", "recall"), ("coverage", "density"))  # two sides of one question, in one chart
BEST = "the best generator"
GAP = Metric(
    name="discriminator_gap",
    label="overfitting",
    meaning="of the discriminator. At 0 its training samples are like others to it, at 1 it has memorised them",
)
BEST_IS_LOWER = "Lower is better. The bands are ± one standard error."
LONGEST_FAILURE = 120  # letters


def deciding_chart(known: Known) -> Chart | None:
    """Return the chart of the loss with its error band, the best generators and the baselines."""
    best, metric = known.now.best, known.now.metric
    xs = [score.samples for score in known.scores]
    errors = [score.error for score in known.scores]
    line = line_of(metric.shown, xs, [score.loss for score in known.scores], errors)
    rings = [(float(score.samples), score.loss) for score in known.scores if score.samples in known.promoted]
    mark = None
    if best is not None:
        mark = (float(best.samples), best.loss, f"best {formatting.score(best)}")
    caption = f"{capitalised(metric.meaning or metric.shown)}; lower is better."
    if any(map(math.isfinite, errors)):
        caption += " The band is ± one standard error."
    if rings:
        caption += " Rings: generators that became the best one."
    caption += _lower(known)
    levels = _guards([metric])
    for rival in _baselines(known):
        if math.isfinite(rival.loss):
            value = formatting.with_error(rival.loss, rival.error).partition(" ±")[0]
            levels.append(Level(rival.loss, f"{rival.role} {value} ({rival.name})"))
    options = {"sizes": LARGE, "log": True, "levels": levels, "mark": mark, "rings": rings}
    return drawn(metric.name, _title(metric), [line], caption, **options)


def differences_chart(known: Known) -> Chart | None:
    """Return the chart of each score's paired difference to the best generator until then."""
    points = []
    for score in known.scores:
        half = 2 * score.difference_error
        if math.isfinite(score.difference + half):
            difference = score.difference
            points.append(Point(score.samples, difference, difference - half, difference + half))
    late = points[len(points) // 2 :]
    reach = 1.1 * max((max(abs(point.low), abs(point.high)) for point in late), default=0.0) or 1.0
    beyond = sum(abs(point.y) > reach for point in points)
    caption = f"Early points outside the picture: {beyond}." if beyond else ""
    line = Line("", tuple(points), bars=True)
    options = {"sizes": FLAT, "bounds": (-reach, reach), "levels": [Level(0.0)]}
    return drawn("difference", "Difference to the best so far", [line], caption, **options)


def other_charts(known: Known) -> tuple[Chart, ...]:
    """Return a small chart of every metric that does not decide, and of other values; two may share one."""
    left = {metric.name: metric for metric in (*known.now.metrics, GAP) if not metric.decides}
    names = dict.fromkeys(name for score in known.scores for name in score.values)
    unknown = [name for name in names if name not in left and name != known.now.metric.name]
    charts = []
    while left:
        first = next(iter(left))
        group = next((two for two in TOGETHER if first in two and set(two) <= set(left)), (first,))
        charts.append(_chart_of([left.pop(name) for name in group], known.scores))
    for name in unknown:
        line = line_of(name, [score.samples for score in known.scores], [score.value(name) for score in known.scores])
        charts.append(drawn(name, capitalised(name), [line], log=True))
    return tuple(chart for chart in charts if chart is not None)


def baselines_of(known: Known) -> list[list[str]]:
    """Return a table of the baselines on both splits, from the worst to the best; the best generator has no role."""
    now = known.now
    validation = {score.name: score for score in _baselines(known)}
    test = {} if known.state.rivals is None else {score.name: score for score in known.state.rivals.scores}
    rows = []
    for name, score in {**validation, **test}.items():
        rows.append((score.loss, (score.role, name, *_cells(validation.get(name)), *_cells(test.get(name)))))
    if not rows:
        return []
    if now.best is not None:
        last = now.test or now.best
        rows.append((last.loss, ("", BEST, *_score_cells(now.best), *_score_cells(now.test))))
    known_rows = sorted((row for row in rows if math.isfinite(row[0])), reverse=True)
    failed_rows = [row for row in rows if not math.isfinite(row[0])]
    label = now.metric.shown
    first, second = ("validation", "test")
    if now.best is not None and num_together(now.best.protocol):
        first, second = TIMES["validation"], TIMES["test"]
    head = ("", "", f"{label}, {first}", "Best minus this", f"{label}, {second}", "Best minus this")
    cells = [head, *(row for _, row in [*known_rows, *failed_rows])]
    kept = [at for at in range(len(head)) if at < 2 or any(row[at] != "–" for row in cells[1:])]
    return [[row[at] for at in kept] for row in cells]


def _baselines(known: Known) -> Sequence[RivalScore]:
    """Return the baselines on the validation split, if they were taken under the protocol of the scores."""
    if known.scores and known.rivals.protocol != known.scores[-1].protocol:
        return ()
    return known.rivals.scores


def _score_cells(score: Score | None) -> tuple[str, str]:
    """Return the best generator's loss, and no difference to itself."""
    if score is None:
        return "–", "–"
    return formatting.score(score), "–"


def _cells(score: RivalScore | None) -> tuple[str, str]:
    """Return a baseline's loss, and the best generator's difference to it."""
    if score is None:
        return "–", "–"
    if score.failure:
        return f"failed ({shortened(score.failure, LONGEST_FAILURE)})", "–"
    best = score.best or Compared()
    return formatting.with_error(score.loss, score.error), formatting.with_error(best.difference, best.error)


def _chart_of(metrics: Sequence[Metric], scores: Sequence[Score]) -> Chart | None:
    xs = [score.samples for score in scores]
    lines = []
    captions = []
    for metric, tone in zip(metrics, TONES, strict=False):
        lines.append(line_of(metric.shown, xs, [score.value(metric.name) for score in scores], tone=tone))
        name = f"{metric.shown}: " if len(metrics) > 1 else ""
        captions.append(f"{capitalised(name + (metric.meaning or metric.shown))}; {metric.better} is better.")
        if metric.guard is not None:
            side = "at most" if metric.better == "lower" else "at least"
            captions.append(f"Limit: {side} {metric.guard:.4g}.")
    title = capitalised(" and ".join(_title(metric) for metric in metrics))
    return drawn(metrics[0].name, title, lines, " ".join(captions), log=True, levels=_guards(metrics))


def _guards(metrics: Sequence[Metric]) -> list[Level]:
    return [Level(metric.guard, f"limit {metric.guard:.4g}") for metric in metrics if metric.guard is not None]


def _title(metric: Metric) -> str:
    return f"{metric.shown} ({metric.unit})" if metric.unit else metric.shown


def _lower(known: Known) -> str:
    """Say why the best score has lower ones beside it in its chart; empty where it has none, or nobody knows why."""
    best = known.now.best
    lower = [score for score in known.scores if best is not None and score.loss < best.loss]
    if best is None or not lower:
        return ""
    if again := reselected(known.state, best):
        return f" Points lie lower; the best one is {again}."
    if any(score.broken for score in lower):
        return " Some of the points below the best one break a limit."
    if any(math.isfinite(score.difference + score.difference_error) for score in lower):
        return " Points below the best one are not significantly better."
    return ""
