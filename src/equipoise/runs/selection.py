"""What the selection of the best generator means, as facts for texts."""

from equipoise.storage.records import RunState, Score


def reselected(state: RunState, best: Score) -> str:
    """Say that the best one was selected by evaluating candidates again; empty where it was not."""
    selection = state.selection
    if selection is None or selection.winner != best.samples or len(selection.candidates) < 2:
        return ""
    if not selection.best.rescored.is_finite:
        return ""
    return f"the lowest of {len(selection.candidates)} candidates that were evaluated again"
