"""A task that somebody defined in Python, and the process that trains it, or goes on with it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import equipoise as eq
from equipoise import tasks
from equipoise.errors import UserError
from equipoise.game.losses import loss_named
from equipoise.recipe import Points, Recipe, with_settings
from equipoise.recipes import for_points
from equipoise.runs.folder import RunFolder


@dataclass(frozen=True)
class OwnTask:
    """All that a task of points does, under a name that no recipe knows."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def own_task(settings: tuple[str, ...]) -> Any:
    """Return the task."""
    recipe = with_settings(for_points(Recipe(), Points()), ["data.source=spiral", *settings])
    source = tasks.opened(recipe, torch.device("cpu"), lambda *_: None)
    return OwnTask(source.task(recipe, loss_named("relativistic"), torch.float32, lambda *_: None))


def live_from_python(out: Path, budget: int, settings: tuple[str, ...]) -> int:
    """Begin the training or go on with it, whichever is due, and return the exit code."""
    task = own_task(settings)
    if not RunFolder.is_run(out):
        eq.train(task=task, out=out, budget=str(budget), settings=settings, device="cpu", seed=3)
        return 0
    run = RunFolder(out)
    if run.read_state().status != "finished":
        eq.resume(out, task=task)
    elif not run.report.exists():
        with contextlib.suppress(UserError):  # it has finished; the report that was missing is written all the same
            eq.resume(out, task=task)
    return 0
