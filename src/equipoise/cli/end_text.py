"""What is printed when a training has ended: why, the scores, and what to type next."""

from collections.abc import Iterator

from equipoise import formatting
from equipoise.cli.text import POLICIES, typed, way_on
from equipoise.errors import Command
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import num_together, taken_on
from equipoise.runs.missing_best import why_none
from equipoise.runs.quality import illness, quality_of
from equipoise.runs.resume_rules import larger_budget
from equipoise.runs.scale import scale_sentence
from equipoise.runs.selection import reselected
from equipoise.runs.status import Status, read_status
from equipoise.runs.stopping_status import metrics_of
from equipoise.storage.records import RunState, deciding
from equipoise.tasks import formats_of

INDENT = 8


def end_text(run: RunFolder, width: int) -> str:
    """Return how a training ended in lines of a width; a path or a command stays in one piece."""
    return "\n".join(["", *_lines(run, width)])


def _lines(run: RunFolder, width: int) -> Iterator[str]:
    state = run.read_state()
    metric = deciding(metrics_of(run))
    now = read_status(run)
    yield from formatting.wrapped(state.message or "", width)
    yield from formatting.wrapped(_time(now), width, "Time:", INDENT)
    if state.best is None:
        yield from formatting.wrapped(f"none: {why_none(run)}", width, "Best:", INDENT)
    else:
        score = f"{metric.shown} {formatting.score(state.best)}"
        text = f"{score} on {taken_on(state.best, 'validation', now.noun)}, after {state.best.samples:,} samples"
        if now.last is not None and state.status == "stopped" and now.last.samples < state.samples:
            text += f"; what was trained from {now.last.samples:,} to {state.samples:,} is not evaluated yet"
        if (note := reselected(state, state.best)) and state.selection is not None:
            again = formatting.score(state.selection.best.rescored)
            text += f"; {metric.shown} {again} in the second evaluation ({note})"
        yield from formatting.wrapped(text, width, "Best:", INDENT)
    if state.test is not None:
        text = f"{metric.shown} {formatting.score(state.test)} on {taken_on(state.test, 'test', now.noun)}"
        label = "Final:" if num_together(state.test.protocol) else "Test:"
        yield from formatting.wrapped(text, width, label, INDENT)
    if state.rivals is not None and (text := scale_sentence(state.rivals, metric)):
        yield from formatting.wrapped(text, width, "Scale:", INDENT)
    quality = quality_of(now)
    if quality is not None:
        yield from formatting.wrapped(quality.sentence, width, "Quality:", INDENT + 1)
    yield f"Report: {formatting.printable(str(run.report))}"
    yield from _next(run, run.recipe(), state, 2.0 if quality is None else quality.times)
    if (ill := illness(now)) and (quality is None or quality.grade != "usable"):
        yield f"Explain: {_typed(Command('explain', ill))}"


def _time(now: Status) -> str:
    """Say how long the training took in all, and how many samples."""
    text = f"{formatting.duration(now.seconds)} of training in all, evaluations included; {now.spent:,} samples"
    if now.spent > now.samples:
        text += f", {now.spent - now.samples:,} of them in abandoned attempts"
    return text


def _next(run: RunFolder, recipe: Recipe, state: RunState, times: float) -> Iterator[str]:
    """Yield what to type next, each with a label; longer is so many times as long."""
    if state.status == "stopped":
        yield f"Resume: {formatting.printable(way_on(recipe.task, run.path))}"
        return
    formats = formats_of(recipe.task)
    if state.best is not None and not formats.needs_python:
        if formats.takes_inputs:
            yield f"Apply:  {_typed(Command('apply', run.path, 'small.png', out=formats.example))}"
        else:
            yield f"Sample: {_typed(Command('sample', run.path, num=64, out=formats.example))}"
    if state.stop_reason == "budget" and state.status == "finished" and not formats.needs_python:
        yield f"Longer: {_typed(Command('resume', run.path, budget=larger_budget(recipe, state, times)))}"
    elif state.stop_reason in POLICIES:
        yield f"To train on anyway: {_typed(Command('resume', run.path, policy='budget'))}"


def _typed(command: Command) -> str:
    return formatting.printable(typed(command))
