"""The choice of the best generator: what judging the candidates again has found, read from the state and in words."""

import math
from collections.abc import Mapping
from typing import Any

from equipoise import formatting
from equipoise.health.stats import ScoreLine, metric_error, metric_value
from equipoise.recipe import MetricName
from equipoise.report import page
from equipoise.runs.selection import Candidate, Rescoring, rescoring_from

TITLE = "The choice of the best generator"


def choice_section(state: Mapping[str, Any], metric: MetricName, test: ScoreLine | None) -> str:
    """Return the report's section on how the best generator was chosen, as HTML."""
    rescoring = rescoring_from(state)
    if rescoring is None:
        why = state.get("not_rescored") or "The best generators are judged again when a training ends."
        return page.section(TITLE, str(why))
    order = sorted(rescoring.candidates, key=lambda one: (one is not rescoring.best, _order(one.rescored, metric)))
    return page.section(
        TITLE,
        f"While it trained, the run kept the generators with the best scores. At the end they were judged again, with "
        f"other latents and {_side(rescoring.protocol)}; the lowest {metric.upper()} is handed over.",
        page.table(
            ("Reached after", f"{metric.upper()} while training", "Judged again", "KID difference to the first", ""),
            [_cells(one, rescoring, metric) for one in order],
            winner=0,
        ),
        page.note(" ".join(part for part in (curse(rescoring, metric), _on_test(metric, test)) if part)),
        page.note(certainty(rescoring)),
        page.note("± is one standard error."),
    )


def curse(rescoring: Rescoring, metric: MetricName) -> str:
    """Say in plain words how the winner's score while training stands to the one taken afterwards."""
    found, again = rescoring.best.found, rescoring.best.rescored
    both = (
        f"{metric.upper()} {formatting.score(found, metric)} while training; {formatting.score(again, metric)} "
        "judged again, on images that had no part in the training's choice"
    )
    gap = metric_value(again, metric) - metric_value(found, metric)
    if metric == "fid":  # its bias depends on the number of images
        return f"{both}. FID falls as the number of images grows, so these two do not compare."
    if rescoring.num_scores < 2 or not math.isfinite(gap):
        return f"{both}."
    noise = 2 * math.hypot(metric_error(found, metric), metric_error(again, metric))
    lowest = f"The lowest of {rescoring.num_scores:,} noisy scores"
    if gap > noise:
        return f"{lowest} flatters itself. Here, more than noise explains: {both}."
    if gap < -noise:
        return f"{lowest} tends to flatter itself. Here it is the other way round: {both}."
    return f"{lowest} tends to flatter itself. Here, the two agree within noise: {both}."


def how_chosen(rescoring: Rescoring, metric: MetricName) -> str:
    """Say in one paragraph how the handed-over generator was chosen, and what became of its score."""
    num = len(rescoring.candidates)
    which = f"the lowest of {num} candidates" if num > 1 else "as the only candidate"
    return (
        f"Judged again when the training had ended, {which}: with other latents and {_side(rescoring.protocol)}. "
        f"{curse(rescoring, metric)}"
    )


def certainty(rescoring: Rescoring) -> str:
    """Say in plain words how sure the choice among the candidates is."""
    if len(rescoring.candidates) == 1:
        return "There was one candidate, so nothing had to be chosen."
    others = [one for one in rescoring.candidates if one is not rescoring.best and math.isfinite(one.difference)]
    if not others:
        return "How far the candidates lie apart could not be measured."
    near = min(others, key=lambda one: one.difference)
    apart = (
        "With the same latents and the same real images, the KID of the nearest other one differs by "
        f"{formatting.with_error(near.difference, near.difference_se)}"
    )
    if near.difference > 2 * near.difference_se:
        return f"{apart}: the choice is clear."
    if near.difference < -2 * near.difference_se:  # where FID decides
        return f"{apart}: by KID, that one would have been handed over."
    return f"{apart}: too little to tell the two apart, so either could have been handed over."


def _order(line: ScoreLine, metric: MetricName) -> float:
    number = metric_value(line, metric)
    return number if math.isfinite(number) else math.inf


def _side(protocol: Mapping[str, Any]) -> str:
    numbers = [protocol.get(name) for name in ("num_generated", "num_real")]
    if not all(isinstance(number, int) for number in numbers):
        return "other real images"
    return (
        f"{numbers[0]:,} generated images against {numbers[1]:,} real ones of the half of the validation split that "
        "had no part before"
    )


def _cells(one: Candidate, rescoring: Rescoring, metric: MetricName) -> tuple[str, ...]:
    is_best = one is rescoring.best
    return (
        f"{one.found.samples:,} samples",
        formatting.score(one.found, metric),
        formatting.score(one.rescored, metric),
        "–" if is_best else formatting.with_error(one.difference, one.difference_se),
        "handed over" if is_best else "",
    )


def _on_test(metric: MetricName, test: ScoreLine | None) -> str:
    return f"On the test split, which decides nothing: {formatting.score(test, metric)}." if test else ""
