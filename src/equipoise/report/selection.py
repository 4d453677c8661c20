"""The selection of the best generator in words: what evaluating the candidates again has found."""

import math

from equipoise import formatting
from equipoise.runs.held_out import num_together
from equipoise.runs.selection import has_lower_broken, is_on_the_same_examples
from equipoise.storage.records import CandidateScore, Metric, Selection

NOISE = 2.0  # standard errors beyond which a difference counts


def ordered(selection: Selection) -> list[CandidateScore]:
    """Return the candidates, the selected one first, then by their second loss."""
    best = selection.best
    return sorted(
        selection.candidates, key=lambda one: (one is not best, not one.rescored.is_finite, one.rescored.loss)
    )


def bias_text(selection: Selection, metric: Metric) -> str:
    """Say how the selected generator's score during training compares with the second one: the winner's curse."""
    found, again = selection.best.found, selection.best.rescored
    num = num_together(selection.protocol)
    where = "validation examples not used for selection"
    if num:
        where = f"the same {num:,} held-out examples, with other inputs"
    elif is_on_the_same_examples(selection):
        where = "the same validation examples, which are too few to hold half of them back"
    both = (
        f"{metric.shown} {formatting.score(found)} during training; {formatting.score(again)} when re-evaluated on "
        f"{where}"
    )
    if is_on_the_same_examples(selection):
        return f"{both}. Both are optimistic; use the {'final' if num else 'test'} score."
    gap = again.loss - found.loss
    if selection.num_scores < 2 or not math.isfinite(gap):
        return f"{both}."
    noise = NOISE * math.hypot(found.error, again.error)
    lowest = f"The best of {selection.num_scores:,} noisy evaluations"
    if gap > noise:
        return f"{lowest} is biased (the winner's curse), here by more than the noise: {both}."
    if gap < -noise:
        return f"{lowest} is usually biased towards a low score. Here the second one is lower still: {both}."
    return f"{lowest} is usually biased towards a low score. Here the two agree within the noise: {both}."


def rule_text(selection: Selection, metric: Metric) -> str:
    """Say by what rule the selected generator was selected."""
    if not selection.best.rescored.is_finite:
        return f"None had a finite {metric.shown} then, so the choice of the training stayed."
    if has_lower_broken(selection):
        return f"Of those that keep their limits, the one with the lowest {metric.shown} was selected."
    return f"The one with the lowest {metric.shown} was selected."


def certainty_text(selection: Selection, metric: Metric) -> str:
    """Say how sure the selection among the candidates is."""
    if len(selection.candidates) == 1:
        return "There was one candidate, so there was nothing to select."
    best = selection.best
    others = [one for one in selection.candidates if one is not best]
    allowed = [one for one in others if best.rescored.broken or not one.rescored.broken]
    if not allowed:
        return "Every other candidate breaks a limit, so there was nothing to select."
    measured = [one for one in allowed if math.isfinite(one.difference)]
    if not measured:
        return "How far the candidates lie apart could not be measured."
    near = min(measured, key=lambda one: one.difference)
    which = "nearest other candidate"
    if len(allowed) < len(others):
        which += " that keeps its limits"
    apart = (
        f"On the same inputs and the same real examples, the {metric.shown} of the {which} differs by "
        f"{formatting.with_error(near.difference, near.difference_error)}"
    )
    if near.difference > NOISE * near.difference_error:
        return f"{apart}: the selection is clear."
    return f"{apart}: too little to tell the two apart, so either could have been selected."
