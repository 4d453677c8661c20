"""By which held-out examples a score was taken, in words: those of a split, or where there are few all of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from equipoise import formatting
from equipoise.storage.records import Score, Selection

TITLES = {"validation": "Best scores", "test": "Final scores"}
TIMES = {"validation": "during training", "test": "at the end"}


def num_together(protocol: Mapping[str, Any]) -> int:
    """Return how many held-out examples judge all of a run, the training and its end; 0 where each has its split."""
    num = protocol.get("num_real")
    return num if "folds" in protocol and isinstance(num, int) else 0


def place_of(protocol: Mapping[str, Any], split: str, noun: str = "images") -> str:
    """Name the examples that a score was taken on."""
    num = num_together(protocol)
    return f"all {num:,} held-out {noun}" if num else f"the {split} split"


def taken_on(score: Score, split: str, noun: str = "images") -> str:
    """Name the examples that a score was taken on, and say where their part in the choice is corrected for."""
    text = place_of(score.protocol, split, noun)
    return f"{text}, cross-fitted" if math.isfinite(score.optimism) else text


def label_of(score: Score, split: str) -> str:
    """Name a score's examples in a word or two, for a heading."""
    if not num_together(score.protocol):
        return split
    if math.isfinite(score.optimism):
        return "cross-fitted"
    return "held out" if split == "validation" else f"held out, {TIMES[split]}"


def title_of(split: str, protocols: Sequence[Mapping[str, Any]]) -> str:
    """Return the title above scores: the best ones of the training ("validation"), or the final ones ("test")."""
    together = [num_together(protocol) > 0 for protocol in protocols]
    title = TITLES.get(split, split)
    if not any(together):
        return f"{title}, on the {split} split"
    if all(together):
        return f"{title}, on all held-out images" + (", cross-fitted" if split == "test" else "")
    return title


def optimism_text(test: Score, selection: Selection | None, noun: str) -> str:
    """Say that the examples which score a generator have chosen it, and by how much that was corrected; else empty."""
    num = num_together(test.protocol)
    if not num or not math.isfinite(test.optimism):
        return ""
    many = f"{selection.num_scores:,} evaluations" if selection is not None else "the evaluations"
    few = f"With so few {noun}, all {num:,} held-out ones judge the training and its end."
    if selection is not None and selection.num_scores < 2:
        return f"{few} There was one evaluation, so nothing was chosen by them."
    if test.optimism == 0:
        return f"{few} The same of {many} is the best whichever fifth of these {noun} is left out, so nothing is added."
    return (
        f"{few} Choosing among {many} by the same {noun} is optimistic by {formatting.value(test.optimism)} "
        f"({test.protocol['folds']}-fold cross-fitting), which is added to the score."
    )
