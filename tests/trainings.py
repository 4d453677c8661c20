"""Small trainings looked into, ended at a chosen moment, and compared: helpers of the tests of loop and resume."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import equipoise as eq
from equipoise import loop, tasks
from equipoise.loop import Progress
from equipoise.recipe import Points, Recipe, with_settings
from equipoise.recipes import for_points
from equipoise.runs.digest import digest
from equipoise.setup import loss_of
from equipoise.state import TrainingState
from equipoise.storage import checkpoints, files, logs
from equipoise.storage.records import EventKind
from equipoise.tasks.base import Task

TrainSmall = Callable[..., eq.Run]  # the fixtures `train_small` and `train_once`
CONVOLUTIONS = ("networks.family=dcgan", "networks.width=4", "networks.generator_norm=batch")
NO_PENALTY = "game.penalty.kind=none"


def nothing(*_: Any) -> None:
    """Show nothing."""


def points_recipe(*settings: str) -> Recipe:
    """Return a recipe for a ring of points, small enough for a step in a millisecond."""
    small = ["data.source=ring", "networks.width=8", "game.batch=16"]
    return with_settings(for_points(Recipe(), Points()), [*small, *settings])


def task_of(recipe: Recipe) -> Task:
    """Return the task of a recipe as a training makes it."""
    source = tasks.opened(recipe, torch.device("cpu"), nothing)
    return source.task(recipe, loss_of(recipe, None), torch.float32, nothing)


# Looking into a run


def final_tensors(run: eq.Run) -> dict[str, Tensor]:
    """Return the tensors of a run's last checkpoint."""
    found = checkpoints.latest(run.folder.checkpoints)
    assert found is not None
    return found.tensors


def trained_tensors(run: eq.Run) -> dict[str, Tensor]:
    """Return what training alone decides, whenever it was evaluated."""
    return {name: tensor for name, tensor in final_tensors(run).items() if not name.startswith("best_generator.")}


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two sets of tensors are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def scores(run: eq.Run) -> list[dict[str, Any]]:
    """Return the lines of a run's log of scores."""
    return logs.records(run.folder.scores)


def events(run: eq.Run, kind: EventKind | None = None) -> list[dict[str, Any]]:
    """Return a run's events, or those of a kind; each is of a kind that has a name."""
    found = logs.records(run.folder.events)
    assert {event["kind"] for event in found} <= set(get_args(EventKind))
    return [event for event in found if kind in (None, event["kind"])]


def places(run: eq.Run) -> list[tuple[int, str, int]]:
    """Return the samples, kinds and attempts of a run's events; an end by a signal is none."""
    return [(event["samples"], event["kind"], event["attempt"]) for event in events(run) if event["kind"] != "stop"]


# Ending one


class Killed(BaseException):
    """The end of a process, as far as its run can tell."""


def kill(*_: Any, **__: Any) -> None:
    """End the process."""
    raise Killed


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def act_at(patch: pytest.MonkeyPatch, attempt: int, samples: int, act: Callable[[], None]) -> None:
    """Let something happen once in the round that begins at some samples of an attempt."""
    real = loop.terms_of
    has_acted: list[bool] = []

    def terms_of(task: Any, state: TrainingState, recipe: Any, progress: float, role: Any, draw: int) -> Any:
        if not has_acted and (state.attempt, state.samples) == (attempt, samples):
            has_acted.append(True)
            act()
        return real(task, state, recipe, progress, role, draw)

    patch.setattr(loop, "terms_of", terms_of)


def write_at_once(patch: pytest.MonkeyPatch) -> None:
    """Let nothing be written beside the training, so that a copy of a run is one of a single moment."""
    patch.setattr(loop.BackgroundWriter, "submit", lambda self, job: job())


def copy_at_first_checkpoint(patch: pytest.MonkeyPatch, name: str) -> None:
    """Copy a run's folder into one of this name beside it as soon as its first checkpoint was written."""
    real = checkpoints.save

    def save(folder: Path, *given: Any) -> Path:
        path = real(folder, *given)
        copy = folder.parent.with_name(name)
        if not copy.exists():
            shutil.copytree(folder.parent, copy)
        return path

    write_at_once(patch)
    patch.setattr(checkpoints, "save", save)


# Comparing two


def assert_the_same(one: eq.Run, other: eq.Run) -> None:
    """Assert that two runs are equal, bit for bit: how they would go on, and what they hand over."""
    assert digest(one.folder) == digest(other.folder)
    handed = [load_file(files.readable(run.folder.best) / "generator.safetensors") for run in (one, other)]
    assert same_tensors(handed[0], handed[1])
    assert one.best.score.samples == other.best.score.samples
    tests = [run.state.test for run in (one, other)]
    assert [test is None for test in tests] in ([True, True], [False, False])
    if tests[0] is not None and tests[1] is not None:
        assert tests[0].loss == tests[1].loss


class Recorder:
    """An observer that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[Progress] = []
        self.stages: list[tuple[str, float]] = []
        self.messages: list[str] = []

    def progress(self, progress: Progress) -> None:
        """Keep where the training stands."""
        self.shown.append(progress)

    def stage(self, text: str, share: float) -> None:
        """Keep a stage."""
        self.stages.append((text, share))

    def message(self, text: str) -> None:
        """Keep a lasting line."""
        self.messages.append(text)
