"""The scale of a score in words: the floor, the classical rivals and the ceiling beside it."""

import math

from equipoise import formatting
from equipoise.storage.records import Metric, Rivals, RivalScore

SURE = 2.0  # standard errors from which a difference counts


def scale_sentence(rivals: Rivals, metric: Metric) -> str:
    """Say in a sentence how the best generator compares with each baseline; empty where none was judged."""
    parts = [_against(score, metric) for score in rivals.scores if score.role != "ceiling" and score.best is not None]
    ceilings = [score for score in rivals.scores if score.role == "ceiling" and math.isfinite(score.loss)]
    text = "; ".join(part for part in parts if part)
    if text:
        text = f"{metric.shown}: {text}."
    for score in ceilings:
        value = formatting.with_error(score.loss, score.error)
        text += f" {score.name[:1].upper()}{score.name[1:]} score {value}."
    return text.strip()


def _against(score: RivalScore, metric: Metric) -> str:
    """Say in a phrase whether the best generator beats a floor or a rival, as far as the noise lets one tell."""
    if score.best is None or not math.isfinite(score.best.difference):
        return ""
    difference, error = score.best.difference, score.best.error
    if not math.isfinite(error):
        return f"cannot be told from {score.name} (difference {formatting.value(difference)}, its error is not known)"
    if abs(difference) <= SURE * error:
        return f"cannot be told from {score.name} (difference {formatting.with_error(difference, error)})"
    gap = formatting.with_error(abs(difference), error)
    if difference < 0:
        return f"lower than {score.name} by {gap}"
    return f"does not beat {score.name}: higher by {gap}"
