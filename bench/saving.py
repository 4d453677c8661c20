"""What a checkpoint costs the training: written beside it, against written at once, interleaved in one process.

    python bench/saving.py [--rounds 5] [--width 64]

Trains the `dcgan` recipe on the embedded digits with a checkpoint every few steps, once on the disk as it is and once
on a slow one (every fsync takes 0.2 s longer), and times how long the loop is held up by each checkpoint. Writes
records/saving.json.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import spread, write_record

from equipoise import loop
from equipoise.api import SILENT
from equipoise.host.writer import BackgroundWriter
from equipoise.recipe import Budget, Evaluation, Recipe, Saving
from equipoise.recipes import build
from equipoise.runs.folder import RunFolder
from equipoise.setup import loss_of, monitor_of
from equipoise.tasks import images
from equipoise.tasks.base import Judge
from equipoise.tasks.images import ImageTask

DEVICE = torch.device("cpu")
SLOW = 0.2  # seconds that every fsync of a slow disk takes longer
NUM_STEPS = 48  # of a training
BETWEEN = 8  # steps between two checkpoints
NEVER = 10**9  # samples
FSYNC = os.fsync
SUBMIT = BackgroundWriter.submit
SAVE_FINITE = loop.save_finite


def slow_fsync(descriptor: int) -> None:
    """Sync as a slow disk does."""
    time.sleep(SLOW)
    FSYNC(descriptor)


def at_once(_: BackgroundWriter, job: Callable[[], None]) -> None:
    """Do a job while the loop waits for it."""
    job()


def no_score(*_: Any) -> None:
    """Stand in for an evaluation that takes no time."""


def held_up(task: ImageTask, recipe: Recipe, judge: Judge) -> tuple[list[float], int]:
    """Train once; return for how many seconds each checkpoint held the loop up, and a checkpoint's bytes."""
    seconds: list[float] = []

    def timed(*given: Any) -> Any:
        begin = time.perf_counter()
        verdict = SAVE_FINITE(*given)
        seconds.append(time.perf_counter() - begin)
        return verdict

    monitor = monitor_of(recipe, judge)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(loop, "save_finite", timed))
        stack.enter_context(patch.object(loop, "take_score", no_score))
        run = RunFolder.create(Path(folder) / "run", recipe, task.describe())
        loop.train(task, recipe, run, judge, monitor, SILENT)
        newest = max(run.checkpoints.iterdir())
        num_bytes = sum(file.stat().st_size for file in newest.iterdir())
    return seconds, num_bytes


def main() -> None:
    """Train in each of the four ways in turn, and record the spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    source = images.opened(Recipe(), DEVICE, SILENT.stage)
    recipe = source.settled(build("dcgan", source.facts))
    between = BETWEEN * recipe.game.batch
    recipe = dataclasses.replace(
        recipe,
        networks=dataclasses.replace(recipe.networks, width=options.width),
        budget=Budget(samples=NUM_STEPS * recipe.game.batch, seconds=None),
        evaluation=Evaluation(num_samples=100, every=NEVER),
        saving=Saving(every=between, log_every=between),
    )
    task = source.task(recipe, loss_of(recipe, None), torch.float32, SILENT.stage)
    judge = task.judge("validation")
    assert judge is not None
    seconds: dict[str, list[float]] = {}
    num_bytes = 0
    for _ in range(options.rounds):
        for disk, fsync in (("this disk", FSYNC), ("slow disk", slow_fsync)):
            for way, submit in (("beside", SUBMIT), ("at once", at_once)):
                with patch.object(os, "fsync", fsync), patch.object(BackgroundWriter, "submit", submit):
                    found, num_bytes = held_up(task, recipe, judge)
                seconds.setdefault(f"{way}, {disk}", []).extend(found)
    for name, values in seconds.items():
        print(f"{name}: {1000 * statistics.median(values):.1f} ms")
    values = {name: spread([1000 * second for second in found]) for name, found in seconds.items()}
    settings = {"width": options.width, "steps_between": BETWEEN, "slow_fsync_seconds": SLOW}
    print(write_record("saving", {**settings, "checkpoint_bytes": num_bytes, "milliseconds_a_checkpoint": values}))


if __name__ == "__main__":
    main()
