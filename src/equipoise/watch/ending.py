"""The end of a run that a watch follows: what is selected, tested and reported, as far as that can be done."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from equipoise import formatting
from equipoise.report.report import write_report
from equipoise.runs.candidates import find, promote
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import taken_on
from equipoise.storage.records import RunState, Score
from equipoise.watch.keeping import Event
from equipoise.watch.raised import is_for_the_loop
from equipoise.watch.saying import in_words
from equipoise.watch.writing import why

if TYPE_CHECKING:
    from equipoise.watch.evaluating import Evaluator

SELF_SCORED = (
    "The loop took its own scores, so no generator was evaluated again: the one with the lowest score is kept."
)
OF_AN_END = ("best", "test", "rivals", "selection", "not_selected", "not_tested")


def concluded(
    run: RunFolder,
    state: RunState,
    evaluator: "Evaluator | None",
    before: RunState | None,
    stage: Callable[[str, float], None],
    event: Event,
) -> tuple[RunState, Score | None]:
    """Select and test the best generator; return the state with what was found, and the score of the selected one.

    An end of `before`, to which no score was added, stays as it was. What fails is an event, and is in the state.
    """
    try:
        if before is not None and state.status == "finished":
            found = _as_before(run, state, before)
            if found is not None:
                return found, before.best
        return _concluded(state, evaluator, stage)
    except BaseException as error:
        if is_for_the_loop(error):
            raise
        failed = f"The end of the run failed ({why(error)})."
        event("final stage failed", failed)
        return msgspec.structs.replace(state, not_selected=failed, not_tested=failed), None


def _as_before(run: RunFolder, state: RunState, before: RunState) -> RunState | None:
    folder = None if before.best is None else find(run, before.best)
    if folder is None:
        return None
    promote(run, folder)
    return msgspec.structs.replace(state, **{name: getattr(before, name) for name in OF_AN_END})


def _concluded(
    state: RunState, evaluator: "Evaluator | None", stage: Callable[[str, float], None]
) -> tuple[RunState, Score | None]:
    if evaluator is None:
        return msgspec.structs.replace(state, not_selected=SELF_SCORED), None
    if state.status == "failed":
        return state, None
    found, not_tested = evaluator.conclude(stage, is_final=state.status == "finished")
    selected = None if found.selection is None else found.selection.best.found
    ended = msgspec.structs.replace(
        state,
        best=selected or state.best,
        test=found.test,
        rivals=found.rivals,
        selection=found.selection,
        not_selected=found.not_selected,
        not_tested=not_tested,
    )
    return ended, selected


def reported(run: RunFolder, event: Event) -> str:
    """Write the report and say where it is; that it could not be written is an event."""
    try:
        write_report(run)
    except Exception as error:
        reason = why(error) if isinstance(error, OSError) else in_words(error)
        remedy = "It is written when the run is opened with resume=True and closed again."
        event("final stage failed", f"Writing the report failed ({reason}). {remedy}")
        return "No report was written."
    return f"Report: {run.report}"


def outcome(state: RunState, label: str) -> str:
    """Return the end of a run in a line: the best generator and its test, or why there is none."""
    if state.best is None:
        return f"{state.message} There is no best generator."
    text = f"Best: {label} {formatting.score(state.best)} after {state.best.samples:,} samples"
    if state.test is not None:
        text += f", {formatting.score(state.test)} on {taken_on(state.test, 'test')}"
    return f"{text}."
