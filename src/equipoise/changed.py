"""Data that changed since a run began: what changed, and how to go on."""

from pathlib import Path

import numpy as np

from equipoise import tasks
from equipoise.data import changes
from equipoise.data.changes import Changes
from equipoise.errors import Command, Part, UserError
from equipoise.formatting import first_few
from equipoise.game.losses import Loss
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.sizes import size_of
from equipoise.starting import fitted, listed, read_start
from equipoise.storage.records import DataRecord

SHOWN = 6  # labels in a sentence


def changed_data(
    run: RunFolder, recipe: Recipe, data: DataRecord, opened: tasks.Source, loss: Loss | None, *, is_moved: bool
) -> UserError:
    """Return the mistake of continuing a run with other data than it began with: what changed, and what to do.

    `is_moved` says that the caller gave their place.
    """
    source = recipe.data.source
    before = changes.read(run.examples)
    found = None if before is None else changes.changes(before, listed(opened, None))
    begin: tuple[Part, ...] = ("Start a new run", Command("train", source))
    if can_start(run, recipe, opened, loss):
        sentence = f"To train with the {data.noun} as they are now, start a new run from this one's weights"
        begin = (sentence, Command("train", source, start_from=run.path))
    ways = _ways(run, data, found, is_moved=is_moved)
    if found is None:
        problem = f"the {data.noun} changed since this run began, so it cannot be continued exactly"
        if changes.is_damaged(run.examples):
            problem += f" (its {run.examples.name} is damaged, so what changed cannot be counted)"
        if is_moved:
            problem = f"holds other {data.noun} than those that this run began with"
        return UserError(source, problem, *ways, *begin)
    return UserError(source, _problem(recipe, data, opened, found), *ways, *begin)


def is_as_begun(run: RunFolder, recipe: Recipe, data: DataRecord, opened: tasks.Source) -> bool:
    """Return whether a source holds the very contents that a run began with: only names, folders or order are others.

    Splits go by content, so the run meets the same example at each position. Where its networks know classes, the name
    of a folder is one, and no record says whose class was which.
    """
    before = changes.read(run.examples)
    if before is None or recipe.networks.conditional:
        return False
    if _sizes(opened) != (data.num_train, data.num_validation, data.num_test):
        return False
    return np.array_equal(np.sort(before.contents), np.sort(opened.hashes))


def _sizes(opened: tasks.Source) -> tuple[int, ...]:
    """Return how many examples each split of a source holds now."""
    return tuple(map(len, (opened.splits.train, opened.splits.validation, opened.splits.test)))


def _problem(recipe: Recipe, data: DataRecord, opened: tasks.Source, found: Changes) -> str:
    """Say what changed."""
    if not found.num_same and (found.num_gone or found.num_changed):
        num = found.num_gone + found.num_changed
        problem = f"none of the {num:,} {data.noun} that this run began with are here; there are {len(opened.hashes):,}"
        size = opened.fitting().get("size")
        before = data.facts.get("size")
        if size is not None and before is not None and size != before:
            problem += f". They are {size_of(size)} pixels now, and were {size_of(before)}"
        return problem
    since = f"changed since this run began, so it cannot be continued exactly: {data.noun}"
    if found.num_new or found.num_gone or found.num_changed:
        counts = f"{found.num_new:,} new, {found.num_gone:,} gone, {found.num_changed:,} changed"
        return f"{since} {counts} (the same name, another content), {found.num_same:,} the same"
    splits = (data.num_train, data.num_validation, data.num_test)
    now = _sizes(opened)
    if splits != now:
        problem = f"holds the same {data.noun}, split otherwise than when this run began: {now} for training, "
        return f"{problem}validation and test, before {splits}; data.validation and data.test in recipe.json say how"
    if found.num_renamed:
        return f"{since} {found.num_renamed:,} have another name or folder; their contents are the same"
    same = f"holds the same {data.noun} as when this run began"
    now = opened.describe(recipe).classes
    if now != data.classes:
        shown = [first_few(classes, SHOWN) or "none" for classes in (now, data.classes)]
        return f"{same}, with other labels: {shown[0]}, and before {shown[1]}; `equipoise data check` says what is read"
    return f"{same}, in another order or with other labels"


def _ways(run: RunFolder, data: DataRecord, found: Changes | None, *, is_moved: bool) -> tuple[Part, ...]:
    """Return how this very run can be continued."""
    elsewhere = Command("resume", run.path, source="PATH")
    if found is None or (is_moved and not found.num_same):
        return (f"Put the {data.noun} back, or say where those of this run are", elsewhere)
    if found.num_gone or found.num_changed:
        what = "what is gone" if not found.num_changed else "what is gone or was changed"
        more = ", take the new ones out" if found.num_new else ""
        return (f"To continue this very run, put back {what}{more}, or say where they all are", elsewhere)
    if found.num_new:
        return ("To continue this very run, take the new ones out again",)
    if found.num_renamed:
        return ("To continue this very run, give them their names back",)
    return ()


def changed_of_task(recipe: Recipe, data: DataRecord) -> UserError:
    """Return the mistake of continuing a run of a task from Python whose data are others now; it alone knows which."""
    problem = f"the {data.noun} changed since this run began, so it cannot be continued exactly"
    remedy = "Put them back, or start a new run from this one's weights: equipoise.train(task=…, start_from=…)"
    return UserError(recipe.data.source, problem, remedy)


def can_start(run: RunFolder, recipe: Recipe, opened: tasks.Source, loss: Loss | None) -> bool:
    """Return whether a new run can start from this one's weights with its data as they are now, by a command."""
    if recipe.game.loss == "custom" or loss is not None:
        return False
    try:
        fitted(read_start(Path(run.path)), opened.settled(recipe), opened)
    except (UserError, OSError):
        return False
    return True
