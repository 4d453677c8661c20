"""What a checkpoint costs the training: written beside it, against written at once, interleaved in one process.

    python bench/saving.py [--rounds 5] [--width 64]

Trains the `dcgan` recipe on the embedded digits with a checkpoint every few steps, once on the disk as it is and once
on a slow one (every fsync takes 0.2 s longer), and times how long the loop is held up by each checkpoint. Writes
records/saving.json.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import spread, write_record

from equipoise import loop
from equipoise.api import features_of, judge_of
from equipoise.data.pool import prepare
from equipoise.evaluation.evaluator import Judge
from equipoise.host.writer import Saver
from equipoise.recipe import Budget, Data, Recipe, Saving
from equipoise.recipes import Facts, build
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.tasks.images import ImageProblem

DEVICE = torch.device("cpu")
SLOW = 0.2  # seconds that every fsync of a slow disk takes longer
STEPS, BETWEEN = 48, 8  # steps of a training, and between two checkpoints
REAL_FSYNC, REAL_SUBMIT, REAL_SAVE = os.fsync, Saver.submit, loop.save


def slow_fsync(descriptor: int) -> None:
    """Sync as a slow disk does."""
    time.sleep(SLOW)
    REAL_FSYNC(descriptor)


def held_up(problem: ImageProblem, recipe: Recipe, judge: Judge) -> tuple[list[float], int]:
    """Train once; return for how many seconds each checkpoint held the loop up, and a checkpoint's bytes."""
    seconds: list[float] = []

    def timed(*given: Any) -> Any:
        begin = time.perf_counter()
        verdict = REAL_SAVE(*given)
        seconds.append(time.perf_counter() - begin)
        return verdict

    loop.save = timed
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", recipe)
        loop.train(problem, recipe, run, judge, Referee(recipe.stopping, recipe.budget), lambda _: None)
        newest = max(run.checkpoints.iterdir())
        num_bytes = sum(file.stat().st_size for file in newest.iterdir())
    return seconds, num_bytes


def main() -> None:
    """Train in each of the four ways in turn, and record the spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    pool = prepare(Data())
    recipe = build("dcgan", Facts(num_train=len(pool.splits.train)))
    between = BETWEEN * recipe.game.batch
    recipe = dataclasses.replace(
        recipe,
        networks=dataclasses.replace(recipe.networks, width=options.width),
        budget=Budget(samples=STEPS * recipe.game.batch, seconds=None),
        judging=dataclasses.replace(recipe.judging, every=10**9),
        saving=Saving(every=between, log_every=between),
    )
    problem = ImageProblem(recipe, pool, DEVICE, torch.float32)
    judge = judge_of(pool, features_of(pool, "encoder", DEVICE), "validation", 100)
    loop.judge_now = lambda *_: None  # judging is left out
    at_once: Callable[..., None] = lambda self, job: job()  # noqa: E731
    seconds: dict[str, list[float]] = {}
    num_bytes = 0
    for _ in range(options.rounds):
        for disk, fsync in (("this disk", REAL_FSYNC), ("slow disk", slow_fsync)):
            for way, submit in (("beside", REAL_SUBMIT), ("at once", at_once)):
                os.fsync, Saver.submit = fsync, submit  # type: ignore[method-assign]
                found, num_bytes = held_up(problem, recipe, judge)
                seconds.setdefault(f"{way}, {disk}", []).extend(found)
    for name, values in seconds.items():
        print(f"{name}: {1000 * statistics.median(values):.1f} ms")
    values = {name: spread([1000 * second for second in found]) for name, found in seconds.items()}
    settings = {"width": options.width, "steps_between": BETWEEN, "slow_fsync_seconds": SLOW}
    print(write_record("saving", {**settings, "checkpoint_bytes": num_bytes, "milliseconds_a_checkpoint": values}))


if __name__ == "__main__":
    main()
