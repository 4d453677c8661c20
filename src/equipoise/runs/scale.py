"""The scale of a score in words: the floor, the classical rivals and the ceiling beside it."""

import math

from equipoise import formatting
from equipoise.storage.records import Compared, Metric, Rivals, RivalScore

SURE = 2.0  # standard errors from which a difference counts


def scale_sentence(rivals: Rivals, metric: Metric) -> str:
    """Say how the best generator compares with each baseline, and what those score that it was not compared with."""
    found = [_against(score, metric) for score in rivals.scores if score.role != "ceiling"]
    text = "; ".join(phrase for phrase in found if phrase)
    if text:
        text = f"{metric.shown}: {text}."
    for score in rivals.scores:
        if math.isfinite(score.loss) and (score.role == "ceiling" or score.best is None):
            text += f" {_alone(score)}"
    return text.strip()


def is_lower(compared: Compared) -> bool:
    """Return whether the best generator's loss is lower than a baseline's beyond the noise."""
    return compared.difference + SURE * compared.error < 0


def _alone(score: RivalScore) -> str:
    """Say what a baseline scores; a ceiling is several, such as real images."""
    verb = "score" if score.role == "ceiling" else "scores"
    return f"{score.name[:1].upper()}{score.name[1:]} {verb} {formatting.with_error(score.loss, score.error)}."


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
    if is_lower(score.best):
        return f"lower than {score.name} by {gap}"
    return f"does not beat {score.name}: higher by {gap}"
