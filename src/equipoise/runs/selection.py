"""What the selection of the best generator means, as facts for texts."""

from equipoise.storage.records import RunState, Score, Selection


def reselected(state: RunState, best: Score) -> str:
    """Say that the best one was selected by evaluating candidates again; empty where it was not."""
    selection = state.selection
    if selection is None or selection.winner != best.samples or len(selection.candidates) < 2:
        return ""
    if not selection.best.rescored.is_finite:
        return ""
    which = "the lowest"
    if has_lower_broken(selection):
        which = "the lowest that keeps its limits,"
    return f"{which} of {len(selection.candidates)} candidates that were evaluated again"


def is_on_the_same_examples(selection: Selection) -> bool:
    """Return whether the validation split was too small to hold half of it back for the selection."""
    return selection.protocol.get("split") == "validation"


def has_lower_broken(selection: Selection) -> bool:
    """Return whether a candidate that breaks a guard came out lower than the selected one."""
    best = selection.best.rescored
    return any(one.rescored.broken and one.rescored.loss < best.loss for one in selection.candidates)
